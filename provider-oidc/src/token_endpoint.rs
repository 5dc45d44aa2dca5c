//! The token endpoint: one request, and its answer (RFC 6749 sections 4 to 6).

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{
    AccessToken, AuthError, Binding, Challenge, ExposeSecret, Lifetime, Scopes, SecretString,
};
use serde_json::Value;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::{
    Oidc,
    binding::BindingKey,
    http::{Form, Reply},
    json::{self, Members},
    metadata::Which,
    oauth_error::{Asked, error_in},
};

/// A request to the token endpoint. Every grant makes one; [`Oidc::exchange`] adds who the client is.
pub(crate) struct GrantRequest<'a> {
    grant_type: &'a str,
    form: Form,
    asked: Asked<'a>,
    key: Option<&'a BindingKey>,
    scopes: Scopes,
}

impl<'a> GrantRequest<'a> {
    /// A request of this grant; `what` begins its error messages.
    pub(crate) fn new(grant_type: &'a str, what: &'a str) -> Self {
        let mut form = Form::default();
        form.push("grant_type", grant_type);
        Self {
            grant_type,
            form,
            asked: Asked { what, ..Asked::default() },
            key: None,
            scopes: Scopes::none(),
        }
    }

    /// Binds the token to a key (RFC 9449 section 5), if there is one.
    pub(crate) fn bound_to(mut self, key: Option<&'a BindingKey>) -> Self {
        self.key = key;
        self
    }

    /// Says which scopes are granted by an answer that names none: those that were asked for (RFC 6749 section 5.1).
    pub(crate) fn granting(mut self, scopes: &Scopes) -> Self {
        self.scopes.clone_from(scopes);
        self
    }

    /// Says that it spends the login's refresh token, so that `invalid_grant` is a verdict on the login.
    pub(crate) fn spends_login(mut self) -> Self {
        self.asked.spends_login = true;
        self
    }

    /// Says which challenge it is to satisfy, and asks for its claims.
    pub(crate) fn challenge(mut self, challenge: Option<&'a Challenge>) -> Self {
        self.asked.challenge = challenge;
        self.parameter("claims", challenge.and_then(|c| c.claims.as_deref()).unwrap_or_default())
    }

    /// Adds a parameter, unless its value is empty.
    pub(crate) fn parameter(mut self, name: &str, value: &str) -> Self {
        self.form.push_some(name, value);
        self
    }

    /// Adds a parameter as often as it has values.
    pub(crate) fn parameters(self, name: &str, values: &[String]) -> Self {
        values.iter().fold(self, |request, value| request.parameter(name, value))
    }
}

/// What a token endpoint gave.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) access: AccessToken,
    pub(crate) refresh_token: Option<SecretString>,
    pub(crate) refresh_expires_in: Option<Duration>,
    pub(crate) id_token: Option<SecretString>,
    /// What kind of token it is (RFC 8693 section 2.2.1), if the server said.
    pub(crate) issued_token_type: Option<String>,
}

/// An answer, and when it was asked for: lives count from there.
#[derive(Debug)]
pub(crate) struct Exchanged {
    pub(crate) answer: Answer,
    pub(crate) sent: Instant,
    pub(crate) sent_at: SystemTime,
}

impl Exchanged {
    /// When the refresh token expires, if the server said.
    pub(crate) fn refresh_expires_at(&self) -> Option<SystemTime> {
        self.answer.refresh_expires_in.and_then(|life| self.sent_at.checked_add(life))
    }
}

impl Oidc {
    /// Sends one request to the token endpoint, once.
    ///
    /// # Errors
    /// What the answer says, by [`error_in`]; transient ones if there was none or it cannot be read.
    pub(crate) async fn exchange(&self, request: GrantRequest<'_>) -> Result<Exchanged, AuthError> {
        let GrantRequest { grant_type, form, asked, key, scopes } = request;
        let endpoint = self.endpoint(Which::Token).await?;
        let sent = Instant::now();
        let sent_at = self.now();
        let reply = self.post_bound(&endpoint, form, key).await.map_err(|error| {
            let message = format!("{}: {}", asked.what, error.message());
            error.with_message(message)
        })?;
        tracing::debug!(grant_type, %endpoint, status = reply.status, elapsed = ?sent.elapsed(), "the token endpoint answered");
        let mut answer = read(&reply, &asked, key)?;
        answer.id_token = answer.id_token.filter(|_| self.config.id_tokens);
        if answer.access.scopes().is_none() && !scopes.is_empty() {
            answer.access = answer.access.with_scopes(scopes);
        }
        if self.http.network.certificate.is_some()
            && key.is_none()
            && let Some(bound) = confirmed(&answer.access)
        {
            answer.access = answer.access.with_binding(Binding::Certificate(bound));
        }
        Ok(Exchanged { answer, sent, sent_at })
    }
}

/// What is read of an answer.
const MEMBERS: [&str; 10] = [
    "access_token",
    "refresh_token",
    "id_token",
    "token_type",
    "expires_in",
    "scope",
    "issued_token_type",
    "refresh_in",
    "refresh_expires_in",
    "refresh_token_expires_in",
];

