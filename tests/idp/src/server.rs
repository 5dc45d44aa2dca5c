//! The embedded authorization server: OAuth 2.0 and the parts of OpenID Connect that keyfob speaks, on a
//! loopback port, with strict refresh token rotation, faults on demand and a count of everything.
//!
//! It is a peer for tests and for the demo, not a server to put anywhere else: unless told otherwise it speaks plain
//! HTTP, keeps everything in memory until it stops, logs secrets verbatim and obeys `POST /control/...` without asking
//! who calls.
//!
//! Tokens that are signed (ID tokens, and access tokens as JWTs) are signed with ES256, or what
//! [`Settings::signing_algorithms`] says, by keys that each server makes for itself and publishes at `/jwks`. People
//! sign in at `/login` by their name alone; [`Person`](crate::person::Person) does that for a test.
//!
//! It is a judge as well: PKCE, redirect URIs, assertions, proofs and their single use are checked as the RFCs say, and
//! the `error_description` of a refusal says what was wrong.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, task::JoinHandle};

mod access;
mod algorithm;
mod api;
mod assertion;
mod authorization_request;
mod authorize;
mod client_auth;
mod codes;
mod control;
mod counters;
mod devices;
mod dpop;
mod endpoints;
mod exchange;
mod fault;
mod inner;
mod intercept;
mod issue;
mod logout;
mod metadata;
mod nonces;
mod par;
mod received;
mod registration;
mod respond;
mod serve;
mod sessions;
mod settings;
mod signer;
mod styles;
mod tls;
mod token;
mod tokens;
mod verify;

pub(crate) use self::tls::Authority;
pub use self::{
    algorithm::{Algorithm, SigningKey},
    control::ControlError,
    counters::{Counters, RecordedRequest},
    fault::{Endpoint, Fault, Faults},
    registration::{Client, Dpop, RegisteredCertificate, TokenEndpointAuthMethod, TrustedIssuer, User},
    settings::{AssertionAudience, AuthorizationIss, AutoApprove, Discovery, IdTokenHook, Settings, Tls},
    signer::{IdToken, IdTokenSignature},
    styles::{AccessTokenFormat, ExpiresInRounding, ExpiresInStyle, TokenTypeStyle},
    tls::ClientCertificate,
    token::{DEVICE_CODE_GRANT, JWT_BEARER_GRANT, TOKEN_EXCHANGE_GRANT},
    verify::VerificationKey,
};
use self::{inner::Server, serve::Listener, styles::Whole};

/// A running authorization server. It stops when this is dropped.
#[derive(Debug)]
pub struct AuthorizationServer {
    server: Arc<Server>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    home: Home,
}

/// What the server runs on.
#[derive(Debug)]
enum Home {
    /// A task of the caller's runtime.
    Task(JoinHandle<()>),
    /// A thread with a runtime of its own; taken when it is joined.
    Thread(Option<thread::JoinHandle<()>>),
}

