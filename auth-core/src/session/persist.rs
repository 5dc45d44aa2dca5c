//! Persist, then publish: saving what an exchange brought, whatever happened to the record meanwhile.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{engine::Engine, events::Event, lease::HeldLease, policy};
use crate::{
    AuthError, Login,
    store::{Record, Saved, StoreError, StoreErrorKind, StoredToken, Version},
    sync::sleep,
};

pub(crate) type Loaded = Option<(Record, Version)>;

/// What could not be saved. It is kept, with the lease, until it is.
#[derive(Debug)]
pub(crate) struct Unsaved {
    change: Change,
    lease: Option<Arc<HeldLease>>,
    /// Tells it from what came later.
    serial: u64,
}

impl Unsaved {
    pub(crate) fn record(&self) -> &Record {
        &self.change.record
    }
}

/// What an exchange or a login wants to keep.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) record: Record,
    pub(crate) expected: Option<Version>,
    /// The hash of the refresh token that was spent for it.
    pub(crate) spent: Option<String>,
    /// A new login, which takes the place of whatever is there.
    pub(crate) replaces: bool,
    /// The engine's epoch when it was begun.
    pub(crate) epoch: u64,
}

/// How saving ended.
pub(crate) enum Kept {
    Saved,
    /// It is in memory only.
    Unsaved(StoreError),
    /// Somebody logged in, or renewed beside us, meanwhile: ours must not come back.
    Replaced,
    /// Somebody logged out meanwhile: ours must not come back.
    Removed,
}

impl Engine {
    pub(crate) async fn load(&self) -> Result<Loaded, StoreError> {
        self.in_time(self.store.load(&self.key)).await
    }

