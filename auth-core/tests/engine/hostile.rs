//! Stores that hang, panic, lose their lease or never agree: an error, and never a hang, a panic or a lost login.

use std::{
    any::Any,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use keyfob_auth_core::{
    AccessToken, Acquired, CredentialProvider, ErrorKind, Lifetime, TokenStore, async_trait,
    store::{
        Lease, LoginKey, Persistence, Record, Saved, StoreError, StoreErrorKind, StoreInfo, TryLease, Version,
    },
    testing::{Step, StoreCall, StoreFault},
};

use super::*;

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// A store with a test's hands in it.
#[derive(Clone)]
pub(crate) struct Interposed(Arc<Inner>);

struct Inner {
    store: FaultyStore,
    reads: Mutex<Duration>,
    writes: Mutex<Duration>,
    before_save: Mutex<Option<BoxFuture>>,
    panics: AtomicUsize,
    conflicts: AtomicUsize,
    hanging_lease: Mutex<bool>,
    lease_lost: Mutex<bool>,
    persistence: Mutex<Option<Persistence>>,
}

impl std::fmt::Debug for Interposed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interposed")
    }
}

impl Interposed {
    pub(crate) fn new(store: FaultyStore) -> Self {
        Self(Arc::new(Inner {
            store,
            reads: Mutex::default(),
            writes: Mutex::default(),
            before_save: Mutex::default(),
            panics: AtomicUsize::default(),
            conflicts: AtomicUsize::default(),
            hanging_lease: Mutex::default(),
            lease_lost: Mutex::default(),
            persistence: Mutex::default(),
        }))
    }

    /// What is read comes so much later.
    pub(crate) fn slow_reads(&self, by: Duration) {
        *self.0.reads.lock().unwrap() = by;
    }

    /// What is written is written so much later.
    pub(crate) fn slow_writes(&self, by: Duration) {
        *self.0.writes.lock().unwrap() = by;
    }

    /// It says that it keeps things so long.
    pub(crate) fn say(&self, persistence: Persistence) {
        *self.0.persistence.lock().unwrap() = Some(persistence);
    }

    /// This happens before the next save.
    pub(crate) fn before_save(&self, happens: impl Future<Output = ()> + Send + 'static) {
        *self.0.before_save.lock().unwrap() = Some(Box::pin(happens));
    }
}

#[async_trait]
impl TokenStore for Interposed {
    async fn load(&self, key: &LoginKey) -> Result<Option<(Record, Version)>, StoreError> {
        let found = self.0.store.load(key).await;
        let late = *self.0.reads.lock().unwrap();
        tokio::time::sleep(late).await;
        found
    }

    async fn save(
        &self,
        key: &LoginKey,
        record: Option<&Record>,
        expected: Option<&Version>,
        lease: Option<&dyn Lease>,
    ) -> Result<Saved, StoreError> {
        let late = *self.0.writes.lock().unwrap();
        tokio::time::sleep(late).await;
        let before = self.0.before_save.lock().unwrap().take();
        if let Some(before) = before {
            before.await;
        }
        let less = |n: usize| n.checked_sub(1);
        if self.0.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            panic!("a store with a bug");
        }
        if self.0.conflicts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Ok(Saved::Conflict(
                self.0.store.load(key).await?.map(|(record, version)| (Box::new(record), version)),
            ));
        }
        if lease.is_some() && *self.0.lease_lost.lock().unwrap() {
            return Err(StoreError::new(StoreErrorKind::LeaseLost, "somebody has a newer lease"));
        }
        self.0.store.save(key, record, expected, None).await
    }

    async fn try_lease(&self, key: &LoginKey) -> Result<TryLease, StoreError> {
        Ok(match self.0.store.try_lease(key).await? {
            TryLease::Held(lease) => TryLease::Held(Box::new(Leased { _lease: lease, store: self.clone() })),
            busy => busy,
        })
    }

    fn describe(&self) -> StoreInfo {
        let mut info = self.0.store.describe();
        info.persistence = self.0.persistence.lock().unwrap().unwrap_or(info.persistence);
        info
    }
}

