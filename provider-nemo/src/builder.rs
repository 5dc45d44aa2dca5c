//! [`NemoBuilder`]: what the provider is told.

use std::{path::PathBuf, time::Duration};

use keyfob_auth_core::{
    AuthError, Context, Scopes,
    registry::{SecretSource, Settings},
};
use keyfob_provider_oidc::{Oidc, OidcBuilder};

use crate::{
    Nemo, NemoFlow, PROVIDER, RefreshScopes, Unsigned, config_file::NemoStore, profiles, provider::wrong,
};

/// An address that stands for one that is not known yet.
const SOMEWHERE: &str = "https://platform.invalid";

/// Configures a [`Nemo`] provider.
#[derive(Clone, Debug)]
#[must_use]
pub struct NemoBuilder {
    pub(crate) base_url: Option<String>,
    pub(crate) config: Option<NemoStore>,
    /// The context's name, as far as it tells one login from another.
    pub(crate) context: Option<String>,
    flow: Option<NemoFlow>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<SecretSource>,
    pub(crate) workload_token: Option<SecretSource>,
    pub(crate) access_token: Option<SecretSource>,
    pub(crate) unsigned: Option<Unsigned>,
    pub(crate) scopes: Scopes,
    pub(crate) refresh_scopes: RefreshScopes,
    pub(crate) network: Network,
    pub(crate) label: String,
}

/// How requests leave this machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    pub(crate) ca_file: Option<SecretSource>,
    certificate: Option<SecretSource>,
    certificate_key: Option<SecretSource>,
    proxy: Option<String>,
    timeout: Option<Duration>,
}

impl Network {
    /// What speaks to this issuer as this client, by this way.
    pub(crate) fn oidc(&self, issuer: &str, client_id: &str) -> OidcBuilder {
        let mut oidc = Oidc::builder(issuer, client_id).kind(PROVIDER);
        if let Some(authorities) = &self.ca_file {
            oidc = oidc.ca_file(authorities.clone());
        }
        if let Some(chain) = &self.certificate {
            oidc = oidc.certificate(chain.clone());
        }
        if let Some(key) = &self.certificate_key {
            oidc = oidc.certificate_key(key.clone());
        }
        if let Some(proxy) = &self.proxy {
            oidc = oidc.proxy(proxy);
        }
        if let Some(timeout) = self.timeout {
            oidc = oidc.timeout(timeout);
        }
        oidc
    }
}

impl NemoBuilder {
    pub(crate) fn new(base_url: Option<String>, config: Option<NemoStore>) -> Self {
        Self {
            base_url,
            config,
            context: None,
            flow: None,
            username: None,
            password: None,
            workload_token: None,
            access_token: None,
            unsigned: None,
            scopes: Scopes::none(),
            refresh_scopes: RefreshScopes::default(),
            network: Network::default(),
            label: String::new(),
        }
    }

    /// How tokens are got. Unsaid: with the access token that is given, else the workload's token, else user name and
    /// password, else as whom an unsigned token is about; else a person signs in with a code.
    pub fn flow(mut self, flow: NemoFlow) -> Self {
        self.flow = Some(flow);
        self
    }

    /// The user name of [`NemoFlow::Password`].
    pub fn username(mut self, name: impl Into<String>) -> Self {
        self.username = Some(name.into());
        self
    }

    /// The password of [`NemoFlow::Password`], read when it is needed. One that was refused is not tried again.
    pub fn password(mut self, password: impl Into<SecretSource>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The token of [`NemoFlow::Workload`], read at each exchange: most often a file that the surroundings replace.
    pub fn workload_token(mut self, token: impl Into<SecretSource>) -> Self {
        self.workload_token = Some(token.into());
        self
    }

    /// The token of [`NemoFlow::Token`].
    pub fn access_token(mut self, token: impl Into<SecretSource>) -> Self {
        self.access_token = Some(token.into());
        self
    }

    /// Whom the tokens of [`NemoFlow::Unsigned`] are about.
    pub fn unsigned(mut self, about: Unsigned) -> Self {
        self.unsigned = Some(about);
        self
    }

    /// The scopes that a login asks for, without the platform's prefix, besides those of its defaults that are not its own
    /// (`openid`). Unsaid: the platform's defaults. If one of the platform's own is not granted, the login fails.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().collect();
        self
    }

    /// Which scopes a renewal asks for. Unsaid: those that were granted.
    pub fn refresh_scopes(mut self, scopes: RefreshScopes) -> Self {
        self.refresh_scopes = scopes;
        self
    }

