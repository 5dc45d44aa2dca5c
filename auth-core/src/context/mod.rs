//! [`Context`]: what sessions share. Made once, handed on, no globals.

mod endpoint;
mod executor;

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::oneshot;

pub(crate) use self::{
    endpoint::{Endpoint, Pass},
    executor::Executor,
};
use crate::{
    AuthError, Clock,
    session::Engine,
    store::{LoginKey, TokenStore},
    sync::{Handle, JoinHandle, Mutex, MutexGuard, sleep},
};

/// What sessions share: where exchanges run, the clock, limits, the live sessions, and what protocol crates keep once for
/// all of them (HTTP client, discovery documents, keys).
///
/// An application makes one and hands it to every provider and session; asking twice for the same identity and store in
/// one context gives one engine. Clones are the same context.
///
/// # Examples
/// ```
/// use keyfob_auth_core::Context;
///
/// let context = Context::new();
/// let other = Context::builder().limits(|limits| limits.exchange = std::time::Duration::from_secs(10)).build();
/// # let _ = (context, other);
/// ```
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    executor: Executor,
    clock: Clock,
    limits: Limits,
    engines: Mutex<HashMap<EngineKey, Weak<Engine>>>,
    endpoints: Mutex<HashMap<String, Weak<Endpoint>>>,
    shared: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

/// Which engine: of which login, in which store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EngineKey {
    pub(crate) login: LoginKey,
    pub(crate) store: StoreKey,
}

/// Which store: two of one kind and place are the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StoreKey {
    /// None was given: a memory of the engine's own.
    Own,
    Place(Box<str>),
    Address(usize),
}

impl StoreKey {
    pub(crate) fn of(store: &Arc<dyn TokenStore>) -> Self {
        let info = store.describe();
        match info.location {
            Some(location) => Self::Place(format!("{} {location}", info.kind).into()),
            None => Self::Address(Arc::as_ptr(store).cast::<()>().addr()),
        }
    }
}

/// Bounds on time and memory.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The longest that one exchange may take before it is given up; 30 s. A caller's own deadline ends its wait only.
    pub exchange: Duration,
    /// The longest that one call of a store may take; 10 s.
    pub store: Duration,
    /// The longest wait for another process's renewal; 45 s, longer than an exchange.
    pub lease: Duration,
    /// The life of a token of which nobody says how long it lives; 5 min.
    pub unknown_lifetime: Duration,
    /// Concurrent exchanges at one token endpoint; 16.
    pub concurrent_exchanges: usize,
    /// How many subjects' tokens a session keeps (token exchange); 1,000.
    pub subjects: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            exchange: Duration::from_secs(30),
            store: Duration::from_secs(10),
            lease: Duration::from_secs(45),
            unknown_lifetime: Duration::from_secs(300),
            concurrent_exchanges: 16,
            subjects: 1000,
        }
    }
}

/// Makes a [`Context`].
#[derive(Debug, Default)]
pub struct ContextBuilder {
    executor: Option<Handle>,
    clock: Clock,
    limits: Limits,
}

impl ContextBuilder {
    /// Runs exchanges on the application's runtime instead of keyfob's own.
    ///
    /// It must live as long as tokens are asked for: what is under way when it is dropped is lost.
    #[must_use]
    pub fn executor(mut self, runtime: Handle) -> Self {
        self.executor = Some(runtime);
        self
    }

