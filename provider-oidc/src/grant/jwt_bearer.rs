//! A JWT as the grant (RFC 7523 section 2.1).

use keyfob_auth_core::{Acquired, AuthError, ExposeSecret, Login, TokenRequest};

use crate::{
    Oidc,
    assertion::{Audience, assertion},
    metadata::Which,
    token_endpoint::GrantRequest,
};

impl Oidc {
    /// A token for whom the assertion is about. The assertion is new each time, so there is no login to keep, but for the key
    /// with DPoP.
    pub(crate) async fn jwt_bearer(
        &self,
        request: &TokenRequest,
        login: Option<&Login>,
    ) -> Result<Acquired, AuthError> {
        let config = &self.config.jwt_bearer;
        let assertion = match (&config.given, &config.keys) {
            (Some(given), _) => given.get().await?,
            (None, Some(keys)) => {
                let endpoint = self.endpoint(Which::Token).await?;
                let audience =
                    Audience { issuer: &self.config.issuer.text, token_endpoint: endpoint.url().as_str() };
                let client = self.config.client.id();
                let subject = config.subject.as_deref().unwrap_or(client);
                let now = self.http.server_time(&endpoint)?;
                assertion(&*keys.signer().await?, client, subject, &audience, &config.options, now).await?
            }
            (None, None) => return Err(AuthError::not_configured("there is no assertion")),
        };
        let key = self.key_of(login)?;
        let grant =
            GrantRequest::new("urn:ietf:params:oauth:grant-type:jwt-bearer", "the JWT bearer request")
                .parameter("assertion", assertion.expose_secret());
        let exchanged = self.exchange(self.asking_for(grant, request).bound_to(key.as_ref())).await?;
        Self::without_login(exchanged, key.as_ref())
    }
}
