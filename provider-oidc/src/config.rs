//! What a provider is configured with: by its builder, or by a configuration file.

use std::fmt;

use keyfob_auth_core::{
    AuthError, Context, Scopes,
    registry::{SecretSource, Settings},
};

use crate::{
    Oidc, PROVIDER,
    client_auth::{Client, ClientAuth},
    http::Endpoint,
    metadata::{Issuer, Which},
};

/// How tokens are got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// A person signs in elsewhere, with a code shown here (RFC 8628).
    Device,
    /// The client acts for itself, without a person (RFC 6749 section 4.4).
    ClientCredentials,
}

impl Flow {
    const NAMES: [&'static str; 2] = ["device", "client_credentials"];

    fn from_name(name: &str) -> Option<Self> {
        [Self::Device, Self::ClientCredentials].into_iter().find(|flow| flow.as_str() == name)
    }

    /// The name in configuration files: `device`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => Self::NAMES[0],
            Self::ClientCredentials => Self::NAMES[1],
        }
    }

    /// The name of the grant in an [`Identity`](keyfob_auth_core::Identity).
    pub(crate) fn grant(self) -> &'static str {
        match self {
            Self::Device => "device_code",
            Self::ClientCredentials => "client_credentials",
        }
    }
}

/// Parameters that are the grants' own; another value would break the request, or a secret out of its place.
const RESERVED: [&str; 12] = [
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
    "redirect_uri",
    "token",
];

/// Configures an [`Oidc`] provider.
#[derive(Clone)]
#[must_use]
pub struct OidcBuilder {
    issuer: String,
    client_id: String,
    client_secret: Option<SecretSource>,
    client_auth: Option<ClientAuth>,
    flow: Option<Flow>,
    scopes: Scopes,
    audiences: Vec<String>,
    resources: Vec<String>,
    endpoints: Vec<(Which, String)>,
    extra: Vec<(String, String)>,
    label: String,
}

impl OidcBuilder {
    pub(crate) fn new(issuer: String, client_id: String) -> Self {
        Self {
            issuer,
            client_id,
            client_secret: None,
            client_auth: None,
            flow: None,
            scopes: Scopes::none(),
            audiences: Vec::new(),
            resources: Vec::new(),
            endpoints: Vec::new(),
            extra: Vec::new(),
            label: String::new(),
        }
    }

    /// The client secret (RFC 6749 section 2.3.1), read whenever it is needed.
    pub fn client_secret(mut self, secret: impl Into<SecretSource>) -> Self {
        self.client_secret = Some(secret.into());
        self
    }

    /// How the client authenticates (RFC 6749 section 2.3). By default with `client_secret_basic` if there is a secret, and
    /// not at all if there is none.
    pub fn client_auth(mut self, auth: ClientAuth) -> Self {
        self.client_auth = Some(auth);
        self
    }

    /// How tokens are got. By default by client credentials if there is a secret, by device login if there is none.
    pub fn flow(mut self, flow: Flow) -> Self {
        self.flow = Some(flow);
        self
    }

