//! Promise 4, where it runs: a renewal survives the runtime that asked for it, through real sockets and files.

use std::{thread, time::Instant};

use keyfob::Session;
use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault};
use tokio::runtime::{Builder, Runtime};

use super::world::*;

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The renewal that was begun ends, and is saved.
#[track_caller]
fn assert_finished_and_saved(server: &AuthorizationServer, folder: &Folder, session: &Session) {
    assert!(session.context().drain_blocking(s(20)));
    let token = session.cached().expect("it is published");
    let other = elsewhere(server, folder);
    assert_eq!(other.token_blocking().unwrap().secret(), token.secret(), "and saved");
    assert_refreshes(server, 1);
}

#[test]
fn block_on_on_a_current_thread_runtime() {
    let server = start(strict());
    let folder = Folder::new();
    let runtime = current_thread();
    let session = runtime.block_on(expired(&server, &folder));
    server.faults().push(Endpoint::Token, Fault::DelayAnswer(ms(300)));
    runtime.block_on(async {
        let _asking = ask(&session);
        until_refreshes(&server, 1).await;
    });
    // From here on nothing drives the runtime.
    assert_finished_and_saved(&server, &folder, &session);
    drop(runtime);
}

#[test]
fn a_runtime_dropped_in_mid_renewal() {
    let server = start(strict());
    let folder = Folder::new();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let session = runtime.block_on(expired(&server, &folder));
    server.faults().push(Endpoint::Token, Fault::DelayAnswer(ms(300)));
    runtime.block_on(async {
        ask(&session);
        until_refreshes(&server, 1).await;
    });
    drop(runtime);
    assert_finished_and_saved(&server, &folder, &session);
}

#[test]
fn no_runtime_at_all() {
    let server = start(strict());
    let folder = Folder::new();
    let session = current_thread().block_on(expired(&server, &folder));
    let begun = Instant::now();
    let token = session.token_blocking().unwrap();
    println!("a renewal without a runtime: {:?}", begun.elapsed());
    assert_eq!(session.cached().unwrap().secret(), token.secret());
    assert_finished_and_saved(&server, &folder, &session);
}

#[test]
fn sixteen_threads_without_a_runtime_are_one_request() {
    let server = start(strict());
    let folder = Folder::new();
    let session = current_thread().block_on(expired(&server, &folder));
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| session.token_blocking().unwrap());
        }
    });
    assert_finished_and_saved(&server, &folder, &session);
}

#[test]
fn a_runtime_of_each_call() {
    let server = start(strict());
    let folder = Folder::new();
    let session = current_thread().block_on(expired(&server, &folder));
    for _ in 0..3 {
        current_thread().block_on(session.token()).unwrap();
    }
    assert_finished_and_saved(&server, &folder, &session);
    // Sockets of an earlier call's runtime would be dead now.
    current_thread().block_on(session.refresh()).unwrap();
    assert_refreshes(&server, 2);
}
