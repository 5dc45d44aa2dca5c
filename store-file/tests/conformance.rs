//! The file store meets every requirement of a store.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and skips visibly"
)]

use std::sync::Arc;

use keyfob_auth_core::testing;
use keyfob_store_file::FileStore;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_file_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("state/keyfob/tokens");
    testing::store::all(Arc::new(FileStore::open(&tokens).unwrap())).await;

    // What stays are locks, which are never deleted, and nothing else.
    for entry in std::fs::read_dir(&tokens).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.ends_with(".lock") || name.ends_with(".lease"), "{name} was left behind");
    }
}

#[test]
fn a_store_works_without_a_runtime() {
    use keyfob_auth_core::{
        Identity, TokenStore,
        store::{LoginKey, Record},
    };
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path().join("tokens")).unwrap();
    let key = LoginKey::from(Identity::new("test"));
    let record = Record::default();
    let save = pin!(store.save(&key, Some(&record), None, None));
    let done = save.poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(done, Poll::Ready(Ok(_))), "{done:?}");
}
