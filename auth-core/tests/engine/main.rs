//! The session engine, on paused time and with the scripted provider: no network, every request counted.
#![cfg(feature = "testing")]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;
mod chain;
mod endpoint;
mod failures;
mod freshness;
mod hostile;
mod invalidation;
mod observed;
mod processes;
mod races;
mod runtimes;
mod saving;
mod status;

use std::{sync::Arc, time::Duration};

use keyfob_auth_core::{
    Context, ContextBuilder, Session, Token,
    store::MemoryStore,
    testing::{FakeClock, FaultyStore, ScriptedProvider},
};

/// A provider, a store and a session, all of which a test can get at.
struct World {
    provider: ScriptedProvider,
    store: FaultyStore,
    clock: Arc<FakeClock>,
    session: Session,
}

impl World {
    fn new(provider: ScriptedProvider) -> Self {
        Self::with(provider, |context| context)
    }

    fn with(provider: ScriptedProvider, change: impl FnOnce(ContextBuilder) -> ContextBuilder) -> Self {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        Self::on(provider, store, change)
    }

    fn on(
        provider: ScriptedProvider,
        store: FaultyStore,
        change: impl FnOnce(ContextBuilder) -> ContextBuilder,
    ) -> Self {
        let clock = FakeClock::new();
        let context = Context::builder().executor(tokio::runtime::Handle::current()).clock(clock.clock());
        let context = change(context).build();
        let session = Session::new(Arc::new(provider.clone()), Arc::new(store.clone()), &context).unwrap();
        Self { provider, store, clock, session }
    }

    /// Another process: a context of its own, the same store, server and clock.
    fn neighbour(&self) -> Self {
        let context =
            Context::builder().executor(tokio::runtime::Handle::current()).clock(self.clock.clock()).build();
        let store: Arc<FaultyStore> = Arc::new(self.store.clone());
        let session = Session::new(Arc::new(self.provider.clone()), store, &context).unwrap();
        Self {
            provider: self.provider.clone(),
            store: self.store.clone(),
            clock: Arc::clone(&self.clock),
            session,
        }
    }

    async fn logged_in(provider: ScriptedProvider) -> Self {
        let world = Self::new(provider);
        world.session.adopt(world.provider.issue()).await.unwrap();
        world
    }

    /// Everything that is under way ends.
    async fn settle(&self) {
        assert!(self.session.drain(s(3600)).await);
    }

    async fn secret(&self) -> String {
        self.session.token().await.unwrap().secret().to_owned()
    }
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// So many callers at once, each a task.
async fn callers(session: &Session, n: usize) -> Vec<Result<Token, keyfob_auth_core::AuthError>> {
    let barrier = Arc::new(tokio::sync::Barrier::new(n));
    let tasks: Vec<_> = (0..n)
        .map(|_| {
            let (session, barrier) = (session.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                session.token().await
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}
