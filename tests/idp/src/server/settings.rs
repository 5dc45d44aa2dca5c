//! What a server is told when it starts.

use std::time::Duration;

use serde_json::{Map, Value};

/// How an authorization server behaves. The default is strict: refresh tokens rotate and the reuse of one
/// kills its family.
///
/// The default knows the public client `cli`, the confidential client `service` with the secret
/// `service-secret` (by `client_secret_basic` and `client_secret_post`), and the users `alice` and `bob`.
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

/// A registered client.
#[derive(Clone, Debug)]
pub struct Client {
    /// The `client_id`.
    pub id: String,
    /// The `client_secret`; none for a public client.
    pub secret: Option<String>,
    /// The methods by which the client may authenticate.
    pub auth_methods: Vec<TokenEndpointAuthMethod>,
}

impl Client {
    /// A public client: it names itself and proves nothing.
    pub fn public(id: &str) -> Self {
        Self { id: id.to_owned(), secret: None, auth_methods: vec![TokenEndpointAuthMethod::None] }
    }

    /// A confidential client that may use `client_secret_basic` and `client_secret_post`.
    pub fn confidential(id: &str, secret: &str) -> Self {
        let auth_methods =
            vec![TokenEndpointAuthMethod::ClientSecretBasic, TokenEndpointAuthMethod::ClientSecretPost];
        Self { id: id.to_owned(), secret: Some(secret.to_owned()), auth_methods }
    }

    /// The client with one allowed method only.
    #[must_use]
    pub fn only(mut self, method: TokenEndpointAuthMethod) -> Self {
        self.auth_methods = vec![method];
        self
    }
}

/// How a client authenticates, as in the metadata `token_endpoint_auth_methods_supported`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenEndpointAuthMethod {
    /// `none`: `client_id` in the form and no secret.
    None,
    /// `client_secret_basic`: HTTP Basic, each half form-encoded as RFC 6749 section 2.3.1 says.
    ClientSecretBasic,
    /// `client_secret_post`: `client_id` and `client_secret` in the form.
    ClientSecretPost,
}

/// A user who can approve and sign in.
#[derive(Clone, Debug)]
pub struct User {
    /// The name, which is also the claim `preferred_username`.
    pub name: String,
    /// The claim `sub`.
    pub subject: String,
    /// The claim `email`.
    pub email: String,
    /// The password of the password grant.
    pub password: String,
}

impl User {
    /// A user `NAME` with the subject `subject-NAME`, the email `NAME@example.test` and the password
    /// `NAME-password`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            subject: format!("subject-{name}"),
            email: format!("{name}@example.test"),
            password: format!("{name}-password"),
        }
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

/// What access tokens are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTokenFormat {
    /// Random text that begins with `at-`.
    Opaque,
    /// A JWT of RFC 9068, signed with ES256.
    Jwt,
}

/// How a lifetime becomes whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiresInRounding {
    /// 2.6 s is 2.
    Down,
    /// 2.6 s is 3, 2.4 s is 2.
    Nearest,
    /// 2.4 s is 3.
    Up,
}

/// How `expires_in` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiresInStyle {
    /// `"expires_in": 60`.
    Number,
    /// `"expires_in": "60"`, as some servers do.
    Text,
    /// No `expires_in`.
    Missing,
}

/// How `token_type` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenTypeStyle {
    /// `"Bearer"`.
    Bearer,
    /// `"bearer"`.
    LowerCase,
    /// No `token_type`.
    Missing,
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

/// The whole seconds of a duration.
pub(super) trait Whole {
    fn whole(&self, rounding: ExpiresInRounding) -> u64;
}

impl Whole for Duration {
    fn whole(&self, rounding: ExpiresInRounding) -> u64 {
        let up = match rounding {
            ExpiresInRounding::Down => false,
            ExpiresInRounding::Nearest => self.subsec_millis() >= 500,
            ExpiresInRounding::Up => self.subsec_nanos() > 0,
        };
        self.as_secs() + u64::from(up)
    }
}
