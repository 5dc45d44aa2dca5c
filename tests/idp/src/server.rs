//! The embedded authorization server: OAuth 2.0 and the parts of OpenID Connect that keyfob speaks, on a
//! loopback port, with strict refresh token rotation, faults on demand and a count of everything.
//!
//! It is a peer for tests and for the demo, not a server to put anywhere else: it speaks plain HTTP, keeps
//! everything in memory until it stops, logs secrets verbatim and obeys `POST /control/...` without asking
//! who calls.
//!
//! Tokens that are signed (ID tokens, and access tokens as JWTs) are signed with ES256 by a key that each
//! server makes for itself and publishes at `/jwks`. There is no authorization endpoint; users approve by
//! the device flow or sign in with the password grant.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

mod api;
mod client_auth;
mod control;
mod counters;
mod devices;
mod endpoints;
mod fault;
mod inner;
mod intercept;
mod received;
mod respond;
mod serve;
mod settings;
mod signer;
mod token;
mod tokens;

pub use self::{
    control::ControlError,
    counters::{Counters, RecordedRequest},
    fault::{Endpoint, Fault, Faults},
    settings::{
        AccessTokenFormat, AutoApprove, Client, Discovery, ExpiresInRounding, ExpiresInStyle, Settings,
        TokenEndpointAuthMethod, TokenTypeStyle, User,
    },
    token::DEVICE_CODE_GRANT,
};
use self::{inner::Server, settings::Whole};

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
    pub async fn start(settings: Settings) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port)).await.expect("a free loopback port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (server, stop, stopped) = Self::prepare(settings, address);
        let task = tokio::spawn(serve::serve(listener, Arc::clone(&server), stopped));
        Self { server, address, stop: Some(stop), home: Home::Task(task) }
    }

    /// Starts a server on a runtime of its own in a thread of its own, for tests without a runtime or with a
    /// strange one. After a drop it has stopped and its port is free.
    ///
    /// # Panics
    ///
    /// If the port of the settings cannot be bound, or no thread or runtime can be made.
    pub fn start_on_own_thread(settings: Settings) -> Self {
        let listener =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port)).expect("a free loopback port");
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (server, stop, stopped) = Self::prepare(settings, address);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let served = Arc::clone(&server);
        let thread = thread::Builder::new()
            .name("authorization-server".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    let listener = TcpListener::from_std(listener).expect("a non-blocking listener");
                    serve::serve(listener, served, stopped).await;
                });
            })
            .expect("a thread");
        Self { server, address, stop: Some(stop), home: Home::Thread(Some(thread)) }
    }

    fn prepare(
        settings: Settings,
        address: SocketAddr,
    ) -> (Arc<Server>, oneshot::Sender<()>, oneshot::Receiver<()>) {
        let (stop, stopped) = oneshot::channel();
        (Arc::new(Server::new(settings, address)), stop, stopped)
    }

    /// The issuer identifier, `http://127.0.0.1:PORT`. The other URLs begin with it.
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
