//! [`Session`]: what applications hold. The engine behind it decides when to renew.

mod account;
mod ask;
mod chain;
mod copies;
mod engine;
mod events;
mod exchange;
mod lease;
#[cfg(all(test, keyfob_shuttle))]
mod model;
mod persist;
pub(crate) mod policy;
mod slot;
mod status;
mod stored;
mod token;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};

pub(crate) use self::engine::Engine;
pub use self::{
    account::LogoutReport,
    events::{Event, Events},
    status::{Freshness, LastError, Status},
    token::Token,
};
use self::{
    chain::{Chain, What},
    events::Event as E,
    exchange::Why,
    slot::{Report, Slot},
};
use crate::{
    Acquired, AuthError, Challenge, Context, CredentialProvider, Identity, Interaction, Keep, Login,
    LoginRequest, RequestKey, Subject, TokenRequest,
    context::{EngineKey, StoreKey},
    store::{LoginKey, MemoryStore, Persistence, TokenStore},
    sync::sleep,
};

/// Always a fresh token: what an application holds.
///
/// A session joins one provider and one store. It decides when to renew, makes one exchange of it however many ask, and
/// keeps what the exchange brings. Clones are handles on the same session and cost an atomic increment; sessions of one
/// identity and store in one [`Context`] share everything.
///
/// Its futures work under any executor. Exchanges run on the context's, so that dropping a future never loses a token.
#[derive(Clone, Debug)]
pub struct Session(Kind);

#[derive(Clone, Debug)]
enum Kind {
    One(Handle),
    Chain(Arc<Chain>),
}

#[derive(Clone, Debug)]
struct Handle {
    engine: Arc<Engine>,
    slot: Arc<Slot>,
}

impl Handle {
    #[inline]
    fn serve(&self) -> Option<Token> {
        self.slot.serve(self.engine.clock.now(), || self.engine.renew_beside(&self.slot))
    }
}

/// Makes a [`Session`].
#[derive(Debug)]
pub struct SessionBuilder {
    provider: Arc<dyn CredentialProvider>,
    store: Option<Arc<dyn TokenStore>>,
    context: Option<Context>,
    label: Option<String>,
    request: TokenRequest,
    strict: bool,
}

impl SessionBuilder {
    /// Keeps tokens in this store. By default they are kept in memory.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn TokenStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Shares what sessions share in this context. By default the session has one of its own.
    #[must_use]
    pub fn context(mut self, context: &Context) -> Self {
        self.context = Some(context.clone());
        self
    }

    /// Names the session's login, to tell it from others of the same client. A label of the provider's own goes first.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Asks for this instead of what the provider was configured with.
    #[must_use]
    pub fn request(mut self, request: TokenRequest) -> Self {
        self.request = request;
        self
    }

    /// A renewal that cannot be saved is an error, instead of being served from memory. It is so for all sessions of the
    /// same identity and store in the context.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// The session. No I/O happens.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) for what cannot work: a provider whose logins hold a key, on a
    /// store that drops keys.
    pub fn build(self) -> Result<Session, AuthError> {
        let Self { provider, store, context, label, request, strict } = self;
        let context = context.unwrap_or_default();
        let keep = provider.keeps();
        let mut identity = provider.identity();
        if identity.label.is_empty() {
            identity.label = label.unwrap_or_default();
        }
        // What may not be stored goes into memory, whatever store was given.
        let store = store.filter(|s| keep == Keep::Store || s.describe().persistence == Persistence::Process);
        let store_key = store.as_ref().map_or(StoreKey::Own, StoreKey::of);
        // A memory that nobody else sees needs no copy of what the session has.
        let kept = if store.is_none() && keep == Keep::Store { Keep::Memory } else { keep };
        let store = store.unwrap_or_else(|| Arc::new(MemoryStore::new()));
        let info = store.describe();
        if keep == Keep::Store && provider.binds_logins() && !info.keeps.binding_key {
            return Err(AuthError::configuration(format!(
                "the logins of provider {} are bound to a key, which the store {info} cannot keep; choose another store",
                identity.kind
            )));
        }
        let key = LoginKey::from(identity);
        let engine = context.engine(EngineKey { login: key.clone(), store: store_key }, || {
            Ok(Engine::new(provider, store, key, kept, &context))
        })?;
        engine.strict.fetch_or(strict, Ordering::Relaxed);
        let slot = engine.slot(request);
        Ok(Session(Kind::One(Handle { engine, slot })))
    }
}

