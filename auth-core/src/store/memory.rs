//! [`MemoryStore`]: keeps records as long as the process.

use std::{
    any::Any,
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, PoisonError},
};

use async_trait::async_trait;

use super::{
    Lease, LoginKey, Persistence, Reach, Record, Saved, StoreError, StoreInfo, TokenStore, TryLease, Version,
};
use crate::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

/// Keeps records in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Shared>);

#[derive(Default)]
struct Shared {
    records: Mutex<HashMap<LoginKey, Box<Entry>>>,
    leases: Mutex<HashSet<LoginKey>>,
    versions: AtomicU64,
}

/// A record and its version.
struct Entry {
    record: Record,
    number: u64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

/// A panic elsewhere leaves these maps whole: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn version(number: u64) -> Version {
    Version::new(number.to_string())
}

#[async_trait]
impl TokenStore for MemoryStore {
    async fn load(&self, key: &LoginKey) -> Result<Option<(Record, Version)>, StoreError> {
        Ok(lock(&self.0.records).get(key).map(|entry| (entry.record.clone(), version(entry.number))))
    }

    async fn save(
        &self,
        key: &LoginKey,
        record: Option<&Record>,
        expected: Option<&Version>,
        _lease: Option<&dyn Lease>,
    ) -> Result<Saved, StoreError> {
        let mut records = lock(&self.0.records);
        let found = records.get(key);
        if found.map(|entry| version(entry.number)).as_ref() != expected {
            return Ok(Saved::Conflict(
                found.map(|entry| (Box::new(entry.record.clone()), version(entry.number))),
            ));
        }
        let number = self.0.versions.fetch_add(1, Ordering::Relaxed) + 1;
        match record {
            Some(record) => {
                records.insert(key.clone(), Box::new(Entry { record: record.clone(), number }));
            }
            None => drop(records.remove(key)),
        }
        Ok(Saved::Written(version(number)))
    }

    async fn try_lease(&self, key: &LoginKey) -> Result<TryLease, StoreError> {
        if lock(&self.0.leases).insert(key.clone()) {
            Ok(TryLease::Held(Box::new(MemoryLease { store: self.clone(), key: key.clone() })))
        } else {
            Ok(TryLease::Busy { holder: Some("this process".into()) })
        }
    }

    async fn list(&self) -> Result<Vec<LoginKey>, StoreError> {
        Ok(lock(&self.0.records).keys().cloned().collect())
    }

    fn describe(&self) -> StoreInfo {
        StoreInfo {
            persistence: Persistence::Process,
            compare_and_set: Reach::Process,
            lease: Reach::Process,
            ..StoreInfo::new("memory")
        }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("records", &lock(&self.0.records).len()).finish()
    }
}

#[derive(Debug)]
struct MemoryLease {
    store: MemoryStore,
    key: LoginKey,
}

#[async_trait]
impl Lease for MemoryLease {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        lock(&self.store.0.leases).remove(&self.key);
    }
}
