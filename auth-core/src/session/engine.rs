//! [`Engine`]: one provider joined to one store, for one login. Sessions are handles on it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock, PoisonError, Weak},
    time::Duration,
};

use secrecy::ExposeSecret;
use tokio::sync::watch;
use tracing::Instrument;

use super::{
    events::{Announcer, Event},
    exchange::{Exchange, Why},
    lease::HeldLease,
    persist::Unsaved,
    policy,
    slot::{Asked, Failure, Joined, Landing, Outcome, Slot},
};
use crate::{
    AuthError, Clock, Context, CredentialProvider, ErrorKind, Keep, RequestKey, TokenRequest,
    context::Endpoint,
    login::{self, Digest},
    store::{LoginKey, TokenStore},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

pub(crate) struct Engine {
    pub(crate) provider: Arc<dyn CredentialProvider>,
    pub(crate) store: Arc<dyn TokenStore>,
    pub(crate) key: LoginKey,
    pub(crate) context: Context,
    pub(crate) clock: Clock,
    pub(crate) keep: Keep,
    /// Whether access tokens go into the store.
    pub(crate) keep_tokens: bool,
    /// A token whose login could not be saved is an error instead of served.
    pub(crate) strict: AtomicBool,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) events: Announcer,
    /// Changes with every login and logout: what was begun before must not be published after.
    pub(crate) epoch: AtomicU64,
    /// Exchanges that spend a refresh token take this alone, others side by side.
    pub(crate) turn: tokio::sync::RwLock<()>,
    /// The lease, shared by exchanges that run side by side.
    pub(crate) lease: tokio::sync::Mutex<Weak<HeldLease>>,
    pub(crate) unsaved: tokio::sync::Mutex<Option<Box<Unsaved>>>,
    /// Numbers slots, and what is unsaved.
    pub(crate) serial: AtomicU64,
    /// One login at a time.
    pub(crate) login: tokio::sync::Mutex<()>,
    /// Held while a login is put in the place of another, or taken away: store and memory change together.
    pub(crate) change: tokio::sync::Mutex<()>,
    slots: Mutex<Slots>,
    /// Keys the hashes of subject tokens.
    subject_key: OnceLock<Option<[u8; 32]>>,
}

/// Most engines have the first and no others.
#[derive(Default)]
struct Slots {
    /// What the provider was configured with.
    configured: Option<Arc<Slot>>,
    others: HashMap<SlotKey, Arc<Slot>>,
}

/// Which slot of the engine.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct SlotKey {
    request: RequestKey,
    subject: Option<[u8; 32]>,
}

impl Engine {
    pub(crate) fn new(
        provider: Arc<dyn CredentialProvider>,
        store: Arc<dyn TokenStore>,
        key: LoginKey,
        keep: Keep,
        context: &Context,
    ) -> Self {
        Self {
            keep_tokens: keep == Keep::Store && store.describe().keeps.access_tokens,
            endpoint: context.endpoint(&endpoint_name(&key)),
            clock: context.clock().clone(),
            context: context.clone(),
            provider,
            store,
            key,
            keep,
            strict: AtomicBool::new(false),
            events: Announcer::default(),
            epoch: AtomicU64::new(0),
            turn: tokio::sync::RwLock::default(),
            lease: tokio::sync::Mutex::default(),
            unsaved: tokio::sync::Mutex::default(),
            serial: AtomicU64::new(0),
            login: tokio::sync::Mutex::default(),
            change: tokio::sync::Mutex::default(),
            slots: Mutex::default(),
            subject_key: OnceLock::new(),
        }
    }

