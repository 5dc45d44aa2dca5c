//! [`Platform`]: one platform, and who speaks to its identity provider.

use keyfob_auth_core::{
    Acquired, AuthError, Context, CredentialProvider as _, ErrorKind, ExposeSecret as _, Login, Scopes,
    SecretString, TokenRequest,
};
use keyfob_provider_oidc::{Flow, OidcBuilder};

use crate::{builder::Network, claims::Claims, discovery::Discovery};

/// Which platform a login is for, as the login itself says.
const BASE_URL: &str = "base_url";

/// One platform, and what it says of itself.
pub(crate) struct Platform {
    /// Without a slash at its end.
    base_url: String,
    pub(crate) discovery: Discovery,
    network: Network,
    pub(crate) context: Context,
}

impl Platform {
    pub(crate) fn new(base_url: &str, discovery: Discovery, network: Network, context: &Context) -> Self {
        let base_url = base_url.trim_end_matches('/').to_owned();
        Self { base_url, discovery, network, context: context.clone() }
    }

    /// What speaks to the identity provider as this client.
    pub(crate) fn oidc(&self, client_id: &str) -> OidcBuilder {
        // The platform's own clients look at no ID token, and need not be able to reach who issues it.
        self.network.oidc(&self.base_url, client_id).id_tokens(false)
    }

    /// What signs people in and renews their logins. It never asks the issuer for what the platform does not say.
    pub(crate) fn person(&self, flow: Flow) -> Result<OidcBuilder, AuthError> {
        // Scopes may be granted without the prefix that they are asked for with.
        let oidc = self.oidc(self.discovery.need("client_id")?).flow(flow).any_scope_on_refresh(true);
        Ok(oidc.token_endpoint(self.discovery.need("token_endpoint")?).scope_on_poll(true))
    }

    /// The request with its scopes as the identity provider knows them.
    pub(crate) fn request(&self, request: &TokenRequest) -> TokenRequest {
        let rules = self.discovery.scopes();
        let mut request = request.clone();
        request.scopes = rules.prefixed(&request.scopes);
        if let Some(scope) = request.challenge.as_mut().and_then(|challenge| challenge.scope.as_mut()) {
            *scope = rules.prefixed(scope);
        }
        request
    }

    /// Every scope of the platform's own that was asked for has to be in the token.
    pub(crate) fn check_granted(&self, acquired: &Acquired, asked: &Scopes) -> Result<(), AuthError> {
        let granted = match Claims::of(&acquired.access) {
            Some(claims) => claims.scopes(),
            // Opaque, it is as the answer says, and where that says nothing all is granted (RFC 6749 section 5.1).
            None => acquired.access.scopes().cloned().unwrap_or_else(|| asked.clone()),
        };
        let missing = self.discovery.scopes().missing(asked, &granted);
        if missing.is_empty() {
            return Ok(());
        }
        Err(self.discovery.refused(&format!(
            "the sign-in was not granted {}, which it asked for; ask for less (`scopes`), or have the identity provider's \
             administrator allow it",
            missing.join(" ")
        )))
    }

    /// Says in the login which platform it is for and who signed in, as the token has it.
    pub(crate) fn marked(&self, mut acquired: Acquired) -> Acquired {
        if let Some(login) = &mut acquired.login {
            login.fields.insert(BASE_URL.into(), self.base_url.as_str().into());
            if let Some(account) = Claims::of(&acquired.access).and_then(|claims| claims.account()) {
                login.account = Some(account);
            }
        }
        acquired
    }

    /// A refresh token must not go to another platform's identity provider: contexts can be pointed elsewhere.
    pub(crate) fn is_of(&self, login: &Login) -> Result<(), AuthError> {
        let base_url = &self.base_url;
        match login.fields.get(BASE_URL) {
            Some(its) if its.expose_secret() != base_url.as_str() => Err(AuthError::login_required(format!(
                "the login is for {}, not for {base_url}; log in again",
                its.expose_secret()
            ))),
            _ => Ok(()),
        }
    }

    /// The platform's document names no revocation endpoint, the issuer's may; not every client can reach that.
    pub(crate) async fn revoke(&self, login: &Login, tokens: &[SecretString]) -> Result<(), AuthError> {
        let (Some(issuer), Some(client_id)) = (self.discovery.get("issuer"), self.discovery.get("client_id"))
        else {
            return Ok(());
        };
        let Ok(oidc) = self.network.oidc(issuer, client_id).flow(Flow::Device).build(&self.context) else {
            return Ok(());
        };
        match oidc.revoke(login, tokens).await {
            Err(error) if nobody_revokes(&error) => Ok(()),
            revoked => revoked,
        }
    }
}

/// Whether there is nobody to tell: no metadata, or none that names where.
fn nobody_revokes(error: &AuthError) -> bool {
    let kind = error.kind();
    kind == ErrorKind::Configuration || (kind == ErrorKind::Refused && error.status().is_none())
}
