//! [`Status`]: what is known of a session, for people and for monitors.

use std::{sync::Arc, time::SystemTime};

use super::{ask::adopted_times, engine::Engine, slot::Slot};
use crate::{
    Account, AuthError, Binding, ErrorKind, Identity, Login, Scopes,
    clock::{to_nanos, to_system_time},
    store::{Outcome as Ended, StoreInfo, StoredToken},
};

/// How good the access token at hand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Freshness {
    /// Valid, and not to be renewed yet.
    Fresh,
    /// Valid, and due for renewal.
    Stale,
    /// No longer valid.
    Expired,
    /// There is none.
    None,
}

impl Freshness {
    /// Its name in small letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::None => "none",
        }
    }
}

/// What is known of a session. Reading it asks no server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// What was configured.
    pub identity: Identity,
    /// Who is logged in, where that is known.
    pub account: Option<Account>,
    /// The scopes of the access token, else of the login, where they are known.
    pub scopes: Option<Scopes>,
    /// The scopes that the configuration asks for by now and the login was not made for: see
    /// [`CredentialProvider::missing_scopes`](crate::CredentialProvider::missing_scopes). A new login has them.
    pub missing_scopes: Scopes,
    /// What the access token is bound to; `None` without one.
    pub binding: Option<Binding>,
    /// When the access token expires; `None` without one, or if not by time.
    pub expires_at: Option<SystemTime>,
    /// How good the access token is.
    pub freshness: Freshness,
    /// Whether it can be renewed without a person.
    pub refreshable: bool,
    /// Where it is stored.
    pub store: StoreInfo,
    /// Whether the last renewal is in memory only, because saving it failed.
    pub unsaved: bool,
    /// When a token was last obtained.
    pub last_renewal: Option<SystemTime>,
    /// Why the last attempt failed, if it did; also another process's.
    pub last_error: Option<LastError>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastError {
    /// What happened.
    pub kind: ErrorKind,
    /// In words.
    pub message: String,
    /// When.
    pub at: SystemTime,
}

impl Engine {
    pub(crate) async fn stored_login(self: &Arc<Self>) -> Result<Option<Login>, AuthError> {
        let record = self.read().await?;
        let unsaved = self.unsaved.lock().await.as_ref().map(|unsaved| unsaved.record().clone());
        Ok(unsaved.or(record).and_then(|record| record.login))
    }

    pub(crate) async fn status(self: &Arc<Self>, slot: &Slot) -> Result<Status, AuthError> {
        let record = self.read().await?.unwrap_or_default();
        let unsaved = self.unsaved.lock().await.as_ref().map(|unsaved| unsaved.record().clone());
        let is_unsaved = unsaved.is_some();
        let record = unsaved.unwrap_or(record);
        let now = self.clock.now();
        let own = slot.peek();
        // Another process may have renewed it; what was reported bad is not served.
        let newer = |stored: &&StoredToken| {
            let obtained = own.as_ref().map_or(0, |own| own.0.times.obtained.wall);
            to_nanos(stored.obtained_at) > obtained && !slot.is_retired(&stored.digest(), now)
        };
        let stored = record.token(slot.key()).filter(newer);
        let (times, scopes, binding) = match (&own, stored) {
            (_, Some(stored)) => {
                (Some(adopted_times(stored, now)), stored.scopes.clone(), Some(stored.binding.clone()))
            }
            (Some(token), None) => {
                (Some(token.0.times), token.scopes().cloned(), Some(token.binding().clone()))
            }
            (None, None) => (None, None, None),
        };
        let freshness = match times {
            None => Freshness::None,
            Some(times) if times.expired(now) => Freshness::Expired,
            Some(times) if times.due(now) => Freshness::Stale,
            Some(_) => Freshness::Fresh,
        };
        let told = record.attempt.as_ref().and_then(|attempt| match &attempt.outcome {
            Ended::Failed { kind, message, .. } => {
                Some(LastError { kind: ErrorKind::from_name(kind), message: message.clone(), at: attempt.at })
            }
            _ => None,
        });
        let last_error = told.or_else(|| {
            let failure = slot.state().failure.clone()?;
            Some(LastError {
                kind: failure.error.kind(),
                message: failure.error.to_string(),
                at: to_system_time(now.wall),
            })
        });
        let login = record.login.as_ref();
        let login_required = slot
            .state()
            .failure
            .as_ref()
            .is_some_and(|failure| failure.error.kind() == ErrorKind::LoginRequired);
        Ok(Status {
            identity: self.key.identity().clone(),
            account: login.and_then(|login| login.account.clone()),
            scopes: scopes.or_else(|| login.and_then(|login| login.scopes.clone())),
            missing_scopes: login.map(|login| self.missing_scopes(login)).unwrap_or_default(),
            binding,
            expires_at: times.map(|t| t.expires_at.wall).filter(|wall| *wall != u64::MAX).map(to_system_time),
            freshness,
            refreshable: match login {
                Some(login) => login.refresh_token.is_some(),
                // Somebody logged out elsewhere, and this process has heard of it.
                None if login_required => false,
                None => times.is_some() || record.renewed_at.is_some(),
            },
            store: self.store.describe(),
            unsaved: is_unsaved,
            last_renewal: record.renewed_at.or_else(|| own.map(|t| to_system_time(t.0.times.obtained.wall))),
            last_error,
        })
    }
}