    /// The slot of this request, made when first asked for. Their number is bounded: the oldest that nobody holds gives way.
    pub(crate) fn slot(&self, request: TokenRequest) -> Arc<Slot> {
        let subject = match &request.subject {
            None => None,
            Some(subject) => {
                // Without randomness the slot is the caller's alone.
                let Some(key) = self.subject_key() else { return Arc::new(Slot::new(0, request)) };
                let mut hash = hmac_sha256::HMAC::new(key);
                hash.update(subject.token_type.as_bytes());
                hash.update([0]);
                hash.update(subject.token.expose_secret().as_bytes());
                Some(hash.finalize())
            }
        };
        let key = SlotKey { request: request.key(), subject };
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(Slot::new(self.serial.fetch_add(1, Ordering::Relaxed), request));
        if key == SlotKey::default() {
            return Arc::clone(slots.configured.get_or_insert_with(make));
        }
        let slots = &mut slots.others;
        if let Some(slot) = slots.get(&key) {
            return Arc::clone(slot);
        }
        if slots.len() >= self.context.limits().subjects.max(1) {
            let age = |slot: &Arc<Slot>| slot.peek().map_or(0, |token| token.0.times.obtained.mono);
            let unheld = slots.iter().filter(|(_, slot)| Arc::strong_count(slot) == 1);
            if let Some(oldest) =
                unheld.min_by_key(|(_, slot)| (age(slot), slot.number)).map(|(key, _)| key.clone())
            {
                slots.remove(&oldest);
            }
        }
        let slot = make();
        slots.insert(key, Arc::clone(&slot));
        slot
    }

    fn subject_key(&self) -> Option<&[u8; 32]> {
        let make = || {
            let mut key = [0; 32];
            getrandom::fill(&mut key).is_ok().then_some(key)
        };
        self.subject_key.get_or_init(make).as_ref()
    }

    pub(crate) fn all_slots(&self) -> Vec<Arc<Slot>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.configured.iter().chain(slots.others.values()).cloned().collect()
    }

    /// The token at hand, or the outcome of the exchange that gets one.
    pub(crate) async fn token(self: &Arc<Self>, slot: &Arc<Slot>) -> Outcome {
        // A token may be retired between its publication and this waiter's turn; not for ever, though.
        const ROUNDS: usize = 4;
        let mut rounds = 0;
        loop {
            rounds += 1;
            let epoch = self.epoch();
            let (landing, demanded) = match slot.ask(self.clock.now()) {
                Asked::Serve(token) => return Ok(token),
                Asked::ServeAndRenew(token, begun) => {
                    // Without threads there is no renewal; when the token expires, the caller is told.
                    let _ = self.fly(slot, Why::Due, begun.landed);
                    return Ok(token);
                }
                Asked::Report(failure) if self.secret_revision() == failure.revision => {
                    let wait = self.clock.now().until(failure.not_before);
                    return Err(
                        if failure.error.is_repeatable() && failure.error.kind() != ErrorKind::LoginRequired {
                            failure.error.with_retry_after(wait)
                        } else {
                            failure.error
                        },
                    );
                }
                Asked::Report(_) => {
                    // The local secret has changed: whatever was refused is worth another try at once.
                    slot.forget_failure();
                    continue;
                }
                Asked::Renew(begun) => {
                    self.fly(slot, Why::Due, begun.landed)?;
                    (begun.landing, false)
                }
                Asked::UnderWay(landing, challenge) => (landing, challenge.is_some()),
            };
            let token = match landed(landing).await {
                Ok(token) => token,
                Err(error) => match slot.token(self.clock.now()) {
                    // A login has brought one meanwhile.
                    Some(token) => return Ok(token),
                    // It failed at a demand that is not ours, or a login or a logout has overtaken it.
                    None if (demanded || self.epoch() != epoch) && rounds < ROUNDS => continue,
                    None => return Err(error),
                },
            };
            if slot.is_alive(&token) || rounds == ROUNDS {
                if token.is_due(self.clock.now()) && self.keep != Keep::Nothing {
                    // Another process's token in its last days: it serves, and somebody has to renew it.
                    self.renew_beside(slot);
                }
                return Ok(token);
            }
        }
    }

    /// An exchange for a reason that the token at hand does not meet.
    pub(crate) async fn demand(self: &Arc<Self>, slot: &Arc<Slot>, why: Why) -> Outcome {
        // A password is never tried twice, whoever asks.
        let failure = slot.state().failure.clone().filter(|failure| !failure.error.is_repeatable());
        if let Some(failure) = failure.filter(|failure| failure.revision == self.secret_revision()) {
            return Err(failure.error);
        }
        loop {
            let challenge = match &why {
                Why::Challenge(challenge) => Some(challenge),
                _ => None,
            };
            let (landing, theirs) = match slot.join(challenge, self.clock.now()) {
                Joined::Begun(begun) => {
                    let epoch = self.epoch();
                    self.fly(slot, why, begun.landed)?;
                    return match landed(begun.landing).await {
                        // A login or a logout has overtaken it.
                        Err(_) if self.epoch() != epoch => self.token(slot).await,
                        outcome => outcome,
                    };
                }
                Joined::TooEarly(Some(error)) => return Err(error),
                Joined::TooEarly(None) => return self.token(slot).await,
                Joined::UnderWay(landing, theirs) => (landing, theirs),
            };
            let outcome = landed(landing).await;
            match (&why, theirs, outcome) {
                (Why::Challenge(mine), Some(theirs), outcome) if *mine == theirs => return outcome,
                (Why::Forced { since }, _, Ok(token)) if token.0.times.obtained.wall >= *since => {
                    return Ok(token);
                }
                (Why::Forced { .. }, None, Err(error)) => return Err(error),
                _ => {}
            }
        }
    }

    /// Renews while the token at hand goes on being served.
    #[cold]
    pub(crate) fn renew_beside(self: &Arc<Self>, slot: &Arc<Slot>) {
        if let Asked::ServeAndRenew(_, begun) | Asked::Renew(begun) = slot.ask(self.clock.now()) {
            // Without threads there is no renewal; when the token expires, the caller is told.
            let _ = self.fly(slot, Why::Due, begun.landed);
        }
    }

    /// Starts the exchange on the executor, where nobody's departure ends it.
    fn fly(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        why: Why,
        landed: watch::Sender<Option<Outcome>>,
    ) -> Result<(), AuthError> {
        let flight = Flight { slot: Arc::clone(slot), landed };
        let exchange = Exchange::new(Arc::clone(self), Arc::clone(slot), why);
        self.context.spawn(
            async move {
                let outcome = exchange.run().await;
                flight.land(outcome);
            }
            .instrument(self.span("renew")),
        )
    }

    /// Remembers a failure, so that it is not repeated at once: for as long as it says, else by its count.
    pub(crate) fn fail(&self, slot: &Slot, error: &AuthError, count: u32, wait: Option<Duration>) {
        let pause = wait.or_else(|| policy::pause(error, count, policy::jitter())).unwrap_or(Duration::MAX);
        let not_before = self.clock.now().plus(pause);
        let revision = self.secret_revision();
        let known = slot.fail(Failure { error: error.clone(), count, not_before, revision });
        if error.kind() == ErrorKind::LoginRequired {
            if known {
                return; // asked for several times a second by those who wait for a login
            }
            tracing::info!(%error, "login required");
            self.events.announce(Event::LoginRequired(error.clone()));
        } else {
            tracing::warn!(%error, failures = count, "renewal failed");
            self.events.announce(Event::Failing(error.clone()));
        }
    }

    /// A span that tells whose tokens these are.
    pub(crate) fn span(&self, what: &'static str) -> tracing::Span {
        let identity = self.key.identity();
        tracing::info_span!("keyfob", what, provider = %identity.kind, issuer = %identity.issuer, label = %identity.label)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Tells one token from another without keeping either.
    pub(crate) fn token_digest(token: &crate::AccessToken) -> Digest {
        login::digest(token.secret().expose_secret())
    }
}

