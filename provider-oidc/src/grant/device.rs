//! The device authorization grant (RFC 8628).

use std::time::Duration;

use keyfob_auth_core::{
    Acquired, AuthError, DeviceCode, ErrorKind, ExposeSecret, Interaction, LoginRequest, Prompt, Scopes,
    SecretString,
};
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::{SignIn, either};
use crate::{
    Oidc,
    binding::BindingKey,
    http::{Form, Reply},
    json::{self, Members},
    metadata::Which,
    oauth_error::{Asked, error_in},
    token_endpoint::{Exchanged, GrantRequest},
};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// The interval where the server says none (RFC 8628 section 3.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// The shortest that is kept to, whatever the server says: it counts in seconds.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// What `slow_down` adds to it, for good (RFC 8628 section 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// The longest pause that backing off comes to by itself.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// A code's life where the server does not say it, and the longest that is waited for.
const LIFE: Duration = Duration::from_secs(600);
const LONGEST_LIFE: Duration = Duration::from_secs(86_400);

impl Oidc {
    /// Shows the person a code, and asks the server until it says yes, no or too late.
    ///
    /// # Cancellation
    /// Leaves nothing behind but a code that expires at the server.
    pub(crate) async fn device_login(
        &self,
        request: &LoginRequest,
        ui: &dyn Interaction,
    ) -> Result<Acquired, AuthError> {
        let scopes = self.scopes_for(&request.token.scopes, request.token.challenge.as_ref());
        let started = Instant::now();
        let authorization = self.authorize_device(request, &scopes.to_string()).await?;
        // The life counts from the request: the answer may have taken its time.
        let deadline = started + authorization.expires_in;
        ui.show(&Prompt::DeviceCode(DeviceCode {
            verification_uri: authorization.verification_uri,
            verification_uri_complete: authorization.verification_uri_complete,
            user_code: authorization.user_code,
            expires_in: deadline.saturating_duration_since(Instant::now()),
        }));
        let polling = Polling::new(authorization.interval);
        let key = self.new_key()?;
        let repeated = if self.config.scope_on_poll { scopes.to_string() } else { String::new() };
        let asked = Poll {
            device_code: &authorization.device_code,
            scopes: &scopes,
            repeated: &repeated,
            key: key.as_ref(),
        };
        let exchanged = self.poll(asked, polling, deadline, ui).await?;
        let sign_in = SignIn::satisfying(request.token.challenge.as_ref());
        self.signed_in(exchanged, &scopes, key.as_ref(), sign_in).await
    }

    /// Asks for a device code (RFC 8628 section 3.1).
    async fn authorize_device(
        &self,
        request: &LoginRequest,
        scopes: &str,
    ) -> Result<Authorization, AuthError> {
        let endpoint = self.endpoint(Which::DeviceAuthorization).await?;
        let mut form = Form::default();
        form.push_some("scope", scopes);
        for audience in either(&request.token.audiences, &self.config.audiences) {
            form.push("audience", audience);
        }
        for resource in either(&request.token.resources, &self.config.resources) {
            form.push("resource", resource);
        }
        // Outside of the RFC, and passed over by servers that do not know them (RFC 6749 section 3.1).
        form.push_some("login_hint", request.account_hint.as_deref().unwrap_or_default());
        form.push_some("prompt", request.prompt.as_deref().unwrap_or_default());
        if let Some(challenge) = &request.token.challenge {
            form.push_some("claims", challenge.claims.as_deref().unwrap_or_default());
            form.push_some("acr_values", challenge.acr_values.as_deref().unwrap_or_default());
            form.push_some(
                "max_age",
                &challenge.max_age.map(|age| age.as_secs().to_string()).unwrap_or_default(),
            );
        }
        form.push_some(
            "authorization_details",
            self.config.authorization_details.as_deref().unwrap_or_default(),
        );
        read(&self.post_authenticated(&endpoint, form).await?)
    }

