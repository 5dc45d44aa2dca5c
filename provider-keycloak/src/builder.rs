//! [`KeycloakBuilder`]: what the provider is told.

use keyfob_auth_core::{
    AuthError, Context,
    registry::{SecretSource, Settings},
};
use keyfob_provider_oidc::{ClientAuth, Flow, Oidc, OidcBuilder};

use crate::{Keycloak, PROVIDER, provider::Source};

/// Configures a [`Keycloak`] provider.
#[derive(Clone, Debug)]
#[must_use]
pub struct KeycloakBuilder {
    pub(crate) oidc: OidcBuilder,
    /// Below which the realm's endpoints are.
    pub(crate) base: String,
    discovery: bool,
    pushed: bool,
    confidential: bool,
    flow: Option<Flow>,
    token: Option<SecretSource>,
}

impl KeycloakBuilder {
    pub(crate) fn new(server_url: &str, realm: &str, client_id: &str) -> Self {
        let issuer = format!("{}/realms/{realm}", server_url.trim_end_matches('/'));
        Self {
            oidc: Oidc::builder(&issuer, client_id).kind(PROVIDER).scopes(["openid", "profile", "email"]),
            base: format!("{issuer}/protocol/openid-connect"),
            discovery: false,
            pushed: false,
            confidential: false,
            flow: None,
            token: None,
        }
    }

    /// How tokens are got. Unsaid: as a person, with a browser where there is one; for a client with a secret, a key or a
    /// certificate, as its service account.
    pub fn flow(mut self, flow: Flow) -> Self {
        self.flow = Some(flow);
        self
    }

    /// A token that somebody else got: used as long as it lasts, and never renewed.
    pub fn token(mut self, token: impl Into<SecretSource>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The client's secret.
    pub fn client_secret(mut self, secret: impl Into<SecretSource>) -> Self {
        self.oidc = self.oidc.client_secret(secret);
        self.confidential = true;
        self
    }

    /// How the client authenticates: Keycloak calls these "Client Id and Secret" (basic, post), "Signed JWT"
    /// (`private_key_jwt`), "Signed JWT with Client Secret" (`client_secret_jwt`) and "X509 Certificate" (`tls_client_auth`).
    pub fn client_auth(mut self, auth: ClientAuth) -> Self {
        self.oidc = self.oidc.client_auth(auth);
        self.confidential = auth != ClientAuth::None;
        self
    }

    /// The private key of a client that authenticates by signed JWTs.
    pub fn key(mut self, key: impl Into<SecretSource>) -> Self {
        self.oidc = self.oidc.key(key);
        self.confidential = true;
        self
    }

    /// Whether the realm's endpoints are discovered. Unsaid: they are known, which saves a request.
    pub fn discovery(mut self, discovery: bool) -> Self {
        self.discovery = discovery;
        self
    }

    /// Whether authorization requests are pushed (RFC 9126). Unsaid: not, which saves a request.
    pub fn pushed_authorization_requests(mut self, pushed: bool) -> Self {
        self.pushed = pushed;
        self
    }

    /// The identity provider that the person is sent on to at once (`kc_idp_hint`).
    pub fn idp_hint(mut self, alias: impl Into<String>) -> Self {
        self.oidc = self.oidc.extra_parameter("kc_idp_hint", alias);
        self
    }

    /// Everything else that OAuth and OpenID Connect have.
    pub fn oidc(mut self, change: impl FnOnce(OidcBuilder) -> OidcBuilder) -> Self {
        self.oidc = change(self.oidc);
        self
    }

    /// The provider. Nothing is read or sent yet.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) for what cannot work.
    pub fn build(self, context: &Context) -> Result<Keycloak, AuthError> {
        let token = self.token.clone();
        let oidc = self.complete().build(context)?;
        Ok(Keycloak::of(oidc, Source::of(token), context))
    }

    pub(crate) fn build_from(
        mut self,
        settings: &Settings,
        context: &Context,
    ) -> Result<Keycloak, AuthError> {
        self.token = settings.secret("token")?.or(self.token);
        self.discovery = settings.bool("discovery")?.unwrap_or(self.discovery);
        self.pushed = settings.bool("pushed_authorization_requests")?.unwrap_or(self.pushed);
        self.confidential |=
            ["client_secret", "client_assertion", "key", "certificate"].iter().any(|key| settings.has(key));
        if let Some(alias) = settings.string("idp_hint")? {
            self = self.idp_hint(alias);
        }
        self.flow = if settings.has("flow") { None } else { self.flow };
        let says_flow = settings.has("flow");
        let token = self.token.clone();
        let mut builder = self.complete_unless(says_flow);
        builder = builder.settings(settings)?;
        let oidc = builder.build_from(settings, context)?;
        Ok(Keycloak::of(oidc, Source::of(token), context))
    }

    fn complete(self) -> OidcBuilder {
        self.complete_unless(false)
    }

    /// With the realm's endpoints and the flow, unless the settings say the flow.
    fn complete_unless(self, says_flow: bool) -> OidcBuilder {
        let at = |path: &str| format!("{}/{path}", self.base);
        let mut builder = self.oidc;
        if !self.discovery {
            builder = builder
                .authorization_endpoint(at("auth"))
                .token_endpoint(at("token"))
                .device_authorization_endpoint(at("auth/device"))
                .revocation_endpoint(at("revoke"))
                .introspection_endpoint(at("token/introspect"))
                .userinfo_endpoint(at("userinfo"))
                .end_session_endpoint(at("logout"))
                .jwks_uri(at("certs"));
            if self.pushed {
                builder = builder.pushed_authorization_request_endpoint(at("ext/par/request"));
            }
        }
        builder = builder.pushed_authorization_requests(self.pushed);
        match self.flow {
            _ if says_flow => builder,
            Some(flow) => builder.flow(flow),
            None if self.confidential => builder.flow(Flow::ClientCredentials),
            None => builder.flow(Flow::Auto),
        }
    }
}
