//! The parts of an exchange: asking the provider, noting attempts, timing and checking what came.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, StatusCode, Uri};
use secrecy::{ExposeSecret, SecretString};

use super::{
    engine::Engine,
    exchange::{Exchange, Why},
    lease::HeldLease,
    policy::{self, Times},
    token::Token,
};
use crate::{
    AccessToken, Acquired, AuthError, ErrorKind, Lifetime, Login, Presentation, RequestKey, Scopes,
    TokenRequest,
    clock::{Now, to_nanos, to_system_time},
    context::Pass,
    jwt_expiry,
    store::{Attempt, Outcome as Ended, Record, Saved, StoreError, StoredToken, Version},
    sync::timeout,
};

impl Exchange {
    /// Before a refresh token is spent: an attempt is on record, and there is room for the answer.
    pub(super) async fn announce_spending(
        &self,
        record: &Record,
        version: Option<Version>,
        lease: &Arc<HeldLease>,
    ) -> Result<Announced, Failed> {
        let engine = &self.engine;
        let stopped = |error: AuthError| {
            let message =
                format!("the renewal was not begun, for its outcome could not be saved: {}", error.message());
            Failed::from(error.with_message(message))
        };
        let mut version = version;
        if engine.store.describe().keeps.attempts {
            let save = engine.store.save(&engine.key, Some(record), version.as_ref(), lease.lease());
            match engine.in_time(save).await.map_err(|e| stopped(e.into()))? {
                Saved::Written(written) => version = Some(written),
                // Under the lease only a login, a logout or a stranger writes.
                Saved::Conflict(_) => return Ok(Announced::Overtaken),
            }
        }
        if let Some(held) = lease.lease() {
            let room = record.room_for_answer();
            engine.in_time(held.reserve(room)).await.map_err(|e| stopped(e.into()))?;
        }
        Ok(Announced::Noted(version))
    }