/// Waits for an exchange to end. Works under any executor.
async fn landed(mut landing: Landing) -> Outcome {
    match landing.wait_for(Option::is_some).await {
        Ok(outcome) => match &*outcome {
            Some(outcome) => outcome.clone(),
            None => Err(lost()),
        },
        Err(_) => Err(lost()),
    }
}

fn lost() -> AuthError {
    AuthError::transient("the exchange was lost: its runtime was shut down, or keyfob has a bug")
}

/// An exchange under way. However it ends, the next may begin.
struct Flight {
    slot: Arc<Slot>,
    landed: watch::Sender<Option<Outcome>>,
}

impl Flight {
    fn land(self, outcome: Outcome) {
        self.slot.land();
        // Also where nobody waits: or the drop would end an exchange that was begun since.
        self.landed.send_replace(Some(outcome));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.landed.borrow().is_none() {
            self.slot.land();
        }
    }
}

/// The token endpoint that a pause concerns: the issuer's origin, for tenants share it.
fn endpoint_name(key: &LoginKey) -> String {
    match url::Url::parse(key.issuer()).map(|url| url.origin()) {
        Ok(origin) if origin.is_tuple() => origin.ascii_serialization(),
        _ => key.issuer().to_owned(),
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("provider", &self.provider)
            .field("store", &self.store)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
