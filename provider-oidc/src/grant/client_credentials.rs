//! Client credentials (RFC 6749 section 4.4).

use keyfob_auth_core::{Acquired, AuthError, TokenRequest};

use super::either;
use crate::{Oidc, token_endpoint::GrantRequest};

impl Oidc {
    /// A token for the client itself. It leaves no login: a refresh token would only be one more secret.
    pub(crate) async fn client_credentials(&self, request: &TokenRequest) -> Result<Acquired, AuthError> {
        let challenge = request.challenge.as_ref();
        let scopes = self.scopes_for(&request.scopes, challenge);
        let grant = GrantRequest::new("client_credentials", "the client credentials request")
            .parameter("scope", &scopes.to_string())
            .parameters("audience", either(&request.audiences, &self.config.audiences))
            .parameters("resource", either(&request.resources, &self.config.resources))
            .challenge(challenge);
        Ok(Acquired::token(self.exchange(grant).await?.answer.access))
    }
}