    /// Waits for the right to ask: before anything is written, for nobody may be asked while the endpoint pauses.
    pub(super) async fn enter(&self) -> Result<Pass<'_>, Failed> {
        let engine = &self.engine;
        engine.endpoint.enter(&engine.clock).await.map_err(|(error, wait)| Failed {
            count: Some(self.slot.failures()),
            wait: Some(wait),
            error,
            remember: true,
        })
    }

    /// Asks the provider, with the hard limit, and with a panic as an error. Also when the request was sent.
    pub(super) async fn ask_provider(
        &self,
        login: Option<&Login>,
        pass: Pass<'_>,
    ) -> Result<(Acquired, Now), Failed> {
        let engine = &self.engine;
        let mut request: TokenRequest = self.slot.request().clone();
        if let Why::Challenge(challenge) = &self.why {
            request.challenge = Some(challenge.clone());
        }
        #[cfg(feature = "metrics")]
        metrics::counter!("keyfob_exchanges_total").increment(1);
        let sent = engine.clock.now();
        let provider = Arc::clone(&engine.provider);
        let login = login.cloned();
        let result = guarded(engine, async move { provider.acquire(&request, login.as_ref()).await }).await;
        engine.endpoint.learn(&pass, result.as_ref().map(|_| ()), &engine.clock);
        Ok((result?, sent))
    }

    /// The times of a token that just came, unless it is of no use: expired, or the very one that was just refused.
    pub(super) fn usable(&self, token: &AccessToken, sent: Now) -> Result<Timed, AuthError> {
        if self.slot.is_retired(&Engine::token_digest(token), self.engine.clock.now()) {
            return Err(retired());
        }
        self.engine.timed(token, sent)
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

impl Engine {
    /// [`CredentialProvider::secret_revision`](crate::CredentialProvider::secret_revision), which callers' own tasks ask for.
    pub(super) fn secret_revision(&self) -> Option<u64> {
        catch_unwind(AssertUnwindSafe(|| self.provider.secret_revision())).unwrap_or_default()
    }

    /// [`CredentialProvider::missing_scopes`](crate::CredentialProvider::missing_scopes), which callers' own tasks ask for.
    pub(super) fn missing_scopes(&self, login: &Login) -> Scopes {
        catch_unwind(AssertUnwindSafe(|| self.provider.missing_scopes(login))).unwrap_or_default()
    }

    /// [`CredentialProvider::refusal`](crate::CredentialProvider::refusal), which callers' own tasks ask for.
    pub(super) fn refusal(&self, from: &Uri, status: StatusCode, headers: &HeaderMap) -> Option<AuthError> {
        let judged = catch_unwind(AssertUnwindSafe(|| self.provider.refusal(from, status, headers)));
        judged.unwrap_or_default().map(|error| self.named(error))
    }

    pub(super) fn present(
        &self,
        token: &AccessToken,
        login: Option<&Login>,
    ) -> Result<Presentation, AuthError> {
        catch_unwind(AssertUnwindSafe(|| self.provider.present(token, login)))
            .unwrap_or_else(|_| Err(AuthError::refused("the provider panicked; that is a bug in it")))
    }

    /// Whether the provider would present a token again that it has presented before.
    pub(super) fn still_presents(&self, token: &Token) -> bool {
        let again = AccessToken::new(token.secret()).with_binding(token.binding().clone());
        // Anything else is no word on this token.
        !self.present(&again, None).is_err_and(|error| error.kind() == ErrorKind::Refused)
    }

    /// How long the token serves.
    pub(super) fn timed(&self, token: &AccessToken, sent: Now) -> Result<Timed, AuthError> {
        let now = self.clock.now();
        let until = |at: SystemTime| Duration::from_nanos(to_nanos(at).saturating_sub(sent.wall));
        let in_jwt = || jwt_expiry(token.secret().expose_secret()).map(until);
        let life = match token.lifetime() {
            Lifetime::In(life) => Some(life),
            Lifetime::At(at) => Some(until(at)),
            Lifetime::Unknown => in_jwt().or(Some(self.context.limits().unknown_lifetime)),
            Lifetime::Unlimited => in_jwt(),
        };
        let served = token.reread_after().map(|after| life.map_or(after, |life| life.min(after))).or(life);
        let mut times = policy::times(sent, served, token.refresh_in(), policy::jitter());
        if served != life {
            // The monotonic clock ends its service; the wall clock still says when it expires.
            times.expires_at.wall = life.map_or(u64::MAX, |life| sent.plus(life).wall);
        }
        if times.expired(now) {
            return Err(AuthError::refused("the access token had expired when it came; is the clock right?"));
        }
        Ok(Timed { times, life, refresh_in: token.refresh_in() })
    }

    /// What a renewal brought after a logout: revoked, as the logout would have.
    pub(super) async fn discard(&self, login: Login, access: Vec<SecretString>) {
        if login.refresh_token.is_none() && access.is_empty() {
            return;
        }
        let provider = Arc::clone(&self.provider);
        if let Err(error) = guarded(self, async move { provider.revoke(&login, &access).await }).await {
            tracing::warn!(%error, "a login renewed during its logout could not be revoked");
        }
    }
}

pub(super) fn retired() -> AuthError {
    AuthError::refused(
        "this is the very token again that was just rejected; if it stands in a file or a setting, replace it there",
    )
}

/// A renewal may not turn into somebody else's login.
pub(super) fn same_account(acquired: Acquired, old: Option<&Login>) -> Result<Acquired, AuthError> {
    let accounts =
        old.and_then(|o| o.account.as_ref()).zip(acquired.login.as_ref().and_then(|l| l.account.as_ref()));
    match accounts {
        Some((old, new)) if !old.is(new) => Err(AuthError::refused(format!(
            "the renewal answered for another account ({}) than the one that is logged in ({}); log out and in again",
            new.subject, old.subject
        ))),
        _ => Ok(acquired),
    }
}

/// Runs a provider's call as a task of its own: with the hard limit, and so that a panic stays there.
pub(crate) async fn guarded<T: Send + 'static>(
    engine: &Engine,
    call: impl Future<Output = Result<T, AuthError>> + Send + 'static,
) -> Result<T, AuthError> {
    let limit = engine.context.limits().exchange;
    let (task, result) = engine.context.task(call)?;
    match timeout(limit, result).await {
        Ok(Ok(result)) => result,
        // Perhaps after the server had acted.
        Ok(Err(_)) => {
            Err(AuthError::transient("the provider panicked; that is a bug in it").with_answer_lost())
        }
        Err(_) => {
            task.abort();
            Err(AuthError::transient(format!("the provider did not answer within {} s", limit.as_secs()))
                .with_answer_lost())
        }
    }
}

/// Why there is no token, and how it is to be remembered.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: AuthError,
    /// How many failed in a row, where that is known better than by the slot.
    pub(super) count: Option<u32>,
    /// Until it may be tried again, where that is known better than by the count.
    pub(super) wait: Option<Duration>,
    pub(super) remember: bool,
}

/// Whether an attempt is on record.
pub(super) enum Announced {
    /// It is, where the store keeps attempts, and this is the record's version.
    Noted(Option<Version>),
    /// The record has changed meanwhile.
    Overtaken,
}

impl Failed {
    /// What was begun before a login or a logout is not published after it, and is no failure to remember.
    pub(crate) fn overtaken() -> Self {
        let error = AuthError::login_required("somebody logged in or out meanwhile; ask again");
        Self { error, count: None, wait: None, remember: false }
    }
}

impl From<AuthError> for Failed {
    fn from(error: AuthError) -> Self {
        Self { error, count: None, wait: None, remember: true }
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
    policy::adopted_times(
        now,
        to_nanos(stored.obtained_at),
        stored.expires_at.map(to_nanos),
        hint,
        policy::jitter(),
    )
}
