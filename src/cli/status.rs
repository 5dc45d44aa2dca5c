//! `keyfob status`: what is known of a login, for people and as JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyfob_auth_core::{AuthError, Binding, Freshness, Status, registry::Profile};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::console::printable;

/// The claims of the login's ID token.
#[cfg(feature = "oidc")]
async fn claims(profile: &Profile) -> Result<Option<Value>, AuthError> {
    let login = profile.session.stored_login().await?;
    let claims = login.as_ref().and_then(keyfob_provider_oidc::claims_of);
    Ok(claims.map(|claims| Value::Object(claims.as_map().clone())))
}

#[cfg(not(feature = "oidc"))]
#[expect(clippy::unused_async, reason = "it waits for the store in the other build")]
async fn claims(_: &Profile) -> Result<Option<Value>, AuthError> {
    Ok(None)
}

/// What `status` tells.
#[derive(Debug)]
pub(super) struct Report {
    profile: String,
    provider: String,
    status: Status,
    /// What the ID token says of the person.
    claims: Option<Value>,
}

impl Report {
    pub(super) async fn of(profile: &Profile) -> Result<Self, AuthError> {
        Ok(Self {
            profile: profile.name.clone(),
            provider: profile.provider.clone(),
            status: profile.session.status().await?,
            claims: claims(profile).await?,
        })
    }

    /// The state as the session tells it.
    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// Whether there is something that a new login mends: there is none that works, or it lacks scopes.
    pub(super) fn wants_login(&self) -> bool {
        self.login() == Some("needed") || !self.status.missing_scopes.is_empty()
    }

    /// Whether a person has logged in, where one has to; `None` for grants of other providers, of which nothing is known
    /// here.
    fn login(&self) -> Option<&'static str> {
        let status = &self.status;
        match status.identity.grant.as_str() {
            "callback" | "client_credentials" | "jwt_bearer" | "password" | "secret" | "token"
            | "token_exchange" | "unsigned" => Some("not_needed"),
            "authorization_code" | "device_code" => {
                let serves = matches!(status.freshness, Freshness::Fresh | Freshness::Stale);
                Some(if serves || status.refreshable { "made" } else { "needed" })
            }
            _ => None,
        }
    }

    /// How the token is presented (RFC 6749 section 7.1), if there is one.
    fn token_type(&self) -> Option<&'static str> {
        let binding = self.status.binding.as_ref()?;
        Some(if matches!(binding, Binding::Dpop(_)) { "DPoP" } else { "Bearer" })
    }

    /// What the token is bound to, as its `cnf` has it: RFC 9449 section 6.1, RFC 8705 section 3.1.
    fn confirmation(&self) -> Option<(&'static str, &str)> {
        match self.status.binding.as_ref()? {
            Binding::Dpop(thumbprint) => Some(("jkt", thumbprint)),
            Binding::Certificate(thumbprint) => Some(("x5t#S256", thumbprint)),
            _ => None,
        }
    }

    /// One object; `null` for what is not known.
    pub(super) fn json(&self) -> String {
        let status = &self.status;
        let last_error = status.last_error.as_ref().map(
            |error| json!({ "kind": error.kind.as_str(), "message": error.message, "at": rfc3339(error.at) }),
        );
        let object = json!({
            "profile": self.profile,
            "provider": self.provider,
            "issuer": self.issuer(),
            "account": self.account(),
            "claims": self.claims,
            "login": self.login(),
            "scopes": status.scopes.as_ref().map(|scopes| scopes.iter().collect::<Vec<_>>()),
            "missing_scopes": status.missing_scopes.iter().collect::<Vec<_>>(),
            "token_type": self.token_type(),
            "binding": self.confirmation().map(|(name, thumbprint)| json!({ name: thumbprint })),
            "expires_at": status.expires_at.and_then(rfc3339),
            "freshness": status.freshness.as_str(),
            "refreshable": status.refreshable,
            "store": status.store.to_string(),
            "last_renewal": status.last_renewal.and_then(rfc3339),
            "last_error": last_error.unwrap_or(Value::Null),
        });
        format!("{object:#}")
    }

    /// A line for each thing that is known.
    pub(super) fn lines(&self, now: SystemTime) -> String {
        let status = &self.status;
        let renewed =
            status.last_renewal.and_then(|at| Some(format!("{} ({} ago)", rfc3339(at)?, span(at, now))));
        let failed = status.last_error.as_ref().map(|error| {
            format!(
                "{} ({}, {} ago)",
                error.message,
                error.kind.as_str().replace('_', " "),
                span(error.at, now)
            )
        });
        let missing = Some(&status.missing_scopes).filter(|scopes| !scopes.is_empty());
        let missing =
            missing.map(|scopes| format!("{scopes} (in `scopes` since the login; log in again to get them)"));
        let bound = self.token_type().map(|kind| match self.confirmation() {
            Some((name, thumbprint)) => format!("{kind}, bound to {name} {thumbprint}"),
            None => kind.to_owned(),
        });
        let unsaved = if status.unsaved { " (NOT SAVED: this process tries until it ends)" } else { "" };
        [
            ("profile", Some(self.profile.clone())),
            ("provider", Some(self.provider.clone())),
            ("issuer", self.issuer().map(str::to_owned)),
            ("account", self.account().map(str::to_owned)),
            ("scopes", status.scopes.as_ref().filter(|scopes| !scopes.is_empty()).map(ToString::to_string)),
            ("missing", missing),
            ("login", self.login().filter(|login| *login != "made").map(|login| login.replace('_', " "))),
            ("token", Some(self.validity(now))),
            ("token type", bound),
            ("refreshable", Some(if status.refreshable { "yes" } else { "no" }.to_owned())),
            ("store", Some(format!("{}{unsaved}", status.store))),
            ("last renewal", renewed),
            ("last error", failed),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name:<13}{}", printable(&value?))))
        .collect::<Vec<_>>()
        .join("\n")
    }

    /// How good the access token is, and how long.
    pub(super) fn validity(&self, now: SystemTime) -> String {
        let word = match self.status.freshness {
            Freshness::None => return "none".into(),
            freshness => freshness.as_str(),
        };
        match self.status.expires_at.and_then(|at| Some((at, rfc3339(at)?))) {
            None => format!("{word}, does not expire by time"),
            Some((at, text)) if at > now => format!("{word}, expires {text} (in {})", span(now, at)),
            Some((at, text)) => format!("{word}, expired {text} ({} ago)", span(at, now)),
        }
    }

    fn issuer(&self) -> Option<&str> {
        Some(self.status.identity.issuer.as_str()).filter(|issuer| !issuer.is_empty())
    }

    fn account(&self) -> Option<&str> {
        self.status.account.as_ref().map(|account| account.display_name())
    }
}

/// The moment in RFC 3339, in whole seconds; `None` beyond the year 9999.
fn rfc3339(at: SystemTime) -> Option<String> {
    let seconds = i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

fn span(from: SystemTime, to: SystemTime) -> String {
    in_words(to.duration_since(from).unwrap_or_default())
}

/// A time as people say it, in its two largest units.
pub(super) fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rfc_3339() {
        assert_eq!(
            rfc3339(UNIX_EPOCH + Duration::from_millis(1_900_000_000_999)).unwrap(),
            "2030-03-17T17:46:40Z"
        );
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(1 << 40)), None);
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), None);
    }

    #[test]
    fn times_are_said_in_two_units() {
        let said = [0, 59, 60, 3599, 3600, 90_000].map(|seconds| in_words(Duration::from_secs(seconds)));
        assert_eq!(said, ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "1 d 1 h"]);
    }
}