    /// Takes the time from this clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Changes the limits.
    #[must_use]
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// The context. Nothing is started yet.
    pub fn build(self) -> Context {
        Context(Arc::new(Inner {
            executor: Executor::new(self.executor),
            clock: self.clock,
            limits: self.limits,
            engines: Mutex::default(),
            endpoints: Mutex::default(),
            shared: Mutex::default(),
        }))
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl Context {
    /// A context with a lazy runtime of its own, the system's clock and the default limits.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A context to be configured.
    pub fn builder() -> ContextBuilder {
        ContextBuilder::default()
    }

    /// Its clock.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The one value of this type in the context, made by `make` when first asked for.
    ///
    /// Protocol crates keep here what their providers share: an HTTP client, fetched documents.
    ///
    /// # Errors
    /// Those of `make`; the next call tries again.
    pub fn shared<T: Any + Send + Sync>(
        &self,
        make: impl FnOnce() -> Result<T, AuthError>,
    ) -> Result<Arc<T>, AuthError> {
        let mut make = Some(make);
        let found = self.shared_any(TypeId::of::<T>(), &mut || match make.take() {
            Some(make) => Ok(Arc::new(make()?)),
            None => Err(AuthError::configuration("it was made before")),
        })?;
        found.downcast().map_err(|_| AuthError::configuration("it is of another type"))
    }

    fn shared_any(
        &self,
        id: TypeId,
        make: &mut dyn FnMut() -> Result<Arc<dyn Any + Send + Sync>, AuthError>,
    ) -> Result<Arc<dyn Any + Send + Sync>, AuthError> {
        let mut shared = lock(&self.0.shared);
        if let Some(found) = shared.get(&id) {
            return Ok(Arc::clone(found));
        }
        let made = make()?;
        shared.insert(id, Arc::clone(&made));
        Ok(made)
    }

    /// Runs the future on the context's executor and waits for it there, whatever runtime the caller has.
    ///
    /// # Errors
    /// [`Transient`](crate::ErrorKind::Transient) if there are no threads, or the future panicked.
    ///
    /// # Cancellation
    /// Dropping the call does not stop the future.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, AuthError> {
        let (done, result) = oneshot::channel();
        self.spawn(async move {
            let _ = done.send(work.await);
        })?;
        result.await.map_err(|_| {
            AuthError::transient("the work was given up: it panicked, or its runtime was dropped")
        })
    }

    /// Waits until nothing is under way any more: no exchange, no save. `false` if the deadline came first. A save that the
    /// store [denies](crate::store::StoreErrorKind::Denied) is tried on, but not waited for: somebody has to mend that.
    ///
    /// An application calls it before it exits; a renewal that is cut off may have spent a refresh token.
    ///
    /// # Cancellation
    /// Loses nothing.
    pub async fn drain(&self, deadline: Duration) -> bool {
        if self.0.executor.is_idle() {
            return true;
        }
        let (_alive, gone) = oneshot::channel::<()>();
        let late = async move {
            tokio::select! {
                () = sleep(deadline) => {}
                _ = gone => {}
            }
        };
        let Ok((_, timer)) = self.task(late) else { return true };
        tokio::select! {
            biased;
            () = self.0.executor.idle() => true,
            _ = timer => false,
        }
    }

    /// [`drain`](Self::drain) for callers without a runtime. It blocks the thread.
    pub fn drain_blocking(&self, deadline: Duration) -> bool {
        pollster::block_on(self.drain(deadline))
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<(), AuthError> {
        self.0.executor.spawn(task)
    }

    pub(crate) fn task<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<(JoinHandle<()>, oneshot::Receiver<T>), AuthError> {
        self.0.executor.task(task)
    }

    /// The live engine of this key, or the one that `make` makes.
    pub(crate) fn engine(
        &self,
        key: EngineKey,
        make: impl FnOnce() -> Result<Engine, AuthError>,
    ) -> Result<Arc<Engine>, AuthError> {
        let mut engines = lock(&self.0.engines);
        if let Some(engine) = engines.get(&key).and_then(Weak::upgrade) {
            return Ok(engine);
        }
        let engine = Arc::new(make()?);
        if engines.len() == engines.capacity() {
            engines.retain(|_, engine| engine.strong_count() > 0);
        }
        engines.insert(key, Arc::downgrade(&engine));
        Ok(engine)
    }

    /// What sessions at this endpoint share.
    pub(crate) fn endpoint(&self, name: &str) -> Arc<Endpoint> {
        let make = || Arc::new(Endpoint::new(self.0.limits.concurrent_exchanges));
        if name.is_empty() {
            return make();
        }
        let mut endpoints = lock(&self.0.endpoints);
        if let Some(endpoint) = endpoints.get(name).and_then(Weak::upgrade) {
            return endpoint;
        }
        let endpoint = make();
        if endpoints.len() == endpoints.capacity() {
            endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
        }
        endpoints.insert(name.to_owned(), Arc::downgrade(&endpoint));
        endpoint
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("executor", &self.0.executor)
            .field("clock", &self.0.clock)
            .field("limits", &self.0.limits)
            .finish_non_exhaustive()
    }
}

/// A panic elsewhere leaves these maps whole: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
