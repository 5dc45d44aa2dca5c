//! [`MemoryStore`] meets every requirement of a store.

#![cfg(feature = "testing")]

use std::sync::Arc;

use keyfob_auth_core::{store::MemoryStore, testing};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_memory_store_conforms() {
    testing::store::all(Arc::new(MemoryStore::new())).await;
}