impl AuthorizationServer {
    /// Starts a server as a task of the current tokio runtime. After a drop it stops as soon as that runtime
    /// runs again.
    ///
    /// # Panics
    ///
    /// If the port of the settings cannot be bound.
    #[allow(clippy::unused_async, reason = "it says that a runtime has to be there")]
    pub async fn start(settings: Settings) -> Self {
        let (server, address, listeners) = prepare(settings);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve::serve(listeners, Arc::clone(&server), stopped));
        Self { server, address, stop: Some(stop), home: Home::Task(task) }
    }

    /// Starts a server on a runtime of its own in a thread of its own, for tests without a runtime or with a
    /// strange one. After a drop it has stopped and its port is free.
    ///
    /// # Panics
    ///
    /// If the port of the settings cannot be bound, or no thread or runtime can be made.
    pub fn start_on_own_thread(settings: Settings) -> Self {
        let (server, address, listeners) = prepare(settings);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let served = Arc::clone(&server);
        let thread = thread::Builder::new()
            .name("authorization-server".to_owned())
            .spawn(move || runtime.block_on(serve::serve(listeners, served, stopped)))
            .expect("a thread");
        Self { server, address, stop: Some(stop), home: Home::Thread(Some(thread)) }
    }

    /// The issuer identifier, `http://127.0.0.1:PORT` unless the settings say TLS. The other URLs begin with it.
    pub fn issuer(&self) -> &str {
        &self.server.issuer
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path of this server, such as `/token`.
    pub fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    /// The URL of the token endpoint.
    pub fn token_endpoint(&self) -> String {
        self.url("/token")
    }

    /// The URL of the protected API that echoes: `/api/echo`, and anything below it.
    pub fn api_url(&self) -> String {
        self.url("/api/echo")
    }

    /// The URL of the API that demands one of these levels (separated by spaces) and a sign-in at most so many seconds
    /// old: `/api/step_up` (RFC 9470).
    pub fn step_up_url(&self, acr_values: Option<&str>, max_age: Option<u64>) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(acr_values.map(|levels| ("acr_values", levels)));
        query.extend_pairs(max_age.map(|seconds| ("max_age", seconds.to_string())));
        self.url(&format!("/api/step_up?{}", query.finish()))
    }

    /// The URL of a path on the listener that asks for client certificates.
    ///
    /// # Panics
    ///
    /// If the settings say no TLS.
    pub fn tls_url(&self, path: &str) -> String {
        let base = self.server.aliases.as_ref().or(self.server.tls.as_ref().map(|_| &self.server.issuer));
        format!("{}{path}", base.expect("the settings say TLS"))
    }

    /// The certificate of the server's authority in PEM, for a `ca_file`.
    ///
    /// # Panics
    ///
    /// If the settings say no TLS.
    pub fn ca_pem(&self) -> String {
        self.server.tls.as_ref().expect("the settings say TLS").pem()
    }

    /// A new certificate from the server's authority for the client with this DNS name; one certificate lies between
    /// it and the authority.
    ///
    /// # Panics
    ///
    /// If the settings say no TLS.
    pub fn client_certificate(&self, name: &str) -> ClientCertificate {
        self.server.tls.as_ref().expect("the settings say TLS").certify(name)
    }

    /// The URL of the API that asks for no token and tells whether it got one.
    pub fn public_url(&self) -> String {
        self.url("/api/public")
    }

    /// The URL of a redirect to `to` with the given status, such as 302 or 307.
    pub fn redirect_url(&self, to: &str, status: u16) -> String {
        let to: String = url::form_urlencoded::byte_serialize(to.as_bytes()).collect();
        self.url(&format!("/api/redirect?to={to}&status={status}"))
    }

    /// The faults to come.
    pub fn faults(&self) -> Faults {
        self.server.faults.clone()
    }

    /// A copy of the counters.
    pub fn counters(&self) -> Counters {
        self.server.state().counters.clone()
    }

    /// The last requests, oldest first, except those to `/control`. At most 4096 are kept.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.server.state().requests.iter().cloned().collect()
    }

    /// Sets all counters to zero and forgets the recorded requests.
    pub fn reset_counters(&self) {
        let mut state = self.server.state();
        state.counters = Counters::default();
        state.requests.clear();
    }

    /// Approves a pending device authorization as a user.
    ///
    /// # Errors
    ///
    /// If no such authorization is pending, or there is no such user.
    pub fn approve(&self, user_code: &str, user: &str) -> Result<(), ControlError> {
        self.server.approve(user_code, user)
    }

    /// Denies a pending device authorization.
    ///
    /// # Errors
    ///
    /// If no such authorization is pending.
    pub fn deny(&self, user_code: &str) -> Result<(), ControlError> {
        self.server.deny(user_code)
    }

    /// The user codes that wait for a decision and have not expired, oldest first.
    pub fn pending_user_codes(&self) -> Vec<String> {
        self.server.state().devices.pending()
    }

    /// Revokes one access token; the refresh token of its family lives on. Tells whether the token was active.
    pub fn revoke_access_token(&self, token: &str) -> bool {
        self.server.state().tokens.revoke_access_token(token)
    }

    /// Revokes every access token issued so far and tells how many of them were active. Refresh tokens live
    /// on.
    pub fn revoke_all_access_tokens(&self) -> usize {
        self.server.state().tokens.revoke_all_access_tokens()
    }

    /// Ends every session of a user: kills the families of their refresh tokens, access tokens included, and
    /// tells how many were alive.
    pub fn log_out(&self, user: &str) -> usize {
        self.server.log_out(user)
    }

    /// Gives a client another secret, which holds at once.
    ///
    /// # Errors
    ///
    /// If there is no such client.
    pub fn set_secret(&self, client_id: &str, secret: &str) -> Result<(), ControlError> {
        self.server.set_secret(client_id, secret)
    }

    /// Makes new signing keys; the old ones stay published or not.
    pub fn rotate_keys(&self, keep_old: bool) {
        self.server.signer().rotate(keep_old);
    }

    /// Changes each ID token from now on as this says, in place of [`Settings::id_token`].
    pub fn set_id_token_hook(&self, hook: IdTokenHook) {
        self.server.set_id_token_hook(hook);
    }

    /// Makes the DPoP nonces of the token endpoint and of the API old.
    pub fn rotate_dpop_nonces(&self) {
        let mut state = self.server.state();
        state.server_nonces.rotate();
        state.resource_nonces.rotate();
    }

    /// Takes the server down or up. While it is down every accepted connection is closed at once, and a
    /// connection from before is closed at its next request.
    pub fn set_down(&self, down: bool) {
        self.server.set_down(down);
    }

    /// Takes the server down for a while.
    pub fn down_for(&self, duration: Duration) {
        self.server.down_for(duration);
    }

    /// The number that `expires_in` shows for a new access token.
    pub fn expires_in(&self) -> u64 {
        self.server.settings.access_token_lifetime.whole(self.server.settings.expires_in_rounding)
    }
}

impl Drop for AuthorizationServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        match &mut self.home {
            Home::Task(task) => task.abort(),
            Home::Thread(thread) => {
                // It ends within an instant: nothing that it serves is waited for.
                let _ = thread.take().map(thread::JoinHandle::join);
            }
        }
    }
}

/// Binds what the settings say.
fn prepare(settings: Settings) -> (Arc<Server>, SocketAddr, Vec<Listener>) {
    let authority = (settings.tls != Tls::None).then(Authority::new);
    let scheme = if settings.tls == Tls::Issuer { "https" } else { "http" };
    let issuer = listen(settings.port, scheme);
    let aliases = (settings.tls == Tls::Aliases).then(|| listen(0, "https"));
    let address = issuer.socket.local_addr().expect("a bound listener has an address");
    let alias_base = aliases.as_ref().map(|listener| listener.base.clone());
    let server = Server::new(settings, issuer.base.clone(), alias_base, authority);
    (Arc::new(server), address, [issuer].into_iter().chain(aliases).collect())
}

fn listen(port: u16, scheme: &str) -> Listener {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free loopback port");
    socket.set_nonblocking(true).expect("a listener can be made non-blocking");
    let address = socket.local_addr().expect("a bound listener has an address");
    Listener { socket, base: format!("{scheme}://{address}"), tls: scheme == "https" }
}
