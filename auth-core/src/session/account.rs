//! Login, adoption and logout: what changes whose tokens these are.

use std::sync::{Arc, atomic::Ordering};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::{
    ask::{Timed, guarded},
    engine::Engine,
    events::Event,
    exchange::{Exchange, Why},
    lease::HeldLease,
    persist::{Change, Kept},
    slot::{Outcome, Slot},
};
use crate::{
    Account, Acquired, AuthError, Interaction, Login, LoginRequest,
    clock::{Now, saturating_nanos, to_system_time},
    provider::Keep,
    store::{Attempt, MAX_TOKENS, Outcome as Ended, Record, Saved, StoreError, StoreErrorKind, TryLease},
    sync::{JoinHandle, timeout},
};

/// What a logout did, and what it could not do.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LogoutReport {
    /// Whether there was a login to end.
    pub was_logged_in: bool,
    /// Whether the server was told, and did all that it was asked. Where it did a part, or there was nothing that it could be
    /// asked, the problems say so.
    pub revoked: bool,
    /// What went wrong. The login is forgotten here all the same.
    pub problems: Vec<AuthError>,
}

impl Engine {
    /// Signs a person in. Runs on the executor; dropping the call ends the interaction and touches nothing stored.
    pub(crate) async fn sign_in(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        request: LoginRequest,
        ui: Arc<dyn Interaction>,
    ) -> Outcome {
        let (done, outcome) = oneshot::channel();
        let engine = Arc::clone(self);
        let slot = Arc::clone(slot);
        let sign_in = async move {
            let mut done = done;
            let result = tokio::select! {
                result = engine.interact(request, ui) => result,
                () = done.closed() => return, // the caller is gone
            };
            let outcome = match result {
                // From here on nobody's departure loses it.
                Ok(acquired) => match engine.timed_login(&acquired) {
                    Ok(timed) => engine.install(&slot, acquired, Some(timed)).await,
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            let _ = done.send(outcome);
        };
        self.context.spawn(sign_in.instrument(self.span("login")))?;
        outcome
            .await
            .unwrap_or_else(|_| Err(AuthError::transient("the login was given up: its runtime was dropped")))
    }

    async fn interact(&self, request: LoginRequest, ui: Arc<dyn Interaction>) -> Result<Acquired, AuthError> {
        let _one = self
            .login
            .try_lock()
            .map_err(|_| AuthError::interaction_required("another login of this session is under way"))?;
        let previous = match self.load().await {
            Ok(found) => found.and_then(|(record, _)| record.login),
            // A record that cannot be read is not in the way of a new one.
            Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                tracing::warn!(%error, "the previous login could not be read");
                None
            }
            // A person's sign-in that cannot be kept is better not begun.
            Err(error) => return Err(not_begun(error)),
        };
        self.prove_writable().await.map_err(not_begun)?;
        let provider = Arc::clone(&self.provider);
        // A task of its own, so that a panic stays there; aborted with this call.
        let (task, result) =
            self.context.task(async move { provider.login(&request, previous.as_ref(), ui).await })?;
        let _task = AbortOnDrop(task);
        match result.await {
            Ok(result) => result.map_err(|error| self.named(error)),
            Err(_) => Err(AuthError::transient("the provider panicked; that is a bug in it")),
        }
    }

    /// Whether the store would take a login: its lease is to be had, with room for a record, and is given back at once. Who
    /// holds it now has proved as much.
    async fn prove_writable(&self) -> Result<(), StoreError> {
        let TryLease::Held(lease) = self.in_time(self.store.try_lease(&self.key)).await? else {
            return Ok(());
        };
        let room = self.in_time(lease.reserve(Record::default().room_for_answer())).await;
        self.release(Arc::new(HeldLease(Some(lease)))).await;
        room
    }

    pub(super) fn named(&self, error: AuthError) -> AuthError {
        if error.provider().is_some() { error } else { error.with_provider(&self.key.identity().kind) }
    }

    /// Makes this the login: saved first, then published. What was begun before it is not published after. Without times
    /// the access token is of no use, and the login is renewed.
    async fn install(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        acquired: Acquired,
        timed: Option<Timed>,
    ) -> Outcome {
        let store = self.store.describe();
        let bound = acquired.login.as_ref().is_some_and(|login| login.binding_key.is_some());
        if bound && self.keep == Keep::Store && !store.keeps.binding_key {
            return Err(AuthError::configuration(format!("the store {store} cannot keep this login's key")));
        }
        let now = self.clock.now();
        let mut record = Record::default();
        record.login = acquired.login.clone();
        record.renewed_at = Some(to_system_time(now.wall));
        record.attempt = Some(Attempt {
            spent: None,
            request: slot.key().clone(),
            at: to_system_time(now.wall),
            outcome: Ended::Renewed,
            secret_revision: self.secret_revision(),
        });
        if let Some(timed) = timed.as_ref().filter(|_| self.keep_tokens) {
            record.put_token(timed.stored(slot.key(), &acquired.access));
        }
        let changing = self.change.lock().await;
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.drop_unsaved().await;
        let kept = self.replace(record).await;
        self.forget(Some(slot));
        if let Kept::Unsaved(error) = kept
            && self.strict.load(Ordering::Relaxed)
        {
            return Err(error.into());
        }
        let account = acquired.login.as_ref().and_then(|l| l.account.as_ref()).map(Account::display_name);
        tracing::info!(account, "logged in");
        let Some(timed) = timed else {
            drop(changing);
            self.events.announce(Event::LoggedIn);
            return self.token(slot).await;
        };
        let exchange = Exchange::new(Arc::clone(self), Arc::clone(slot), Why::Due);
        let token =
            exchange.publish(&acquired.access, acquired.login.as_ref(), timed.times).map_err(|f| f.error)?;
        self.events.announce(Event::LoggedIn);
        Ok(token)
    }

    /// The times of a login's access token, counted from when it was asked for.
    fn timed_login(&self, acquired: &Acquired) -> Result<Timed, AuthError> {
        let now = self.clock.now();
        let age = saturating_nanos(acquired.access.age().unwrap_or_default());
        let sent = Now { wall: now.wall.saturating_sub(age), mono: now.mono.saturating_sub(age) };
        self.timed(&acquired.access, sent)
    }

    /// Forgets every token. An exchange that has read the store before this does not publish what it found.
    fn forget(&self, slot: Option<&Slot>) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.all_slots().iter().for_each(|slot| slot.clear());
        if let Some(slot) = slot {
            slot.clear();
        }
    }

