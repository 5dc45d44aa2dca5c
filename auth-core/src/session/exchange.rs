//! One exchange: look whether somebody else did it, take the lease, ask the provider, persist, publish.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    ask::{Failed, Timed, adopted_times},
    engine::Engine,
    events::Event,
    lease::{HeldLease, Tried},
    persist::{Change, Kept, Loaded},
    policy::Times,
    slot::{Outcome, Slot},
    token::{Published, Token},
};
use crate::{
    AccessToken, AuthError, Challenge, ErrorKind, Keep, Login,
    clock::{Now, to_nanos, to_system_time},
    store::{Attempt, Outcome as Ended, Record, StoredToken, Version},
};

/// Why an exchange is made.
#[derive(Clone, Debug)]
pub(crate) enum Why {
    /// There is no token, or it is due.
    Due,
    /// Somebody wants a token that is newer than this moment on the wall clock.
    Forced { since: u64 },
    /// A resource server demands something of the next token.
    Challenge(Challenge),
}

pub(crate) struct Exchange {
    pub(super) engine: Arc<Engine>,
    pub(super) slot: Arc<Slot>,
    pub(super) why: Why,
    epoch: u64,
}

impl Exchange {
    pub(crate) fn new(engine: Arc<Engine>, slot: Arc<Slot>, why: Why) -> Self {
        let epoch = engine.epoch();
        Self { engine, slot, why, epoch }
    }

    /// The outcome is remembered by the slot before it is told.
    pub(crate) async fn run(self) -> Outcome {
        match self.attempt().await {
            Ok(token) => Ok(token),
            Err(Failed { error, count, remember }) => {
                let error = match error.provider() {
                    Some(_) => error,
                    None => error.with_provider(&self.engine.key.identity().kind),
                };
                // A demand that could not be met says nothing of the next plain renewal.
                if remember && !matches!(self.why, Why::Challenge(_)) && self.engine.epoch() == self.epoch {
                    self.engine.fail(&self.slot, &error, count.unwrap_or_else(|| self.slot.failures() + 1));
                }
                Err(error)
            }
        }
    }

    async fn attempt(&self) -> Result<Token, Failed> {
        if self.slot.request.subject.is_some() {
            let (acquired, sent) = self.ask_provider(None).await?;
            let timed = self.timed(&acquired.access, sent)?;
            return self.publish(&acquired.access, None, timed.times);
        }
        let found = self.engine.load().await?;
        if let Some(token) = self.served_by(&found)? {
            return Ok(token);
        }
        // Exchanges that may spend a refresh token run one after another.
        if !spends(&found) {
            let _turn = self.engine.turn.read().await;
            if let Some(token) = self.under_lease(false).await? {
                return Ok(token);
            }
        }
        let _turn = self.engine.turn.write().await;
        let token = self.under_lease(true).await?;
        token.ok_or_else(|| AuthError::transient("the exchange did not get its turn").into())
    }

    /// `None` if the exchange has to be made alone after all.
    async fn under_lease(&self, alone: bool) -> Result<Option<Token>, Failed> {
        let limit = self.engine.context.limits().lease;
        let began = Instant::now();
        let mut pause = 5..15;
        loop {
            let holder = match self.engine.try_hold().await? {
                Tried::Held(lease) => {
                    let outcome = self.with_lease(&lease, alone).await;
                    HeldLease::release(lease).await;
                    return outcome;
                }
                Tried::Busy { holder } => holder,
            };
            // Whoever has it may be done with what we want.
            let found = self.engine.load().await?;
            if let Some(token) = self.served_by(&found)? {
                return Ok(Some(token));
            }
            if began.elapsed() >= limit {
                let holder = holder.map(|holder| format!(" by {holder}")).unwrap_or_default();
                let message = format!("the login has been locked for renewal for {} s{holder}", limit.as_secs());
                return Err(AuthError::transient(message).with_origin(self.engine.store.describe().to_string()).into());
            }
            sleep(Duration::from_millis(fastrand::u64(pause))).await;
            pause = 10..50;
        }
    }

    async fn with_lease(&self, lease: &Arc<HeldLease>, alone: bool) -> Result<Option<Token>, Failed> {
        // What this process could not save is newer than what the store has.
        if !self.engine.settle(None).await {
            return Err(AuthError::store("an earlier renewal is not saved yet, so that no other can be begun").into());
        }
        let mut rejected: Option<(Option<String>, AuthError)> = None;
        loop {
            let found = self.engine.load().await?;
            if let Some(token) = self.served_by(&found)? {
                return Ok(Some(token));
            }
            if !alone && spends(&found) {
                return Ok(None);
            }
            let (record, version) = match found {
                Some((record, version)) => (record, Some(version)),
                None => (Record::default(), None),
            };
            let hash = record.refresh_token_hash();
            match rejected.take() {
                // The very refresh token that was refused is still the stored one: now the verdict is believed.
                Some((refused, error)) if refused == hash => {
                    return self.after_rejection(record, version, error, lease).await.map(Some);
                }
                Some((_, first)) => match self.exchange(record, version, lease).await {
                    // Two different ones refused: somebody rotates beside us. Look again a little later.
                    Err(Failed { error, .. }) if error.kind() == ErrorKind::LoginRejected => {
                        return Err(first.with_kind(ErrorKind::Transient).into());
                    }
                    done => return done.map(Some),
                },
                None => match self.exchange(record, version, lease).await {
                    Err(Failed { error, .. }) if error.kind() == ErrorKind::LoginRejected => {
                        rejected = Some((hash, error));
                    }
                    done => return done.map(Some),
                },
            }
        }
    }

