//! Holding a store's lease: waiting for it, extending it, sharing it, giving it back. And the limits of every store call.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use super::engine::Engine;
use crate::{
    AuthError,
    store::{Lease, StoreError, StoreErrorKind, TryLease},
    sync::{sleep, timeout},
};

/// A lease that somebody here holds. The last one to [release](Engine::release) it gives it back.
#[derive(Debug)]
pub(crate) struct HeldLease(pub(super) Option<Box<dyn Lease>>);

impl HeldLease {
    pub(crate) fn lease(&self) -> Option<&dyn Lease> {
        self.0.as_deref()
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
        const SHORTEST: Duration = Duration::from_millis(10);
        let Some(ttl) = held.lease().and_then(Lease::ttl) else { return Ok(()) };
        let held: Weak<HeldLease> = Arc::downgrade(held);
        let engine = Arc::clone(self);
        self.context.task(async move {
            loop {
                sleep((ttl / 3).max(SHORTEST)).await;
                let Some(held) = held.upgrade() else { return };
                let Some(lease) = held.lease() else { return };
                if let Err(error) = engine.in_time(lease.extend()).await {
                    // The save that follows is refused if somebody else wrote meanwhile.
                    tracing::warn!(%error, "the lease could not be extended");
                }
                // Its holder may have left meanwhile.
                engine.release(held).await;
            }
        })?;
        Ok(())
    }

    /// Gives the lease back, unless others hold it still.
    pub(crate) async fn release(&self, held: Arc<HeldLease>) {
        let Some(lease) = Arc::into_inner(held).and_then(|mut held| held.0.take()) else { return };
        let release = async {
            lease.release().await;
            Ok(())
        };
        if let Err(error) = self.in_time(release).await {
            tracing::warn!(%error, "the lease could not be released");
        }
    }

    /// A call of the store, with the limit that every one has, and with a panic as an error: what it was to save is not
    /// lost then.
    pub(crate) async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let limit = self.context.limits().store;
        let failed = |why: String| {
            let store = self.store.describe();
            Err(StoreError::new(StoreErrorKind::Unavailable, format!("{why}: {store}")))
        };
        let mut call = pin!(call);
        let caught = poll_fn(|context| {
            // It is not polled again after a panic.
            match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
                Ok(polled) => polled.map(Some),
                Err(_) => Poll::Ready(None),
            }
        });
        match timeout(limit, caught).await {
            Ok(Some(result)) => result,
            Ok(None) => failed("the store panicked; that is a bug in it".into()),
            Err(_) => failed(format!("no answer within {} s", limit.as_secs())),
        }
    }
}