    /// Writes the record in the place of whatever is there.
    async fn replace(self: &Arc<Self>, record: Record) -> Kept {
        let found = match self.load().await {
            Ok(found) => found,
            // A record that cannot be read is not in the way of a new one.
            Err(error) => {
                tracing::warn!(%error, "the record to be replaced could not be read");
                None
            }
        };
        let expected = found.map(|(_, version)| version);
        self.keep_change(Change { record, expected, spent: None, replaces: true, epoch: self.epoch() }, None)
            .await
    }

    /// Ends the login: forgotten here first, then at the server.
    pub(crate) async fn sign_out(self: &Arc<Self>) -> Result<LogoutReport, AuthError> {
        let (done, report) = oneshot::channel();
        let engine = Arc::clone(self);
        let sign_out = async move {
            let _ = done.send(engine.forget_and_revoke().await);
        };
        self.context.spawn(sign_out.instrument(self.span("logout")))?;
        report
            .await
            .unwrap_or_else(|_| Err(AuthError::transient("the logout was given up: its runtime was dropped")))
    }

    async fn forget_and_revoke(self: &Arc<Self>) -> Result<LogoutReport, AuthError> {
        let changing = self.change.lock().await;
        let at_hand = self.tokens_at_hand();
        self.forget(None);
        let unsaved = self.drop_unsaved().await;
        let stored = self.remove().await;
        self.forget(None); // also what was read from the store meanwhile
        drop(changing);
        let mut report = LogoutReport::default();
        let stored = match stored {
            Ok(record) => record,
            Err(error) if unsaved.is_none() => return Err(error),
            Err(error) => {
                report.problems.push(error);
                None
            }
        };
        report.was_logged_in = stored.is_some() || unsaved.is_some();
        let kept = stored.as_ref().map_or_else(Vec::new, |record| record.good_tokens(self.clock.wall()));
        let login: Option<Login> = unsaved.or_else(|| stored.and_then(|record| record.login));
        if let Some(login) = login {
            let provider = Arc::clone(&self.provider);
            let mut tokens = together(at_hand, kept);
            tokens.truncate(MAX_TOKENS);
            match guarded(self, async move { provider.revoke(&login, &tokens).await }).await {
                Ok(()) => report.revoked = true,
                Err(error) => report.problems.push(self.named(error)),
            }
        }
        tracing::info!(revoked = report.revoked, "logged out");
        self.events.announce(Event::LoggedOut);
        Ok(report)
    }