    /// The scopes to ask for (RFC 6749 section 3.3) where a request names none. By default none, but `openid` for a device
    /// login.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().collect();
        self
    }

    /// An audience to ask for where a request names none (`audience`: RFC 8693 section 2.1, and before it some products).
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// A resource to ask for where a request names none (RFC 8707).
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resources.push(resource.into());
        self
    }

    /// The token endpoint (RFC 6749 section 3.2), so that it need not be discovered.
    pub fn token_endpoint(self, url: impl Into<String>) -> Self {
        self.endpoint(Which::Token, url.into())
    }

    /// The device authorization endpoint (RFC 8628 section 3.1), so that it need not be discovered.
    pub fn device_authorization_endpoint(self, url: impl Into<String>) -> Self {
        self.endpoint(Which::DeviceAuthorization, url.into())
    }

    /// The revocation endpoint (RFC 7009 section 2), so that it need not be discovered.
    pub fn revocation_endpoint(self, url: impl Into<String>) -> Self {
        self.endpoint(Which::Revocation, url.into())
    }

    fn endpoint(mut self, which: Which, url: String) -> Self {
        self.endpoints.retain(|(other, _)| *other != which);
        self.endpoints.push((which, url));
        self
    }

    /// A parameter of the product's own, sent with every token request and every request for a device code (RFC 6749
    /// section 8.2). Its value is not shown.
    pub fn extra_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra.push((name.into(), value.into()));
        self
    }

    /// A name that tells this login from others at the same client: the profile's.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The provider. Nothing is read or sent yet.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) for what cannot work.
    pub fn build(self, context: &Context) -> Result<Oidc, AuthError> {
        let wrong =
            |Wrong { key, what }| AuthError::configuration(format!("`{key}` {what}")).with_provider(PROVIDER);
        Ok(Oidc { config: self.check().map_err(wrong)?, context: context.clone() })
    }

    fn check(self) -> Result<Config, Wrong> {
        let issuer = Issuer::parse(&self.issuer).map_err(|what| Wrong { key: "issuer", what })?;
        if self.client_id.is_empty() {
            return Err(Wrong::new("client_id", "must not be empty"));
        }
        let client = client(self.client_id, self.client_secret, self.client_auth)?;
        let flow = self.flow.unwrap_or(match client.secret() {
            Some(_) => Flow::ClientCredentials,
            None => Flow::Device,
        });
        if flow == Flow::ClientCredentials && client.secret().is_none() {
            return Err(Wrong::new("client_secret", "is needed for the client_credentials flow"));
        }
        let mut scopes = self.scopes;
        if scopes.iter().any(|scope| !scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))) {
            return Err(Wrong::new("scopes", "have characters that no scope has (RFC 6749 section 3.3)"));
        }
        if scopes.is_empty() && flow == Flow::Device {
            scopes = ["openid"].into_iter().collect();
        }
        if let Some((name, _)) = self.extra.iter().find(|(name, _)| RESERVED.contains(&name.as_str())) {
            return Err(Wrong { key: "extra_parameter", what: format!("cannot set `{name}`") });
        }
        let mut endpoints = Vec::with_capacity(self.endpoints.len());
        for (which, url) in self.endpoints {
            let endpoint = Endpoint::parse(&url).map_err(|what| Wrong { key: which.key(), what })?;
            endpoints.push((which, endpoint));
        }
        Ok(Config {
            issuer,
            client,
            flow,
            scopes,
            audiences: self.audiences,
            resources: self.resources,
            endpoints,
            extra: self.extra,
            label: self.label,
        })
    }
}

fn client(id: String, secret: Option<SecretSource>, auth: Option<ClientAuth>) -> Result<Client, Wrong> {
    match (auth, secret) {
        (None | Some(ClientAuth::None), None) => Ok(Client::Public { id }),
        (None | Some(ClientAuth::ClientSecretBasic), Some(secret)) => Ok(Client::Basic { id, secret }),
        (Some(ClientAuth::ClientSecretPost), Some(secret)) => Ok(Client::Post { id, secret }),
        (Some(ClientAuth::None), Some(_)) => {
            Err(Wrong::new("client_auth", "is \"none\", so a client_secret has no use"))
        }
        (Some(auth), None) => Err(Wrong {
            key: "client_secret",
            what: format!("is needed for client_auth = {:?}", auth.as_str()),
        }),
    }
}

impl fmt::Debug for OidcBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcBuilder")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .field("flow", &self.flow)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// What is wrong with which key.
struct Wrong {
    key: &'static str,
    /// The end of a sentence that the key begins.
    what: String,
}

impl Wrong {
    fn new(key: &'static str, what: &str) -> Self {
        Self { key, what: what.to_owned() }
    }
}

/// A configuration that can work.
pub(crate) struct Config {
    pub(crate) issuer: Issuer,
    pub(crate) client: Client,
    pub(crate) flow: Flow,
    pub(crate) scopes: Scopes,
    pub(crate) audiences: Vec<String>,
    pub(crate) resources: Vec<String>,
    endpoints: Vec<(Which, Endpoint)>,
    pub(crate) extra: Vec<(String, String)>,
    pub(crate) label: String,
}

