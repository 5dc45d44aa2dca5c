//! One access token of a login, in memory: what is served, and what is under way for it.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, PoisonError},
};

use http::HeaderValue;
use tokio::sync::watch;

use super::{
    policy::{self, Decision, Invalidations, View},
    token::{Published, Token},
};
use crate::{
    AuthError, Challenge, RequestKey, Scopes, TokenRequest,
    clock::Now,
    login::Digest,
    sync::{
        ArcSwapOption, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

pub(crate) type Outcome = Result<Token, AuthError>;

/// What the waiters of an exchange wait on. It closes without a value if the exchange is lost.
pub(crate) type Landing = watch::Receiver<Option<Outcome>>;

pub(crate) struct Slot {
    /// Grows with every slot of the engine.
    pub(crate) number: u64,
    /// `None` where it asks for nothing of its own, as most do.
    wanted: Option<Box<Wanted>>,
    current: ArcSwapOption<Published>,
    /// Before when, on the monotonic clock, the served path need not think of renewing.
    quiet_until: AtomicU64,
    state: Mutex<State>,
}

struct Wanted {
    request: TokenRequest,
    key: RequestKey,
}

/// What the provider was configured with.
static CONFIGURED: Wanted = Wanted {
    request: TokenRequest {
        scopes: Scopes::none(),
        audiences: Vec::new(),
        resources: Vec::new(),
        subject: None,
        challenge: None,
    },
    key: RequestKey { scopes: BTreeSet::new(), audiences: BTreeSet::new(), resources: BTreeSet::new() },
};

/// Boxed is what an idle slot has not.
#[derive(Default)]
pub(crate) struct State {
    flight: Option<Box<UnderWay>>,
    pub(crate) failure: Option<Box<Failure>>,
    /// Of the newest token.
    generation: u64,
    /// Tokens up to this generation are dead.
    retired: u64,
    reported: Option<Box<Reported>>,
    /// The newest token.
    newest: Option<Digest>,
    demand: Option<Box<Demand>>,
}

/// The last token that was reported bad.
struct Reported {
    digest: Digest,
    reports: Invalidations,
}

/// An exchange under way, and the demand that it is to meet.
struct UnderWay {
    landing: Landing,
    challenge: Option<Challenge>,
}

/// The last demand of a resource server. One that no token meets is believed less and less often, as reports are.
struct Demand {
    challenge: Challenge,
    reports: Invalidations,
    error: Option<AuthError>,
}

/// The right to make an exchange, and the duty: whoever has it lands.
pub(crate) struct Begun {
    pub(crate) landing: Landing,
    pub(crate) landed: watch::Sender<Option<Outcome>>,
}

/// What came of a demand.
pub(crate) enum Joined {
    /// The exchange is the caller's to make.
    Begun(Begun),
    /// There is one under way, for this demand if for one.
    UnderWay(Landing, Option<Challenge>),
    /// The same demand was made a moment ago, and ended so.
    TooEarly(Option<AuthError>),
}

/// What a report of a bad token did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Retired,
    /// The token is not served any more anyway.
    Past,
    /// Reports come too often: the token stays.
    Disbelieved,
}

#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) error: AuthError,
    pub(crate) count: u32,
    pub(crate) not_before: Now,
    /// The provider's secret then.
    pub(crate) revision: Option<u64>,
}

/// What a caller gets at once.
pub(crate) enum Asked {
    Serve(Token),
    /// The exchange is the caller's to make, beside.
    ServeAndRenew(Token, Begun),
    /// The exchange is the caller's to make, and to wait for.
    Renew(Begun),
    /// There is one under way, for this demand if for one.
    UnderWay(Landing, Option<Challenge>),
    Report(Failure),
}

/// Why a token was not published.
pub(crate) enum Unpublished {
    /// A login or a logout has overtaken it.
    Overtaken,
    /// It is the very one that was reported bad.
    Retired,
}

