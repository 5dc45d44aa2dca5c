//! [`Keycloak`]: the provider.

use std::sync::Arc;

use async_trait::async_trait;
use keyfob_auth_core::{
    AccessToken, Acquired, AuthError, Context, CredentialProvider, Identity, Interaction, Keep, Login,
    LoginRequest, Presentation, Scopes, SecretString, TokenRequest,
    registry::{SecretSource, Settings},
};
use keyfob_provider_oidc::Oidc;

use crate::{KeycloakBuilder, PROVIDER, direct, endings::explained, usnan};

/// NMRhub's Keycloak and its realm: together the issuer of [`usnan`].
const SERVER_URL: &str = "https://keycloak.nmrhub.org";
const REALM: &str = "nmrhub";

/// Tokens of a realm of Keycloak's, for one client and one flow.
///
/// # Examples
/// ```
/// use keyfob_auth_core::Context;
/// use keyfob_provider_keycloak::Keycloak;
///
/// let context = Context::new();
/// let provider = Keycloak::builder("https://keycloak.example", "staff", "my-cli").build(&context)?;
/// # let _ = provider;
/// # Ok::<_, keyfob_auth_core::AuthError>(())
/// ```
#[derive(Debug)]
pub struct Keycloak {
    oidc: Oidc,
    source: Source,
    context: Context,
}

/// Where tokens come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The realm.
    Realm,
    /// They were given.
    Given(SecretSource),
}

impl Source {
    pub(crate) fn of(token: Option<SecretSource>) -> Self {
        token.map_or(Self::Realm, Self::Given)
    }
}

impl Keycloak {
    /// A provider with everything by default: a person signs in with a browser where there is one, else with a code.
    ///
    /// `server_url` is where Keycloak is: with `/auth` at its end where it is that old, or still set up like that.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) for what cannot work.
    pub fn new(server_url: &str, realm: &str, client_id: &str, context: &Context) -> Result<Self, AuthError> {
        Self::builder(server_url, realm, client_id).build(context)
    }

    /// A provider to be configured.
    pub fn builder(server_url: &str, realm: &str, client_id: &str) -> KeycloakBuilder {
        KeycloakBuilder::new(server_url, realm, client_id)
    }

    /// The USNAN SDK's client at NMRhub, to be configured; with [`UsnanStore`](usnan::UsnanStore) its sessions are shared with
    /// the SDK.
    pub fn usnan() -> KeycloakBuilder {
        Self::builder(SERVER_URL, REALM, usnan::CLIENT_ID)
            // As the SDK asks for, and where it listens.
            .oidc(|oidc| {
                oidc.scopes(["openid", "email", "profile"]).redirect_uri("http://localhost/callback")
            })
    }

    /// The provider that a configuration file describes, named by its profile. See the crate's documentation for the keys.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration), with the key and its line, for what is wrong.
    pub fn from_settings(settings: &Settings, context: &Context) -> Result<Self, AuthError> {
        let builder = match settings.one_of("preset", &["usnan"])? {
            Some(_) => {
                for key in ["server_url", "realm", "client_id"] {
                    if settings.has(key) {
                        return Err(settings.bad(key, "has no use beside `preset`, which says it"));
                    }
                }
                Self::usnan()
            }
            None => Self::builder(
                &settings.require_string("server_url")?,
                &settings.require_string("realm")?,
                &settings.require_string("client_id")?,
            ),
        };
        builder.build_from(settings, context)
    }

    pub(crate) fn of(oidc: Oidc, source: Source, context: &Context) -> Self {
        Self { oidc, source, context: context.clone() }
    }

    /// What speaks to the realm: for introspection, user info, logout with the browser, and a login in two steps.
    pub fn oidc(&self) -> &Oidc {
        &self.oidc
    }
}

#[async_trait]
impl CredentialProvider for Keycloak {
    fn identity(&self) -> Identity {
        let identity = self.oidc.identity();
        match self.source {
            Source::Realm => identity,
            Source::Given(_) => identity.grant("token"),
        }
    }

    async fn acquire(&self, request: &TokenRequest, login: Option<&Login>) -> Result<Acquired, AuthError> {
        match &self.source {
            Source::Realm => self.oidc.acquire(request, login).await.map_err(explained),
            Source::Given(token) => direct::acquire(token, self.context.clock())
                .await
                .map_err(|error| error.with_provider(PROVIDER)),
        }
    }

    async fn login(
        &self,
        request: &LoginRequest,
        previous: Option<&Login>,
        ui: Arc<dyn Interaction>,
    ) -> Result<Acquired, AuthError> {
        match &self.source {
            Source::Realm => self.oidc.login(request, previous, ui).await.map_err(explained),
            Source::Given(_) => self.acquire(&request.token, None).await,
        }
    }

    async fn revoke(&self, login: &Login, tokens: &[SecretString]) -> Result<(), AuthError> {
        self.oidc.revoke(login, tokens).await
    }

