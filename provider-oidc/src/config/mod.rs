//! What a provider is configured with: by its builder, or by a configuration file.

mod builder;
mod flow;
mod network;
#[cfg_attr(not(feature = "browser"), expect(dead_code, reason = "for who listens there"))]
mod redirect;
mod response_mode;
#[cfg(feature = "config")]
mod settings;
mod tenant;
#[cfg(all(test, feature = "browser", feature = "config"))]
mod tests;
#[cfg(feature = "config")]
mod uses;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use keyfob_auth_core::{Scopes, registry::SecretSource};
use url::Url;

pub(crate) use self::redirect::RedirectUri;
pub use self::{builder::OidcBuilder, flow::Flow, response_mode::ResponseMode};
use crate::{
    assertion::AssertionOptions,
    callback::SecretCallback,
    client_auth::{Client, ClientAuth, Keys, Proof},
    http::{Endpoint, Network},
    metadata::{Issuer, Which},
};

/// Parameters that are the grants' own; another value would break the request, or a secret out of its place.
const RESERVED: [&str; 36] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "scope",
    "refresh_token",
    "device_code",
    "code",
    "code_verifier",
    "code_challenge",
    "code_challenge_method",
    "redirect_uri",
    "response_type",
    "response_mode",
    "request_uri",
    "request",
    "state",
    "nonce",
    "token",
    "username",
    "password",
    "assertion",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_token_type",
    "dpop_jkt",
    "authorization_details",
    // These have settings of their own, or come of a challenge.
    "claims",
    "prompt",
    "login_hint",
    "acr_values",
    "max_age",
    "ui_locales",
];

/// How long a person may take to sign in with a browser.
#[cfg(feature = "browser")]
const LOGIN_TIMEOUT: Duration = Duration::from_secs(600);

/// The URN of an access token (RFC 8693 section 3).
pub(crate) const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What a resource is, as the end of a sentence.
pub(crate) const RESOURCE: &str = "must be an absolute URI without a fragment (RFC 8707 section 2)";

/// Whether it is an absolute URI without a fragment.
pub(crate) fn is_resource(text: &str) -> bool {
    Url::parse(text).is_ok_and(|uri| uri.fragment().is_none())
}

/// What is wrong with which key.
pub(crate) struct Wrong {
    pub(crate) key: &'static str,
    /// The end of a sentence that the key begins.
    pub(crate) what: String,
}

impl Wrong {
    pub(crate) fn new(key: &'static str, what: &str) -> Self {
        Self { key, what: what.to_owned() }
    }
}

/// A configuration that can work.
pub(crate) struct Config {
    pub(crate) kind: &'static str,
    pub(crate) issuer: Issuer,
    pub(crate) client: Client,
    pub(crate) flow: Flow,
    pub(crate) scopes: Scopes,
    pub(crate) audiences: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) authorization_details: Option<String>,
    endpoints: Vec<(Which, Endpoint)>,
    pub(crate) extra: Vec<(String, String)>,
    pub(crate) label: String,
    /// Who and what was configured besides: see [`tenant`].
    pub(crate) tenant: String,
    pub(crate) dpop: bool,
    /// Whether a logout ends the person's session at the provider too.
    pub(crate) end_session: bool,
    /// The only algorithm of ID tokens, if it was said.
    #[cfg_attr(
        not(feature = "jose"),
        expect(dead_code, reason = "signatures are checked in the other build")
    )]
    pub(crate) id_token_signing_alg: Option<String>,
    /// Whom ID tokens may be for besides the client.
    pub(crate) id_token_audiences: Vec<String>,
    pub(crate) id_tokens: bool,
    pub(crate) scope_on_poll: bool,
    pub(crate) any_scope_on_refresh: bool,
    pub(crate) browser: Browser,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<SecretCallback>,
    pub(crate) jwt_bearer: JwtBearer,
    pub(crate) exchange: TokenExchange,
    pub(crate) network: Arc<Network>,
    /// The files that are nobody else's to read.
    pub(crate) secret_files: Vec<PathBuf>,
}

/// How a person signs in with a browser.
pub(crate) struct Browser {
    /// At least one; the first that can be had is taken.
    pub(crate) redirect_uris: Vec<RedirectUri>,
    pub(crate) response_mode: ResponseMode,
    pub(crate) pushed: Option<bool>,
    pub(crate) login_hint: Option<String>,
    pub(crate) prompt: Option<String>,
    pub(crate) acr_values: Option<String>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) ui_locales: Option<String>,
    #[cfg(feature = "browser")]
    pub(crate) page: Option<Arc<dyn crate::browser::Page>>,
    #[cfg(feature = "browser")]
    pub(crate) open_browser: bool,
    /// How long the person may take.
    #[cfg(feature = "browser")]
    pub(crate) login_timeout: Duration,
}

