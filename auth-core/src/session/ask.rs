//! The parts of an exchange: asking the provider, noting attempts, timing and checking what came.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use secrecy::ExposeSecret;
use tokio::time::timeout;

use super::{
    engine::Engine,
    exchange::{Exchange, Why},
    lease::HeldLease,
    policy::{self, Times},
};
use crate::{
    AccessToken, Acquired, AuthError, Lifetime, Login, RequestKey, TokenRequest,
    clock::{Now, to_nanos, to_system_time},
    jwt_expiry,
    store::{Attempt, Outcome as Ended, Record, Saved, StoreError, StoredToken, Version},
};

impl Exchange {
    /// Before a refresh token is spent: an attempt is on record, and there is room for the answer.
    pub(super) async fn announce_spending(
        &self,
        record: &Record,
        version: Option<Version>,
        lease: &Arc<HeldLease>,
    ) -> Result<Option<Version>, Failed> {
        let engine = &self.engine;
        let stopped = |error: AuthError| {
            let message = format!("the renewal was not begun, for its outcome could not be saved: {}", error.message());
            Failed::from(error.with_message(message))
        };
        let mut version = version;
        if engine.store.describe().keeps.attempts {
            let save = engine.store.save(&engine.key, Some(record), version.as_ref(), lease.lease());
            match engine.in_time(save).await.map_err(|e| stopped(e.into()))? {
                Saved::Written(written) => version = Some(written),
                // Under the lease only a login, a logout or a stranger writes.
                Saved::Conflict(_) => return Err(Failed::overtaken()),
            }
        }
        if let Some(held) = lease.lease() {
            let room = record.room_for_answer()?;
            engine.in_time(held.reserve(room)).await.map_err(|e| stopped(e.into()))?;
        }
        Ok(version)
    }

    /// Asks the provider, with the hard limit, and with a panic as an error. Also when the request was sent.
    pub(super) async fn ask_provider(&self, login: Option<&Login>) -> Result<(Acquired, Now), Failed> {
        let engine = &self.engine;
        let _pass = engine.endpoint.enter(&engine.clock).await.map_err(|error| Failed {
            // Nobody was asked.
            count: Some(self.slot.failures()),
            error,
            remember: true,
        })?;
        let mut request: TokenRequest = self.slot.request.clone();
        if let Why::Challenge(challenge) = &self.why {
            request.challenge = Some(challenge.clone());
        }
        #[cfg(feature = "metrics")]
        metrics::counter!("keyfob_exchanges_total").increment(1);
        let sent = engine.clock.now();
        let provider = Arc::clone(&engine.provider);
        let login = login.cloned();
        let result = guarded(engine, async move { provider.acquire(&request, login.as_ref()).await }).await;
        engine.endpoint.learn(result.as_ref().map(|_| ()), &engine.clock);
        Ok((result?, sent))
    }

    /// A renewal may not turn into somebody else's login, nor bring back the token that was just refused.
    pub(super) fn check(&self, acquired: &Acquired, old: Option<&Login>) -> Result<(), AuthError> {
        if self.slot.is_retired(&Engine::token_hash(&acquired.access)) {
            return Err(AuthError::refused("the server gave the very token again that was just rejected"));
        }
        let accounts = old.and_then(|o| o.account.as_ref()).zip(acquired.login.as_ref().and_then(|l| l.account.as_ref()));
        match accounts {
            Some((old, new)) if !old.is(new) => Err(AuthError::refused(format!(
                "the renewal answered for another account ({}) than the one that is logged in ({}); log out and in again",
                new.subject, old.subject
            ))),
            _ => Ok(()),
        }
    }

    /// How long the token serves.
    pub(crate) fn timed(&self, token: &AccessToken, sent: Now) -> Result<Timed, AuthError> {
        let now = self.engine.clock.now();
        let until = |at: SystemTime| Duration::from_nanos(to_nanos(at).saturating_sub(sent.wall));
        let in_jwt = || jwt_expiry(token.secret().expose_secret()).map(until);
        let life = match token.lifetime() {
            Lifetime::In(life) => Some(life),
            Lifetime::At(at) => Some(until(at)),
            Lifetime::Unknown => in_jwt().or(Some(self.engine.context.limits().unknown_lifetime)),
            Lifetime::Unlimited => in_jwt(),
        };
        let times = policy::times(sent, life, token.refresh_in(), policy::jitter());
        if times.expired(now) {
            return Err(AuthError::refused("the access token had expired when it came; is the clock right?"));
        }
        Ok(Timed { times, life, refresh_in: token.refresh_in() })
    }