    /// Saves the change under the lease; a record that changed meanwhile is merged with.
    pub(crate) async fn keep_change(
        self: &Arc<Self>,
        change: Change,
        lease: Option<&Arc<HeldLease>>,
    ) -> Kept {
        let mut change = change;
        match self.try_save(&mut change, lease).await {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(%error, "what was renewed could not be saved: it is served from memory");
                self.events.announce(Event::Unsaved(AuthError::from(StoreError::new(
                    error.kind(),
                    error.to_string(),
                ))));
                // Without a refresh token nothing is lost that could not be asked for again, except of a person.
                let login = change.record.login.as_ref();
                if login.is_some_and(|login| login.refresh_token.is_some() || change.replaces) {
                    self.keep_trying(change, lease.cloned(), error.kind()).await;
                }
                Kept::Unsaved(error)
            }
        }
    }

    async fn try_save(
        &self,
        change: &mut Change,
        lease: Option<&Arc<HeldLease>>,
    ) -> Result<Kept, StoreError> {
        const ROUNDS: usize = 20;
        let mut held = lease.and_then(|held| held.lease());
        for _ in 0..ROUNDS {
            let save = self.store.save(&self.key, Some(&change.record), change.expected.as_ref(), held);
            let theirs = match self.in_time(save).await {
                Ok(Saved::Written(_)) => return Ok(Kept::Saved),
                Ok(Saved::Conflict(theirs)) => theirs,
                // The token is spent: it is saved without the lease, over nothing that we have not seen.
                Err(error) if error.kind() == StoreErrorKind::LeaseLost && held.is_some() => {
                    held = None;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let overtaken = if theirs.is_some() { Kept::Replaced } else { Kept::Removed };
            if theirs.is_none() && change.epoch != self.epoch() && !change.replaces {
                return Ok(overtaken);
            }
            let Some((record, version)) = merge(change, theirs) else { return Ok(overtaken) };
            change.record = record;
            change.expected = version;
        }
        Err(StoreError::new(StoreErrorKind::Unavailable, "the record is being written all the time"))
    }

    async fn keep_trying(
        self: &Arc<Self>,
        change: Change,
        lease: Option<Arc<HeldLease>>,
        why: StoreErrorKind,
    ) {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let mut unsaved = self.unsaved.lock().await;
        if change.epoch != self.epoch() {
            return; // of a login that is past: it must not take the place of the next one's
        }
        let replaces = change.replaces;
        *unsaved = Some(Box::new(Unsaved { change, lease, serial }));
        drop(unsaved);
        let engine = Arc::clone(self);
        let saver = async move {
            for failures in 1.. {
                let error = AuthError::store(String::new());
                let pause =
                    policy::pause(&error, failures, policy::jitter()).unwrap_or(Duration::from_secs(1));
                sleep(pause.min(Duration::from_secs(10))).await;
                if engine.settle(Some(serial)).await {
                    return;
                }
            }
        };
        // Without threads nobody would be here.
        if why == StoreErrorKind::Denied && replaces {
            // Somebody has to mend it: who drains the context before it exits does not wait for that.
            let _ = self.context.task(saver);
        } else {
            let _ = self.context.spawn(saver);
        }
    }

    /// Tries once more to save what is unsaved (of this serial). `true` if nothing is any more.
    pub(crate) async fn settle(&self, wanted: Option<u64>) -> bool {
        let mut unsaved = self.unsaved.lock().await;
        let found = unsaved.take_if(|u| wanted.is_none_or(|wanted| u.serial == wanted));
        let Some(found) = found else { return true };
        let Unsaved { mut change, lease, serial } = *found;
        match self.try_save(&mut change, lease.as_ref()).await {
            Ok(kept) => {
                drop(unsaved);
                if let Some(lease) = lease {
                    self.release(lease).await;
                }
                let access = change.record.good_tokens(self.clock.wall());
                match (kept, change.record.login) {
                    (Kept::Removed, Some(login)) => self.discard(login, access).await,
                    (Kept::Saved, _) => {
                        tracing::info!("what could not be saved is saved now");
                        self.events.announce(Event::Saved);
                    }
                    _ => tracing::info!("what could not be saved is overtaken by another login"),
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, "what was renewed is still unsaved");
                *unsaved = Some(Box::new(Unsaved { change, lease, serial }));
                false
            }
        }
    }

    /// Forgets what is unsaved: a login or a logout has overtaken it. Gives its login.
    pub(crate) async fn drop_unsaved(&self) -> Option<Login> {
        let unsaved = self.unsaved.lock().await.take()?;
        if let Some(lease) = unsaved.lease {
            self.release(lease).await;
        }
        unsaved.change.record.login
    }
}

/// Our record over the one that is there now; `None` if ours must not come back.
///
/// Access tokens are merged. A spent refresh token is never put back: if the login there is not the one that we spent,
/// somebody logged in or renewed meanwhile, and theirs stays.
fn merge(ours: &Change, theirs: Option<(Box<Record>, Version)>) -> Option<(Record, Option<Version>)> {
    if ours.replaces {
        return Some((ours.record.clone(), theirs.map(|(_, version)| version)));
    }
    let had_login = ours.spent.is_some();
    let Some((theirs, version)) = theirs else {
        // Removed meanwhile: a logout, unless there never was a login.
        return (!had_login).then(|| (ours.record.clone(), None));
    };
    // A save may have happened although it failed: then theirs is ours.
    let known = [&ours.spent, &ours.record.refresh_token_hash()];
    // Who spent the same token beside us, without a lock, and was refused, has not seen that we were answered.
    let refused = theirs.login.as_ref().is_some_and(|login| login.refresh_token.is_none())
        && theirs.attempt.as_ref().is_some_and(|attempt| attempt.spent == ours.spent);
    if !refused && !known.contains(&&theirs.refresh_token_hash()) {
        return None;
    }
    let mut merged = ours.record.clone();
    let newer: Vec<StoredToken> = theirs
        .tokens()
        .iter()
        .filter(|token| merged.token(&token.request).is_none_or(|mine| mine.obtained_at < token.obtained_at))
        .cloned()
        .collect();
    newer.into_iter().for_each(|token| merged.put_token(token));
    Some((merged, Some(version)))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{Binding, RequestKey};

    fn token(scope: &str, second: u64) -> StoredToken {
        StoredToken {
            request: RequestKey { scopes: [scope.to_owned()].into(), ..RequestKey::default() },
            secret: format!("{scope}{second}").into(),
            obtained_at: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            expires_at: None,
            refresh_in: None,
            scopes: None,
            binding: Binding::None,
        }
    }

    fn record(refresh: &str, tokens: &[StoredToken]) -> Record {
        let mut record = Record::with_login(Login::with_refresh_token(refresh));
        tokens.iter().for_each(|token| record.put_token(token.clone()));
        record
    }

    fn change(record: Record, spent: &str) -> Change {
        let spent = Login::with_refresh_token(spent).refresh_token_hash();
        Change { record, expected: Some(Version::new("1")), spent, replaces: false, epoch: 0 }
    }

    #[test]
    fn access_tokens_are_merged_and_the_newer_wins() {
        let ours = change(record("r2", &[token("a", 5), token("b", 1)]), "r1");
        let theirs = record("r1", &[token("a", 1), token("b", 3), token("c", 2)]);
        let (merged, version) = merge(&ours, Some((Box::new(theirs), Version::new("9")))).unwrap();
        assert_eq!(version, Some(Version::new("9")));
        assert_eq!(merged.refresh_token_hash(), Login::with_refresh_token("r2").refresh_token_hash());
        let second = |scope| merged.token(&token(scope, 0).request).map(|t| t.obtained_at);
        assert_eq!(second("a"), Some(token("a", 5).obtained_at));
        assert_eq!(second("b"), Some(token("b", 3).obtained_at));
        assert_eq!(second("c"), Some(token("c", 2).obtained_at));
    }

    #[test]
    fn a_spent_refresh_token_never_comes_back() {
        let ours = change(record("r2", &[]), "r1");
        assert!(
            merge(&ours, Some((Box::new(record("r3", &[])), Version::new("9")))).is_none(),
            "another login"
        );
        assert!(merge(&ours, None).is_none(), "logged out");
    }

    #[test]
    fn a_save_that_failed_and_happened_all_the_same_is_ours() {
        let ours = change(record("r2", &[token("a", 5)]), "r1");
        let theirs = record("r2", &[token("a", 5)]);
        assert!(matches!(merge(&ours, Some((Box::new(theirs), Version::new("9")))), Some((_, Some(_)))));
    }

    #[test]
    fn without_a_login_a_removed_record_is_written_again() {
        let ours = Change { spent: None, ..change(Record::default(), "") };
        assert!(matches!(merge(&ours, None), Some((_, None))));
    }
}