impl Slot {
    pub(crate) fn new(number: u64, mut request: TokenRequest) -> Self {
        // A demand is met once; it is no part of what is asked for.
        request.challenge = None;
        let key = request.key();
        let own = key != CONFIGURED.key || request.subject.is_some();
        Self {
            number,
            wanted: own.then(|| Box::new(Wanted { request, key })),
            current: ArcSwapOption::empty(),
            quiet_until: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    pub(crate) fn request(&self) -> &TokenRequest {
        &self.wanted().request
    }

    pub(crate) fn key(&self) -> &RequestKey {
        &self.wanted().key
    }

    fn wanted(&self) -> &Wanted {
        self.wanted.as_deref().unwrap_or(&CONFIGURED)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Every change under this lock is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The header to send: a load and a clone. Calls `due` if the token is due for renewal.
    #[inline]
    pub(crate) fn header(&self, now: Now, due: impl FnOnce()) -> Option<HeaderValue> {
        let current = self.current.load();
        let published = current.as_ref()?;
        if published.is_fresh(now) || self.serves_still(published, now, due) {
            published.clone_header(now)
        } else {
            None
        }
    }

    /// The token to serve. Calls `due` if it is due for renewal.
    #[inline]
    pub(crate) fn serve(&self, now: Now, due: impl FnOnce()) -> Option<Token> {
        let current = self.current.load();
        let published = current.as_ref()?;
        let serves = published.is_fresh(now) || self.serves_still(published, now, due);
        serves.then(|| Token(Arc::clone(published)))
    }

    #[cold]
    fn serves_still(&self, published: &Published, now: Now, due: impl FnOnce()) -> bool {
        if published.times.expired(now) {
            return false;
        }
        if self.is_due(published, now) {
            due();
        }
        true
    }

    /// The token that is valid now.
    pub(crate) fn token(&self, now: Now) -> Option<Token> {
        self.peek().filter(|token| !token.0.times.expired(now))
    }

    fn is_due(&self, published: &Published, now: Now) -> bool {
        published.times.due(now) && now.mono >= self.quiet_until.load(Ordering::Relaxed)
    }

    /// The token at hand, expired or not.
    pub(crate) fn peek(&self) -> Option<Token> {
        self.current.load_full().map(Token)
    }

    /// The careful look, for when the quick one did not serve. An exchange that is needed is begun or joined in the same
    /// moment: between a look and a later beginning another one may have come and gone.
    pub(crate) fn ask(&self, now: Now) -> Asked {
        let mut state = self.state();
        let token = self.peek();
        let view = View {
            token: token.as_ref().map(|t| t.0.times),
            not_before: state.failure.as_ref().map(|f| f.not_before),
            in_flight: state.flight.is_some(),
        };
        match (policy::decide(&view, now), token, &state.failure) {
            (Decision::Serve, Some(token), _) => Asked::Serve(token),
            (Decision::ServeAndRenew, Some(token), _) => {
                Asked::ServeAndRenew(token, self.begin(&mut state, None))
            }
            (Decision::Report, _, Some(failure)) => Asked::Report((**failure).clone()),
            _ => match &state.flight {
                Some(flight) => Asked::UnderWay(flight.landing.clone(), flight.challenge.clone()),
                None => Asked::Renew(self.begin(&mut state, None)),
            },
        }
    }

    /// Joins the exchange under way, or begins one, whatever is at hand.
    pub(crate) fn join(&self, challenge: Option<&Challenge>, now: Now) -> Joined {
        let mut state = self.state();
        if let Some(flight) = &state.flight {
            return Joined::UnderWay(flight.landing.clone(), flight.challenge.clone());
        }
        if let Some(challenge) = challenge {
            let last = state.demand.take_if(|last| last.challenge == *challenge);
            let reports = last.as_ref().map(|last| last.reports).unwrap_or_default();
            let Some(reports) = reports.report(now) else {
                let error = last.as_ref().and_then(|last| last.error.clone());
                state.demand = last;
                return Joined::TooEarly(error);
            };
            state.demand = Some(Box::new(Demand { challenge: challenge.clone(), reports, error: None }));
        }
        Joined::Begun(self.begin(&mut state, challenge))
    }

    fn begin(&self, state: &mut State, challenge: Option<&Challenge>) -> Begun {
        let (landed, landing) = watch::channel(None);
        state.flight = Some(Box::new(UnderWay { landing: landing.clone(), challenge: challenge.cloned() }));
        self.quiet_until.store(u64::MAX, Ordering::Relaxed);
        Begun { landing, landed }
    }

    /// A demand could not be met.
    pub(crate) fn unmet(&self, challenge: &Challenge, error: &AuthError) {
        if let Some(demand) = self.state().demand.as_mut().filter(|demand| demand.challenge == *challenge) {
            demand.error = Some(error.clone());
        }
    }

    /// The exchange is over, well or not: the next may begin.
    pub(crate) fn land(&self) {
        let mut state = self.state();
        state.flight = None;
        let quiet_until = state.failure.as_ref().map_or(0, |failure| failure.not_before.mono);
        self.quiet_until.store(quiet_until, Ordering::Relaxed);
    }

    /// Remembers the failure. `true` if the one before was of the same kind.
    pub(crate) fn fail(&self, failure: Failure) -> bool {
        let kind = failure.error.kind();
        self.state().failure.replace(Box::new(failure)).is_some_and(|before| before.error.kind() == kind)
    }

    pub(crate) fn forget_failure(&self) {
        self.state().failure = None;
        self.quiet_until.store(0, Ordering::Relaxed);
    }

    /// How many attempts failed one after another.
    pub(crate) fn failures(&self) -> u32 {
        self.state().failure.as_ref().map_or(0, |failure| failure.count)
    }

    /// Whether these are the bytes that were reported bad last. Forgotten with the report: a source that has only this one
    /// token (a literal) is not lost for ever to one refusal.
    pub(crate) fn is_retired(&self, digest: &Digest, now: Now) -> bool {
        self.state().is_retired(digest, now)
    }

    /// Publishes this token as the next generation, unless it is overtaken. Served from now on if `keep` is set.
    pub(crate) fn publish(
        &self,
        keep: bool,
        now: Now,
        current: impl FnOnce() -> bool,
        mut published: Published,
    ) -> Result<Token, Unpublished> {
        let mut state = self.state();
        // Under the lock, under which a login or logout clears the slot after it has changed the epoch.
        if !current() {
            return Err(Unpublished::Overtaken);
        }
        // Under the lock too: it may have been reported since it came.
        if state.is_retired(&published.digest, now) {
            return Err(Unpublished::Retired);
        }
        state.generation += 1;
        state.failure = None;
        published.generation = state.generation;
        let published = Arc::new(published);
        state.newest = Some(published.digest);
        if keep {
            self.current.store(Some(Arc::clone(&published)));
        }
        Ok(Token(published))
    }

    /// Retires this token if it is the newest and the report counts.
    pub(crate) fn invalidate(&self, token: &Token, now: Now) -> Report {
        let mut state = self.state();
        // By its bytes: the generations of two sessions say nothing of each other.
        if state.newest != Some(token.0.digest) || state.generation <= state.retired {
            return Report::Past;
        }
        let before = state.reported.as_ref().map(|reported| reported.reports).unwrap_or_default();
        let Some(reports) = before.report(now) else { return Report::Disbelieved };
        state.reported = Some(Box::new(Reported { digest: token.0.digest, reports }));
        state.retired = state.generation;
        self.current.store(None);
        Report::Retired
    }

    /// Whether a waiter may be given this token.
    pub(crate) fn is_alive(&self, token: &Token) -> bool {
        token.generation() > self.state().retired
    }

    /// Forgets the token and the failure: a login or a logout has made them past.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        state.retired = state.generation;
        state.reported = None;
        state.failure = None;
        state.demand = None;
        self.quiet_until.store(0, Ordering::Relaxed);
        self.current.store(None);
    }
}

impl State {
    fn is_retired(&self, digest: &Digest, now: Now) -> bool {
        self.reported.as_ref().is_some_and(|last| last.digest == *digest && !last.reports.forgotten(now))
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("key", self.key()).field("token", &self.peek()).finish_non_exhaustive()
    }
}