    /// The token that the store has, if it serves; the failure that it tells, if it is too early to repeat it.
    fn served_by(&self, found: &Loaded) -> Result<Option<Token>, Failed> {
        let Some((record, _)) = found else { return Ok(None) };
        let now = self.engine.clock.now();
        if let Some(stored) = record.token(&self.slot.key).filter(|_| self.engine.keep_tokens) {
            let times = adopted_times(stored, now);
            if self.serves(stored, times, now) {
                let token = AccessToken::new(stored.secret.clone()).with_binding(stored.binding.clone());
                let token = match &stored.scopes {
                    Some(scopes) => token.with_scopes(scopes.clone()),
                    None => token,
                };
                return self.publish(&token, record.login.as_ref(), times).map(Some);
            }
        }
        self.told_failure(record, now).map_or(Ok(None), Err)
    }

    fn serves(&self, stored: &StoredToken, times: Times, now: Now) -> bool {
        let newer = match self.why {
            // While the token at hand serves, only one that is not due itself is worth having.
            Why::Due => !times.due(now) || self.slot.token(now).is_none(),
            Why::Forced { since } => to_nanos(stored.obtained_at) > since,
            Why::Challenge(_) => false,
        };
        newer && !times.expired(now) && !self.slot.is_retired(&stored.hash())
    }

    /// Another process's failure of the same request, while it is too early to repeat it.
    fn told_failure(&self, record: &Record, now: Now) -> Option<Failed> {
        const LONGEST: Duration = Duration::from_secs(2 * 3600);
        let attempt = record.attempt.as_ref().filter(|a| a.request == self.slot.key)?;
        if !matches!(self.why, Why::Due) || attempt.secret_revision != self.engine.provider.secret_revision() {
            return None;
        }
        let Ended::Failed { failures, .. } = attempt.outcome else { return None };
        let (error, wait) = attempt.outcome.error(to_system_time(now.wall))?;
        // Ours is remembered by the slot; a clock that was set back must not make a pause of years.
        let ours = self.slot.failures() >= failures;
        if ours || wait.is_zero() || (wait > LONGEST && error.is_repeatable()) {
            return None;
        }
        Some(Failed { error: error.with_retry_after(wait), count: Some(failures), remember: true })
    }

    /// The exchange itself, under the lease.
    async fn exchange(
        &self,
        mut record: Record,
        mut version: Option<Version>,
        lease: &Arc<HeldLease>,
    ) -> Result<Token, Failed> {
        let previous = record.attempt.clone();
        let login = record.login.clone();
        let spent = record.refresh_token_hash();
        let attempt = |outcome| Attempt {
            spent: spent.clone(),
            request: self.slot.key.clone(),
            at: self.engine.clock.wall(),
            outcome,
            secret_revision: self.engine.provider.secret_revision(),
        };
        if login.as_ref().is_some_and(may_rotate) {
            record.attempt = Some(attempt(Ended::Pending));
            version = self.announce_spending(&record, version, lease).await?;
        }
        let result = self.ask_provider(login.as_ref()).await;
        let result = result.and_then(|(acquired, sent)| {
            self.check(&acquired, login.as_ref())?;
            Ok((self.timed(&acquired.access, sent)?, acquired))
        });
        match result {
            Ok((timed, acquired)) => {
                record.attempt = Some(attempt(Ended::Renewed));
                let renewed = match (login.as_ref(), acquired.login) {
                    (Some(old), Some(new)) => Some(old.renewed_by(new)),
                    (old, new) => new.or_else(|| old.cloned()),
                };
                self.keep_and_publish(record, version, spent, renewed, timed, &acquired.access, Some(lease)).await
            }
            Err(Failed { error, .. }) => {
                let lost = self.answer_lost(previous.as_ref(), spent.as_ref());
                let error = if error.kind() == ErrorKind::LoginRejected && lost { error.with_answer_lost() } else { error };
                let told = matches!(error.kind(), ErrorKind::LoginRequired | ErrorKind::NotConfigured);
                let count = self.failures(previous.as_ref()).saturating_add(1);
                if error.kind() != ErrorKind::LoginRejected && !told {
                    let demanded = matches!(self.why, Why::Challenge(_)) && !error.is_answer_lost();
                    // A demand that could not be met says nothing to those who ask for a plain renewal.
                    record.attempt = if demanded { previous } else { Some(attempt(self.ended(&error, count))) };
                    self.note(&record, version.as_ref(), lease).await;
                }
                Err(Failed { error, count: Some(count), remember: true })
            }
        }
    }

