//! [`Nemo`]: the provider.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use keyfob_auth_core::{
    Acquired, AuthError, Context, CredentialProvider, ErrorKind, Identity, Interaction, Keep, Login,
    LoginRequest, Scopes, SecretString, TokenRequest,
    registry::{SecretSource, Settings},
};
use keyfob_provider_oidc::{Flow, asked_scopes};

use crate::{
    NemoBuilder, NemoFlow, PROVIDER, RefreshScopes, config_file::NemoStore, discovery::Discovery, given,
    platform::Platform,
};

/// The client that the platform's document is asked for by: it names none.
const NOBODY: &str = "nemo";

/// Tokens of a NeMo Platform, got as its own command and SDK get them.
///
/// # Examples
/// ```
/// use keyfob_auth_core::Context;
/// use keyfob_provider_nemo::Nemo;
///
/// let provider = Nemo::builder("https://nemo.example.com").build(&Context::new())?;
/// # let _ = provider;
/// # Ok::<_, keyfob_auth_core::AuthError>(())
/// ```
pub struct Nemo {
    settings: NemoBuilder,
    flow: NemoFlow,
    context: Context,
    identity: Identity,
}

impl Nemo {
    /// A provider for the platform at this address, to be configured. Nothing is taken from the environment.
    pub fn builder(base_url: impl Into<String>) -> NemoBuilder {
        NemoBuilder::new(Some(base_url.into()), None)
    }

    /// A provider for the platform that a context of the platform's own configuration names, to be configured. The session's
    /// store is to be a clone of the same value: then both mean the same context, also if another becomes the current one.
    pub fn from_config(config: NemoStore) -> NemoBuilder {
        NemoBuilder::new(None, Some(config))
    }

    /// The provider that a configuration file describes, named by its profile; what it leaves out is taken from the
    /// environment variables of the platform's own clients, and from their configuration. See the crate's documentation for
    /// the keys.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration), with the key and its line, for what is wrong.
    pub fn from_settings(settings: &Settings, context: &Context) -> Result<Self, AuthError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        NemoBuilder::from_settings(settings, context, &variable)?.build_from(settings, context)
    }

    pub(crate) fn of(settings: NemoBuilder, flow: NemoFlow, context: &Context) -> Self {
        let base_url = settings.base_url.as_deref().unwrap_or_default().trim_end_matches('/');
        // Another user name is another login.
        let label = match settings.username.as_deref().filter(|_| flow == NemoFlow::Password) {
            Some(user) if settings.label.is_empty() => user.to_owned(),
            Some(user) => format!("{} ({user})", settings.label),
            None => settings.label.clone(),
        };
        let identity = Identity::new(PROVIDER)
            .grant(flow.grant())
            .issuer(base_url)
            .tenant(settings.context.as_deref().unwrap_or_default())
            .label(label);
        Self { settings, flow, context: context.clone(), identity }
    }

    /// How it gets tokens: as it was told, else as followed from what it was given.
    pub fn flow(&self) -> NemoFlow {
        self.flow
    }

    /// The platform, as it describes itself now.
    async fn platform(&self) -> Result<Platform, AuthError> {
        let mut network = self.settings.network.clone();
        let base_url = match (&self.settings.base_url, &self.settings.config) {
            (Some(base_url), _) => base_url.clone(),
            (None, Some(config)) => {
                let Some(connection) = config.connection().await? else {
                    return Err(AuthError::not_configured(format!(
                        "no platform is named: set `base_url` or NMP_BASE_URL, or make a context for one in {}",
                        keyfob_auth_core::TokenStore::describe(config),
                    )));
                };
                network.ca_file =
                    network.ca_file.or(connection.certificate_authority.map(SecretSource::File));
                connection.base_url
            }
            (None, None) => return Err(AuthError::not_configured("no platform is named: set `base_url`")),
        };
        let asking = network.oidc(&base_url, NOBODY).build(&self.context).map_err(|error| {
            let message = format!("the platform's address {base_url:?} {}", wrong(&error).1);
            error.with_message(message)
        })?;
        let discovery = Discovery::of(&base_url, &asking).await?;
        Ok(Platform::new(&base_url, discovery, network, &self.context))
    }

    async fn acquire_for(
        &self,
        request: &TokenRequest,
        login: Option<&Login>,
    ) -> Result<Acquired, AuthError> {
        if request.subject.is_some() && matches!(self.flow, NemoFlow::Token | NemoFlow::Unsigned) {
            let message = "a token on behalf of a subject can be had by the workload flow alone";
            return Err(AuthError::configuration(message));
        }
        let Some(login) = login.filter(|login| self.flow.is_personal() && login.refresh_token.is_some())
        else {
            return match self.flow {
                NemoFlow::Device => Err(AuthError::login_required(match login {
                    None => "nobody is logged in",
                    Some(_) => "the login has no refresh token to renew it with; log in again",
                })),
                NemoFlow::Password => self.sign_in(&LoginRequest::new(request.clone()), None).await,
                NemoFlow::Workload => {
                    let source = given_by(&self.settings.workload_token)?;
                    self.platform().await?.exchange_workload(request, source).await
                }
                NemoFlow::Token => {
                    given::acquire(given_by(&self.settings.access_token)?, self.context.clock()).await
                }
                NemoFlow::Unsigned => {
                    let unsigned = given_by(&self.settings.unsigned)?;
                    let scopes = either(&request.scopes, &self.settings.scopes);
                    unsigned.acquire(&self.platform().await?.discovery, scopes, self.context.clock().wall())
                }
            };
        };
        let platform = self.platform().await?;
        platform.is_of(login)?;
        let mut request = platform.request(request);
        if request.scopes.is_empty() && self.settings.refresh_scopes == RefreshScopes::Default {
            request.scopes = platform.discovery.scopes().defaults();
        }
        let renewed =
            platform.person(Flow::Device)?.build(&self.context)?.acquire(&request, Some(login)).await?;
        Ok(platform.marked(renewed))
    }

    /// Signs a person in: with the password, or with a code shown to them.
    async fn sign_in(
        &self,
        request: &LoginRequest,
        ui: Option<Arc<dyn Interaction>>,
    ) -> Result<Acquired, AuthError> {
        let platform = self.platform().await?;
        let asked = either(&request.token.scopes, &self.settings.scopes);
        let scopes = platform.discovery.scopes().of_login(asked);
        let mut request = request.clone();
        request.token = platform.request(&request.token);
        request.token.scopes.clone_from(&scopes);
        let acquired = match (self.flow, ui) {
            (NemoFlow::Password, _) => {
                let (username, password) =
                    (given_by(&self.settings.username)?, given_by(&self.settings.password)?);
                let oidc = platform.person(Flow::Password)?.username(username).password(password.clone());
                oidc.build(&self.context)?.acquire(&request.token, None).await?
            }
            (_, Some(ui)) => {
                let endpoint = platform.discovery.need("device_authorization_endpoint")?;
                let oidc = platform.person(Flow::Device)?.device_authorization_endpoint(endpoint);
                oidc.build(&self.context)?.login(&request, None, ui).await?
            }
            (_, None) => return Err(AuthError::login_required("nobody is logged in")),
        };
        platform.check_granted(&acquired, &scopes)?;
        Ok(platform.marked(acquired))
    }

    async fn revoke_at_issuer(&self, login: &Login, tokens: &[SecretString]) -> Result<(), AuthError> {
        if login.refresh_token.is_none() {
            return Ok(());
        }
        let platform = match self.platform().await {
            Ok(platform) => platform,
            Err(error) if error.kind() == ErrorKind::NotConfigured => return Ok(()),
            Err(error) => return Err(error),
        };
        platform.is_of(login)?;
        platform.revoke(login, tokens).await
    }
}