    /// Certificate authorities, as PEM, that are trusted besides the system's. Unsaid: those that the context names.
    pub fn ca_file(mut self, authorities: impl Into<SecretSource>) -> Self {
        self.network.ca_file = Some(authorities.into());
        self
    }

    /// The proxy to go through (`http` or `https`), or `none`. Unsaid: what the environment or the system says.
    pub fn proxy(mut self, proxy: impl Into<String>) -> Self {
        self.network.proxy = Some(proxy.into());
        self
    }

    /// How long one request may take, its answer included. Unsaid: 30 seconds.
    pub fn timeout(mut self, deadline: Duration) -> Self {
        self.network.timeout = Some(deadline);
        self
    }

    /// A name that tells this login from others at the same platform: the profile's.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The provider. Nothing is read or sent yet.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) for what cannot work.
    pub fn build(self, context: &Context) -> Result<Nemo, AuthError> {
        let named = |error: AuthError| error.with_provider(PROVIDER);
        self.check(|key, what| AuthError::configuration(format!("`{key}` {what}")), context).map_err(named)
    }

    pub(crate) fn build_from(self, settings: &Settings, context: &Context) -> Result<Nemo, AuthError> {
        // What is said or implied there; not what the environment implies.
        let flow = self.flow;
        let nemo = self.check(|key, what| settings.bad(key, what), context)?;
        flow.map_or(Ok(()), |flow| have_uses(settings, flow))?;
        Ok(nemo)
    }

    fn check(self, bad: impl Fn(&str, &str) -> AuthError, context: &Context) -> Result<Nemo, AuthError> {
        let flow = self.flow.or_else(|| self.implied()).unwrap_or(NemoFlow::Device);
        let missing = match flow {
            NemoFlow::Password if self.username.is_none() => Some("username"),
            NemoFlow::Password if self.password.is_none() => Some("password"),
            NemoFlow::Workload if self.workload_token.is_none() => Some("workload_token"),
            NemoFlow::Token if self.access_token.is_none() => Some("access_token"),
            NemoFlow::Unsigned if self.unsigned.is_none() => Some("unsigned"),
            _ => None,
        };
        if let Some(key) = missing {
            return Err(bad(key, &format!("is needed for the {} flow", flow.as_str())));
        }
        // What cannot work is known now, whatever the platform says later.
        let base_url = self.base_url.as_deref().unwrap_or(SOMEWHERE);
        let sample = self.network.oidc(base_url, PROVIDER).scopes(self.scopes.iter());
        sample.build(context).map_err(|error| match wrong(&error) {
            ("issuer", what) => bad("base_url", what),
            (key, what) => bad(key, what),
        })?;
        Ok(Nemo::of(self, flow, context))
    }

    /// The flow that follows from what is there, if anything is.
    fn implied(&self) -> Option<NemoFlow> {
        let Self { access_token, workload_token, username, password, unsigned, .. } = self;
        match () {
            () if access_token.is_some() => Some(NemoFlow::Token),
            () if workload_token.is_some() => Some(NemoFlow::Workload),
            () if username.is_some() || password.is_some() => Some(NemoFlow::Password),
            () if unsigned.is_some() => Some(NemoFlow::Unsigned),
            () => None,
        }
    }

