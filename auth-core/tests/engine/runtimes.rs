//! Where it runs: a renewal survives its caller and the caller's runtime. Real threads and real time, with gates.

use std::{sync::mpsc, thread};

use keyfob_auth_core::Limits;

use super::*;

/// A session on keyfob's own executor.
fn open(provider: &ScriptedProvider, store: &MemoryStore) -> Session {
    let limits = |limits: &mut Limits| limits.exchange = s(20);
    let context = Context::builder().limits(limits).build();
    Session::new(Arc::new(provider.clone()), Arc::new(store.clone()), &context).unwrap()
}

/// Waits until the exchange has begun.
fn begun(provider: &ScriptedProvider, exchanges: usize) {
    while provider.exchanges() < exchanges {
        thread::yield_now();
    }
}

#[test]
fn without_any_runtime() {
    let provider = ScriptedProvider::attended();
    let session = open(&provider, &MemoryStore::new());
    pollster::block_on(session.adopt(provider.issue())).unwrap();
    assert_eq!(session.token_blocking().unwrap().secret(), "access-1");
    assert_eq!(pollster::block_on(session.refresh()).unwrap().secret(), "access-2");
    assert!(session.context().drain_blocking(s(10)));
}

#[test]
fn block_on_on_a_current_thread_runtime_leaves_no_renewal_standing_still() {
    let provider = ScriptedProvider::attended();
    let store = MemoryStore::new();
    let session = open(&provider, &store);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(session.adopt(provider.issue())).unwrap();
    provider.close_gate();
    let waited = runtime.block_on(async { tokio::time::timeout(ms(50), session.refresh()).await });
    assert!(waited.is_err());
    begun(&provider, 1);
    // The runtime is not driven any more; the renewal goes on.
    provider.open_gate();
    assert!(session.context().drain_blocking(s(10)));
    assert_eq!(session.cached().unwrap().secret(), "access-2");
    let other = open(&provider, &store);
    assert_eq!(other.token_blocking().unwrap().secret(), "access-2", "and it is saved");
    assert_eq!((provider.exchanges(), provider.reuses()), (1, 0));
}

#[test]
fn a_runtime_dropped_in_mid_renewal_loses_nothing() {
    let provider = ScriptedProvider::attended();
    let store = MemoryStore::new();
    let session = open(&provider, &store);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(session.adopt(provider.issue())).unwrap();
    provider.close_gate();
    let asking = session.clone();
    runtime.spawn(async move { asking.refresh().await.map(drop) });
    begun(&provider, 1);
    drop(runtime);
    provider.open_gate();
    assert!(session.context().drain_blocking(s(10)));
    assert_eq!(open(&provider, &store).token_blocking().unwrap().secret(), "access-2");
    assert_eq!((provider.exchanges(), provider.reuses()), (1, 0));
}

#[test]
fn a_session_dropped_inside_a_runtime_does_not_panic() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let session = open(&ScriptedProvider::unattended(), &MemoryStore::new());
        session.token().await.unwrap();
        drop(session);
    });
}

#[test]
fn threads_share_one_exchange() {
    let provider = ScriptedProvider::unattended();
    let session = open(&provider, &MemoryStore::new());
    provider.close_gate();
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..16 {
            let (session, send) = (session.clone(), send.clone());
            scope.spawn(move || send.send(session.token_blocking().unwrap().secret().to_owned()).unwrap());
        }
        begun(&provider, 1);
        provider.open_gate();
    });
    drop(send);
    assert!(receive.iter().all(|secret| secret == "access-1"));
    assert_eq!(provider.exchanges(), 1);
}

#[test]
fn an_idle_context_starts_no_threads() {
    let session = open(&ScriptedProvider::unattended(), &MemoryStore::new());
    assert!(session.cached().is_none());
    assert!(format!("{:?}", session.context()).contains("tasks: 0"));
}

#[test]
fn drain_says_when_the_deadline_came_first() {
    let provider = ScriptedProvider::unattended();
    let session = open(&provider, &MemoryStore::new());
    provider.close_gate();
    assert!(pollster::block_on(session.token_within(ms(10))).is_err());
    assert!(!session.context().drain_blocking(ms(50)));
    provider.open_gate();
    assert!(session.context().drain_blocking(s(10)));
}

#[test]
fn the_last_handle_dropped_in_mid_renewal_loses_nothing() {
    let (provider, store) = (ScriptedProvider::attended(), MemoryStore::new());
    let session = open(&provider, &store);
    pollster::block_on(session.adopt(provider.issue())).unwrap();
    provider.close_gate();
    assert!(pollster::block_on(async {
        let refresh = std::pin::pin!(session.refresh());
        let mut refresh = refresh;
        std::future::poll_fn(|context| std::task::Poll::Ready(refresh.as_mut().poll(context).is_pending()))
            .await
    }));
    begun(&provider, 1);
    let context = session.context();
    drop(session);
    let waiting = thread::spawn(move || context.drain_blocking(s(10)));
    provider.open_gate();
    assert!(waiting.join().unwrap());
    assert_eq!(open(&provider, &store).token_blocking().unwrap().secret(), "access-2");
    assert_eq!(provider.exchanges(), 1);
}
