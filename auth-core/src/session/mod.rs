//! SKELETON: signatures only, the engine is being written.
#![allow(missing_docs, clippy::unimplemented, dead_code, unused_variables, clippy::unused_async)]
use std::{sync::Arc, time::{Duration, SystemTime}};
use http::{HeaderName, HeaderValue};
use crate::*;
use crate::store::{StoreInfo, TokenStore};

pub(crate) mod policy {
    use super::*;
    pub(crate) fn pause(error: &AuthError, failures: u32) -> Option<Duration> { Some(Duration::from_secs(1)) }
}
#[derive(Debug)] pub(crate) struct Engine;

#[derive(Clone, Debug)] pub struct Session(Arc<()>);
#[derive(Debug)] pub struct SessionBuilder;
#[derive(Clone, Debug)] pub struct Token(Arc<()>);
#[derive(Clone, Copy, Debug, PartialEq, Eq)] #[non_exhaustive] pub enum Freshness { Fresh, Stale, Expired, None }
impl Freshness { pub fn as_str(self) -> &'static str { unimplemented!() } }
#[derive(Clone, Debug)] #[non_exhaustive] pub struct LastError { pub kind: ErrorKind, pub message: String, pub at: SystemTime }
#[derive(Clone, Debug)] #[non_exhaustive]
pub struct Status { pub identity: Identity, pub account: Option<Account>, pub scopes: Option<Scopes>, pub expires_at: Option<SystemTime>, pub freshness: Freshness, pub refreshable: bool, pub store: StoreInfo, pub unsaved: bool, pub last_renewal: Option<SystemTime>, pub last_error: Option<LastError> }
#[derive(Debug, Default)] #[non_exhaustive] pub struct LogoutReport { pub was_logged_in: bool, pub revoked: bool, pub problems: Vec<AuthError> }
#[derive(Clone, Debug)] #[non_exhaustive] pub enum Event { Renewed { expires_at: Option<SystemTime> }, Failing(AuthError), LoginRequired(AuthError), Unsaved(AuthError), Saved, LoggedIn, LoggedOut, Invalidated }
#[derive(Debug)] pub struct Events;
impl Events { pub async fn next(&mut self) -> Option<Event> { unimplemented!() } }

impl SessionBuilder {
    pub fn store(self, store: Arc<dyn TokenStore>) -> Self { unimplemented!() }
    pub fn context(self, context: &Context) -> Self { unimplemented!() }
    pub fn label(self, label: impl Into<String>) -> Self { unimplemented!() }
    pub fn request(self, request: TokenRequest) -> Self { unimplemented!() }
    pub fn strict(self) -> Self { unimplemented!() }
    pub fn build(self) -> Result<Session, AuthError> { unimplemented!() }
}
impl Session {
    pub fn builder(provider: Arc<dyn CredentialProvider>) -> SessionBuilder { unimplemented!() }
    pub fn new(provider: Arc<dyn CredentialProvider>, store: Arc<dyn TokenStore>, context: &Context) -> Result<Self, AuthError> { unimplemented!() }
    pub fn first_of(sessions: impl IntoIterator<Item = Session>) -> Self { unimplemented!() }
    /// same login, other token
    pub fn for_request(&self, request: TokenRequest) -> Self { unimplemented!() }
    pub fn for_scopes<S: Into<String>>(&self, scopes: impl IntoIterator<Item = S>) -> Self { unimplemented!() }
    /// never blocks; kicks off a renewal beside when in the early window
    pub fn cached(&self) -> Option<Token> { unimplemented!() }
    pub fn cached_header(&self) -> Option<HeaderValue> { unimplemented!() }
    pub async fn token(&self) -> Result<Token, AuthError> { unimplemented!() }
    pub async fn token_within(&self, deadline: Duration) -> Result<Token, AuthError> { unimplemented!() }
    pub fn token_blocking(&self) -> Result<Token, AuthError> { unimplemented!() }
    pub async fn authorization(&self) -> Result<(HeaderName, HeaderValue), AuthError> { unimplemented!() }
    /// renews now, whatever is cached
    pub async fn refresh(&self) -> Result<Token, AuthError> { unimplemented!() }
    /// retires this token (its generation only); renewal happens at next token()
    pub fn invalidate(&self, token: &Token) { unimplemented!() }
    /// a token that satisfies the challenge: bypasses the cache once and replaces the slot's token
    pub async fn satisfy(&self, challenge: Challenge) -> Result<Token, AuthError> { unimplemented!() }
    pub async fn login(&self, ui: Arc<dyn Interaction>) -> Result<Token, AuthError> { unimplemented!() }
    pub async fn login_with(&self, request: LoginRequest, ui: Arc<dyn Interaction>) -> Result<Token, AuthError> { unimplemented!() }
    pub async fn adopt(&self, acquired: Acquired) -> Result<Token, AuthError> { unimplemented!() }
    pub async fn logout(&self) -> Result<LogoutReport, AuthError> { unimplemented!() }
    pub async fn status(&self) -> Result<Status, AuthError> { unimplemented!() }
    pub fn watch(&self) -> Events { unimplemented!() }
    pub async fn drain(&self, deadline: Duration) -> bool { unimplemented!() }
    pub fn identity(&self) -> &Identity { unimplemented!() }
    pub fn context(&self) -> &Context { unimplemented!() }
}
impl Token {
    pub fn secret(&self) -> &str { unimplemented!() }
    pub fn presentation(&self) -> &Presentation { unimplemented!() }
    pub fn expires_at(&self) -> Option<SystemTime> { unimplemented!() }
    pub fn scopes(&self) -> Option<&Scopes> { unimplemented!() }
    pub fn binding(&self) -> &Binding { unimplemented!() }
}
