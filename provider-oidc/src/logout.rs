//! Logout at the provider, with the person's browser (OpenID Connect RP-Initiated Logout 1.0).

use keyfob_auth_core::{AuthError, ExposeSecret, Login, SecretString};
use url::Url;

use crate::{Oidc, metadata::Which};

impl Oidc {
    /// The URL that ends the person's session at the provider when their browser opens it: without it the next login needs
    /// no typing. `return_to` is where the browser goes afterwards; it must be registered there.
    ///
    /// The URL holds the login's ID token, as the standard wants: it is for this person's browser only.
    ///
    /// # Errors
    /// Refused if the server offers no logout; configuration if `return_to` is no URL.
    ///
    /// # Cancellation
    /// Changes nothing.
    pub async fn end_session_url(
        &self,
        login: Option<&Login>,
        return_to: Option<&str>,
    ) -> Result<SecretString, AuthError> {
        let (login, return_to) = (login.cloned(), return_to.map(str::to_owned));
        self.run(|this| async move { this.logout_url(login.as_ref(), return_to.as_deref()).await }).await
    }

    async fn logout_url(
        &self,
        login: Option<&Login>,
        return_to: Option<&str>,
    ) -> Result<SecretString, AuthError> {
        let mut url = self.endpoint(Which::EndSession).await?.url().clone();
        let mut query = url.query_pairs_mut();
        query.append_pair("client_id", self.config.client.id());
        if let Some(token) = login.and_then(|login| login.id_token.as_ref()) {
            query.append_pair("id_token_hint", token.expose_secret());
        }
        if let Some(return_to) = return_to {
            Url::parse(return_to).map_err(|error| {
                AuthError::configuration("where to return to after the logout is no URL").with_source(error)
            })?;
            query.append_pair("post_logout_redirect_uri", return_to);
        }
        drop(query);
        Ok(SecretString::from(String::from(url)))
    }
}