/// The assertion of a JWT bearer grant: given, or signed here.
pub(crate) struct JwtBearer {
    pub(crate) given: Option<SecretCallback>,
    pub(crate) keys: Option<Keys>,
    pub(crate) subject: Option<String>,
    pub(crate) options: AssertionOptions,
}

impl JwtBearer {
    /// Changes when the assertion or its key does.
    pub(crate) fn revision(&self) -> Option<u64> {
        match &self.given {
            Some(given) => given.revision(),
            None => self.keys.as_ref().and_then(Keys::revision),
        }
    }
}

/// The parameters of a token exchange.
pub(crate) struct TokenExchange {
    pub(crate) subject_token: Option<SecretCallback>,
    pub(crate) subject_token_type: String,
    pub(crate) actor_token: Option<SecretCallback>,
    pub(crate) actor_token_type: String,
    pub(crate) requested_token_type: Option<String>,
}

impl Config {
    fn check(builder: OidcBuilder) -> Result<Self, Wrong> {
        let issuer = Issuer::parse(&builder.issuer).map_err(|what| Wrong { key: "issuer", what })?;
        if builder.client_id.is_empty() {
            return Err(Wrong::new("client_id", "must not be empty"));
        }
        let keys = keys(&builder)?;
        let flow = builder.flow;
        let client = client(&builder, keys.as_ref())?;
        if flow.is_none() && (builder.username.is_some() || builder.password.is_some()) {
            return Err(Wrong::new(
                "username",
                "and `password` are of the flow \"password\", which `flow` must say: it is not taken unasked",
            ));
        }
        let unsaid = if client.is_confidential() { Flow::ClientCredentials } else { Flow::Device };
        let flow = flow.unwrap_or(unsaid);
        needs(&builder, flow, &client, keys.is_some())?;
        let tenant = tenant::tenant(&builder, flow);
        if builder.id_token_signing_alg.is_some() && cfg!(not(feature = "jose")) {
            return Err(Wrong::new(
                "id_token_signing_alg",
                "needs keyfob's feature `jose`, which this build does not have",
            ));
        }
        if builder.dpop && cfg!(not(feature = "jose")) {
            return Err(Wrong::new("dpop", "needs keyfob's feature `jose`, which this build does not have"));
        }
        let secret_files = secret_files(&builder);
        let mut scopes = builder.scopes;
        if scopes.iter().any(|scope| !scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))) {
            return Err(Wrong::new("scopes", "have characters that no scope has (RFC 6749 section 3.3)"));
        }
        if scopes.is_empty() && flow.is_personal() {
            scopes = ["openid"].into_iter().collect();
        }
        if let Some((name, _)) = builder.extra.iter().find(|(name, _)| RESERVED.contains(&name.as_str())) {
            return Err(Wrong { key: "extra_parameters", what: format!("cannot set `{name}`") });
        }
        if builder.assertion.lifetime < Duration::from_secs(1) {
            return Err(Wrong::new("assertion_lifetime", "must be a second at least"));
        }
        if !builder.resources.iter().all(|resource| is_resource(resource)) {
            return Err(Wrong::new("resource", RESOURCE));
        }
        if let Some(details) = &builder.authorization_details
            && !serde_json::from_str::<serde_json::Value>(details).is_ok_and(|value| value.is_array())
        {
            return Err(Wrong::new("authorization_details", "must be a JSON array (RFC 9396 section 2)"));
        }
        let mut endpoints = Vec::with_capacity(builder.endpoints.len());
        for (which, url) in builder.endpoints {
            let endpoint = Endpoint::parse(&url).map_err(|what| Wrong { key: which.key(), what })?;
            endpoints.push((which, endpoint.being(which)));
        }
        let configured = if builder.redirect_uris.is_empty() {
            vec!["http://127.0.0.1/callback".to_owned()]
        } else {
            builder.redirect_uris
        };
        let redirect_uris: Result<_, _> = configured.iter().map(|uri| RedirectUri::parse(uri)).collect();
        Ok(Self {
            kind: builder.kind,
            issuer,
            client,
            flow,
            scopes,
            audiences: builder.audiences,
            resources: builder.resources,
            authorization_details: builder.authorization_details,
            endpoints,
            extra: builder.extra,
            label: builder.label,
            tenant,
            dpop: builder.dpop,
            end_session: builder.end_session,
            id_token_signing_alg: builder.id_token_signing_alg,
            id_token_audiences: builder.id_token_audiences,
            id_tokens: builder.id_tokens,
            scope_on_poll: builder.scope_on_poll,
            any_scope_on_refresh: builder.any_scope_on_refresh,
            browser: Browser {
                redirect_uris: redirect_uris.map_err(|what| Wrong { key: "redirect_uri", what })?,
                response_mode: builder.response_mode.unwrap_or_default(),
                pushed: builder.pushed,
                login_hint: builder.login_hint,
                prompt: builder.prompt,
                acr_values: builder.acr_values,
                max_age: builder.max_age,
                ui_locales: builder.ui_locales,
                #[cfg(feature = "browser")]
                page: builder.page,
                #[cfg(feature = "browser")]
                open_browser: builder.open_browser,
                #[cfg(feature = "browser")]
                login_timeout: builder.login_timeout.unwrap_or(LOGIN_TIMEOUT),
            },
            username: builder.username,
            password: builder.password,
            jwt_bearer: JwtBearer {
                given: builder.grant_assertion,
                keys,
                subject: builder.subject,
                options: builder.assertion,
            },
            exchange: TokenExchange {
                subject_token: builder.subject_token,
                subject_token_type: builder.subject_token_type.unwrap_or_else(|| ACCESS_TOKEN_TYPE.into()),
                actor_token: builder.actor_token,
                actor_token_type: builder.actor_token_type.unwrap_or_else(|| ACCESS_TOKEN_TYPE.into()),
                requested_token_type: builder.requested_token_type,
            },
            network: Arc::new(builder.network.check()?),
            secret_files,
        })
    }

    /// The endpoint that was configured.
    pub(crate) fn endpoint(&self, which: Which) -> Option<&Endpoint> {
        self.endpoints.iter().find(|(other, _)| *other == which).map(|(_, endpoint)| endpoint)
    }
}