    fn present(&self, token: &AccessToken, login: Option<&Login>) -> Result<Presentation, AuthError> {
        self.oidc.present(token, login)
    }

    fn keeps(&self) -> Keep {
        match self.source {
            Source::Realm => self.oidc.keeps(),
            Source::Given(_) => Keep::Memory,
        }
    }

    fn binds_logins(&self) -> bool {
        self.oidc.binds_logins()
    }

    fn missing_scopes(&self, login: &Login) -> Scopes {
        self.oidc.missing_scopes(login)
    }

    fn secret_revision(&self) -> Option<u64> {
        match &self.source {
            Source::Realm => self.oidc.secret_revision(),
            Source::Given(token) => token.revision(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use keyfob_auth_core::{ErrorKind, registry::Value};

    use super::*;

    fn read(keys: &[(&str, &str)]) -> Result<Keycloak, AuthError> {
        let settings =
            keys.iter().enumerate().fold(Settings::new("profile.work"), |all, (n, (key, value))| {
                all.with(*key, Value::String((*value).into()), Some(n + 2))
            });
        let provider = Keycloak::from_settings(&settings, &Context::new())?;
        settings.finish()?;
        Ok(provider)
    }

    const REALM_KEYS: [(&str, &str); 3] =
        [("server_url", "https://kc.example/auth/"), ("realm", "staff"), ("client_id", "app")];

    fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        REALM_KEYS.iter().chain(more).copied().collect()
    }

    #[test]
    fn a_realm_is_named_by_its_server_and_its_name() {
        for server in ["https://kc.example", "https://kc.example/", "https://kc.example/auth"] {
            let provider = Keycloak::new(server, "staff", "app", &Context::new()).unwrap();
            let issuer = format!("{}/realms/staff", server.trim_end_matches('/'));
            let identity = provider.identity();
            assert_eq!((identity.kind.as_str(), identity.issuer.as_str()), ("keycloak", issuer.as_str()));
        }
    }

    #[test]
    fn the_flow_follows_from_what_the_client_has() {
        let grant = |more: &[_]| read(&with(more)).unwrap().identity().grant;
        assert_eq!(grant(&[]), "authorization_code");
        assert_eq!(grant(&[("flow", "device")]), "device_code");
        assert_eq!(grant(&[("client_secret", "s")]), "client_credentials");
        assert_eq!(grant(&[("key", "k")]), "client_credentials");
        assert_eq!(grant(&[("client_secret", "s"), ("flow", "browser")]), "authorization_code");
        assert_eq!(grant(&[("token", "t")]), "token");
    }

    #[test]
    fn a_key_without_a_use_is_told() {
        for (keys, said) in [
            (
                &[("client_secret", "s"), ("idp_hint", "github")][..],
                "`idp_hint` has no use where nobody signs in",
            ),
            (&[("flow", "device"), ("idp_hint", "github")], "`idp_hint` has no use where nobody signs in"),
            (&[("token", "t"), ("flow", "browser")], "`flow` has no use beside `token`"),
            (&[("client_secret", "s"), ("login_hint", "alice")], "`login_hint` has no use with the flow"),
            (&[("flow", "auto"), ("username", "alice")], "`username` has no use with the flow \"auto\""),
        ] {
            let error = read(&with(keys)).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        assert!(read(&with(&[("idp_hint", "github")])).is_ok());
    }

    #[test]
    fn usnan_is_a_preset() {
        let identity = read(&[("preset", "usnan")]).unwrap().identity();
        assert_eq!((identity.issuer.as_str(), identity.client.as_str()), (usnan::ISSUER, usnan::CLIENT_ID));
        let error = read(&[("preset", "usnan"), ("realm", "x")]).unwrap_err();
        assert!(error.to_string().contains("`realm` has no use beside `preset`"), "{error}");
        let error = read(&with(&[("realmm", "x")])).unwrap_err();
        assert!(error.to_string().contains("did you mean `realm`"), "{error}");
        let settings = Settings::new("profile.x").with("token", Value::Table(BTreeMap::new()), None);
        assert_eq!(
            Keycloak::from_settings(&settings, &Context::new()).unwrap_err().kind(),
            ErrorKind::Configuration
        );
    }

    #[tokio::test]
    async fn a_token_that_was_given_is_used_and_never_renewed() {
        let jwt = |exp: u64| format!("e30.{}.x", URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{exp}}}"#)));
        let given = |token: String| {
            Keycloak::builder("https://kc.example", "staff", "app")
                .token(SecretSource::Literal(token.into()))
                .build(&Context::new())
                .unwrap()
        };
        let provider = given(jwt(4_000_000_000));
        assert_eq!(provider.keeps(), Keep::Memory);
        assert!(provider.acquire(&TokenRequest::default(), None).await.unwrap().login.is_none());
        let error = given(jwt(1)).acquire(&TokenRequest::default(), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("cannot be renewed"), "{error}");
    }
}
