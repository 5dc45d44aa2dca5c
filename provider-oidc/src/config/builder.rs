//! [`OidcBuilder`]: what a provider can be configured with.

mod client;
mod grants;
mod sign_in;

use std::{fmt, sync::Arc, time::Duration};

use keyfob_auth_core::{AuthError, Context, Scopes, registry::SecretSource};

use super::{Config, Flow, ResponseMode, Wrong, network::NetworkSettings};
use crate::{
    Oidc, PROVIDER, assertion::AssertionOptions, callback::SecretCallback, client_auth::ClientAuth,
    metadata::Which, signer::Signer,
};

/// Configures an [`Oidc`] provider.
#[derive(Clone)]
#[must_use]
pub struct OidcBuilder {
    pub(super) kind: &'static str,
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) client_secret: Option<SecretSource>,
    pub(super) client_auth: Option<ClientAuth>,
    pub(super) client_assertion: Option<SecretCallback>,
    pub(super) signer: Option<Arc<dyn Signer>>,
    pub(super) key: Option<SecretSource>,
    pub(super) key_passphrase: Option<SecretSource>,
    pub(super) key_id: Option<String>,
    pub(super) signing_alg: Option<String>,
    pub(super) assertion: AssertionOptions,
    pub(super) flow: Option<Flow>,
    pub(super) scopes: Scopes,
    pub(super) audiences: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) authorization_details: Option<String>,
    pub(super) endpoints: Vec<(Which, String)>,
    pub(super) extra: Vec<(String, String)>,
    pub(super) label: String,
    pub(super) dpop: bool,
    pub(super) end_session: bool,
    pub(super) id_token_signing_alg: Option<String>,
    pub(super) id_token_audiences: Vec<String>,
    pub(super) id_tokens: bool,
    pub(super) scope_on_poll: bool,
    pub(super) any_scope_on_refresh: bool,
    // A login with a browser.
    pub(super) redirect_uris: Vec<String>,
    pub(super) response_mode: Option<ResponseMode>,
    pub(super) pushed: Option<bool>,
    pub(super) login_hint: Option<String>,
    pub(super) prompt: Option<String>,
    pub(super) acr_values: Option<String>,
    pub(super) max_age: Option<Duration>,
    pub(super) ui_locales: Option<String>,
    #[cfg(feature = "browser")]
    pub(super) page: Option<Arc<dyn crate::browser::Page>>,
    pub(super) open_browser: bool,
    pub(super) login_timeout: Option<Duration>,
    // Password, JWT bearer, token exchange.
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretCallback>,
    pub(super) grant_assertion: Option<SecretCallback>,
    pub(super) subject: Option<String>,
    pub(super) subject_token: Option<SecretCallback>,
    pub(super) subject_token_type: Option<String>,
    pub(super) actor_token: Option<SecretCallback>,
    pub(super) actor_token_type: Option<String>,
    pub(super) requested_token_type: Option<String>,
    // The network.
    pub(super) network: NetworkSettings,
}

impl OidcBuilder {
    pub(crate) fn new(issuer: String, client_id: String) -> Self {
        Self {
            kind: PROVIDER,
            issuer,
            client_id,
            client_secret: None,
            client_auth: None,
            client_assertion: None,
            signer: None,
            key: None,
            key_passphrase: None,
            key_id: None,
            signing_alg: None,
            assertion: AssertionOptions::default(),
            flow: None,
            scopes: Scopes::none(),
            audiences: Vec::new(),
            resources: Vec::new(),
            authorization_details: None,
            endpoints: Vec::new(),
            extra: Vec::new(),
            label: String::new(),
            dpop: false,
            end_session: false,
            id_token_signing_alg: None,
            id_token_audiences: Vec::new(),
            id_tokens: true,
            scope_on_poll: false,
            any_scope_on_refresh: false,
            redirect_uris: Vec::new(),
            response_mode: None,
            pushed: None,
            login_hint: None,
            prompt: None,
            acr_values: None,
            max_age: None,
            ui_locales: None,
            #[cfg(feature = "browser")]
            page: None,
            open_browser: true,
            login_timeout: None,
            username: None,
            password: None,
            grant_assertion: None,
            subject: None,
            subject_token: None,
            subject_token_type: None,
            actor_token: None,
            actor_token_type: None,
            requested_token_type: None,
            network: NetworkSettings::default(),
        }
    }