/// Where secrets of the client's own are. What a platform projects (assertions, tokens) has the mode that it gives, and
/// certificates are for everybody.
fn secret_files(builder: &OidcBuilder) -> Vec<PathBuf> {
    let password = match &builder.password {
        Some(SecretCallback::Source(source)) => Some(source),
        _ => None,
    };
    let certificate_key = builder.network.certificate_key.as_ref();
    let sources = [
        builder.client_secret.as_ref(),
        builder.key.as_ref(),
        builder.key_passphrase.as_ref(),
        certificate_key,
        password,
    ];
    sources.into_iter().flatten().filter_map(SecretSource::path).map(PathBuf::from).collect()
}

/// What signs, if anything does.
fn keys(builder: &OidcBuilder) -> Result<Option<Keys>, Wrong> {
    match (&builder.signer, &builder.key) {
        (Some(_), Some(_)) => Err(Wrong::new("key", "has no use beside a signer")),
        (Some(signer), None) => Ok(Some(Keys::Signer(Arc::clone(signer)))),
        (None, None) => Ok(None),
        #[cfg(feature = "jose")]
        (None, Some(key)) => {
            let mut source = crate::jose::KeySource::new(key.clone());
            source.passphrase.clone_from(&builder.key_passphrase);
            source.key_id.clone_from(&builder.key_id);
            source.algorithm.clone_from(&builder.signing_alg);
            Ok(Some(Keys::Source(Arc::new(source))))
        }
        #[cfg(not(feature = "jose"))]
        (None, Some(_)) => {
            Err(Wrong::new("key", "needs keyfob's feature `jose`, which this build does not have"))
        }
    }
}

