//! What a refusal means, in the words of who has a key from Iris.

use keyfob_auth_core::AuthError;

/// Says what NERSC's answer means, and what can be done.
pub(crate) fn explained(error: AuthError, client_id: &str) -> AuthError {
    let message = match error.oauth_error() {
        Some("invalid_client") => format!(
            "NERSC does not accept the key of client {client_id}: the key has expired or was deleted (Iris, profile, \
             Superfacility API clients: make a new one), it belongs to another client, this machine's address is outside of \
             the client's range, or its clock is off"
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

#[cfg(test)]
mod tests {
    use keyfob_auth_core::ErrorKind;

    use super::*;

    #[test]
    fn a_refusal_says_what_to_look_at_in_iris() {
        let told =
            |code: &str| explained(AuthError::refused("refused").with_oauth(code, None), "fakeclientid1");
        let error = told("invalid_client");
        for word in ["fakeclientid1", "expired", "deleted", "Iris", "address", "clock"] {
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
        assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("invalid_client")));
        assert!(told("invalid_scope").to_string().contains("scope"));
        assert!(told("something_else").to_string().contains("refused"));
    }
}