#[derive(Debug)]
struct Leased {
    _lease: Box<dyn Lease>,
    store: Interposed,
}

#[async_trait]
impl Lease for Leased {
    fn ttl(&self) -> Option<Duration> {
        self.store.0.hanging_lease.lock().unwrap().then_some(Duration::ZERO)
    }

    async fn extend(&self) -> Result<(), StoreError> {
        std::future::pending().await
    }

    async fn release(self: Box<Self>) {
        let hangs = *self.store.0.hanging_lease.lock().unwrap();
        if hangs {
            std::future::pending::<()>().await;
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn open(world: &World) -> (Interposed, Session) {
    let store = Interposed::new(world.store.clone());
    let context =
        Context::builder().executor(tokio::runtime::Handle::current()).clock(world.clock.clock()).build();
    let session = Session::new(Arc::new(world.provider.clone()), Arc::new(store.clone()), &context).unwrap();
    (store, session)
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_hangs_when_extended_or_released_hangs_nobody_for_ever() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    let (store, session) = open(&world);
    world.clock.advance(s(601));
    *store.0.hanging_lease.lock().unwrap() = true;
    let token = tokio::time::timeout(s(60), session.token()).await.expect("no hang").unwrap();
    assert_eq!(token.secret(), "access-2");
    assert!(session.drain(s(60)).await);
    tokio::time::sleep(s(30)).await;
    assert_eq!(world.store.leases_out(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_does_not_keep_a_renewal_from_being_saved() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    let (store, session) = open(&world);
    world.clock.advance(s(601));
    world.provider.close_gate();
    let asking = tokio::spawn({
        let session = session.clone();
        async move { session.token().await }
    });
    tokio::time::sleep(ms(1)).await;
    *store.0.lease_lost.lock().unwrap() = true;
    world.provider.open_gate();
    assert_eq!(asking.await.unwrap().unwrap().secret(), "access-2");
    assert!(session.drain(s(60)).await, "saved");
    assert_eq!(world.neighbour().secret().await, "access-2");
    assert_eq!(world.store.leases_out(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_loses_no_login() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    let (store, session) = open(&world);
    world.clock.advance(s(601));
    world.provider.close_gate();
    let asking = tokio::spawn({
        let session = session.clone();
        async move { session.token().await }
    });
    tokio::time::sleep(ms(1)).await;
    store.0.panics.store(3, Ordering::SeqCst);
    world.provider.open_gate();
    assert_eq!(asking.await.unwrap().unwrap().secret(), "access-2");
    assert!(session.drain(s(60)).await);
    assert_eq!(world.neighbour().secret().await, "access-2");
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_always_conflicts_is_an_error_and_no_endless_loop() {
    let world = World::logged_in(ScriptedProvider::attended().reusable()).await;
    let (store, session) = open(&world);
    world.clock.advance(s(601));
    store.0.conflicts.store(1000, Ordering::SeqCst);
    session.token().await.unwrap();
    let left = store.0.conflicts.load(Ordering::SeqCst);
    assert!(left > 900, "{left}");
    store.0.conflicts.store(0, Ordering::SeqCst);
    assert!(session.drain(s(60)).await);
}

#[tokio::test(start_paused = true)]
async fn a_stored_token_that_cannot_be_sent_is_renewed() {
    let world = World::new(ScriptedProvider::attended());
    let login = world.provider.issue().login.unwrap();
    world.session.adopt(Acquired::with_login(AccessToken::new("good").expires_in(600), login)).await.unwrap();
    let key = LoginKey::from(world.provider.identity());
    let (mut record, version) = world.store.load(&key).await.unwrap().unwrap();
    let mut token = record.tokens()[0].clone();
    token.secret = "not\na header".to_owned().into();
    record.put_token(token);
    world.store.save(&key, Some(&record), Some(&version), None).await.unwrap();
    assert_eq!(world.neighbour().secret().await, "access-2");
}

#[tokio::test(start_paused = true)]
async fn a_record_of_extremes_is_no_panic() {
    use keyfob_auth_core::store::{Attempt, Outcome};
    let world = World::logged_in(ScriptedProvider::attended()).await;
    let key = LoginKey::from(world.provider.identity());
    let (mut record, version) = world.store.load(&key).await.unwrap().unwrap();
    let now = world.session.context().clock().wall();
    record.retain_tokens(|_| false);
    record.attempt = Some(Attempt {
        spent: None,
        request: Default::default(),
        at: now,
        outcome: Outcome::Failed {
            kind: "transient".into(),
            message: "x".into(),
            oauth_error: None,
            oauth_description: None,
            origin: None,
            status: None,
            repeatable: true,
            answer_lost: false,
            failures: u32::MAX,
            not_before: now + s(1),
        },
        secret_revision: Some(0),
    });
    world.store.save(&key, Some(&record), Some(&version), None).await.unwrap();
    let neighbour = world.neighbour();
    assert!(neighbour.session.token().await.is_err());
    tokio::time::sleep(s(100)).await;
    world.store.set(StoreCall::Load, Some(StoreFault::Fail(StoreErrorKind::Unavailable)));
    assert_eq!(neighbour.session.token().await.unwrap_err().kind(), ErrorKind::Store);
    for life in [Duration::MAX, s(u64::MAX), Duration::from_nanos(1)] {
        for hint in [Duration::MAX, Duration::ZERO, s(u64::MAX / 2)] {
            let world = World::new(ScriptedProvider::unattended());
            let access = AccessToken::new("x").with_lifetime(Lifetime::In(life)).with_refresh_in(hint);
            world.provider.push(Step::Answer(Box::new(Acquired::token(access.with_age(Duration::MAX)))));
            let _ = world.session.token_within(Duration::MAX).await;
            let _ = world.session.status().await.unwrap();
            let _ = world.neighbour().session.token().await;
            world.clock.set_back(Duration::MAX);
            world.clock.set_back(Duration::MAX);
            let _ = world.session.token().await;
            world.clock.advance(Duration::MAX);
            world.clock.advance(Duration::MAX);
            let _ = world.session.token().await;
        }
    }
}

/// Panics where the engine itself calls it, and not a task of its own.
#[derive(Debug, Default)]
struct Unpresentable(Arc<AtomicUsize>);

#[async_trait]
impl CredentialProvider for Unpresentable {
    fn identity(&self) -> keyfob_auth_core::Identity {
        keyfob_auth_core::Identity::new("unpresentable")
    }

    async fn acquire(
        &self,
        _: &keyfob_auth_core::TokenRequest,
        _: Option<&keyfob_auth_core::Login>,
    ) -> Result<Acquired, keyfob_auth_core::AuthError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Acquired::token(AccessToken::new("x").expires_in(600)))
    }

    fn present(
        &self,
        _: &AccessToken,
        _: Option<&keyfob_auth_core::Login>,
    ) -> Result<keyfob_auth_core::Presentation, keyfob_auth_core::AuthError> {
        panic!("a provider with a bug")
    }

    fn secret_revision(&self) -> Option<u64> {
        panic!("a provider with a bug")
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_panics_in_the_engine_hangs_nobody_and_is_asked_no_more_often() {
    let provider = Unpresentable::default();
    let asked = Arc::clone(&provider.0);
    let clock = FakeClock::new().clock();
    let context = Context::builder().executor(tokio::runtime::Handle::current()).clock(clock).build();
    let session = Session::builder(Arc::new(provider)).context(&context).build().unwrap();
    for _ in 0..3 {
        let outcome = tokio::time::timeout(s(60), session.token()).await.expect("no hang");
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Refused);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    tokio::time::sleep(s(3)).await;
    assert!(session.token().await.is_err());
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert!(context.drain(s(60)).await);
}
