//! One exchange: look whether somebody else did it, take the lease, ask the provider, persist, publish.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    ask::{Announced, Failed, Timed, adopted_times, retired, same_account},
    engine::Engine,
    events::Event,
    lease::{HeldLease, Tried},
    persist::{Change, Kept, Loaded},
    policy::Times,
    slot::{Outcome, Slot, Unpublished},
    token::{Published, Token},
};
use crate::{
    AccessToken, Acquired, AuthError, Challenge, ErrorKind, Keep, Login,
    clock::{Now, to_nanos, to_system_time},
    store::{Attempt, Outcome as Ended, Record, StoredToken, Version},
    sync::sleep,
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
            Err(Failed { error, count, wait, remember }) => {
                let error = match error.provider() {
                    Some(_) => error,
                    // The store's errors name their place.
                    None if error.kind() == ErrorKind::Store => error,
                    None => error.with_provider(&self.engine.key.identity().kind),
                };
                if let Why::Challenge(challenge) = &self.why {
                    self.slot.unmet(challenge, &error);
                }
                if remember && !self.only_a_demand(&error) && self.engine.epoch() == self.epoch {
                    let count = count.unwrap_or_else(|| self.slot.failures().saturating_add(1));
                    self.engine.fail(&self.slot, &error, count, wait);
                }
                Err(error)
            }
        }
    }

    /// A demand that could not be met says nothing of the next plain renewal, unless nothing may be tried again.
    fn only_a_demand(&self, error: &AuthError) -> bool {
        matches!(self.why, Why::Challenge(_)) && error.is_repeatable()
    }

    async fn attempt(&self) -> Result<Token, Failed> {
        if self.slot.request().subject.is_some() {
            let (acquired, sent) = self.ask_provider(None, self.enter().await?).await?;
            let timed = self.usable(&acquired.access, sent)?;
            return self.publish(&acquired.access, acquired.login.as_ref(), timed.times);
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
                    self.engine.release(lease).await;
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
                let message =
                    format!("the login has been locked for renewal for {} s{holder}", limit.as_secs());
                return Err(AuthError::transient(message)
                    .with_origin(self.engine.store.describe().to_string())
                    .into());
            }
            sleep(Duration::from_millis(fastrand::u64(pause))).await;
            pause = 10..50;
        }
    }

    async fn with_lease(&self, lease: &Arc<HeldLease>, alone: bool) -> Result<Option<Token>, Failed> {
        // What this process could not save is newer than what the store has.
        if !self.engine.settle(None).await {
            return Err(AuthError::store(
                "an earlier renewal is not saved yet, so that no other can be begun",
            )
            .into());
        }
        const ROUNDS: usize = 5;
        let mut rejected: Option<(Option<String>, AuthError)> = None;
        for _ in 0..ROUNDS {
            if self.engine.epoch() != self.epoch {
                return Err(Failed::overtaken()); // nothing is spent for what would not be published
            }
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
                    // A login made just now: that is another matter.
                    Ok(None) => {}
                    done => return done,
                },
                None => match self.exchange(record, version, lease).await {
                    Err(Failed { error, .. }) if error.kind() == ErrorKind::LoginRejected => {
                        rejected = Some((hash, error));
                    }
                    Ok(None) => {}
                    done => return done,
                },
            }
        }
        Err(AuthError::transient(
            "the record changes all the time: others log in or out, or renew without a lock",
        )
        .into())
    }

    /// The token that the store has, if it serves; the failure that it tells, if it is too early to repeat it.
    pub(super) fn served_by(&self, found: &Loaded) -> Result<Option<Token>, Failed> {
        let Some((record, _)) = found else { return Ok(None) };
        let now = self.engine.clock.now();
        if let Some(stored) = record.token(self.slot.key()).filter(|_| self.engine.keep_tokens) {
            let times = adopted_times(stored, now);
            if self.serves(stored, times, now) {
                let token = AccessToken::new(stored.secret.clone()).with_binding(stored.binding.clone());
                let token = match &stored.scopes {
                    Some(scopes) => token.with_scopes(scopes.clone()),
                    None => token,
                };
                match self.publish(&token, record.login.as_ref(), times) {
                    Ok(token) => return Ok(Some(token)),
                    Err(overtaken) if !overtaken.remember => return Err(overtaken),
                    Err(Failed { error, .. }) => {
                        tracing::warn!(%error, "the stored token cannot be sent: renewing it");
                    }
                }
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
        let digest = stored.digest();
        // The one at hand is due or expired by its own times, which know the monotonic clock.
        let at_hand = self.slot.peek().is_some_and(|token| token.0.digest == digest);
        newer && !times.expired(now) && !at_hand && !self.slot.is_retired(&digest, now)
    }

    /// Another process's failure of the same request, while it is too early to repeat it.
    fn told_failure(&self, record: &Record, now: Now) -> Option<Failed> {
        const LONGEST: Duration = Duration::from_secs(2 * 3600);
        let attempt = record.attempt.as_ref().filter(|a| a.request == *self.slot.key())?;
        if attempt.secret_revision != self.engine.secret_revision() {
            return None;
        }
        let Ended::Failed { failures, .. } = attempt.outcome else { return None };
        let (error, wait) = attempt.outcome.error(to_system_time(now.wall))?;
        // Ours is remembered by the slot; a clock that was set back must not make a pause of years.
        let ours = self.slot.failures() >= failures;
        if ours || wait.is_zero() {
            return None;
        }
        if !error.is_repeatable() {
            return Some(Failed { error, count: Some(failures), wait: None, remember: true });
        }
        if !matches!(self.why, Why::Due) || wait > LONGEST {
            return None;
        }
        let ago = to_system_time(now.wall).duration_since(attempt.at).unwrap_or_default().as_secs();
        let message = format!("{} (remembered from {ago} s ago)", error.message());
        Some(Failed {
            error: error.with_message(message).with_retry_after(wait),
            count: Some(failures),
            wait: Some(wait),
            remember: true,
        })
    }

    /// The exchange itself, under the lease. `None` if the record has changed since it was read.
    async fn exchange(
        &self,
        mut record: Record,
        mut version: Option<Version>,
        lease: &Arc<HeldLease>,
    ) -> Result<Option<Token>, Failed> {
        let pass = self.enter().await?;
        let previous = record.attempt.clone();
        let login = record.login.clone();
        let spent = record.refresh_token_hash();
        let lost = self.answer_lost(previous.as_ref(), spent.as_ref());
        let count = self.failures(previous.as_ref()).saturating_add(1);
        let announced = login.as_ref().is_some_and(may_rotate);
        if announced {
            record.attempt = Some(self.noted(&spent, Ended::Pending));
            match self.announce_spending(&record, version, lease).await? {
                Announced::Noted(noted) => version = noted,
                Announced::Overtaken => return Ok(None),
            }
        }
        let asked = self.ask_provider(login.as_ref(), pass).await;
        let answered = asked.and_then(|(acquired, sent)| Ok((same_account(acquired, login.as_ref())?, sent)));
        let (acquired, sent) = match answered {
            Ok(answer) => answer,
            Err(Failed { error, .. }) => {
                let error = why_logged_out(previous.as_ref(), spent.as_ref(), &error).unwrap_or(error);
                let told = matches!(error.kind(), ErrorKind::LoginRequired | ErrorKind::NotConfigured);
                // Until there is a verdict, whatever else fails meanwhile.
                let error = if lost && !told { error.with_answer_lost() } else { error };
                if told || (self.only_a_demand(&error) && !error.is_answer_lost()) {
                    // It says nothing to those who ask for a plain renewal.
                    record.attempt = previous;
                    if announced {
                        self.note(&record, version.as_ref(), lease).await;
                    }
                } else if error.kind() != ErrorKind::LoginRejected {
                    record.attempt = Some(self.noted(&spent, self.ended(&error, count)));
                    self.note(&record, version.as_ref(), lease).await;
                }
                return Err(Failed { error, count: Some(count), wait: None, remember: true });
            }
        };
        let renewed = match (login, acquired.login) {
            (Some(old), Some(new)) => Some(old.renewed_by(new)),
            (old, new) => new.or(old),
        };
        match self.usable(&acquired.access, sent) {
            Ok(timed) => {
                record.attempt = Some(self.noted(&spent, Ended::Renewed));
                let access = &acquired.access;
                self.keep_and_publish(record, version, spent, renewed, timed, access, Some(lease))
                    .await
                    .map(Some)
            }
            Err(error) => {
                // The refresh token that came with it is the one that is valid now.
                record.attempt = Some(self.noted(&spent, self.ended(&error, count)));
                record.login = renewed;
                let login = record.login.clone();
                let change = Change { record, expected: version, spent, replaces: false, epoch: self.epoch };
                if let (Kept::Removed, Some(login)) =
                    (self.engine.keep_change(change, Some(lease)).await, login)
                {
                    self.engine.discard(login, vec![acquired.access.secret().clone()]).await;
                }
                Err(Failed { error, count: Some(count), wait: None, remember: true })
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
            record.put_token(timed.stored(self.slot.key(), access));
        }
        let login = record.login.clone();
        let times = timed.times;
        // Of a token that is in memory only, a record would say no more than the slot does.
        let worth_saving = engine.keep == Keep::Store || login.is_some() || expected.is_some();
        let change = Change { record, expected, spent, replaces: false, epoch: self.epoch };
        let kept = if worth_saving { engine.keep_change(change, lease).await } else { Kept::Saved };
        match kept {
            Kept::Saved => {}
            Kept::Unsaved(error) if engine.strict.load(Ordering::Relaxed) => {
                let error = AuthError::from(error);
                let message = format!("the renewed login could not be saved: {}", error.message());
                return Err(error.with_message(message).into());
            }
            Kept::Unsaved(_) => {}
            Kept::Removed => {
                if let Some(login) = login {
                    engine.discard(login, vec![access.secret().clone()]).await;
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

    pub(crate) fn publish(
        &self,
        token: &AccessToken,
        login: Option<&Login>,
        times: Times,
    ) -> Result<Token, Failed> {
        let engine = &self.engine;
        let presentation = engine.present(token, login)?;
        let digest = Engine::token_digest(token);
        let unchanged = self.slot.peek().is_some_and(|token| token.0.digest == digest);
        let keep = engine.keep != Keep::Nothing;
        let published = Published::new(presentation, token, digest, times);
        let current = || engine.epoch() == self.epoch;
        let token = match self.slot.publish(keep, engine.clock.now(), current, published) {
            Ok(token) => token,
            Err(Unpublished::Overtaken) => return Err(Failed::overtaken()),
            Err(Unpublished::Retired) => return Err(retired().into()),
        };
        let (expires_at, generation) = (token.expires_at(), token.generation());
        if unchanged {
            // A file that is read every few seconds is no news.
            tracing::debug!(?expires_at, generation, "the same token published again");
        } else {
            tracing::info!(?expires_at, generation, "token published");
        }
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
        let asked = match self.enter().await {
            Ok(pass) => self.ask_provider(None, pass).await,
            Err(failed) => Err(failed),
        };
        let usable = asked.and_then(|(acquired, sent)| Ok((self.usable(&acquired.access, sent)?, acquired)));
        let failed = match usable {
            Ok((timed, Acquired { access, login })) => {
                record.attempt = Some(self.noted(&spent, Ended::Renewed));
                return self
                    .keep_and_publish(record, version, spent, login, timed, &access, Some(lease))
                    .await;
            }
            Err(failed) => failed,
        };
        if failed.error.kind() != ErrorKind::LoginRequired {
            let count = self.failures(record.attempt.as_ref()).saturating_add(1);
            record.attempt = Some(self.noted(&spent, self.ended(&failed.error, count)));
            self.note(&record, version.as_ref(), lease).await;
            return Err(Failed { count: Some(count), ..failed });
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
        Err(Failed { error, count: Some(1), wait: None, remember: true })
    }

    fn noted(&self, spent: &Option<String>, outcome: Ended) -> Attempt {
        Attempt {
            spent: spent.clone(),
            request: self.slot.key().clone(),
            at: self.engine.clock.wall(),
            outcome,
            secret_revision: self.engine.secret_revision(),
        }
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

/// Why the login has no refresh token any more: the verdict that took it is on record.
fn why_logged_out(
    previous: Option<&Attempt>,
    spent: Option<&String>,
    error: &AuthError,
) -> Option<AuthError> {
    let previous = previous.filter(|attempt| attempt.spent.is_some() && spent.is_none())?;
    let (told, _) = previous.outcome.error(previous.at)?;
    (told.kind() == ErrorKind::LoginRequired && error.kind() == ErrorKind::LoginRequired).then_some(told)
}

fn spends(found: &Loaded) -> bool {
    found.as_ref().and_then(|(record, _)| record.login.as_ref()).is_some_and(may_rotate)
}

fn may_rotate(login: &Login) -> bool {
    login.refresh_token.is_some() && !login.reusable
}
