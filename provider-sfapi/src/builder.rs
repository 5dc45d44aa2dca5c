//! [`SfapiBuilder`]: what the provider is told.

use std::time::Duration;

use keyfob_auth_core::{
    AuthError, Context, Scopes,
    registry::{SecretSource, Settings},
};
use serde_json::{Map, Value};

use crate::{
    PROVIDER, Sfapi, TOKEN_URL,
    key_file::{KeySource, has_folder, is_a_key},
};

/// How long an assertion is valid: it is used at once.
const LIFETIME: Duration = Duration::from_secs(300);
/// NERSC's keys are RSA keys.
const ALGORITHM: &str = "RS256";

/// Configures an [`Sfapi`] provider.
#[derive(Clone, Debug)]
#[must_use]
pub struct SfapiBuilder {
    pub(crate) key: KeySource,
    pub(crate) passphrase: Option<SecretSource>,
    pub(crate) client_id: Option<String>,
    pub(crate) token_url: String,
    pub(crate) scopes: Scopes,
    pub(crate) scheme: String,
    pub(crate) algorithm: String,
    pub(crate) lifetime: Duration,
    pub(crate) claims: Map<String, Value>,
    pub(crate) bare: bool,
    pub(crate) label: String,
}

impl SfapiBuilder {
    pub(crate) fn new(key: KeySource) -> Self {
        Self {
            key,
            passphrase: None,
            client_id: None,
            token_url: TOKEN_URL.into(),
            scopes: Scopes::none(),
            scheme: "Bearer".into(),
            algorithm: ALGORITHM.into(),
            lifetime: LIFETIME,
            claims: Map::new(),
            bare: false,
            label: String::new(),
        }
    }

    /// The client's id, where the key does not say it or says another.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// The passphrase of an encrypted key.
    pub fn key_passphrase(mut self, passphrase: impl Into<SecretSource>) -> Self {
        self.passphrase = Some(passphrase.into());
        self
    }

    /// The token endpoint, and what assertions are for. Unsaid: [`TOKEN_URL`].
    pub fn token_url(mut self, url: impl Into<String>) -> Self {
        self.token_url = url.into();
        self
    }

    /// The scopes to ask for. Unsaid: what the client was made for.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().collect();
        self
    }

    /// What stands before the token in the header `Authorization`. Unsaid: `Bearer`. Empty: the token stands there alone, as in
    /// NERSC's own examples for the command line.
    pub fn scheme(mut self, scheme: impl Into<String>) -> Self {
        self.scheme = scheme.into();
        self
    }

    /// The algorithm of assertions. Unsaid: `RS256`.
    pub fn signing_alg(mut self, algorithm: impl Into<String>) -> Self {
        self.algorithm = algorithm.into();
        self
    }

    /// How long an assertion is valid, to the second. Unsaid: 5 minutes.
    pub fn assertion_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Further claims of assertions; they replace what would stand there.
    pub fn assertion_claims(mut self, claims: Map<String, Value>) -> Self {
        self.claims = claims;
        self
    }

    /// Leaves `iat` and `jti` out of assertions, as the hand-made recipe does. The server then cannot see a replay.
    pub fn bare_assertions(mut self, bare: bool) -> Self {
        self.bare = bare;
        self
    }

    /// A name that tells this client from others: the profile's.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The provider. Nothing is read or sent yet.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) for what cannot work.
    pub fn build(self, context: &Context) -> Result<Sfapi, AuthError> {
        Sfapi::of(self, context).map_err(|error| error.with_provider(PROVIDER))
    }

    pub(crate) fn from_settings(settings: &Settings) -> Result<Self, AuthError> {
        // A text is a path, a nickname or the key; a table says where the key is.
        let key = if settings.is_table("key") {
            settings.secret("key")?.map(KeySource::Secret)
        } else {
            match settings.string("key")? {
                Some(text) if text.is_empty() => return Err(settings.bad("key", "must not be empty")),
                // Noted as a secret, so that the permissions of the configuration file are looked at.
                Some(text) if is_a_key(&text) => settings.secret("key")?.map(KeySource::Secret),
                Some(text) if has_folder(&text) => {
                    settings.path("key")?.map(|path| KeySource::Named(path.display().to_string()))
                }
                nickname => nickname.map(KeySource::Named),
            }
        };
        let mut builder = Self::new(key.unwrap_or(KeySource::Environment)).label(settings.label());
        builder.passphrase = settings.secret("key_passphrase")?;
        builder.client_id = settings.string("client_id")?;
        builder.scopes = settings.strings("scopes")?.unwrap_or_default().into_iter().collect();
        if let Some(url) = settings.string("token_url")? {
            builder.token_url = url;
        }
        if let Some(scheme) = settings.string("scheme")? {
            builder.scheme = scheme;
        }
        if let Some(algorithm) = settings.string("signing_alg")? {
            builder.algorithm = algorithm;
        }
        if let Some(lifetime) = settings.seconds("assertion_lifetime")? {
            builder.lifetime = lifetime;
        }
        builder.bare = settings.bool("bare_assertions")?.unwrap_or(false);
        if let Some(table) = settings.table("assertion_claims")? {
            for claim in table.keys() {
                let value = table.require_string(&claim)?;
                builder.claims.insert(claim, value.into());
            }
        }
        Ok(builder)
    }
}
