//! Where exchanges run: on a runtime that outlives the caller's.

use std::{fmt, future::Future, pin::Pin, sync::OnceLock};

use tokio::sync::{oneshot, watch};

use crate::{
    AuthError,
    sync::{Builder, Handle, JoinHandle, Runtime},
};

/// In a box, so that one kind of task is compiled, whatever it runs.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A runtime of keyfob's own, made when first needed, or the application's.
pub(crate) struct Executor {
    runtime: OnceLock<Option<OwnRuntime>>,
    given: Option<Handle>,
    /// How many tasks are under way.
    tasks: watch::Sender<usize>,
}

impl Executor {
    pub(crate) fn new(given: Option<Handle>) -> Self {
        Self { runtime: OnceLock::new(), given, tasks: watch::Sender::new(0) }
    }

    /// Spawns a task that [`Executor::idle`] waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<(), AuthError> {
        let handle = self.handle()?;
        self.tasks.send_modify(|n| *n += 1);
        let counted = Counted(self.tasks.clone());
        let work: Work = Box::pin(async move {
            let _counted = counted;
            task.await;
        });
        handle.spawn(work);
        Ok(())
    }

    /// Spawns a task that nobody waits for at the end. Its result does not come if it panics.
    pub(crate) fn task<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<(JoinHandle<()>, oneshot::Receiver<T>), AuthError> {
        let (done, result) = oneshot::channel();
        let work: Work = Box::pin(async move {
            let _ = done.send(task.await);
        });
        Ok((self.handle()?.spawn(work), result))
    }

    fn handle(&self) -> Result<&Handle, AuthError> {
        if let Some(given) = &self.given {
            return Ok(given);
        }
        // Two threads, so that one blocking provider does not stop every session.
        let runtime = self.runtime.get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("keyfob")
                .enable_all()
                .build()
                .inspect_err(|error| tracing::error!(%error, "no runtime could be started"))
                .ok()
                .map(|runtime| OwnRuntime(Some(runtime)))
        });
        let runtime = runtime.as_ref().and_then(|own| own.0.as_ref());
        runtime
            .map(Runtime::handle)
            .ok_or_else(|| AuthError::transient("no threads could be started for keyfob's work"))
    }

    pub(crate) fn is_idle(&self) -> bool {
        *self.tasks.borrow() == 0
    }

    /// Resolves when no task is under way.
    pub(crate) async fn idle(&self) {
        // The sender is ours, so this cannot fail.
        let _ = self.tasks.subscribe().wait_for(|n| *n == 0).await;
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("own", &self.given.is_none())
            .field("tasks", &*self.tasks.borrow())
            .finish_non_exhaustive()
    }
}

struct Counted(watch::Sender<usize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        // Dropping a runtime waits for its threads, which panics inside another runtime. Nothing is under way any more:
        // every exchange holds the context.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