/// Reads an answer: by its `error` first, then its status, then as tokens.
pub(crate) fn read(reply: &Reply, asked: &Asked<'_>, key: Option<&BindingKey>) -> Result<Answer, AuthError> {
    if let Some(error) = error_in(reply, asked) {
        return Err(error);
    }
    let what = asked.what;
    let secrets = Members::read(&reply.body, &MEMBERS).and_then(|mut members| {
        let [access, refresh, id] =
            ["access_token", "refresh_token", "id_token"].map(|name| members.take(name));
        Some((members, access?, refresh?, id?))
    });
    let Some((members, access_token, refresh_token, id_token)) = secrets else {
        let found = if reply.body.trim_ascii().is_empty() { "is empty" } else { "cannot be read" };
        let error = AuthError::transient(format!("{what}: the server's answer {found}"));
        return Err(reply.error(error.with_answer_lost()));
    };
    let refuse = |why: &str| Err(reply.error(AuthError::refused(format!("{what}: {why}"))));
    let Some(secret) = access_token else {
        return refuse("the server's answer holds no access token");
    };
    let kind = match members.get("token_type") {
        None | Some(Value::Null) => "",
        Some(Value::String(kind)) => kind,
        Some(_) => return refuse("the token's type cannot be read"),
    };
    match key {
        // No downgrade (RFC 9449 section 5).
        Some(_) if kind.eq_ignore_ascii_case("dpop") => {}
        Some(_) => {
            return refuse(
                "the server does not bind tokens to keys (DPoP); set `dpop = false` to go without",
            );
        }
        None if kind.is_empty() || kind.eq_ignore_ascii_case("bearer") => {}
        None => {
            let kind: String = kind.chars().take(40).collect();
            return refuse(&format!(
                "the server gave a token of the type {kind:?}, which cannot be presented"
            ));
        }
    }
    let mut access = AccessToken::new(secret);
    if let Some(key) = key {
        access = access.with_binding(Binding::Dpop(key.thumbprint()));
    }
    if let Some(life) = json::seconds(members.get("expires_in")) {
        access = access.with_lifetime(Lifetime::In(life));
    }
    if let Some(after) = json::seconds(members.get("refresh_in")) {
        access = access.with_refresh_in(after);
    }
    if let Some(scopes) = scopes(members.get("scope")) {
        access = access.with_scopes(scopes);
    }
    Ok(Answer {
        access,
        refresh_token,
        // Keycloak's name, and GitHub's and Google's. Zero is "never" (offline tokens).
        refresh_expires_in: json::seconds(members.get("refresh_expires_in"))
            .or_else(|| json::seconds(members.get("refresh_token_expires_in"))),
        id_token,
        issued_token_type: json::text(members.get("issued_token_type")).map(str::to_owned),
    })
}

/// The certificate that a token says it is bound to (RFC 8705 section 3.1): the one that the server was shown, which need not
/// be the one that is there now. A token that is no JWT does not say.
fn confirmed(token: &AccessToken) -> Option<String> {
    let claims =
        token.secret().expose_secret().split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.map(Zeroizing::new).and_then(|claims| json::object(&claims));
    claims?.get("cnf")?.get("x5t#S256")?.as_str().map(str::to_owned)
}

