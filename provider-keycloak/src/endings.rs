//! How a session at Keycloak ended, and what is not there, in words.

use keyfob_auth_core::{AuthError, ErrorKind};

/// Says what Keycloak's descriptions of `invalid_grant` mean, behind them: the message in front is the engine's. And where
/// to look if it has nothing at a realm's address.
pub(crate) fn explained(error: AuthError) -> AuthError {
    if error.status() == Some(404) {
        let message = format!(
            "{}: Keycloak has no such realm there; look at `realm`, and at the base path in `server_url` (old servers have \
             /auth, new ones nothing)",
            error.message()
        );
        return error.with_message(message);
    }
    if error.kind() != ErrorKind::LoginRejected {
        return error;
    }
    let description = error.oauth_description().unwrap_or_default().to_owned();
    let meaning = match description.as_str() {
        "Session not active" => {
            "the session at Keycloak has ended: it idled too long, reached its limit, or was ended"
        }
        "Token is not active" => {
            "the refresh token has expired: the session at Keycloak idled too long, or reached its limit"
        }
        "Stale token" => {
            "the refresh token is older than Keycloak takes: its operator has revoked what was issued until then (a \
             not-before policy, or an end to all of this person's sessions)"
        }
        "Maximum allowed refresh token reuse exceeded" => {
            "the refresh token was used before, and Keycloak has ended the session for that: does another program share it?"
        }
        "Offline user session not found" | "Offline session not active" => {
            "the offline session at Keycloak has ended, or was revoked in the person's account"
        }
        "Offline session invalid because offline access not granted anymore" => {
            "the person may no longer have offline sessions"
        }
        "Session doesn't have required client" | "Client session not active" => {
            "the session at Keycloak is no longer this client's: it was ended for this client, as after a second use of a \
             refresh token"
        }
        "User disabled" => "the account is disabled",
        _ => return error,
    };
    error.with_oauth("invalid_grant", Some(format!("{description}: {meaning}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_session_says_how_it_ended() {
        let told = |description: &str| {
            let error = AuthError::login_rejected("the refresh was refused");
            explained(error.with_oauth("invalid_grant", Some(description.into())))
        };
        for (description, word) in [
            ("Session not active", "idled"),
            ("Token is not active", "expired"),
            ("Stale token", "not-before"),
            ("Maximum allowed refresh token reuse exceeded", "used before"),
            ("Offline user session not found", "offline"),
            ("Session doesn't have required client", "client"),
            ("Something new", "refused"),
        ] {
            let error = told(description);
            let said = error.oauth_description().unwrap();
            assert!(
                said.starts_with(description) && error.to_string().contains(word),
                "{description}: {error}"
            );
            assert_eq!(error.kind(), ErrorKind::LoginRejected, "the kind is the engine's business");
        }
        let absent = explained(AuthError::refused("the request was refused").with_status(404)).to_string();
        assert!(
            absent.contains("look at `realm`") && absent.contains("base path in `server_url`"),
            "{absent}"
        );
        let other = AuthError::transient("down").with_oauth("x", Some("Session not active".into()));
        assert_eq!(explained(other).oauth_description(), Some("Session not active"));
    }
}