    /// Saves the result and publishes it: in this order.
    #[expect(clippy::too_many_arguments, reason = "the parts of one result")]
    async fn keep_and_publish(
        &self,
        mut record: Record,
        expected: Option<Version>,
        spent: Option<String>,
        login: Option<Login>,
        timed: Timed,
        access: &AccessToken,
        lease: Option<&Arc<HeldLease>>,
    ) -> Result<Token, Failed> {
        let engine = &self.engine;
        record.renewed_at = Some(to_system_time(timed.times.obtained.wall));
        record.login = login;
        let now = to_system_time(engine.clock.now().wall);
        record.retain_tokens(|token| token.expires_at.is_none_or(|at| at > now));
        if engine.keep_tokens {
            record.put_token(timed.stored(&self.slot.key, access));
        }
        let login = record.login.clone();
        let times = timed.times;
        match engine.keep_change(Change { record, expected, spent }, lease).await {
            Kept::Saved => {}
            Kept::Unsaved(error) if engine.strict => {
                let error = AuthError::from(error);
                let message = format!("the renewed login could not be saved: {}", error.message());
                return Err(error.with_message(message).into());
            }
            Kept::Unsaved(_) => {}
            Kept::Removed => {
                if let Some(login) = login.filter(|login| login.refresh_token.is_some()) {
                    self.discard(&login).await;
                }
                return Err(Failed::overtaken());
            }
            // Ours is not revoked: the server may take that for the end of theirs (RFC 7009 section 2.1).
            Kept::Replaced => {
                let theirs = self.served_by(&engine.load().await?)?;
                return theirs.ok_or_else(Failed::overtaken);
            }
        }
        self.publish(access, login.as_ref(), times)
    }

    pub(crate) fn publish(&self, token: &AccessToken, login: Option<&Login>, times: Times) -> Result<Token, Failed> {
        let engine = &self.engine;
        let presentation = engine.provider.present(token, login)?;
        let hash = Engine::token_hash(token);
        let keep = engine.keep != Keep::Nothing;
        let token = self
            .slot
            .publish(keep, || engine.epoch() == self.epoch, |generation| {
                Published::new(presentation, token, hash, times, generation)
            })
            .ok_or_else(Failed::overtaken)?;
        tracing::info!(expires_at = ?token.expires_at(), generation = token.generation(), "token published");
        engine.events.announce(Event::Renewed { expires_at: token.expires_at() });
        Ok(token)
    }

    /// Everything was tried: an unattended provider is asked without the login, then somebody has to log in.
    async fn after_rejection(
        &self,
        mut record: Record,
        version: Option<Version>,
        refused: AuthError,
        lease: &Arc<HeldLease>,
    ) -> Result<Token, Failed> {
        let spent = record.refresh_token_hash();
        let failed = match self.ask_provider(None).await {
            Ok((acquired, sent)) => {
                let timed = self.timed(&acquired.access, sent)?;
                let access = &acquired.access;
                return self.keep_and_publish(record, version, spent, acquired.login, timed, access, Some(lease)).await;
            }
            Err(failed) => failed,
        };
        if failed.error.kind() != ErrorKind::LoginRequired {
            return Err(failed);
        }
        let message = if refused.is_answer_lost() {
            "the answer to an earlier renewal was lost after the server may have rotated the refresh token, and it refuses \
             the old one now; log in again"
        } else {
            "the login is no longer valid: the server refused its refresh token; log in again"
        };
        let error = refused.with_message(message).with_kind(ErrorKind::LoginRequired);
        // Only the very version that failed loses its refresh token; the account stays, as a hint.
        if let Some(login) = &mut record.login {
            login.refresh_token = None;
        }
        if let Some(attempt) = &mut record.attempt {
            attempt.outcome = self.ended(&error, 1);
        }
        self.note(&record, version.as_ref(), lease).await;
        Err(Failed { error, count: Some(1), remember: true })
    }

    /// Whether the refresh token was sent before and no answer ever came.
    fn answer_lost(&self, previous: Option<&Attempt>, spent: Option<&String>) -> bool {
        let on_record = previous.is_some_and(|attempt| {
            attempt.spent.as_ref() == spent
                && matches!(attempt.outcome, Ended::Pending | Ended::Failed { answer_lost: true, .. })
        });
        on_record || self.slot.state().failure.as_ref().is_some_and(|failure| failure.error.is_answer_lost())
    }

}

fn spends(found: &Loaded) -> bool {
    found.as_ref().and_then(|(record, _)| record.login.as_ref()).is_some_and(may_rotate)
}

fn may_rotate(login: &Login) -> bool {
    login.refresh_token.is_some() && !login.reusable
}