/// What a flow was checked to have.
fn given_by<T>(given: &Option<T>) -> Result<&T, AuthError> {
    given.as_ref().ok_or_else(|| AuthError::not_configured("the flow lacks what it needs"))
}

/// What was asked for, else what was configured.
fn either<'a>(asked: &'a Scopes, configured: &'a Scopes) -> &'a Scopes {
    if asked.is_empty() { configured } else { asked }
}

/// Which key of whoever speaks OAuth an error is about, and the end of the sentence that the key begins.
pub(crate) fn wrong(error: &AuthError) -> (&str, &str) {
    let message = error.message();
    message.strip_prefix('`').and_then(|message| message.split_once("` ")).unwrap_or(("", message))
}

#[async_trait]
impl CredentialProvider for Nemo {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    async fn acquire(&self, request: &TokenRequest, login: Option<&Login>) -> Result<Acquired, AuthError> {
        self.acquire_for(request, login).await.map_err(|error| error.with_provider(PROVIDER))
    }

    async fn login(
        &self,
        request: &LoginRequest,
        _: Option<&Login>,
        ui: Arc<dyn Interaction>,
    ) -> Result<Acquired, AuthError> {
        let acquired = if self.flow.is_personal() {
            self.sign_in(request, Some(ui)).await
        } else {
            self.acquire_for(&request.token, None).await
        };
        acquired.map_err(|error| error.with_provider(PROVIDER))
    }

    async fn revoke(&self, login: &Login, tokens: &[SecretString]) -> Result<(), AuthError> {
        self.revoke_at_issuer(login, tokens).await.map_err(|error| error.with_provider(PROVIDER))
    }

    fn keeps(&self) -> Keep {
        if self.flow.is_personal() { Keep::Store } else { Keep::Memory }
    }

    fn missing_scopes(&self, login: &Login) -> Scopes {
        let Some(asked) = asked_scopes(login) else { return Scopes::none() };
        // The platform's own are asked for with its prefix, which ends in a slash.
        let was_asked = |scope: &str| {
            asked.iter().any(|one| {
                one == scope || one.strip_suffix(scope).is_some_and(|prefix| prefix.ends_with('/'))
            })
        };
        self.settings.scopes.iter().filter(|scope| !was_asked(scope)).collect()
    }

    fn secret_revision(&self) -> Option<u64> {
        let secret = match self.flow {
            NemoFlow::Password => &self.settings.password,
            NemoFlow::Workload => &self.settings.workload_token,
            NemoFlow::Token => &self.settings.access_token,
            NemoFlow::Device | NemoFlow::Unsigned => &None,
        };
        secret.as_ref().and_then(SecretSource::revision)
    }
}

impl fmt::Debug for Nemo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nemo")
            .field("identity", &self.identity)
            .field("config", &self.settings.config)
            .finish_non_exhaustive()
    }
}