impl Session {
    /// Begins a session of this provider.
    pub fn builder(provider: Arc<dyn CredentialProvider>) -> SessionBuilder {
        SessionBuilder {
            provider,
            store: None,
            context: None,
            label: None,
            request: TokenRequest::default(),
            strict: false,
        }
    }

    /// A session of this provider and store.
    ///
    /// # Errors
    /// As [`SessionBuilder::build`].
    pub fn new(
        provider: Arc<dyn CredentialProvider>,
        store: Arc<dyn TokenStore>,
        context: &Context,
    ) -> Result<Self, AuthError> {
        Self::builder(provider).store(store).context(context).build()
    }

    /// A chain: the first of these that is configured and logged in serves.
    ///
    /// It goes on to the next only at [`NotConfigured`](crate::ErrorKind::NotConfigured) and
    /// [`LoginRequired`](crate::ErrorKind::LoginRequired); any other failure is the chain's. If none can serve, the error
    /// tells what each said. It stays with the one that serves as long as that one has a valid token. Logins, logouts and the status are those of the session that served last, else of the first.
    pub fn first_of(sessions: impl IntoIterator<Item = Self>) -> Self {
        Self(Kind::Chain(Arc::new(Chain::new(sessions.into_iter().collect()))))
    }

    /// The same login, with another access token below it.
    #[must_use]
    pub fn for_request(&self, request: TokenRequest) -> Self {
        match &self.0 {
            Kind::One(one) => {
                let slot = one.engine.slot(request);
                Self(Kind::One(Handle { engine: Arc::clone(&one.engine), slot }))
            }
            Kind::Chain(chain) => {
                Self::first_of(chain.links.iter().map(|link| link.for_request(request.clone())))
            }
        }
    }

    /// The same login, with an access token for these scopes.
    #[must_use]
    pub fn for_scopes<S: Into<String>>(&self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.for_request(TokenRequest::scopes(scopes))
    }

    /// The same login, with an access token on this subject's behalf (RFC 8693). It is kept in memory only.
    #[must_use]
    pub fn for_subject(&self, subject: Subject) -> Self {
        self.for_request(TokenRequest::default().with_subject(subject))
    }

    /// The token at hand, if it is valid. Never blocks, never waits, never fails.
    ///
    /// Inside the early window it also sets off a renewal, beside.
    pub fn cached(&self) -> Option<Token> {
        let one = self.serving()?;
        one.serve()
    }

    /// The header value of the token at hand, if it is valid and is sent in one: the shortest way to it, a load and a
    /// clone. Otherwise as [`cached`](Self::cached).
    pub fn cached_header(&self) -> Option<HeaderValue> {
        let one = self.serving()?;
        one.slot.header(one.engine.clock.now(), || one.engine.renew_beside(&one.slot))
    }

    /// A valid token. Waits for an exchange only if there is none at hand.
    ///
    /// # Errors
    /// Why there is none. A failure is shared by all who waited, and remembered for a while, so that asking again at once
    /// asks no server.
    ///
    /// # Cancellation
    /// Loses nothing: the exchange goes on, and the next caller has its result.
    pub async fn token(&self) -> Result<Token, AuthError> {
        match &self.0 {
            Kind::One(one) => match one.serve() {
                Some(token) => Ok(token),
                None => one.engine.token(&one.slot).await,
            },
            Kind::Chain(chain) => chain.first(What::Token).await,
        }
    }

