//! Requirements of leases, and of the room they set aside.

use std::{sync::Arc, time::Duration};

use super::parts::*;
use crate::{TokenStore, store::TryLease};

/// While a lease is held nobody else gets it; when it is dropped, somebody does, within seconds.
pub async fn a_lease_excludes_others_until_dropped(store: &dyn TokenStore) {
    if best_effort(store.describe().lease, "a_lease_excludes_others_until_dropped") {
        return;
    }
    let key = key("lease");
    let lease = held(store, &key).await;
    for _ in 0..3 {
        assert!(busy(store, &key).await, "a lease was given to two at once");
    }
    drop(lease);
    // A drop cannot wait for a server.
    let mut tries = 0;
    while busy(store, &key).await {
        tries += 1;
        assert!(tries < 500, "a dropped lease does not come free");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    forget(store, &key).await;
}

/// A lease that was released is free at once.
pub async fn a_released_lease_can_be_had_again(store: &dyn TokenStore) {
    let key = key("released");
    for _ in 0..3 {
        held(store, &key).await.release().await;
    }
    forget(store, &key).await;
}

/// Of those who ask for a lease at the same time, one gets it.
pub async fn a_lease_has_one_winner(store: Arc<dyn TokenStore>) {
    const ASKERS: usize = 12;
    if best_effort(store.describe().lease, "a_lease_has_one_winner") {
        return;
    }
    let key = key("lease-race");
    let start = Arc::new(tokio::sync::Barrier::new(ASKERS));
    let tasks = (0..ASKERS).map(|_| {
        let (store, key, start) = (Arc::clone(&store), key.clone(), Arc::clone(&start));
        tokio::spawn(async move {
            start.wait().await;
            store.try_lease(&key).await.expect("a lease cannot be asked for")
        })
    });
    let mut leases = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        if let TryLease::Held(lease) = task.await.expect("asking for a lease panicked") {
            leases.push(lease);
        }
    }
    assert_eq!(leases.len(), 1, "so many got one lease");
    for lease in leases {
        lease.release().await;
    }
    forget(&*store, &key).await;
}

/// A lease is of one key.
pub async fn leases_of_two_keys_do_not_exclude_each_other(store: &dyn TokenStore) {
    let (one, other) = (key("lease-one"), key("lease-other"));
    let first = held(store, &one).await;
    let second = held(store, &other).await;
    first.release().await;
    held(store, &one).await.release().await;
    second.release().await;
    forget(store, &one).await;
    forget(store, &other).await;
}

/// A lease is the right to renew, no lock on the record: a logout goes on beside it, and its holder's save meets a
/// conflict.
pub async fn a_lease_does_not_keep_others_from_saving(store: &dyn TokenStore) {
    let key = key("beside");
    let version = create(store, &key, &sample("one")).await;
    let lease = held(store, &key).await;
    written(save(store, &key, None, Some(&version)).await);
    let saved = store.save(&key, Some(&sample("two")), Some(&version), Some(&*lease)).await;
    assert_conflict(store, saved.expect("a save failed"), None);
    assert!(load(store, &key).await.is_none(), "a removed record came back");
    lease.release().await;
    forget(store, &key).await;
}

/// Room that is set aside is no part of the record, whether it is used, used up, or never used.
pub async fn a_reservation_does_not_disturb_the_record(store: &dyn TokenStore) {
    let key = key("room");
    let mut version = create(store, &key, &sample("one")).await;
    let lease = held(store, &key).await;
    lease.reserve(64 * 1024).await.expect("no room can be set aside");
    assert_holds(store, &key, &sample("one"), &version).await;
    lease.reserve(128 * 1024).await.expect("no more room can be set aside");
    for marker in ["two", "three"] {
        let saved = store.save(&key, Some(&sample(marker)), Some(&version), Some(&*lease)).await;
        version = written(saved.expect("a save under the lease failed"));
        assert_holds(store, &key, &sample(marker), &version).await;
    }
    lease.reserve(16).await.expect("no room can be set aside again");
    let record = bounds();
    let saved = store.save(&key, Some(&record), Some(&version), Some(&*lease)).await;
    version = written(saved.expect("a save of more than was set aside failed"));
    assert_holds(store, &key, &record, &version).await;
    lease.reserve(64 * 1024).await.expect("no room can be set aside again");
    lease.release().await;
    assert_holds(store, &key, &record, &version).await;
    if let Ok(keys) = store.list().await {
        assert_eq!(keys.iter().filter(|listed| **listed == key).count(), 1, "the key is not listed once");
    }
    forget(store, &key).await;
}
