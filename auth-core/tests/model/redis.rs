//! A Redis lease: it runs out by time, is extended by its holder, and its fence refuses a late write.

use std::{
    any::Any,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use keyfob_auth_core::{
    Session, TokenStore, async_trait,
    store::{
        Lease, LoginKey, Reach, Record, Saved, StoreError, StoreErrorKind, StoreInfo, TryLease, Version,
    },
    testing::ScriptedProvider,
};
use tokio::time::Instant;

use super::*;

const TTL: Duration = s(9);

#[derive(Clone, Debug, Default)]
struct Redis(Arc<Server>);

#[derive(Debug, Default)]
struct Server {
    row: Mutex<Row>,
    extensions: AtomicUsize,
    released: AtomicUsize,
}

#[derive(Debug, Default)]
struct Row {
    record: Option<Record>,
    version: u64,
    fences: u64,
    /// The fence of the last committed write, not of the last lease that was given out.
    written_by: u64,
    lease: Option<(u64, Instant)>,
}

#[async_trait]
impl TokenStore for Redis {
    async fn load(&self, _: &LoginKey) -> Result<Option<(Record, Version)>, StoreError> {
        let row = self.0.row.lock().unwrap();
        Ok(row.record.clone().map(|record| (record, Version::new(row.version.to_string()))))
    }

    async fn save(
        &self,
        _: &LoginKey,
        record: Option<&Record>,
        expected: Option<&Version>,
        lease: Option<&dyn Lease>,
    ) -> Result<Saved, StoreError> {
        let mut row = self.0.row.lock().unwrap();
        let found = row.record.clone().map(|record| (record, Version::new(row.version.to_string())));
        if found.as_ref().map(|(_, version)| version) != expected {
            return Ok(Saved::Conflict(found.map(|(record, version)| (Box::new(record), version))));
        }
        if let Some(fence) = lease.and_then(Lease::fence) {
            if fence < row.written_by {
                return Err(StoreError::new(
                    StoreErrorKind::LeaseLost,
                    "somebody with a newer lease wrote already",
                ));
            }
            row.written_by = fence;
        }
        row.version += 1;
        row.record = record.cloned();
        Ok(Saved::Written(Version::new(row.version.to_string())))
    }

    async fn try_lease(&self, _: &LoginKey) -> Result<TryLease, StoreError> {
        let mut row = self.0.row.lock().unwrap();
        if let Some((fence, until)) = row.lease
            && until > Instant::now()
        {
            return Ok(TryLease::Busy { holder: Some(format!("lease {fence}")) });
        }
        row.fences += 1;
        row.lease = Some((row.fences, Instant::now() + TTL));
        Ok(TryLease::Held(Box::new(RedisLease { server: Arc::clone(&self.0), fence: row.fences })))
    }

    fn describe(&self) -> StoreInfo {
        let mut info = StoreInfo::new("redis");
        (info.compare_and_set, info.lease) = (Reach::Machines, Reach::Machines);
        info
    }
}

#[derive(Debug)]
struct RedisLease {
    server: Arc<Server>,
    fence: u64,
}

#[async_trait]
impl Lease for RedisLease {
    fn fence(&self) -> Option<u64> {
        Some(self.fence)
    }

    fn ttl(&self) -> Option<Duration> {
        Some(TTL)
    }

    async fn extend(&self) -> Result<(), StoreError> {
        self.server.extensions.fetch_add(1, Ordering::SeqCst);
        let mut row = self.server.row.lock().unwrap();
        match &mut row.lease {
            Some((fence, until)) if *fence == self.fence => {
                *until = Instant::now() + TTL;
                Ok(())
            }
            _ => Err(StoreError::new(StoreErrorKind::LeaseLost, "the lease ran out")),
        }
    }

    async fn release(self: Box<Self>) {
        self.server.released.fetch_add(1, Ordering::SeqCst);
        let mut row = self.server.row.lock().unwrap();
        row.lease = row.lease.take_if(|(fence, _)| *fence != self.fence);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_extended_while_a_slow_exchange_runs_and_released_after_it() {
    let (provider, redis) = (ScriptedProvider::attended(), Redis::default());
    let one = Session::new(Arc::new(provider.clone()), Arc::new(redis.clone()), &process()).unwrap();
    let other = Session::new(Arc::new(provider.clone()), Arc::new(redis.clone()), &process()).unwrap();
    one.adopt(provider.issue()).await.unwrap();
    tokio::time::sleep(s(601)).await;
    provider.set_delay(s(25)); // longer than the lease
    let (a, b) = tokio::join!(one.token(), other.token());
    assert_eq!(
        (a.unwrap().secret(), b.unwrap().secret()),
        ("access-2", "access-2"),
        "one exchange for two machines"
    );
    assert_eq!((provider.exchanges(), provider.reuses()), (1, 0));
    assert!(redis.0.extensions.load(Ordering::SeqCst) >= 8, "every three seconds");
    assert!(redis.0.released.load(Ordering::SeqCst) >= 1);
    assert!(redis.0.row.lock().unwrap().lease.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_was_paused_past_its_lease_commits_unless_somebody_else_did() {
    let redis = Redis::default();
    let key = LoginKey::from(keyfob_auth_core::Identity::new("x"));
    let TryLease::Held(paused) = redis.try_lease(&key).await.unwrap() else { panic!("busy") };
    tokio::time::sleep(TTL).await;
    let TryLease::Held(newer) = redis.try_lease(&key).await.unwrap() else { panic!("it ran out") };
    // Nobody wrote: what the paused one brings may be the only live refresh token.
    let saved = redis.save(&key, Some(&Record::default()), None, Some(&*paused)).await.unwrap();
    let Saved::Written(version) = saved else { panic!("{saved:?}") };
    redis.save(&key, Some(&Record::default()), Some(&version), Some(&*newer)).await.unwrap();
    let (_, version) = redis.load(&key).await.unwrap().unwrap();
    let late = redis.save(&key, Some(&Record::default()), Some(&version), Some(&*paused)).await;
    assert_eq!(late.unwrap_err().kind(), StoreErrorKind::LeaseLost);
}