    /// Asks for the token at the pace that the server sets; never twice at once.
    async fn poll(
        &self,
        asked: Poll<'_>,
        mut polling: Polling,
        deadline: Instant,
        ui: &dyn Interaction,
    ) -> Result<Exchanged, AuthError> {
        let mut pause = polling.interval;
        let mut trouble = None;
        loop {
            if Instant::now() + pause >= deadline {
                // Nothing could be learnt before it is too late.
                sleep_until(deadline).await;
                return Err(too_late(trouble));
            }
            sleep(pause).await;
            let grant = GrantRequest::new(GRANT_TYPE, "the device login")
                .parameter("device_code", asked.device_code.expose_secret())
                .parameter("scope", asked.repeated)
                .granting(asked.scopes)
                .bound_to(asked.key);
            let error = match self.exchange(grant).await {
                Ok(exchanged) => return Ok(exchanged),
                Err(error) => error,
            };
            let heard = Heard::from(&error);
            pause = match heard {
                Heard::Verdict => return Err(verdict(error)),
                _ => polling.next(heard, error.retry_after()),
            };
            if heard == Heard::Trouble {
                tracing::debug!(%error, ?pause, "a poll failed; polling goes on");
                if trouble.is_none() {
                    ui.show(&Prompt::Progress(
                        "The server cannot be reached at the moment; trying on.".into(),
                    ));
                }
                trouble = Some(error);
            } else {
                trouble = None;
            }
        }
    }
}

/// What every poll says.
#[derive(Clone, Copy)]
struct Poll<'a> {
    device_code: &'a SecretString,
    scopes: &'a Scopes,
    /// The scopes again, where they are to be repeated.
    repeated: &'a str,
    key: Option<&'a BindingKey>,
}

/// What one poll came to, other than a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// The person has not decided.
    Pending,
    /// The same, and polls come too often.
    SlowDown,
    /// Nothing, or nothing to go by.
    Trouble,
    /// It is over.
    Verdict,
}

impl From<&AuthError> for Heard {
    fn from(error: &AuthError) -> Self {
        match error.oauth_error() {
            Some("authorization_pending") => Self::Pending,
            Some("slow_down") => Self::SlowDown,
            _ if error.kind() == ErrorKind::Transient => Self::Trouble,
            _ => Self::Verdict,
        }
    }
}

/// When to ask again: never sooner than the interval.
#[derive(Debug)]
struct Polling {
    interval: Duration,
    failures: u32,
}

impl Polling {
    fn new(interval: Duration) -> Self {
        Self { interval, failures: 0 }
    }

    /// How long to wait after hearing this. `slow_down` counts for good; trouble doubles the pause until the server is heard
    /// again (RFC 8628 section 3.5).
    fn next(&mut self, heard: Heard, retry_after: Option<Duration>) -> Duration {
        match heard {
            Heard::Trouble => self.failures = self.failures.saturating_add(1),
            Heard::SlowDown => {
                self.interval = self.interval.saturating_add(SLOWER);
                self.failures = 0;
            }
            Heard::Pending | Heard::Verdict => self.failures = 0,
        }
        let doubled = self.interval.saturating_mul(1 << self.failures.min(16));
        doubled.min(LONGEST_BACKOFF).max(self.interval).max(retry_after.unwrap_or_default())
    }
}

/// The server's last word, in words for the person who waits.
fn verdict(error: AuthError) -> AuthError {
    let message = match error.oauth_error() {
        Some("access_denied" | "authorization_declined") => "the sign-in was denied",
        Some("expired_token") => EXPIRED,
        _ => return error,
    };
    error.with_kind(ErrorKind::Refused).with_message(message)
}

const EXPIRED: &str = "the code expired before the sign-in was confirmed; log in again";

/// The code's life is over.
fn too_late(trouble: Option<AuthError>) -> AuthError {
    match trouble {
        None => AuthError::refused(EXPIRED),
        Some(last) => {
            AuthError::transient("the server could not be reached until the code expired; log in again")
                .with_source(last)
        }
    }
}

/// What a person needs, and what the client polls with (RFC 8628 section 3.2).
#[derive(Debug)]
pub(super) struct Authorization {
    device_code: SecretString,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: Duration,
    interval: Duration,
}

const MEMBERS: [&str; 8] = [
    "device_code",
    "user_code",
    "verification_uri",
    // Google's name for it.
    "verification_url",
    "verification_uri_complete",
    "verification_url_complete",
    "expires_in",
    "interval",
];