    /// What a renewal brought after a logout: revoked, as the logout would have.
    pub(super) async fn discard(&self, login: &Login) {
        let limit = self.engine.context.limits().exchange;
        if let Ok(Err(error)) = timeout(limit, self.engine.provider.revoke(login)).await {
            tracing::warn!(%error, "a login renewed during its logout could not be revoked");
        }
    }

    pub(super) fn failures(&self, previous: Option<&Attempt>) -> u32 {
        let told = match previous.map(|p| &p.outcome) {
            Some(Ended::Failed { failures, .. }) => *failures,
            _ => 0,
        };
        told.max(self.slot.failures())
    }

    pub(super) fn ended(&self, error: &AuthError, count: u32) -> Ended {
        const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let pause = policy::pause(error, count, policy::jitter()).unwrap_or(NEVER);
        Ended::failed(error, count, self.engine.clock.wall() + pause)
    }

    /// Writes a record whose loss would be no harm.
    pub(super) async fn note(&self, record: &Record, version: Option<&Version>, lease: &Arc<HeldLease>) {
        let engine = &self.engine;
        let save = engine.store.save(&engine.key, Some(record), version, lease.lease());
        match engine.in_time(save).await {
            Ok(Saved::Written(_)) => {}
            Ok(Saved::Conflict(_)) => tracing::debug!("the failure was not noted: the record has changed"),
            Err(error) => tracing::debug!(%error, "the failure was not noted"),
        }
    }
}

/// Runs a provider's call as a task of its own: with the hard limit, and so that a panic stays there.
pub(crate) async fn guarded<T: Send + 'static>(
    engine: &Engine,
    call: impl Future<Output = Result<T, AuthError>> + Send + 'static,
) -> Result<T, AuthError> {
    let limit = engine.context.limits().exchange;
    let mut task = engine.context.handle()?.spawn(call);
    match timeout(limit, &mut task).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(AuthError::transient("the provider panicked; that is a bug in it")),
        Err(_) => {
            task.abort();
            Err(AuthError::transient(format!("the provider did not answer within {} s", limit.as_secs())).with_answer_lost())
        }
    }
}

/// Why there is no token, and how it is to be remembered.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: AuthError,
    /// How many failed in a row, where that is known better than by the slot.
    pub(super) count: Option<u32>,
    pub(super) remember: bool,
}

impl Failed {
    /// What was begun before a login or a logout is not published after it, and is no failure to remember.
    pub(crate) fn overtaken() -> Self {
        let error = AuthError::login_required("somebody logged in or out meanwhile; ask again");
        Self { error, count: None, remember: false }
    }
}

impl From<AuthError> for Failed {
    fn from(error: AuthError) -> Self {
        Self { error, count: None, remember: true }
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        AuthError::from(error).into()
    }
}

/// A token's times, and what they came from.
pub(crate) struct Timed {
    pub(crate) times: Times,
    life: Option<Duration>,
    refresh_in: Option<Duration>,
}

impl Timed {
    pub(crate) fn stored(&self, request: &RequestKey, token: &AccessToken) -> StoredToken {
        let obtained_at = to_system_time(self.times.obtained.wall);
        StoredToken {
            request: request.clone(),
            secret: token.secret().clone(),
            obtained_at,
            expires_at: self.life.and_then(|life| obtained_at.checked_add(life)),
            refresh_in: self.refresh_in.map(|hint| hint.as_secs()),
            scopes: token.scopes().cloned(),
            binding: token.binding().clone(),
        }
    }
}

pub(crate) fn adopted_times(stored: &StoredToken, now: Now) -> Times {
    let hint = stored.refresh_in.map(Duration::from_secs);
    policy::adopted_times(now, to_nanos(stored.obtained_at), stored.expires_at.map(to_nanos), hint, policy::jitter())
}

