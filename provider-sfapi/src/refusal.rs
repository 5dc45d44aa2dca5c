//! What a refusal means, in the words of who has a key from Iris.

use keyfob_auth_core::{AuthError, ErrorKind};

/// Says what NERSC's answer means, and what can be done. `clock` is by how many seconds the server's clock is ahead.
pub(crate) fn explained(error: AuthError, client_id: &str, clock: Option<i64>) -> AuthError {
    if error.kind() != ErrorKind::Refused {
        // An overloaded server's word is no verdict on the key.
        return error;
    }
    let message = match error.oauth_error() {
        Some("invalid_client") => format!(
            "NERSC does not accept the key of client {client_id}: the key has expired or was deleted (Iris, profile, \
             Superfacility API clients: make a new one), it belongs to another client, this machine's address is outside of \
             the client's range, or its clock is off{}",
            about_the_clock(clock)
        ),
        Some("invalid_scope") => format!(
            "client {client_id} may not have the scope that was asked for; Iris shows what it was made for"
        ),
        Some("unauthorized_client") => format!(
            "client {client_id} may not get tokens like this; is it a client of the Superfacility API?"
        ),
        Some("invalid_grant" | "access_denied") => format!(
            "NERSC refuses client {client_id} at the moment; does Iris still show it, and this machine's address in its range?"
        ),
        _ => return error,
    };
    error.with_message(message)
}

/// What is known of the clock.
fn about_the_clock(ahead: Option<i64>) -> String {
    let Some(ahead) = ahead else { return String::new() };
    let (seconds, way) = (ahead.unsigned_abs(), if ahead > 0 { "behind" } else { "ahead of" });
    format!(" (it is {seconds} s {way} NERSC's, which was allowed for: set it right all the same)")
}

#[cfg(test)]
mod tests {
    use keyfob_auth_core::ErrorKind;

    use super::*;

    #[test]
    fn a_refusal_says_what_to_look_at_in_iris() {
        let refused = |code: &str| AuthError::refused("refused").with_oauth(code, None);
        let told = |code: &str| explained(refused(code), "fakeclientid1", None);
        let error = told("invalid_client");
        for word in ["fakeclientid1", "expired", "deleted", "Iris", "address", "clock"] {
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
        assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("invalid_client")));
        for (clock, said) in [(90, "it is 90 s behind NERSC's"), (-7, "it is 7 s ahead of NERSC's")] {
            let error = explained(refused("invalid_client"), "fakeclientid1", Some(clock));
            assert!(error.to_string().contains(said), "{error}");
        }
        let overloaded = AuthError::transient("busy").with_oauth("invalid_client", None);
        assert_eq!(explained(overloaded, "fakeclientid1", None).message(), "busy");
        assert!(told("invalid_scope").to_string().contains("scope"));
        assert!(told("something_else").to_string().contains("refused"));
    }
}