pub(super) fn read(reply: &Reply) -> Result<Authorization, AuthError> {
    let what = "the request for a device code";
    if let Some(error) = error_in(reply, &Asked { what, ..Asked::default() }) {
        return Err(error);
    }
    let secret = Members::read(&reply.body, &MEMBERS)
        .and_then(|mut members| Some((members.take("device_code")?, members)));
    let Some((device_code, members)) = secret else {
        return Err(reply.error(AuthError::transient(format!("{what}: the server's answer cannot be read"))));
    };
    let missing = |member: &str| {
        reply.error(AuthError::refused(format!("{what}: the server's answer holds no usable `{member}`")))
    };
    // Both are shown on terminals.
    let user_code = json::text(members.get("user_code")).filter(|code| !code.contains(char::is_control));
    let url = |value: Option<&Value>| json::text(value).and_then(json::web_url);
    Ok(Authorization {
        device_code: device_code.ok_or_else(|| missing("device_code"))?,
        user_code: user_code.ok_or_else(|| missing("user_code"))?.to_owned(),
        verification_uri: url(members.get("verification_uri"))
            .or_else(|| url(members.get("verification_url")))
            .ok_or_else(|| missing("verification_uri"))?,
        verification_uri_complete: url(members.get("verification_uri_complete"))
            .or_else(|| url(members.get("verification_url_complete"))),
        expires_in: json::seconds(members.get("expires_in")).unwrap_or(LIFE).min(LONGEST_LIFE),
        interval: json::seconds(members.get("interval")).unwrap_or(INTERVAL).max(SHORTEST_INTERVAL),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oauth_error::tests::reply;

    #[test]
    fn rfc8628_3_5_polling_keeps_the_pace_that_the_server_sets() {
        use Heard::{Pending, SlowDown, Trouble};
        type Step = (Heard, Option<u64>, u64);
        let cases: &[(&str, u64, &[Step])] = &[
            ("pending", 5, &[(Pending, None, 5), (Pending, None, 5)]),
            (
                "slow_down is for good",
                5,
                &[(SlowDown, None, 10), (Pending, None, 10), (SlowDown, None, 15), (Pending, None, 15)],
            ),
            (
                "trouble doubles",
                5,
                &[
                    (Trouble, None, 10),
                    (Trouble, None, 20),
                    (Trouble, None, 40),
                    (Trouble, None, 60),
                    (Trouble, None, 60),
                ],
            ),
            (
                "an answer ends the backoff",
                5,
                &[(Trouble, None, 10), (Trouble, None, 20), (Pending, None, 5), (Trouble, None, 10)],
            ),
            ("slow_down amid trouble", 5, &[(Trouble, None, 10), (SlowDown, None, 10), (Trouble, None, 20)]),
            (
                "retry-after",
                5,
                &[
                    (Trouble, Some(30), 30),
                    (Trouble, Some(1), 20),
                    (Pending, Some(7), 7),
                    (Pending, Some(1), 5),
                ],
            ),
            ("a long interval stays", 90, &[(Pending, None, 90), (Trouble, None, 90)]),
        ];
        for (name, interval, steps) in cases {
            let mut polling = Polling::new(Duration::from_secs(*interval));
            for (heard, retry_after, pause) in *steps {
                let retry_after = retry_after.map(Duration::from_secs);
                assert_eq!(
                    polling.next(*heard, retry_after),
                    Duration::from_secs(*pause),
                    "{name}: {heard:?}"
                );
            }
        }
        let mut polling = Polling::new(Duration::MAX);
        for heard in [SlowDown, Trouble, Pending] {
            assert_eq!(polling.next(heard, None), Duration::MAX, "no overflow");
        }
        let mut polling = Polling { interval: INTERVAL, failures: u32::MAX };
        assert_eq!(polling.next(Trouble, None), LONGEST_BACKOFF);
    }

    #[test]
    fn rfc8628_3_5_polls_are_heard_by_their_error() {
        for (status, body, heard) in [
            (400, r#"{"error":"authorization_pending"}"#, Heard::Pending),
            (200, r#"{"error":"authorization_pending"}"#, Heard::Pending),
            (428, r#"{"error":"authorization_pending"}"#, Heard::Pending),
            (400, r#"{"error":"slow_down"}"#, Heard::SlowDown),
            (429, r#"{"error":"slow_down"}"#, Heard::SlowDown),
            (403, r#"{"error":"access_denied"}"#, Heard::Verdict),
            (400, r#"{"error":"expired_token"}"#, Heard::Verdict),
            (400, r#"{"error":"invalid_grant"}"#, Heard::Verdict),
            (401, r#"{"error":"invalid_client"}"#, Heard::Verdict),
            (404, "", Heard::Verdict),
            (400, r#"{"error":"temporarily_unavailable"}"#, Heard::Trouble),
            (429, "", Heard::Trouble),
            (502, "<html></html>", Heard::Trouble),
        ] {
            let error = error_in(&reply(status, body), &Asked::default()).unwrap();
            assert_eq!(Heard::from(&error), heard, "{status} {body}");
        }
        assert_eq!(Heard::from(&AuthError::transient("no connection")), Heard::Trouble);
    }

    #[test]
    fn rfc8628_3_5_denial_and_expiry_are_told_apart() {
        let said = |code: &str| {
            let body = format!(r#"{{"error":"{code}"}}"#);
            verdict(error_in(&reply(400, &body), &Asked::default()).unwrap())
        };
        assert!(said("access_denied").to_string().contains("denied"));
        assert!(said("authorization_declined").to_string().contains("denied"));
        assert!(said("expired_token").to_string().contains("expired"));
        assert!(said("invalid_client").to_string().contains("refused"));
        assert_eq!(too_late(None).kind(), ErrorKind::Refused);
        assert_eq!(too_late(Some(AuthError::transient("x"))).kind(), ErrorKind::Transient);
    }

    fn authorization(changes: &Value) -> Result<Authorization, AuthError> {
        let mut body = json!({
            "device_code": "dc", "user_code": "ABCD-EFGH", "verification_uri": "https://idp.example/device",
            "verification_uri_complete": "https://idp.example/device?c=ABCD-EFGH", "expires_in": 900, "interval": 2,
        });
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        body.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        read(&reply(200, &body.to_string()))
    }

    #[test]
    fn rfc8628_3_2_a_device_authorization_is_read_and_its_interval_is_5_s_unless_said() {
        let read = authorization(&json!({})).unwrap();
        assert_eq!((read.device_code.expose_secret(), read.user_code.as_str()), ("dc", "ABCD-EFGH"));
        assert_eq!(read.verification_uri_complete.as_deref(), Some("https://idp.example/device?c=ABCD-EFGH"));
        assert_eq!((read.expires_in.as_secs(), read.interval.as_secs()), (900, 2));

        let google = json!({"verification_uri": null, "verification_url": "https://www.google.com/device"});
        assert_eq!(authorization(&google).unwrap().verification_uri, "https://www.google.com/device");

        for (interval, seconds) in [
            (json!(null), 5),
            (json!("7"), 7),
            (json!(0), 5),
            (json!("x"), 5),
            (json!(3.0), 3),
            (json!(0.01), 1),
        ] {
            assert_eq!(authorization(&json!({"interval": interval})).unwrap().interval.as_secs(), seconds);
        }
        for (expires_in, seconds) in
            [(json!(null), 600), (json!("60"), 60), (json!(0), 600), (json!(1e9), 86_400)]
        {
            assert_eq!(
                authorization(&json!({"expires_in": expires_in})).unwrap().expires_in.as_secs(),
                seconds
            );
        }
        let complete = json!({"verification_uri_complete": "javascript:alert(1)"});
        assert_eq!(authorization(&complete).unwrap().verification_uri_complete, None);
    }

    #[test]
    fn a_device_authorization_that_cannot_be_shown_is_refused() {
        for (changes, member) in [
            (json!({"device_code": null}), "device_code"),
            (json!({"device_code": ""}), "device_code"),
            (json!({"user_code": null}), "user_code"),
            (json!({"user_code": "\u{1b}[2J"}), "user_code"),
            (json!({"verification_uri": null}), "verification_uri"),
            (json!({"verification_uri": "javascript:alert(1)"}), "verification_uri"),
            (json!({"verification_uri": "https://idp.example/\u{1b}[2J"}), "verification_uri"),
        ] {
            let error = authorization(&changes).unwrap_err();
            assert!(error.kind() == ErrorKind::Refused && error.message().contains(member), "{error}");
        }
        assert_eq!(read(&reply(200, "")).unwrap_err().kind(), ErrorKind::Transient);
        assert_eq!(read(&reply(404, "")).unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(
            read(&reply(400, r#"{"error":"unauthorized_client"}"#)).unwrap_err().oauth_error(),
            Some("unauthorized_client")
        );
    }
}