/// The granted scopes: a list with spaces between, as the standard has it, or a JSON array.
fn scopes(value: Option<&Value>) -> Option<Scopes> {
    let scopes: Scopes = match value? {
        Value::String(list) => Scopes::parse(list),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    (!scopes.is_empty()).then_some(scopes)
}

#[cfg(test)]
mod tests {
    use keyfob_auth_core::{ErrorKind, ExposeSecret};
    use serde_json::json;

    use super::*;
    use crate::oauth_error::tests::reply;

    fn parse(body: &str) -> Result<Answer, AuthError> {
        read(&reply(200, body), &Asked { what: "the request", ..Asked::default() }, None)
    }

    fn answer(body: &Value) -> Answer {
        parse(&body.to_string()).unwrap_or_else(|error| panic!("{body}: {error}"))
    }

    #[test]
    fn rfc6749_5_1_an_answer_is_read_whole_and_unknown_members_are_ignored() {
        let answer = answer(&json!({
            "access_token": "at", "token_type": "Bearer", "expires_in": 300, "refresh_token": "rt", "id_token": "it",
            "scope": "a b", "refresh_in": 150, "refresh_expires_in": 1800, "session_state": "x", "not-before-policy": 0,
            "unknown": {"access_token": "other", "list": [null, true]}, "Access_Token": "other", "": [],
        }));
        assert_eq!(answer.access.secret().expose_secret(), "at");
        assert_eq!(answer.access.lifetime(), Lifetime::In(Duration::from_secs(300)));
        assert_eq!(answer.access.refresh_in(), Some(Duration::from_secs(150)));
        assert_eq!(answer.access.scopes(), Some(&Scopes::parse("a b")));
        assert_eq!(answer.refresh_token.map(|t| t.expose_secret().to_owned()).as_deref(), Some("rt"));
        assert_eq!(answer.id_token.map(|t| t.expose_secret().to_owned()).as_deref(), Some("it"));
        assert_eq!(answer.refresh_expires_in, Some(Duration::from_secs(1800)));
    }

    #[test]
    fn rfc6749_7_1_token_type_is_compared_without_case() {
        // Missing, it is taken for the usual one; what else is missing is left to the engine.
        for kind in [json!("Bearer"), json!("bearer"), json!("BEARER"), json!(""), json!(null)] {
            let answer = answer(&json!({"access_token": "at", "token_type": kind}));
            assert_eq!(answer.access.lifetime(), Lifetime::Unknown);
            assert!(
                answer.refresh_token.is_none()
                    && answer.id_token.is_none()
                    && answer.access.scopes().is_none()
            );
        }
    }

    #[test]
    fn rfc6749_7_1_an_unknown_token_type_is_refused() {
        for kind in [json!("mac"), json!("N_A"), json!("DPoP"), json!("bearer2"), json!(7), json!(["Bearer"])]
        {
            let body = json!({"access_token": "marker", "token_type": kind}).to_string();
            let error = parse(&body).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{body}");
            assert!(error.message().contains("type") && !error.to_string().contains("marker"), "{error}");
        }
    }

    #[test]
    fn rfc6749_5_1_expires_in_is_a_number_or_its_text_and_without_it_the_life_is_unknown() {
        assert_eq!(answer(&json!({"access_token": "at"})).access.lifetime(), Lifetime::Unknown);
        for (expires_in, lifetime) in [
            (json!("300"), Lifetime::In(Duration::from_secs(300))),
            (json!(299.5), Lifetime::In(Duration::from_millis(299_500))),
            (json!("299.5"), Lifetime::In(Duration::from_millis(299_500))),
            (json!(0), Lifetime::Unknown),
            (json!(-1), Lifetime::Unknown),
            (json!("never"), Lifetime::Unknown),
            (json!(null), Lifetime::Unknown),
        ] {
            let answer = answer(&json!({"access_token": "at", "expires_in": expires_in}));
            assert_eq!(answer.access.lifetime(), lifetime, "{expires_in}");
        }
    }

    #[test]
    fn odd_forms_are_read_as_real_servers_send_them() {
        for (scope, granted) in [
            (json!("a  b a"), Some("a b")),
            (json!(["a", "b"]), Some("a b")),
            (json!(""), None),
            (json!([]), None),
            (json!(null), None),
            (json!(7), None),
        ] {
            let answer = answer(&json!({"access_token": "at", "scope": scope}));
            assert_eq!(answer.access.scopes().map(ToString::to_string).as_deref(), granted, "{scope}");
        }
        for (member, value, expires) in [
            ("refresh_expires_in", json!(0), None),
            ("refresh_expires_in", json!("60"), Some(60)),
            ("refresh_token_expires_in", json!(60), Some(60)),
        ] {
            let answer = answer(&json!({"access_token": "at", member: value}));
            assert_eq!(answer.refresh_expires_in.map(|life| life.as_secs()), expires, "{member} {value}");
        }
        let empty =
            answer(&json!({"access_token": "at", "refresh_token": "", "id_token": null, "error": ""}));
        assert!(empty.refresh_token.is_none() && empty.id_token.is_none());
        assert!(parse("\u{feff} {\"access_token\":\"at\"} \r\n").is_ok());
        assert!(read(&reply(201, r#"{"access_token":"at"}"#), &Asked::default(), None).is_ok());
    }

    #[test]
    fn answers_without_a_usable_token_are_errors() {
        for (body, kind) in [
            ("", ErrorKind::Transient),
            ("  \n", ErrorKind::Transient),
            ("<html>sign in to the hotel's network</html>", ErrorKind::Transient),
            ("{\"access_token\":\"marker\"", ErrorKind::Transient),
            ("[\"marker\"]", ErrorKind::Transient),
            ("\"marker\"", ErrorKind::Transient),
            ("access_token=marker&token_type=bearer", ErrorKind::Transient),
            ("{\"access_token\":{\"marker\":1}}", ErrorKind::Transient),
            ("{\"access_token\":\"marker\",\"access_token\":\"other\"}", ErrorKind::Transient),
            ("{}", ErrorKind::Refused),
            ("{\"access_token\":null}", ErrorKind::Refused),
            ("{\"access_token\":\"\"}", ErrorKind::Refused),
            ("{\"token\":\"marker\"}", ErrorKind::Refused),
            ("{\"access_token\":\"marker\",\"error\":\"invalid_scope\"}", ErrorKind::Refused),
        ] {
            let error = parse(body).unwrap_err();
            assert_eq!(error.kind(), kind, "{body}");
            assert!(error.to_string().contains("(HTTP 200)"), "{error}");
            assert!(!error.to_string().contains("marker"), "{error}");
        }
    }
}
