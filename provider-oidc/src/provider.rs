//! [`Oidc`]: the provider.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use keyfob_auth_core::{
    AccessToken, Acquired, AuthError, Binding, Context, CredentialProvider, Identity, Interaction, Keep,
    Login, LoginRequest, Presentation, Scopes, SecretString, TokenRequest,
};

use crate::{
    assertion::Audience,
    callback::SecretCallback,
    client_auth::Headers,
    config::{Config, Flow, OidcBuilder, RESOURCE, is_resource},
    http::{Endpoint, Form, Http},
    metadata::{self, Metadata, Which},
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
#[derive(Clone)]
pub struct Oidc {
    pub(crate) config: Arc<Config>,
    pub(crate) http: Http,
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
    #[cfg(feature = "config")]
    pub fn from_settings(
        settings: &keyfob_auth_core::registry::Settings,
        context: &Context,
    ) -> Result<Self, AuthError> {
        Ok(Self::of(Config::from_settings(settings)?, context))
    }

    pub(crate) fn of(config: Config, context: &Context) -> Self {
        let http = Http { context: context.clone(), network: Arc::clone(&config.network) };
        Self { config: Arc::new(config), http }
    }

    /// By how many seconds the configured token endpoint's clock is ahead of this machine's (behind it: negative), as far
    /// as its answers have shown. `None` below five seconds, or if nothing is known. Assertions and proofs allow for it.
    pub fn server_clock_offset(&self) -> Option<i64> {
        let endpoint = self.config.endpoint(Which::Token)?;
        let (now, there) = (self.now(), self.http.server_time(endpoint).ok()?);
        // The two times were read one after the other.
        let seconds = |by: Duration| i64::try_from((by + Duration::from_millis(500)).as_secs()).ok();
        let offset = match there.duration_since(now) {
            Ok(ahead) => seconds(ahead)?,
            Err(behind) => -seconds(behind.duration())?,
        };
        (offset != 0).then_some(offset)
    }

    pub(crate) fn context(&self) -> &Context {
        &self.http.context
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.http.context.clock().wall()
    }

    /// What the server says of itself.
    pub(crate) async fn metadata(&self) -> Result<Arc<Metadata>, AuthError> {
        metadata::discover(&self.http, &self.config.issuer).await
    }

    /// The endpoint: as configured, else as the server's metadata has it.
    pub(crate) async fn endpoint(&self, which: Which) -> Result<Endpoint, AuthError> {
        if let Some(endpoint) = self.config.endpoint(which) {
            return Ok(endpoint.clone());
        }
        self.metadata().await?.endpoint(which, self.config.network.certificate.is_some())
    }

    /// The endpoint, where there is one.
    pub(crate) async fn endpoint_if_any(&self, which: Which) -> Result<Option<Endpoint>, AuthError> {
        if self.config.endpoint(which).is_none() && !self.metadata().await?.names(which) {
            return Ok(None);
        }
        self.endpoint(which).await.map(Some)
    }

    /// Adds to a form for this endpoint what authenticates the client.
    ///
    /// # Errors
    /// If a secret or key cannot be read, or the token endpoint that an assertion is to name is not known.
    pub(crate) async fn authenticate(
        &self,
        endpoint: &Endpoint,
        form: &mut Form,
    ) -> Result<Headers, AuthError> {
        let client = &self.config.client;
        // Only assertions name the token endpoint, and few; others must not need discovery for it.
        let (name, now) = if client.proof.names_token_endpoint() {
            let token = self.endpoint(Which::Token).await?;
            (token.url().as_str().to_owned(), self.http.server_time(endpoint)?)
        } else {
            (String::new(), self.http.server_time(endpoint)?)
        };
        let audience = Audience { issuer: &self.config.issuer.text, token_endpoint: &name };
        client.authenticate(form, &audience, now).await
    }

    /// Checks what a request brings besides what was configured.
    ///
    /// # Errors
    /// Configuration, for a resource that is none.
    pub(crate) fn check(request: &TokenRequest) -> Result<(), AuthError> {
        match request.resources.iter().find(|resource| !is_resource(resource)) {
            Some(wrong) => Err(AuthError::configuration(format!("the resource {wrong:?} {RESOURCE}"))),
            None => Ok(()),
        }
    }

    async fn acquire_for(
        &self,
        request: &TokenRequest,
        login: Option<&Login>,
    ) -> Result<Acquired, AuthError> {
        Self::check(request)?;
        self.warn(login);
        if request.subject.is_some() {
            return self.exchange_for_subject(request).await;
        }
        match self.config.flow {
            Flow::ClientCredentials => self.client_credentials(request, login).await,
            Flow::JwtBearer => self.jwt_bearer(request, login).await,
            Flow::TokenExchange => self.token_exchange(request, login).await,
            Flow::Password => match login {
                Some(login) if login.refresh_token.is_some() && !self.lacks_key(login) => {
                    self.refresh(request, login).await
                }
                _ => self.password(request).await,
            },
            Flow::Device | Flow::Browser | Flow::Auto => match login {
                None => Err(AuthError::login_required("nobody is logged in")),
                Some(login) => self.refresh(request, login).await,
            },
        }
    }

    async fn login_for(&self, request: &LoginRequest, ui: &dyn Interaction) -> Result<Acquired, AuthError> {
        Self::check(&request.token)?;
        self.warn(None);
        if request.token.subject.is_some() {
            return Err(AuthError::configuration("nobody can log in on behalf of a subject"));
        }
        match self.config.flow {
            Flow::Device => self.device_login(request, ui).await,
            Flow::Browser => self.browser_login(request, ui).await,
            Flow::Auto => self.auto_login(request, ui).await,
            Flow::Password => self.password(&request.token).await,
            Flow::ClientCredentials | Flow::JwtBearer | Flow::TokenExchange => {
                self.acquire_for(&request.token, None).await
            }
        }
    }

    /// Runs work on the context's executor: it holds the connections, whatever runtime the caller has, and who asked may go
    /// away without cutting it off.
    pub(crate) async fn run<T, R>(&self, work: impl FnOnce(Self) -> R) -> Result<T, AuthError>
    where
        T: Send + 'static,
        R: Future<Output = Result<T, AuthError>> + Send + 'static,
    {
        let done = self.context().run(work(self.clone())).await.and_then(|result| result);
        done.map_err(|error| self.named(error))
    }

    /// Says which provider an error is of.
    pub(crate) fn named(&self, error: AuthError) -> AuthError {
        error.with_provider(self.config.kind)
    }
}

#[async_trait]
impl CredentialProvider for Oidc {
    fn identity(&self) -> Identity {
        Identity::new(self.config.kind)
            .grant(self.config.flow.grant())
            .issuer(&self.config.issuer.text)
            .client(self.config.client.id())
            .tenant(&self.config.tenant)
            .label(&self.config.label)
    }

    async fn acquire(&self, request: &TokenRequest, login: Option<&Login>) -> Result<Acquired, AuthError> {
        self.acquire_for(request, login).await.map_err(|error| self.named(error))
    }

    async fn login(
        &self,
        request: &LoginRequest,
        _: Option<&Login>,
        ui: Arc<dyn Interaction>,
    ) -> Result<Acquired, AuthError> {
        self.login_for(request, ui.as_ref()).await.map_err(|error| self.named(error))
    }

    async fn revoke(&self, login: &Login, tokens: &[SecretString]) -> Result<(), AuthError> {
        self.revoke_login(login, tokens).await.map_err(|error| self.named(error))
    }

    fn present(&self, token: &AccessToken, login: Option<&Login>) -> Result<Presentation, AuthError> {
        if let Binding::Dpop(_) = token.binding() {
            return self.present_bound(token, login).map_err(|error| self.named(error));
        }
        if let Binding::Certificate(bound) = token.binding() {
            self.http.network.still_shows(bound).map_err(|error| self.named(error))?;
        }
        if self.config.dpop {
            // From before it was asked for.
            return Err(
                self.named(AuthError::refused("the token is not bound to a key (DPoP), as all are to be"))
            );
        }
        Presentation::bearer(token)
    }

    fn keeps(&self) -> Keep {
        Keep::Store
    }

    fn binds_logins(&self) -> bool {
        self.config.dpop
    }

    fn missing_scopes(&self, login: &Login) -> Scopes {
        self.scopes_since(login)
    }

    fn secret_revision(&self) -> Option<u64> {
        let config = &*self.config;
        let tokens = [&config.password, &config.exchange.subject_token, &config.exchange.actor_token];
        let tokens = tokens.into_iter().flatten().map(SecretCallback::revision);
        let others = [config.client.revision(), config.jwt_bearer.revision(), config.network.revision()];
        others.into_iter().chain(tokens).flatten().reduce(|all, one| all.rotate_left(17) ^ one)
    }
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Oidc").field(&self.config).finish()
    }
}
