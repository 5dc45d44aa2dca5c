//! Client credentials (RFC 6749 section 4.4).

use keyfob_auth_core::{Acquired, AuthError, Login, TokenRequest};

use crate::{Oidc, token_endpoint::GrantRequest};

impl Oidc {
    /// A token for the client itself. It leaves no login: a refresh token would only be one more secret. With DPoP it leaves
    /// one that holds the key.
    pub(crate) async fn client_credentials(
        &self,
        request: &TokenRequest,
        login: Option<&Login>,
    ) -> Result<Acquired, AuthError> {
        let key = self.key_of(login)?;
        let grant = GrantRequest::new("client_credentials", "the client credentials request");
        let exchanged = self.exchange(self.asking_for(grant, request).bound_to(key.as_ref())).await?;
        Self::without_login(exchanged, key.as_ref())
    }
}