    /// The access tokens in memory that are valid and came of the login, that of the session's own scopes first.
    fn tokens_at_hand(&self) -> Vec<SecretString> {
        let now = self.clock.now();
        let slots = self.all_slots();
        let own = slots.iter().filter(|slot| slot.request().subject.is_none());
        own.filter_map(|slot| slot.token(now)).map(|token| token.secret().into()).collect()
    }

    /// Removes the record, whatever is written meanwhile: a logout wins over a renewal. Gives what was there last.
    async fn remove(&self) -> Result<Option<Record>, AuthError> {
        const ROUNDS: usize = 10;
        let mut found = self.load().await?;
        for _ in 0..ROUNDS {
            let Some((record, version)) = found else { return Ok(None) };
            match self.in_time(self.store.save(&self.key, None, Some(&version), None)).await? {
                Saved::Written(_) => return Ok(Some(record)),
                Saved::Conflict(theirs) => found = theirs.map(|(record, version)| (*record, version)),
            }
        }
        Err(AuthError::store("the record could not be removed: it is being written all the time"))
    }

    /// [`Engine::install`] on the executor, for a login that was made elsewhere.
    pub(crate) async fn adopt(self: &Arc<Self>, slot: &Arc<Slot>, acquired: Acquired) -> Outcome {
        let engine = Arc::clone(self);
        let slot = Arc::clone(slot);
        let adopt = async move {
            let timed = match engine.timed_login(&acquired) {
                Ok(timed) => Some(timed),
                // What was made elsewhere may have waited for long; its refresh token is as good as ever.
                Err(_) if acquired.login.as_ref().is_some_and(|login| login.refresh_token.is_some()) => None,
                Err(error) => return Err(error),
            };
            engine.install(&slot, acquired, timed).await
        };
        self.context.run(adopt.instrument(self.span("adopt"))).await?
    }

    /// The longest that a store may take to tell what it has, for a caller on any runtime.
    pub(crate) async fn read(self: &Arc<Self>) -> Result<Option<Record>, AuthError> {
        let engine = Arc::clone(self);
        let limit = self.context.limits().store;
        let read = async move { timeout(limit, engine.load()).await };
        match self.context.run(read).await? {
            Ok(found) => Ok(found?.map(|(record, _)| record)),
            Err(_) => Err(AuthError::store("the store did not answer in time")),
        }
    }
}

/// Each once.
fn together(mut some: Vec<SecretString>, more: Vec<SecretString>) -> Vec<SecretString> {
    for token in more {
        if some.iter().all(|other| other.expose_secret() != token.expose_secret()) {
            some.push(token);
        }
    }
    some
}

/// Why nobody is sent to sign in.
fn not_begun(error: StoreError) -> AuthError {
    let error = AuthError::from(error);
    let message = format!("the login was not begun, for it could not be kept: {}", error.message());
    error.with_message(message)
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
