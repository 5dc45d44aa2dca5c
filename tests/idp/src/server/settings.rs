//! What a server is told when it starts.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde_json::{Map, Value};

use super::{
    algorithm::Algorithm,
    registration::{Client, TrustedIssuer, User},
    signer::IdToken,
    styles::{AccessTokenFormat, ExpiresInRounding, ExpiresInStyle, TokenTypeStyle},
};

/// How an authorization server behaves. The default is strict: refresh tokens rotate and the reuse of one
/// kills its family.
///
/// The default knows the public client `cli`, the confidential client `service` with the secret
/// `service-secret` (by `client_secret_basic` and `client_secret_post`), and the users `alice` and `bob`. Both clients
/// may be redirected to `/callback` on any loopback port, and to `/signed-out` after a logout.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The loopback port; 0 for a free one.
    pub port: u16,
    /// How long an access token is valid, to the millisecond and beyond.
    pub access_token_lifetime: Duration,
    /// Whether access tokens are opaque or JWTs.
    pub access_token_format: AccessTokenFormat,
    /// How the lifetime is rounded to the whole seconds of `expires_in`.
    pub expires_in_rounding: ExpiresInRounding,
    /// How `expires_in` is written.
    pub expires_in_style: ExpiresInStyle,
    /// How `token_type` is written.
    pub token_type_style: TokenTypeStyle,
    /// Whether user flows give a refresh token. Client credentials never do.
    pub issue_refresh_token: bool,
    /// How long a refresh token is valid from its own issuance; without end if `None`.
    pub refresh_token_lifetime: Option<Duration>,
    /// Whether each refresh spends its refresh token and gives the next one. If not, the answer repeats the
    /// refresh token, which stays valid.
    pub refresh_token_rotation: bool,
    /// Whether the use of a spent refresh token kills its whole family. If not, it is only refused.
    pub reuse_detection: bool,
    /// How long after its rotation a spent refresh token is still honoured (and gives new tokens), if at all.
    pub reuse_grace: Option<Duration>,
    /// Leaves `refresh_token` out of the answer to a refresh; the refresh token stays valid, whatever
    /// `refresh_token_rotation` says.
    pub omit_refresh_token_on_refresh: bool,
    /// The least time between two polls of the device flow. `interval` shows it rounded up. As RFC 8628
    /// says, each `slow_down` raises it by five seconds for that device code.
    pub device_interval: Duration,
    /// How long a device code is valid. `expires_in` shows it rounded up.
    pub device_expires_in: Duration,
    /// Approves device authorizations without anybody's doing.
    pub auto_approve: Option<AutoApprove>,
    /// The clients.
    pub clients: Vec<Client>,
    /// The users.
    pub users: Vec<User>,
    /// Which metadata documents are served.
    pub discovery: Discovery,
    /// Members to set in the metadata documents; a null removes the member.
    pub metadata: Map<String, Value>,
    /// Further documents, served as JSON under their paths; `{issuer}` in their texts becomes the issuer.
    pub documents: BTreeMap<String, Value>,
    /// Whether and where the server speaks TLS, and with it takes client certificates.
    pub tls: Tls,
    /// Approves every authorization request as this user, without the page where a person signs in. A request with
    /// `prompt=none` still needs the cookie of an earlier sign-in.
    pub sign_in_as: Option<String>,
    /// Whether authorization requests without `state`, or without `nonce` where the scope has `openid`, are refused.
    pub strict_authorization: bool,
    /// Whether authorization requests have to be pushed (RFC 9126).
    pub require_pushed_authorization_requests: bool,
    /// How long a pushed request is valid. `expires_in` shows it rounded up.
    pub pushed_request_lifetime: Duration,
    /// How long a code is valid.
    pub code_lifetime: Duration,
    /// What the answer of the authorization endpoint says of the issuer (RFC 9207).
    pub authorization_iss: AuthorizationIss,
    /// The `acr` that a sign-in can have, lowest first; the first is what it has unless another is asked for.
    pub acr_values: Vec<String>,
    /// What the server signs with, one key each; the first signs access tokens, and ID tokens unless the client has a
    /// wish.
    pub signing_algorithms: Vec<Algorithm>,
    /// Further members of the JWK Set, as they are.
    pub extra_jwks: Vec<Value>,
    /// Changes each ID token before it is signed.
    pub id_token: IdTokenHook,
    /// What `aud` of a client assertion may be.
    pub assertion_audience: AssertionAudience,
    /// How far away `exp` of a client assertion may be, with 5 s of grace.
    pub assertion_longest_lifetime: Duration,
    /// Whether a client assertion must have a `jti`. One that is there is never accepted twice.
    pub assertion_jti_required: bool,
    /// How many DPoP proofs a nonce of the token endpoint is good for; no nonce is asked for if `None` (RFC 9449
    /// section 8).
    pub dpop_nonce_uses: Option<u32>,
    /// Likewise for the API and `/userinfo`, whose nonces are others (RFC 9449 section 9).
    pub dpop_api_nonce_uses: Option<u32>,
    /// Whose JWTs are accepted as authorization grants (RFC 7523), as subject tokens (RFC 8693) and as the assertions
    /// of federated clients.
    pub trusted_issuers: Vec<TrustedIssuer>,
    /// How long each answer is held back after the server has acted, except answers to `/control`.
    pub response_delay: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 0,
            access_token_lifetime: Duration::from_secs(60),
            access_token_format: AccessTokenFormat::Opaque,
            expires_in_rounding: ExpiresInRounding::Down,
            expires_in_style: ExpiresInStyle::Number,
            token_type_style: TokenTypeStyle::Bearer,
            issue_refresh_token: true,
            refresh_token_lifetime: None,
            refresh_token_rotation: true,
            reuse_detection: true,
            reuse_grace: None,
            omit_refresh_token_on_refresh: false,
            device_interval: Duration::from_secs(5),
            device_expires_in: Duration::from_secs(600),
            auto_approve: None,
            clients: vec![Client::public("cli"), Client::confidential("service", "service-secret")],
            users: vec![User::new("alice"), User::new("bob")],
            discovery: Discovery::Both,
            metadata: Map::new(),
            documents: BTreeMap::new(),
            tls: Tls::None,
            sign_in_as: None,
            strict_authorization: true,
            require_pushed_authorization_requests: false,
            pushed_request_lifetime: Duration::from_secs(60),
            code_lifetime: Duration::from_secs(60),
            authorization_iss: AuthorizationIss::Right,
            acr_values: vec!["bronze".to_owned(), "silver".to_owned(), "gold".to_owned()],
            signing_algorithms: vec![Algorithm::Es256],
            extra_jwks: Vec::new(),
            id_token: IdTokenHook::default(),
            assertion_audience: AssertionAudience::IssuerOrTokenEndpoint,
            assertion_longest_lifetime: Duration::from_secs(300),
            assertion_jti_required: true,
            dpop_nonce_uses: None,
            dpop_api_nonce_uses: None,
            trusted_issuers: Vec::new(),
            response_delay: Duration::ZERO,
        }
    }
}

