//! [`Sfapi`]: the provider.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use keyfob_auth_core::{
    AccessToken, Acquired, AuthError, Context, CredentialProvider, Identity, Keep, Login, Presentation,
    TokenRequest,
    registry::{SecretSource, Settings},
};
use keyfob_provider_oidc::{
    AssertionAudience, Flow, Oidc, Signer,
    jose::{KeyOptions, SigningKey},
};

use crate::{
    PROVIDER, SfapiBuilder,
    key_file::{Key, KeySource, looks_like_an_id},
    refusal::explained,
};

/// Access tokens of the NERSC Superfacility API, for a client that was made in Iris.
///
/// # Examples
/// ```
/// use keyfob_auth_core::Context;
/// use keyfob_provider_sfapi::Sfapi;
///
/// // A path, or the beginning of a file's name in ~/.superfacility.
/// let provider = Sfapi::from_key_file("prod").build(&Context::new())?;
/// # let _ = provider;
/// # Ok::<_, keyfob_auth_core::AuthError>(())
/// ```
pub struct Sfapi {
    settings: SfapiBuilder,
    context: Context,
    identity: Identity,
    prefix: String,
    /// The client by the key that was read last, and that key's revision.
    current: Mutex<Option<(u64, Arc<Client>)>>,
    /// The client id that was warned of last.
    warned: Mutex<Option<String>>,
}

/// What a key makes: another key may be another client's.
struct Client {
    id: String,
    oidc: Oidc,
}

impl Sfapi {
    /// A client by its key file: a path, or the beginning of a name in `~/.superfacility`. The file says which client it is,
    /// and is read again when it changes: keys are replaced every few weeks.
    pub fn from_key_file(name: impl Into<String>) -> SfapiBuilder {
        SfapiBuilder::new(KeySource::Named(name.into()))
    }

    /// A client by its id and its key: PEM or JWK.
    #[allow(
        clippy::new_ret_no_self,
        reason = "as short as the Python client's, and one of three ways to begin"
    )]
    pub fn new(client_id: impl Into<String>, key: impl Into<SecretSource>) -> SfapiBuilder {
        SfapiBuilder::new(KeySource::Secret(key.into())).client_id(client_id)
    }

    /// A client by the environment: `SFAPI_CLIENT_ID` and `SFAPI_SECRET`.
    pub fn from_env() -> SfapiBuilder {
        SfapiBuilder::new(KeySource::Environment)
    }

    /// The provider that a configuration file describes, named by its profile. See the crate's documentation for the keys.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration), with the key and its line, for what is wrong.
    pub fn from_settings(settings: &Settings, context: &Context) -> Result<Self, AuthError> {
        let builder = SfapiBuilder::from_settings(settings)?;
        check_scheme(&builder.scheme).map_err(|error| settings.bad("scheme", error.message()))?;
        Self::of(builder, context).map_err(|error| {
            let message = error.message();
            settings.bad("token_url", message.strip_prefix("the token URL ").unwrap_or(message))
        })
    }

    pub(crate) fn of(settings: SfapiBuilder, context: &Context) -> Result<Self, AuthError> {
        check_scheme(&settings.scheme)?;
        // Whether the URL can work is known now, whatever the key will be.
        oidc(&settings, "client", Arc::new(NoKey)).build(context).map_err(|error| {
            let message = format!("the token URL {}", about_the_url(&error));
            error.with_message(message)
        })?;
        let identity = Identity::new(PROVIDER)
            .grant("client_credentials")
            .issuer(&settings.token_url)
            .client(settings.client_id.clone().or_else(|| settings.key.client_id()).unwrap_or_default())
            .tenant(match settings.scopes.to_string() {
                none if none.is_empty() => settings.key.name(),
                scopes => format!("{} scope={scopes}", settings.key.name()),
            })
            .label(&settings.label);
        let prefix = match settings.scheme.as_str() {
            "" => String::new(),
            scheme => format!("{scheme} "),
        };
        let (context, current, warned) = (context.clone(), Mutex::default(), Mutex::default());
        Ok(Self { settings, context, identity, prefix, current, warned })
    }

    /// The client of the key as it is now.
    async fn client(&self) -> Result<Arc<Client>, AuthError> {
        // Asked for before the key is read: a change in between is seen the next time.
        let revision = self.secret_revision();
        {
            let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if let (Some(now), Some((then, client))) = (revision, &*current)
                && now == *then
            {
                return Ok(Arc::clone(client));
            }
        }
        let client = Arc::new(self.client_of(self.settings.key.read().await?).await?);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = revision.map(|revision| (revision, Arc::clone(&client)));
        Ok(client)
    }

    async fn client_of(&self, key: Key) -> Result<Client, AuthError> {
        let Some(id) = self.settings.client_id.clone().or(key.client_id) else {
            return Err(AuthError::configuration(
                "the key does not say which client it belongs to; set `client_id`, or write it on the line before the key",
            )
            .with_origin(key.origin));
        };
        self.warn_of(&id);
        let mut options = KeyOptions::default();
        options.algorithm = Some(self.settings.algorithm.clone());
        if let Some(passphrase) = &self.settings.passphrase {
            options.passphrase = Some(passphrase.read().await?);
        }
        let key =
            SigningKey::from_text(&key.text, &options).map_err(|error| error.with_origin(key.origin))?;
        let oidc = oidc(&self.settings, &id, Arc::new(Nameless(key))).build(&self.context)?;
        Ok(Client { id, oidc })
    }

    /// Warns of an id that is none of Iris's, once.
    fn warn_of(&self, id: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if looks_like_an_id(id) || warned.as_deref() == Some(id) {
            return;
        }
        tracing::warn!(
            client_id = id,
            "the client ids that Iris gives have 13 characters; is it copied whole?"
        );
        *warned = Some(id.to_owned());
    }
}

