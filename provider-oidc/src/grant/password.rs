//! A person's password (RFC 6749 section 4.3): for servers that leave no choice (RFC 9700 section 2.4).

use keyfob_auth_core::{Acquired, AuthError, ErrorKind, ExposeSecret, TokenRequest};

use super::SignIn;
use crate::{Oidc, token_endpoint::GrantRequest};

impl Oidc {
    /// Signs in with the configured user name and password. A password that was refused is not tried again until it changes:
    /// a second try might lock the account. Servers say it in many ways, so every refusal counts.
    pub(crate) async fn password(&self, request: &TokenRequest) -> Result<Acquired, AuthError> {
        let (Some(username), Some(password)) = (&self.config.username, &self.config.password) else {
            return Err(AuthError::not_configured("there is no user name or no password"));
        };
        let password = password.get().await?;
        let key = self.new_key()?;
        let scopes = self.scopes_for(&request.scopes, request.challenge.as_ref());
        let grant = GrantRequest::new("password", "the sign-in with a password")
            .parameter("username", username)
            .parameter("password", password.expose_secret());
        let grant = self.asking_for(grant, request).bound_to(key.as_ref());
        let exchanged = self.exchange(grant).await.map_err(|error| match error.oauth_error() {
            Some("invalid_grant") if error.kind() == ErrorKind::Refused => final_refusal(
                error.with_message(format!(
                    "the user name {username:?} or its password was refused; they are not tried again until they change, or somebody logs in"
                )),
            ),
            // Without a status nobody was asked.
            _ if error.status().is_some() => final_refusal(error),
            _ => error,
        })?;
        let sign_in = SignIn::satisfying(request.challenge.as_ref());
        self.signed_in(exchanged, &scopes, key.as_ref(), sign_in).await.map_err(final_refusal)
    }
}

/// The error, never to be asked for again if it is a refusal.
fn final_refusal(error: AuthError) -> AuthError {
    match error.kind() {
        ErrorKind::Refused | ErrorKind::InteractionRequired => error.once(),
        _ => error,
    }
}