    /// The kind of provider that identities and errors name, for a product's own provider that is built on this one.
    pub fn kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    /// How tokens are got. Unsaid: by client credentials if the client proves who it is, by device login if it does not.
    pub fn flow(mut self, flow: Flow) -> Self {
        self.flow = Some(flow);
        self
    }

    /// The scopes to ask for (RFC 6749 section 3.3) where a request names none. By default none, but `openid` where a person
    /// signs in.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().collect();
        self
    }

    /// An audience to ask for where a request names none (`audience`: RFC 8693 section 2.1, and before it some products).
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// A resource to ask for where a request names none: an absolute URI without a fragment (RFC 8707 section 2).
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resources.push(resource.into());
        self
    }

    /// What exactly is asked for, as a JSON array (`authorization_details`, RFC 9396).
    pub fn authorization_details(mut self, details: impl Into<String>) -> Self {
        self.authorization_details = Some(details.into());
        self
    }

    /// The token endpoint (RFC 6749 section 3.2), so that it need not be discovered.
    pub fn token_endpoint(self, url: impl Into<String>) -> Self {
        self.endpoint(Which::Token, url.into())
    }

    /// The authorization endpoint (RFC 6749 section 3.1), so that it need not be discovered.
    pub fn authorization_endpoint(self, url: impl Into<String>) -> Self {
        self.endpoint(Which::Authorization, url.into())
    }

    /// The device authorization endpoint (RFC 8628 section 3.1), so that it need not be discovered.
    pub fn device_authorization_endpoint(self, url: impl Into<String>) -> Self {
        self.endpoint(Which::DeviceAuthorization, url.into())
    }

    /// The revocation endpoint (RFC 7009 section 2), so that it need not be discovered.
    pub fn revocation_endpoint(self, url: impl Into<String>) -> Self {
        self.endpoint(Which::Revocation, url.into())
    }

    /// The introspection endpoint (RFC 7662 section 2), so that it need not be discovered.
    pub fn introspection_endpoint(self, url: impl Into<String>) -> Self {
        self.endpoint(Which::Introspection, url.into())
    }

    /// The UserInfo endpoint (OpenID Connect Core section 5.3), so that it need not be discovered.
    pub fn userinfo_endpoint(self, url: impl Into<String>) -> Self {
        self.endpoint(Which::UserInfo, url.into())
    }

    /// Where a person's session ends (OpenID Connect RP-Initiated Logout section 2), so that it need not be discovered.
    pub fn end_session_endpoint(self, url: impl Into<String>) -> Self {
        self.endpoint(Which::EndSession, url.into())
    }

    /// Where the issuer's keys are (RFC 7517 section 5), so that they need not be discovered.
    pub fn jwks_uri(self, url: impl Into<String>) -> Self {
        self.endpoint(Which::Keys, url.into())
    }

    /// The pushed authorization request endpoint (RFC 9126 section 2), so that it need not be discovered.
    pub fn pushed_authorization_request_endpoint(self, url: impl Into<String>) -> Self {
        self.endpoint(Which::PushedAuthorization, url.into())
    }

    /// Forgets the endpoints that were named, so that they are discovered.
    pub fn discovered_endpoints(mut self) -> Self {
        self.endpoints.clear();
        self
    }

    pub(super) fn endpoint(mut self, which: Which, url: String) -> Self {
        self.endpoints.retain(|(other, _)| *other != which);
        self.endpoints.push((which, url));
        self
    }

    /// A parameter of the product's own, sent with every token request, every request for a device code and every
    /// authorization request (RFC 6749 section 8.2). Named again, it is sent again. Its value is not shown.
    pub fn extra_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra.push((name.into(), value.into()));
        self
    }

    /// A name that tells this login from others at the same client: the profile's.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Whether tokens are bound to a key of each login's own (DPoP, RFC 9449), so that who steals one cannot use it. Needs the
    /// feature `jose`.
    pub fn dpop(mut self, bound: bool) -> Self {
        self.dpop = bound;
        self
    }

    /// Whether ID tokens are read: unsaid, they are, and one that does not hold is refused. A product whose own clients pass
    /// over them, and whose issuer clients need not be able to reach, says no; who signed in is then for it to tell.
    pub fn id_tokens(mut self, read: bool) -> Self {
        self.id_tokens = read;
        self
    }

    /// Whether each poll of a device login repeats the scopes (RFC 8628 section 3.4 has none there), for servers that forget
    /// them. Unsaid: not.
    pub fn scope_on_poll(mut self, repeated: bool) -> Self {
        self.scope_on_poll = repeated;
        self
    }

    /// Whether a refresh may ask for scopes that the sign-in was not granted (RFC 6749 section 6 says it must not), for servers
    /// that call a granted scope by another name, and for those whose refresh tokens are good for other resources too. Unsaid:
    /// not; who wants more is told to log in for it.
    pub fn any_scope_on_refresh(mut self, allowed: bool) -> Self {
        self.any_scope_on_refresh = allowed;
        self
    }

    /// The only algorithm that ID tokens may be signed by, as it is registered for the client (`id_token_signed_response_alg`).
    /// Unsaid: any asymmetric one that the issuer's keys are for. Needs the feature `jose`.
    pub fn id_token_signing_alg(mut self, algorithm: impl Into<String>) -> Self {
        self.id_token_signing_alg = Some(algorithm.into());
        self
    }

    /// Whom an ID token may be for besides this client, by another client's id or a name of a service (OpenID Connect Core
    /// section 3.1.3.7, point 3). Unsaid: nobody, and an ID token with a further audience is refused.
    pub fn id_token_audience(mut self, audience: impl Into<String>) -> Self {
        self.id_token_audiences.push(audience.into());
        self
    }

    /// Whether a logout ends the person's session at the provider too (OpenID Connect RP-Initiated Logout), besides revoking
    /// the refresh token: the next login then asks them again, and other applications of the session are logged out with it.
    pub fn end_session(mut self, end: bool) -> Self {
        self.end_session = end;
        self
    }

    /// Certificate authorities, as PEM, that are trusted besides the system's.
    pub fn ca_file(mut self, authorities: impl Into<SecretSource>) -> Self {
        self.network.authorities = Some(authorities.into());
        self
    }

    /// The client's certificate with its whole chain, as PEM (RFC 8705); read at each use. Its private key may be in the same
    /// text.
    pub fn certificate(mut self, chain: impl Into<SecretSource>) -> Self {
        self.network.certificate = Some(chain.into());
        self
    }

    /// The private key of the client's certificate, as PEM.
    pub fn certificate_key(mut self, key: impl Into<SecretSource>) -> Self {
        self.network.certificate_key = Some(key.into());
        self
    }

    /// The proxy to go through (`http` or `https`), or `none`. Unsaid: what the environment or the system says.
    pub fn proxy(mut self, proxy: impl Into<String>) -> Self {
        self.network.proxy = Some(proxy.into());
        self
    }

    /// How long one request may take, its answer included. Unsaid: 30 seconds.
    pub fn timeout(mut self, deadline: Duration) -> Self {
        self.network.deadline = Some(deadline);
        self
    }

    /// The provider. Nothing is read or sent yet.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) for what cannot work.
    pub fn build(self, context: &Context) -> Result<Oidc, AuthError> {
        let kind = self.kind;
        let wrong =
            |Wrong { key, what }| AuthError::configuration(format!("`{key}` {what}")).with_provider(kind);
        Ok(Oidc::of(Config::check(self).map_err(wrong)?, context))
    }
}

impl fmt::Debug for OidcBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcBuilder")
            .field("kind", &self.kind)
            // It is not checked yet: a password may stand before its host.
            .field("issuer", &self.issuer.rsplit_once('@').map_or(&*self.issuer, |(_, host)| host))
            .field("client_id", &self.client_id)
            .field("flow", &self.flow)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}
