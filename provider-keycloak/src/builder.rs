//! [`KeycloakBuilder`]: what the provider is told.

use keyfob_auth_core::{
    AuthError, Context, CredentialProvider as _,
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
    base: String,
    pushed: bool,
    confidential: bool,
    flow: Option<Flow>,
    token: Option<SecretSource>,
}

impl KeycloakBuilder {
    pub(crate) fn new(server_url: &str, realm: &str, client_id: &str) -> Self {
        let issuer = format!("{}/realms/{realm}", server_url.trim_end_matches('/'));
        let oidc = Oidc::builder(&issuer, client_id).kind(PROVIDER).scopes(["openid", "profile", "email"]);
        let base = format!("{issuer}/protocol/openid-connect");
        Self { oidc, base, pushed: false, confidential: false, flow: None, token: None }.discovery(false)
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

    /// Whether the realm's endpoints are discovered. Unsaid: they are known, which saves a request. It comes before endpoints
    /// that are named by [`oidc`](Self::oidc).
    pub fn discovery(mut self, discovery: bool) -> Self {
        let at = |path: &str| format!("{}/{path}", self.base);
        self.oidc = if discovery {
            self.oidc.discovered_endpoints()
        } else {
            self.oidc
                .authorization_endpoint(at("auth"))
                .token_endpoint(at("token"))
                .device_authorization_endpoint(at("auth/device"))
                .pushed_authorization_request_endpoint(at("ext/par/request"))
                .revocation_endpoint(at("revoke"))
                .introspection_endpoint(at("token/introspect"))
                .userinfo_endpoint(at("userinfo"))
                .end_session_endpoint(at("logout"))
                .jwks_uri(at("certs"))
        };
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

    /// Everything else that OAuth and OpenID Connect have. The flow, and what the client proves itself with, are said above.
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
        if let Some(discovery) = settings.bool("discovery")? {
            self = self.discovery(discovery);
        }
        self.pushed = settings.bool("pushed_authorization_requests")?.unwrap_or(self.pushed);
        self.confidential |=
            ["client_secret", "client_assertion", "key", "certificate"].iter().any(|key| settings.has(key));
        if let Some(alias) = settings.string("idp_hint")? {
            self = self.idp_hint(alias);
        }
        let token = self.token.clone();
        // What the settings say replaces what is known, the endpoints and the flow among it.
        let oidc = self.complete().settings(settings)?.build_from(settings, context)?;
        let no_use = |key, why: &str| Err(settings.bad(key, &format!("has no use {why}")));
        if settings.has("idp_hint") && oidc.identity().grant != "authorization_code" {
            return no_use(
                "idp_hint",
                "where nobody signs in with a browser: it is of \"browser\" and \"auto\"",
            );
        }
        let given = ["flow", "scopes", "idp_hint", "dpop"];
        if let (Some(_), Some(key)) = (&token, given.iter().find(|key| settings.has(key))) {
            return no_use(key, "beside `token`, which is used as it is");
        }
        Ok(Keycloak::of(oidc, Source::of(token), context))
    }

    fn complete(self) -> OidcBuilder {
        let unsaid = if self.confidential { Flow::ClientCredentials } else { Flow::Auto };
        self.oidc.pushed_authorization_requests(self.pushed).flow(self.flow.unwrap_or(unsaid))
    }
}