    pub(crate) fn from_settings(
        settings: &Settings,
        context: &Context,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, AuthError> {
        let mut builder = Self::new(settings.string("base_url")?, None).label(settings.label());
        builder.context = settings.string("context")?;
        if let Some(flow) = settings.one_of("flow", &NemoFlow::NAMES)? {
            builder.flow = NemoFlow::from_name(flow);
        }
        builder.username = settings.string("username")?;
        builder.password = settings.secret("password")?;
        builder.workload_token = settings.secret("workload_token")?;
        builder.access_token = settings.secret("access_token")?;
        builder.unsigned = settings.table("unsigned")?.map(|table| unsigned(&table)).transpose()?;
        let scopes = settings.strings("scopes")?.unwrap_or_default();
        builder.scopes = scopes.iter().flat_map(|scope| scope.split_whitespace()).collect();
        if settings.one_of("refresh_scopes", &RefreshScopes::NAMES)? == Some("default") {
            builder.refresh_scopes = RefreshScopes::Default;
        }
        builder.network = Network {
            ca_file: settings.path("ca_file")?.map(SecretSource::File),
            certificate: settings.secret("certificate")?,
            certificate_key: settings.secret("certificate_key")?,
            proxy: settings.string("proxy")?,
            timeout: settings.seconds("timeout")?,
        };
        let file = settings.path("config_file")?;
        // What the settings imply comes before what the environment does.
        builder.flow = builder.flow.or_else(|| builder.implied());
        builder.complete_from(variable).with_config(file, settings, context)
    }

    /// Takes what is not said from the environment variables of the platform's own clients.
    fn complete_from(mut self, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let secret = |name: &str| variable(name).map(|_| SecretSource::Env(name.to_owned()));
        let file = |name: &str| variable(name).map(|path| SecretSource::File(path.trim().into()));
        let (username, password) = (variable("NMP_OIDC_USERNAME"), secret("NMP_OIDC_PASSWORD"));
        // One without the other is not meant, unless the flow is.
        if self.flow == Some(NemoFlow::Password) || (username.is_some() && password.is_some()) {
            self.username = self.username.or(username);
            self.password = self.password.or(password);
        }
        self.base_url = self.base_url.or_else(|| variable("NMP_BASE_URL"));
        self.context = self.context.or_else(|| variable("NMP_CURRENT_CONTEXT"));
        self.access_token = self.access_token.or_else(|| secret("NMP_ACCESS_TOKEN"));
        self.workload_token = self.workload_token.or_else(|| file("NMP_WORKLOAD_IDENTITY_TOKEN_FILE"));
        let authorities = || file("NMP_CLIENT_SSL_CERT_FILE").or_else(|| file("NMP_CERTIFICATE_AUTHORITY"));
        self.network.ca_file = self.network.ca_file.or_else(authorities);
        self
    }

    /// With the configuration file of the platform's own clients, for the store `nemo` of the same profile too.
    fn with_config(
        mut self,
        file: Option<PathBuf>,
        settings: &Settings,
        context: &Context,
    ) -> Result<Self, AuthError> {
        let file = match file.map_or_else(NemoStore::default_path, Ok) {
            Ok(file) => file,
            // Without a home folder there is no such file, and where the platform is named none is needed.
            Err(_) if self.base_url.is_some() => return Ok(self),
            Err(error) => return Err(error.into()),
        };
        let mut store = NemoStore::open(file)?;
        if let Some(name) = &self.context {
            store = store.context(name.as_str());
        }
        if let Some(url) = &self.base_url {
            store = store.base_url(url).map_err(|error| settings.bad("base_url", &error.to_string()))?;
        }
        profiles::remember(settings, context, &store)?;
        self.config = Some(store);
        Ok(self)
    }
}

fn unsigned(table: &Settings) -> Result<Unsigned, AuthError> {
    let mut unsigned = Unsigned::new(table.require_string("email")?);
    unsigned.principal_id = table.string("principal_id")?;
    unsigned.groups = table.strings("groups")?.unwrap_or_default();
    unsigned.lifetime = table.seconds("lifetime")?.unwrap_or(unsigned.lifetime);
    unsigned.audience = table.string("audience")?;
    unsigned.issuer = table.string("issuer")?;
    table.finish()?;
    Ok(unsigned)
}

/// Checks that every key of the table has a use with the flow that the table says. What the environment says is for other
/// programs too, and may have none.
fn have_uses(settings: &Settings, flow: NemoFlow) -> Result<(), AuthError> {
    use NemoFlow::{Device, Password, Token, Unsigned, Workload};

    const OF_FLOWS: [(&str, &[NemoFlow]); 7] = [
        ("username", &[Password]),
        ("password", &[Password]),
        ("workload_token", &[Workload]),
        ("access_token", &[Token]),
        ("unsigned", &[Unsigned]),
        ("scopes", &[Device, Password, Unsigned]),
        ("refresh_scopes", &[Device, Password]),
    ];
    let useless = OF_FLOWS.iter().find(|(key, flows)| settings.has(key) && !flows.contains(&flow));
    let Some((key, flows)) = useless else { return Ok(()) };
    let flows: Vec<_> = flows.iter().map(|flow| format!("{:?}", flow.as_str())).collect();
    let what = format!(
        "has no use with the flow {:?}: it is of {}; leave it out, or set `flow`",
        flow.as_str(),
        flows.join(" and ")
    );
    Err(settings.bad(key, &what))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: (&str, &str) = ("NMP_BASE_URL", "https://env.example");
    const TOKEN: (&str, &str) = ("NMP_ACCESS_TOKEN", "t");
    const WORKLOAD: (&str, &str) = ("NMP_WORKLOAD_IDENTITY_TOKEN_FILE", " /run/token ");
    const USERNAME: (&str, &str) = ("NMP_OIDC_USERNAME", "alice");
    const PASSWORD: (&str, &str) = ("NMP_OIDC_PASSWORD", "p");

    /// What settings and environment together say; the configuration file is looked for in no place of this machine.
    fn told(keys: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Nemo, AuthError> {
        use keyfob_auth_core::registry::Value;

        let settings = Settings::new("profile.a").with(
            "config_file",
            Value::String("/nowhere/config.yaml".into()),
            None,
        );
        let settings = keys
            .iter()
            .fold(settings, |all, (key, value)| all.with(*key, Value::String((*value).to_owned()), None));
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        let context = Context::new();
        NemoBuilder::from_settings(&settings, &context, &variable)?.build_from(&settings, &context)
    }

    #[test]
    fn the_flow_follows_from_what_is_there_and_settings_go_first() {
        use NemoFlow::{Device, Password, Token, Workload};
        type Pairs = &'static [(&'static str, &'static str)];
        let cases: &[(Pairs, Pairs, NemoFlow)] = &[
            (&[], &[], Device),
            (&[], &[USERNAME], Device),
            (&[], &[PASSWORD], Device),
            (&[], &[USERNAME, PASSWORD], Password),
            (&[], &[USERNAME, PASSWORD, WORKLOAD], Workload),
            (&[], &[USERNAME, PASSWORD, WORKLOAD, TOKEN], Token),
            (&[("username", "bob"), ("password", "q")], &[WORKLOAD, TOKEN], Password),
            (&[("username", "bob")], &[PASSWORD, TOKEN], Password),
            (&[("workload_token", "w")], &[TOKEN], Workload),
            (&[("access_token", "x")], &[WORKLOAD], Token),
            (&[("flow", "device")], &[USERNAME, PASSWORD, WORKLOAD, TOKEN], Device),
            (&[("flow", "workload")], &[TOKEN, WORKLOAD], Workload),
        ];
        for (keys, variables, flow) in cases {
            let nemo = told(keys, variables).unwrap();
            assert_eq!(nemo.flow(), *flow, "{keys:?} {variables:?}");
        }
        for (keys, variables, missing) in [
            (&[("username", "bob")][..], &[][..], "`password` is needed"),
            (&[("password", "q")], &[], "`username` is needed"),
            (&[("flow", "token")], &[WORKLOAD], "`access_token` is needed"),
            (
                &[("access_token", "x"), ("workload_token", "w")],
                &[],
                "`workload_token` has no use with the flow",
            ),
            (&[("flow", "device"), ("username", "bob")], &[], "it is of \"password\"; leave it out"),
            (&[("workload_token", "w"), ("refresh_scopes", "default")], &[], "`refresh_scopes` has no use"),
        ] {
            let error = told(keys, variables).unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
        }
    }

    #[test]
    fn what_is_not_said_comes_from_the_environment() {
        use keyfob_auth_core::CredentialProvider as _;

        let context = ("NMP_CURRENT_CONTEXT", "staging");
        let identity = |keys: &[_]| told(keys, &[ADDRESS, context, USERNAME, PASSWORD]).unwrap().identity();
        let environments = identity(&[]);
        assert_eq!(
            (environments.issuer.as_str(), environments.tenant.as_str()),
            ("https://env.example", "staging")
        );
        let own = identity(&[("base_url", "https://own.example/"), ("context", "prod")]);
        assert_eq!((own.issuer.as_str(), own.tenant.as_str()), ("https://own.example", "prod"));

        let built = |variables: &[(&str, &str)]| {
            let known = |name: &str| variables.iter().find(|(known, _)| *known == name);
            NemoBuilder::new(None, None)
                .complete_from(&|name| known(name).map(|(_, value)| (*value).to_owned()))
        };
        let said = built(&[USERNAME, PASSWORD, WORKLOAD, TOKEN]);
        let source =
            |source: &Option<SecretSource>| source.as_ref().map(ToString::to_string).unwrap_or_default();
        assert_eq!(source(&said.password), "environment variable NMP_OIDC_PASSWORD");
        assert_eq!(source(&said.access_token), "environment variable NMP_ACCESS_TOKEN");
        assert_eq!(source(&said.workload_token), "file /run/token");
        let authorities = [("NMP_CLIENT_SSL_CERT_FILE", "/one"), ("NMP_CERTIFICATE_AUTHORITY", "/two")];
        assert_eq!(source(&built(&authorities).network.ca_file), "file /one");
        assert_eq!(source(&built(&authorities[1..]).network.ca_file), "file /two");
    }
}
