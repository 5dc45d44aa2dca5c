//! Holding a store's lease: waiting for it, extending it, sharing it, giving it back.

use std::sync::{Arc, Weak};

use tokio::time::{sleep, timeout};

use super::engine::Engine;
use crate::{
    AuthError,
    store::{Lease, StoreError, StoreErrorKind, TryLease},
};

/// A lease that somebody here holds. The last one to drop it gives it back.
#[derive(Debug)]
pub(crate) struct HeldLease(Option<Box<dyn Lease>>);

impl HeldLease {
    pub(crate) fn lease(&self) -> Option<&dyn Lease> {
        self.0.as_deref()
    }

    /// Gives it back, unless others hold it still.
    pub(crate) async fn release(held: Arc<Self>) {
        if let Some(lease) = Arc::into_inner(held).and_then(|mut held| held.0.take()) {
            lease.release().await;
        }
    }
}

/// Whether the lease was to be had.
pub(crate) enum Tried {
    Held(Arc<HeldLease>),
    Busy { holder: Option<String> },
}

impl Engine {
    /// Takes the lease, or shares the one that this process has.
    pub(crate) async fn try_hold(self: &Arc<Self>) -> Result<Tried, AuthError> {
        let mut shared = self.lease.lock().await;
        if let Some(held) = shared.upgrade() {
            return Ok(Tried::Held(held));
        }
        match self.in_time(self.store.try_lease(&self.key)).await? {
            TryLease::Held(lease) => {
                let held = Arc::new(HeldLease(Some(lease)));
                *shared = Arc::downgrade(&held);
                self.keep_alive(&held)?;
                Ok(Tried::Held(held))
            }
            TryLease::Busy { holder } => Ok(Tried::Busy { holder }),
        }
    }

    /// Extends a lease that runs out by time, as long as somebody holds it.
    fn keep_alive(self: &Arc<Self>, held: &Arc<HeldLease>) -> Result<(), AuthError> {
        let Some(ttl) = held.lease().and_then(Lease::ttl) else { return Ok(()) };
        let held: Weak<HeldLease> = Arc::downgrade(held);
        self.context.handle()?.spawn(async move {
            loop {
                sleep(ttl / 3).await;
                let Some(held) = held.upgrade() else { return };
                let Some(lease) = held.lease() else { return };
                if let Err(error) = lease.extend().await {
                    // The save that follows is refused if somebody else wrote meanwhile.
                    tracing::warn!(%error, "the lease could not be extended");
                }
            }
        });
        Ok(())
    }

    /// A call of the store, with the limit that every one has.
    pub(crate) async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let limit = self.context.limits().store;
        timeout(limit, call).await.unwrap_or_else(|_| {
            let store = self.store.describe();
            Err(StoreError::new(StoreErrorKind::Unavailable, format!("no answer within {} s: {store}", limit.as_secs())))
        })
    }
}
