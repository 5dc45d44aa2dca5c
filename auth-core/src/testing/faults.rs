//! [`FaultyStore`]: a store that fails when a test says so, and counts.

use std::{
    any::Any,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use crate::store::{
    Capacity, Lease, LoginKey, Record, Saved, StoreError, StoreErrorKind, StoreInfo, TokenStore, TryLease,
    Version,
};

/// What a store does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreFault {
    /// It fails with an error of this kind.
    Fail(StoreErrorKind),
    /// It does its work, and then fails: what was saved is saved.
    FailAfter(StoreErrorKind),
    /// It never answers.
    Hang,
}

/// Which call of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreCall {
    /// `load`.
    Load,
    /// `save` of a record.
    Save,
    /// `save` of nothing: a removal.
    Remove,
    /// `try_lease`.
    Lease,
    /// `Lease::reserve`.
    Reserve,
    /// `Lease::extend`.
    Extend,
    /// `Lease::release`; it has no error to fail with, but it may hang.
    Release,
}

/// Wraps a store. Clones share the faults and the counts.
#[derive(Clone, Debug)]
pub struct FaultyStore {
    inner: Arc<dyn TokenStore>,
    shared: Arc<Shared>,
    keeps: Option<Capacity>,
}

#[derive(Debug, Default)]
struct Shared {
    faults: Mutex<Vec<(StoreCall, StoreFault)>>,
    counts: [AtomicUsize; 7],
    leases_out: Arc<AtomicUsize>,
}

impl FaultyStore {
    /// Wraps this store, at first without faults.
    pub fn new(inner: Arc<dyn TokenStore>) -> Self {
        Self { inner, shared: Arc::default(), keeps: None }
    }

    /// Says that it can keep only this much.
    #[must_use]
    pub fn keeping(mut self, keeps: Capacity) -> Self {
        self.keeps = Some(keeps);
        self
    }

    /// Every such call does this; `None` mends it.
    pub fn set(&self, call: StoreCall, fault: Option<StoreFault>) {
        let mut faults = self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.retain(|(of, _)| *of != call);
        faults.extend(fault.map(|fault| (call, fault)));
    }

    /// How many such calls there were.
    pub fn count(&self, call: StoreCall) -> usize {
        self.shared.counts[call as usize].load(Ordering::SeqCst)
    }

    /// How many leases are held now.
    pub fn leases_out(&self) -> usize {
        self.shared.leases_out.load(Ordering::SeqCst)
    }

    async fn through<T>(
        &self,
        call: StoreCall,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.shared.through(call, work).await
    }
}

impl Shared {
    async fn through<T>(
        &self,
        call: StoreCall,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.counts[call as usize].fetch_add(1, Ordering::SeqCst);
        let fault = {
            let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            faults.iter().find(|(of, _)| *of == call).map(|(_, fault)| *fault)
        };
        match fault {
            None => work.await,
            Some(StoreFault::Fail(kind)) => Err(StoreError::new(kind, "a fault that a test asked for")),
            Some(StoreFault::FailAfter(kind)) => {
                work.await?;
                Err(StoreError::new(kind, "a fault that a test asked for"))
            }
            Some(StoreFault::Hang) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl TokenStore for FaultyStore {
    async fn load(&self, key: &LoginKey) -> Result<Option<(Record, Version)>, StoreError> {
        self.through(StoreCall::Load, self.inner.load(key)).await
    }

    async fn save(
        &self,
        key: &LoginKey,
        record: Option<&Record>,
        expected: Option<&Version>,
        lease: Option<&dyn Lease>,
    ) -> Result<Saved, StoreError> {
        let lease = lease
            .and_then(|lease| lease.as_any().downcast_ref::<FaultyLease>())
            .and_then(|lease| lease.inner.as_deref());
        let call = if record.is_some() { StoreCall::Save } else { StoreCall::Remove };
        self.through(call, self.inner.save(key, record, expected, lease)).await
    }

    async fn try_lease(&self, key: &LoginKey) -> Result<TryLease, StoreError> {
        match self.through(StoreCall::Lease, self.inner.try_lease(key)).await? {
            TryLease::Held(inner) => {
                self.shared.leases_out.fetch_add(1, Ordering::SeqCst);
                Ok(TryLease::Held(Box::new(FaultyLease {
                    inner: Some(inner),
                    shared: Arc::clone(&self.shared),
                })))
            }
            busy => Ok(busy),
        }
    }

    async fn list(&self) -> Result<Vec<LoginKey>, StoreError> {
        self.inner.list().await
    }

    fn describe(&self) -> StoreInfo {
        let mut info = self.inner.describe();
        info.keeps = self.keeps.unwrap_or(info.keeps);
        info
    }
}

#[derive(Debug)]
struct FaultyLease {
    /// Until it is released.
    inner: Option<Box<dyn Lease>>,
    shared: Arc<Shared>,
}

#[async_trait]
impl Lease for FaultyLease {
    fn fence(&self) -> Option<u64> {
        self.inner.as_ref()?.fence()
    }

    fn ttl(&self) -> Option<Duration> {
        self.inner.as_ref()?.ttl()
    }

    async fn extend(&self) -> Result<(), StoreError> {
        let Some(inner) = &self.inner else { return Ok(()) };
        self.shared.through(StoreCall::Extend, inner.extend()).await
    }

    async fn reserve(&self, bytes: u64) -> Result<(), StoreError> {
        let Some(inner) = &self.inner else { return Ok(()) };
        self.shared.through(StoreCall::Reserve, inner.reserve(bytes)).await
    }

    async fn release(mut self: Box<Self>) {
        let Some(inner) = self.inner.take() else { return };
        let released = async {
            inner.release().await;
            Ok(())
        };
        // A release has nobody to tell that it failed.
        let _ = self.shared.through(StoreCall::Release, released).await;
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for FaultyLease {
    fn drop(&mut self) {
        self.shared.leases_out.fetch_sub(1, Ordering::SeqCst);
    }
}