impl Settings {
    /// Adds a client, in place of one with the same id.
    #[must_use]
    pub fn with_client(mut self, client: Client) -> Self {
        self.clients.retain(|known| known.id != client.id);
        self.clients.push(client);
        self
    }

    /// Adds a user, in place of one with the same name.
    #[must_use]
    pub fn with_user(mut self, user: User) -> Self {
        self.users.retain(|known| known.name != user.name);
        self.users.push(user);
        self
    }

    /// The user of a name.
    pub(super) fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }
}

/// The approval of every device authorization as one user.
#[derive(Clone, Debug)]
pub struct AutoApprove {
    /// The name of the user.
    pub user: String,
    /// How many polls are answered `authorization_pending` before; polls answered `slow_down` do not count.
    pub after_polls: u32,
}

/// Which metadata documents are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Both of them.
    Both,
    /// Only `/.well-known/openid-configuration` of OpenID Connect Discovery.
    OidcOnly,
    /// Only `/.well-known/oauth-authorization-server` of RFC 8414.
    Rfc8414Only,
    /// None of them.
    Neither,
}

/// Whether and where a server speaks TLS. Its certificates are from an authority that each server makes for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Nowhere: the issuer is `http://127.0.0.1:PORT`.
    None,
    /// On the issuer's own port: the issuer is `https://127.0.0.1:PORT`. A client certificate is asked for and need not
    /// come.
    Issuer,
    /// On a second port, where a client certificate is asked for; the metadata name its endpoints in
    /// `mtls_endpoint_aliases`. The issuer speaks plain HTTP.
    Aliases,
}

/// What the answer of the authorization endpoint says of the issuer (RFC 9207).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizationIss {
    /// `iss` is the issuer, and the metadata say that it comes.
    Right,
    /// There is none, and the metadata do not say that one comes.
    Missing,
    /// `iss` is this, and the metadata say that one comes.
    Wrong(String),
}

/// What `aud` of a client assertion may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssertionAudience {
    /// The issuer only.
    Issuer,
    /// The URL of the token endpoint only, as older servers want it.
    TokenEndpoint,
    /// Either of them.
    IssuerOrTokenEndpoint,
}

/// Changes each ID token before it is signed. The default changes nothing.
#[derive(Clone)]
pub struct IdTokenHook(pub(super) Arc<dyn Fn(&mut IdToken) + Send + Sync>);

impl IdTokenHook {
    /// A hook that does this.
    pub fn new(hook: impl Fn(&mut IdToken) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }
}

impl Default for IdTokenHook {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl fmt::Debug for IdTokenHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdTokenHook")
    }
}