impl Config {
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self, AuthError> {
        let mut builder =
            OidcBuilder::new(settings.require_string("issuer")?, settings.require_string("client_id")?)
                .label(settings.label());
        builder.client_secret = settings.secret("client_secret")?;
        builder.client_auth =
            settings.one_of("client_auth", &ClientAuth::NAMES)?.and_then(ClientAuth::from_name);
        builder.flow = settings.one_of("flow", &Flow::NAMES)?.and_then(Flow::from_name);
        let scopes = settings.strings("scopes")?.unwrap_or_default();
        builder.scopes = scopes.iter().flat_map(|scope| scope.split_whitespace()).collect();
        builder.audiences.extend(settings.string("audience")?.filter(|audience| !audience.is_empty()));
        for which in [Which::Token, Which::DeviceAuthorization, Which::Revocation] {
            if let Some(url) = settings.string(which.key())? {
                builder = builder.endpoint(which, url);
            }
        }
        builder.check().map_err(|Wrong { key, what }| settings.bad(key, &what))
    }

    /// The endpoint that was configured.
    pub(crate) fn endpoint(&self, which: Which) -> Option<&Endpoint> {
        self.endpoints.iter().find(|(other, _)| *other == which).map(|(_, endpoint)| endpoint)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("issuer", &self.issuer.text)
            .field("client", &self.client)
            .field("flow", &self.flow)
            .field("scopes", &self.scopes)
            .field("audiences", &self.audiences)
            .field("resources", &self.resources)
            .field("endpoints", &self.endpoints)
            .field("extra", &self.extra.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("label", &self.label)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use keyfob_auth_core::{CredentialProvider, ErrorKind, Keep, registry::Value};

    use super::*;

    const ISSUER: &str = "https://idp.example";

    fn settings(keys: &[(&str, Value)]) -> Settings {
        let base = Settings::new("profile.work").with("issuer", Value::String(ISSUER.into()), Some(2)).with(
            "client_id",
            Value::String("app".into()),
            Some(3),
        );
        keys.iter()
            .enumerate()
            .fold(base, |all, (n, (key, value))| all.with(*key, value.clone(), Some(4 + n)))
    }

    fn text(value: &str) -> Value {
        Value::String(value.into())
    }

    fn read(keys: &[(&str, Value)]) -> Result<Oidc, AuthError> {
        let settings = settings(keys);
        let provider = Oidc::from_settings(&settings, &Context::new())?;
        settings.finish()?;
        Ok(provider)
    }

    #[test]
    fn what_is_not_said_follows_from_the_secret() {
        let public = read(&[]).unwrap();
        assert!(matches!(public.config.client, Client::Public { .. }));
        assert_eq!(public.config.flow, Flow::Device);
        assert_eq!(public.config.scopes.to_string(), "openid");

        let confidential = read(&[("client_secret", text("s"))]).unwrap();
        assert!(matches!(confidential.config.client, Client::Basic { .. }));
        assert_eq!(confidential.config.flow, Flow::ClientCredentials);
        assert!(confidential.config.scopes.is_empty());
    }

    #[test]
    fn every_key_is_read() {
        let scopes = Value::List(vec![text("a"), text("b c")]);
        let secret = Value::Table(BTreeMap::from([("env".into(), (text("KEYFOB_TEST_SECRET"), None))]));
        let provider = read(&[
            ("client_secret", secret),
            ("client_auth", text("client_secret_post")),
            ("flow", text("device")),
            ("scopes", scopes),
            ("audience", text("api")),
            ("token_endpoint", text("https://idp.example/t?x=1")),
            ("device_authorization_endpoint", text("https://idp.example/d")),
            ("revocation_endpoint", text("https://idp.example/r")),
        ])
        .unwrap();
        let config = &provider.config;
        assert!(matches!(config.client, Client::Post { .. }));
        assert_eq!((config.flow, config.scopes.to_string().as_str()), (Flow::Device, "a b c"));
        assert_eq!(config.audiences, ["api"]);
        for (which, url) in [(Which::Token, "t"), (Which::DeviceAuthorization, "d"), (Which::Revocation, "r")]
        {
            assert_eq!(config.endpoint(which).unwrap().to_string(), format!("https://idp.example/{url}"));
        }
        assert!(provider.secret_revision().is_some(), "an environment variable can change");
        assert_eq!(provider.keeps(), Keep::Store);
    }

    #[test]
    fn the_identity_is_what_was_configured() {
        let identity = read(&[]).unwrap().identity();
        assert_eq!((identity.kind.as_str(), identity.grant.as_str()), ("oidc", "device_code"));
        assert_eq!((identity.issuer.as_str(), identity.client.as_str()), (ISSUER, "app"));
        assert_eq!(identity.label, "work", "a profile's name is part of it");
        assert_eq!(read(&[("client_secret", text("s"))]).unwrap().identity().grant, "client_credentials");
    }

    #[test]
    fn mistakes_are_named_with_key_and_line() {
        for (keys, said) in [
            (vec![("issuer", text("http://idp.example"))], "`issuer` must be an https URL"),
            (vec![("issuer", text("idp.example"))], "`issuer` is not a URL"),
            (vec![("issuer", text("https://idp.example?x"))], "`issuer` must have no query"),
            (vec![("client_id", text(""))], "`client_id` must not be empty"),
            (vec![("client_auth", text("client_secret_basic"))], "`client_secret` is needed"),
            (vec![("client_auth", text("basic"))], "must be one of"),
            (vec![("flow", text("client_credentials"))], "`client_secret` is needed"),
            (vec![("flow", text("devise"))], "did you mean `device`"),
            (vec![("client_auth", text("none")), ("client_secret", text("s"))], "`client_auth` is \"none\""),
            (vec![("scopes", text("openid"))], "`scopes` must be a list"),
            (vec![("scopes", Value::List(vec![text("a\"b")]))], "`scopes` have characters"),
            (vec![("token_endpoint", text("http://idp.example/t"))], "`token_endpoint` must be an https URL"),
            (
                vec![("token_endpoint", text("https://idp.example/t#f"))],
                "`token_endpoint` must have no fragment",
            ),
            (vec![("token_endpiont", text("https://idp.example/t"))], "did you mean `token_endpoint`"),
        ] {
            let error = read(&keys).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
            assert!(error.to_string().contains(said), "{error}");
            // A key that is missing has no line; its table has, in a file.
            let missing = said.ends_with("is needed");
            assert_eq!(error.origin().is_some_and(|origin| origin.starts_with("line ")), !missing, "{error}");
        }
    }

    #[test]
    fn the_builder_refuses_what_cannot_work() {
        let context = Context::new();
        let builder = || Oidc::builder(ISSUER, "app");
        assert!(builder().build(&context).is_ok());
        assert!(builder().extra_parameter("organization", "x").build(&context).is_ok());
        assert!(Oidc::builder("http://localhost:8080", "app").build(&context).is_ok());
        for bad in [
            builder().extra_parameter("grant_type", "password"),
            builder().extra_parameter("client_secret", "marker"),
            builder().flow(Flow::ClientCredentials),
            builder().token_endpoint("http://idp.example/t"),
            Oidc::builder("http://idp.example", "app"),
            Oidc::builder(ISSUER, ""),
        ] {
            let error = bad.build(&context).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert_eq!(error.provider(), Some("oidc"));
            assert!(!error.to_string().contains("marker"), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let builder = Oidc::builder(ISSUER, "app")
            .client_secret(SecretSource::Literal("marker-1".into()))
            .extra_parameter("key", "marker-2")
            .token_endpoint("https://idp.example/t?key=marker-3");
        assert!(!format!("{builder:?}").contains("marker"));
        let provider = builder.build(&Context::new()).unwrap();
        assert!(!format!("{provider:?}").contains("marker"), "{provider:?}");
    }
}
