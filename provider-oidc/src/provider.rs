//! [`Oidc`]: the provider.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use keyfob_auth_core::{
    Acquired, AuthError, Context, CredentialProvider, Identity, Interaction, Keep, Login, LoginRequest,
    TokenRequest,
    registry::{SecretSource, Settings},
};

use crate::{
    PROVIDER,
    config::{Config, Flow, OidcBuilder},
    http::Endpoint,
    metadata::{self, Which},
};

/// Tokens of an OAuth 2.0 authorization server or OpenID provider, for one client and one flow.
///
/// # Examples
/// ```
/// use keyfob_auth_core::Context;
/// use keyfob_provider_oidc::{Flow, Oidc};
///
/// let context = Context::new();
/// let provider = Oidc::builder("https://idp.example", "my-cli")
///     .flow(Flow::Device)
///     .scopes(["openid", "offline_access"])
///     .build(&context)?;
/// # let _ = provider;
/// # Ok::<_, keyfob_auth_core::AuthError>(())
/// ```
pub struct Oidc {
    pub(crate) config: Config,
    pub(crate) context: Context,
}

impl Oidc {
    /// A provider for this client at this issuer (RFC 8414 section 2), to be configured.
    pub fn builder(issuer: impl Into<String>, client_id: impl Into<String>) -> OidcBuilder {
        OidcBuilder::new(issuer.into(), client_id.into())
    }

    /// The provider that a configuration file describes, named by its profile. See the crate's documentation for the keys.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration), with the key and its line, for what is wrong.
    pub fn from_settings(settings: &Settings, context: &Context) -> Result<Self, AuthError> {
        Ok(Self { config: Config::from_settings(settings)?, context: context.clone() })
    }

    /// The endpoint: as configured, else as the server's metadata has it.
    pub(crate) async fn endpoint(&self, which: Which) -> Result<Endpoint, AuthError> {
        if let Some(endpoint) = self.config.endpoint(which) {
            return Ok(endpoint.clone());
        }
        metadata::discover(&self.context, &self.config.issuer).await?.endpoint(which)
    }

    async fn acquire_for(
        &self,
        request: &TokenRequest,
        login: Option<&Login>,
    ) -> Result<Acquired, AuthError> {
        self.check(request)?;
        match self.config.flow {
            Flow::ClientCredentials => self.client_credentials(request).await,
            Flow::Device => match login {
                None => Err(AuthError::login_required("nobody is logged in")),
                Some(login) => self.refresh(request, login).await,
            },
        }
    }

    async fn login_for(&self, request: &LoginRequest, ui: &dyn Interaction) -> Result<Acquired, AuthError> {
        self.check(&request.token)?;
        match self.config.flow {
            Flow::ClientCredentials => self.client_credentials(&request.token).await,
            Flow::Device => self.device_login(request, ui).await,
        }
    }

    /// Whether the request can be served at all: a token for somebody else must never be answered with one's own.
    fn check(&self, request: &TokenRequest) -> Result<(), AuthError> {
        match request.subject {
            None => Ok(()),
            Some(_) => Err(AuthError::configuration(format!(
                "a token on behalf of a subject cannot be had by the {} flow",
                self.config.flow.as_str()
            ))),
        }
    }
}

#[async_trait]
impl CredentialProvider for Oidc {
    fn identity(&self) -> Identity {
        Identity::new(PROVIDER)
            .grant(self.config.flow.grant())
            .issuer(&self.config.issuer.text)
            .client(self.config.client.id())
            .label(&self.config.label)
    }

    async fn acquire(&self, request: &TokenRequest, login: Option<&Login>) -> Result<Acquired, AuthError> {
        self.acquire_for(request, login).await.map_err(|error| error.with_provider(PROVIDER))
    }

    async fn login(
        &self,
        request: &LoginRequest,
        _previous: Option<&Login>,
        ui: Arc<dyn Interaction>,
    ) -> Result<Acquired, AuthError> {
        self.login_for(request, ui.as_ref()).await.map_err(|error| error.with_provider(PROVIDER))
    }

    async fn revoke(&self, login: &Login) -> Result<(), AuthError> {
        self.revoke_login(login).await.map_err(|error| error.with_provider(PROVIDER))
    }

    fn keeps(&self) -> Keep {
        Keep::Store
    }

    fn secret_revision(&self) -> Option<u64> {
        self.config.client.secret().and_then(SecretSource::revision)
    }
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Oidc").field(&self.config).finish()
    }
}