/// A scheme is a token (RFC 9110 section 11.1), or nothing.
fn check_scheme(scheme: &str) -> Result<(), AuthError> {
    if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) {
        return Ok(());
    }
    Err(AuthError::configuration(format!(
        "{scheme:?} is no authentication scheme (RFC 9110 section 11.1): write a word such as \"Bearer\", or \"\" for the \
         token alone"
    )))
}

/// What is wrong with the URL, which is the issuer to who speaks to it.
fn about_the_url(error: &AuthError) -> &str {
    let message = error.message();
    message.split_once("` ").map_or(message, |(_, what)| what)
}

/// What speaks to the token endpoint.
fn oidc(settings: &SfapiBuilder, id: &str, signer: Arc<dyn Signer>) -> keyfob_provider_oidc::OidcBuilder {
    let mut builder = Oidc::builder(&settings.token_url, id)
        .kind(PROVIDER)
        .flow(Flow::ClientCredentials)
        .token_endpoint(&settings.token_url)
        .signer(signer)
        .scopes(settings.scopes.iter())
        .assertion_audience(AssertionAudience::TokenEndpoint)
        .assertion_lifetime(settings.lifetime)
        .assertion_claims(settings.claims.clone())
        // The server takes the client from the assertion, as the real clients have it.
        .nameless_assertions();
    if settings.bare {
        builder = builder.bare_assertions();
    }
    builder
}

#[async_trait]
impl CredentialProvider for Sfapi {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    async fn acquire(&self, request: &TokenRequest, login: Option<&Login>) -> Result<Acquired, AuthError> {
        let client = self.client().await.map_err(|error| error.with_provider(PROVIDER))?;
        let explain = |error| explained(error, &client.id, client.oidc.server_clock_offset());
        client.oidc.acquire(request, login).await.map_err(explain)
    }

    fn present(&self, token: &AccessToken, _: Option<&Login>) -> Result<Presentation, AuthError> {
        Presentation::header(AUTHORIZATION, &self.prefix, token)
    }

    fn keeps(&self) -> Keep {
        Keep::Store
    }

    fn secret_revision(&self) -> Option<u64> {
        let key = self.settings.key.revision()?;
        let passphrase = self.settings.passphrase.as_ref();
        Some(key ^ passphrase.map_or(Some(0), SecretSource::revision)?.rotate_left(17))
    }
}

impl fmt::Debug for Sfapi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sfapi").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Signs without naming the key: NERSC's clients have one each, and the real ones name none, also where the JWK has a name.
#[derive(Debug)]
struct Nameless(SigningKey);

#[async_trait]
impl Signer for Nameless {
    fn algorithm(&self) -> &str {
        self.0.algorithm()
    }

    async fn sign(&self, input: &[u8]) -> Result<Vec<u8>, AuthError> {
        self.0.sign(input).await
    }
}

/// Stands where the key will be.
#[derive(Debug)]
struct NoKey;

#[async_trait]
impl Signer for NoKey {
    fn algorithm(&self) -> &str {
        "RS256"
    }

    async fn sign(&self, _: &[u8]) -> Result<Vec<u8>, AuthError> {
        Err(AuthError::not_configured("there is no key"))
    }
}