/// The client, by the method that was named or that follows from what it has.
fn client(builder: &OidcBuilder, keys: Option<&Keys>) -> Result<Client, Wrong> {
    let secret = builder.client_secret.as_ref();
    // With a key for the grant's assertion, the client itself may still be a public one, or have a secret.
    let for_grant = builder.flow == Some(Flow::JwtBearer);
    let method = builder.client_auth.unwrap_or(match (secret, &builder.client_assertion, keys) {
        (_, Some(_), _) => ClientAuth::PrivateKeyJwt,
        (None, None, Some(_)) if !for_grant => ClientAuth::PrivateKeyJwt,
        (Some(_), None, _) => ClientAuth::ClientSecretBasic,
        (None, None, _) => ClientAuth::None,
    });
    if builder.client_auth.is_none() && secret.is_some() && keys.is_some() && !for_grant {
        return Err(Wrong::new(
            "key",
            "and `client_secret` are both there: say by `client_auth` which of them proves who the client is",
        ));
    }
    let needed =
        |key: &'static str| Wrong { key, what: format!("is needed for client_auth = {:?}", method.as_str()) };
    let secret = || secret.cloned().ok_or_else(|| needed("client_secret"));
    if builder.client_secret.is_some() {
        match method {
            ClientAuth::None => {
                return Err(Wrong::new("client_auth", "is \"none\", so a client_secret has no use"));
            }
            ClientAuth::PrivateKeyJwt | ClientAuth::TlsClientAuth | ClientAuth::SelfSignedTlsClientAuth => {
                // One method to a request (RFC 6749 section 2.3).
                return Err(Wrong {
                    key: "client_secret",
                    what: format!("has no use with client_auth = {:?}", method.as_str()),
                });
            }
            _ => {}
        }
    }
    if builder.client_assertion.is_some() && method != ClientAuth::PrivateKeyJwt {
        return Err(Wrong {
            key: "client_assertion",
            what: format!("has no use with client_auth = {:?}", method.as_str()),
        });
    }
    if builder.client_auth == Some(ClientAuth::None) && keys.is_some() && !for_grant {
        return Err(Wrong::new("client_auth", "is \"none\", so a key has no use"));
    }
    let proof = match method {
        ClientAuth::None => Proof::Nothing,
        ClientAuth::ClientSecretBasic => Proof::Basic { secret: secret()?, raw: false },
        ClientAuth::ClientSecretBasicRaw => Proof::Basic { secret: secret()?, raw: true },
        ClientAuth::ClientSecretPost => Proof::Post(secret()?),
        #[cfg(feature = "jose")]
        ClientAuth::ClientSecretJwt => Proof::SecretJwt {
            secret: secret()?,
            algorithm: builder.signing_alg.clone().unwrap_or_else(|| "HS256".into()),
            options: builder.assertion.clone(),
        },
        #[cfg(not(feature = "jose"))]
        ClientAuth::ClientSecretJwt => {
            return Err(Wrong::new(
                "client_auth",
                "needs keyfob's feature `jose`, which this build does not have",
            ));
        }
        ClientAuth::PrivateKeyJwt => match (&builder.client_assertion, keys) {
            (Some(assertion), _) => Proof::Federated(assertion.clone()),
            (None, Some(keys)) => Proof::KeyJwt { keys: keys.clone(), options: builder.assertion.clone() },
            (None, None) => return Err(needed("key")),
        },
        ClientAuth::TlsClientAuth | ClientAuth::SelfSignedTlsClientAuth => {
            if builder.network.certificate.is_none() {
                return Err(needed("certificate"));
            }
            Proof::Certificate
        }
    };
    Ok(Client { id: builder.client_id.clone(), proof })
}

/// Whether the flow has what it needs.
fn needs(builder: &OidcBuilder, flow: Flow, client: &Client, keys: bool) -> Result<(), Wrong> {
    let missing =
        |key: &'static str| Wrong { key, what: format!("is needed for the {} flow", flow.as_str()) };
    match flow {
        Flow::ClientCredentials if !client.is_confidential() => Err(Wrong::new(
            "client_secret",
            "is needed for the client_credentials flow, or a `key`, a `client_assertion`, or a `certificate` with its `client_auth`",
        )),
        Flow::Password if builder.username.is_none() => Err(missing("username")),
        Flow::Password if builder.password.is_none() => Err(missing("password")),
        Flow::JwtBearer if builder.grant_assertion.is_none() && !keys => {
            Err(Wrong::new("assertion", "is needed for the jwt_bearer flow, or a `key` that signs one"))
        }
        _ => Ok(()),
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("kind", &self.kind)
            .field("issuer", &self.issuer.text)
            .field("client", &self.client)
            .field("flow", &self.flow)
            .field("scopes", &self.scopes)
            .field("audiences", &self.audiences)
            .field("resources", &self.resources)
            .field("endpoints", &self.endpoints)
            .field("extra", &self.extra.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("label", &self.label)
            .field("dpop", &self.dpop)
            .finish_non_exhaustive()
    }
}