    /// [`token`](Self::token), but waits no longer than this. The exchange goes on all the same.
    ///
    /// # Errors
    /// As [`token`](Self::token); [`Transient`](crate::ErrorKind::Transient) if the time is up.
    pub async fn token_within(&self, deadline: Duration) -> Result<Token, AuthError> {
        if let Some(token) = self.cached() {
            return Ok(token);
        }
        let (alarm, timer) = self.context().task(async move { sleep(deadline).await })?;
        let outcome = tokio::select! {
            biased;
            outcome = self.token() => outcome,
            _ = timer => Err(AuthError::transient(format!("no token within {} s", deadline.as_secs_f64()))),
        };
        alarm.abort();
        outcome
    }

    /// [`token`](Self::token) for callers without a runtime. It blocks the thread.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    pub fn token_blocking(&self) -> Result<Token, AuthError> {
        match self.cached() {
            Some(token) => Ok(token),
            None => pollster::block_on(self.token()),
        }
    }

    /// The header of a valid token: its name and its value.
    ///
    /// # Errors
    /// As [`token`](Self::token); [`Configuration`](crate::ErrorKind::Configuration) if the token needs every request
    /// signed, which the middleware does.
    pub async fn authorization(&self) -> Result<(HeaderName, HeaderValue), AuthError> {
        let token = self.token().await?;
        let (name, value) = token.header().ok_or_else(Token::signed_error)?;
        Ok((name.clone(), value.clone()))
    }

    /// A token obtained after this call: renews whatever is at hand.
    ///
    /// # Errors
    /// Why there is none. The token at hand stays.
    pub async fn refresh(&self) -> Result<Token, AuthError> {
        match &self.0 {
            Kind::One(one) => {
                let since = one.engine.clock.now().wall;
                one.engine.demand(&one.slot, Why::Forced { since }).await
            }
            Kind::Chain(chain) => chain.first(What::Refresh).await,
        }
    }

    /// A token that meets this demand of a resource server: the cache is bypassed once, and the token at hand replaced.
    ///
    /// # Errors
    /// [`InteractionRequired`](crate::ErrorKind::InteractionRequired), with the challenge, if it takes a person:
    /// [`login_with`](Self::login_with) it then.
    pub async fn satisfy(&self, challenge: Challenge) -> Result<Token, AuthError> {
        match &self.0 {
            Kind::One(one) => one.engine.demand(&one.slot, Why::Challenge(challenge)).await,
            Kind::Chain(chain) => {
                let link = chain.serving().ok_or_else(no_links)?;
                Box::pin(link.satisfy(challenge)).await
            }
        }
    }

    /// Reports that a resource server refused this very token. `true` if it is served no more.
    ///
    /// Reports of an older token change nothing. If the tokens that follow are refused too, the reports are believed less
    /// and less often: `false`, and the token stays.
    pub fn invalidate(&self, token: &Token) -> bool {
        let one = match &self.0 {
            Kind::One(one) => one,
            // A link that it is not from takes it for an older one.
            Kind::Chain(chain) => return chain.links.iter().all(|link| link.invalidate(token)),
        };
        let report = one.slot.invalidate(token, one.engine.clock.now());
        tracing::info!(generation = token.generation(), ?report, "token reported bad");
        if report == Report::Retired {
            one.engine.events.announce(E::Invalidated);
        }
        report != Report::Disbelieved
    }

    /// Signs a person in, for what the session asks for.
    ///
    /// # Errors
    /// Why it failed; an earlier login is kept then. [`Store`](crate::ErrorKind::Store) before the person is asked if the
    /// store could not keep the login.
    ///
    /// # Cancellation
    /// Ends the login and touches nothing stored, until the provider has an answer: that one is kept.
    pub async fn login(&self, ui: Arc<dyn Interaction>) -> Result<Token, AuthError> {
        let request = self.first_handle()?.slot.request().clone();
        self.login_with(LoginRequest::new(request), ui).await
    }

    /// Signs a person in with hints, or to satisfy a challenge.
    ///
    /// # Errors
    /// As [`login`](Self::login).
    pub async fn login_with(
        &self,
        request: LoginRequest,
        ui: Arc<dyn Interaction>,
    ) -> Result<Token, AuthError> {
        let one = self.first_handle()?;
        let mut request = request;
        if request.token.key() == RequestKey::default() {
            // It asks for nothing of its own: a challenge, or a hint.
            let challenge = request.token.challenge.take();
            request.token = TokenRequest { challenge, ..one.slot.request().clone() };
        }
        one.engine.sign_in(&one.slot, request, ui).await
    }

    /// Makes a login that was made elsewhere (by a web application's callback, say) this session's.
    ///
    /// # Errors
    /// [`Store`](crate::ErrorKind::Store) if the session is strict and it cannot be saved.
    ///
    /// # Cancellation
    /// It is adopted all the same.
    pub async fn adopt(&self, acquired: Acquired) -> Result<Token, AuthError> {
        let one = self.first_handle()?;
        one.engine.adopt(&one.slot, acquired).await
    }

    /// Ends the login: forgets it here, whatever the server says, then asks the server to revoke it.
    ///
    /// It wins over a renewal under way, here and in other processes.
    ///
    /// # Errors
    /// [`Store`](crate::ErrorKind::Store) if it could not be forgotten. What the server said is in the report.
    ///
    /// # Cancellation
    /// It goes on all the same.
    pub async fn logout(&self) -> Result<LogoutReport, AuthError> {
        self.first_handle()?.engine.sign_out().await
    }

    /// What is known of it, from memory and from the store. No server is asked.
    ///
    /// # Errors
    /// [`Store`](crate::ErrorKind::Store) if the store cannot be read.
    pub async fn status(&self) -> Result<Status, AuthError> {
        let one = self.first_handle()?;
        one.engine.status(&one.slot).await
    }

    /// The login as it is kept: for what its ID token says of the person, and for logging out at the provider. It asks no
    /// server. `None` if nobody is logged in; of a chain, as [`status`](Self::status).
    ///
    /// # Errors
    /// [`Store`](crate::ErrorKind::Store) if it cannot be read.
    ///
    /// # Cancellation
    /// Changes nothing.
    pub async fn stored_login(&self) -> Result<Option<Login>, AuthError> {
        self.first_handle()?.engine.stored_login().await
    }

    /// What happens to it from now on: of a chain, to the session that served last. One without links tells nothing.
    pub fn watch(&self) -> Events {
        match self.serving() {
            Some(one) => one.engine.events.watch(),
            None => events::Announcer::default().watch(),
        }
    }

    /// Waits until nothing is under way in its context: see [`Context::drain`].
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.context().drain(deadline).await
    }

    /// What was configured.
    pub fn identity(&self) -> Identity {
        self.serving().map(|one| one.engine.key.identity().clone()).unwrap_or_default()
    }

    /// Its context.
    pub fn context(&self) -> Context {
        self.serving().map(|one| one.engine.context.clone()).unwrap_or_default()
    }

    /// [`CredentialProvider::refusal`] of the provider that served last.
    pub(crate) fn refusal(&self, from: &Uri, status: StatusCode, headers: &HeaderMap) -> Option<AuthError> {
        self.serving()?.engine.refusal(from, status, headers)
    }

    /// Retires a token that its provider would present no more, as its certificate was replaced. `true` if it is served no
    /// more.
    pub(crate) fn retire_outdated(&self, token: &Token) -> bool {
        self.serving().is_some_and(|one| !one.engine.still_presents(token)) && self.invalidate(token)
    }

    #[inline]
    fn serving(&self) -> Option<&Handle> {
        match &self.0 {
            Kind::One(one) => Some(one),
            Kind::Chain(chain) => chain.serving()?.serving(),
        }
    }

    fn first_handle(&self) -> Result<&Handle, AuthError> {
        self.serving().ok_or_else(no_links)
    }
}

fn no_links() -> AuthError {
    AuthError::configuration("the chain has no links")
}
