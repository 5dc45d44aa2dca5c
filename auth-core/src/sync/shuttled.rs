//! shuttle's, in the shape of what they stand for. Time does not pass by itself: a timeout never comes, and a sleep ends at
//! some later moment.

#![allow(unreachable_pub, clippy::unused_async, reason = "in the shape of what they stand for")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::{convert::Infallible, future::Future, io, sync::Arc, time::Duration};

use shuttle::sync::RwLock;
pub(crate) use shuttle::{
    future::JoinHandle,
    sync::{Mutex, MutexGuard, atomic},
};

/// Loads and stores in one order.
pub(crate) struct ArcSwapOption<T>(RwLock<Option<Arc<T>>>);

impl<T> ArcSwapOption<T> {
    pub(crate) fn empty() -> Self {
        Self(RwLock::new(None))
    }

    pub(crate) fn load(&self) -> Option<Arc<T>> {
        self.0.read().expect("no reader panics").clone()
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        self.load()
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        *self.0.write().expect("no writer panics") = value;
    }
}

pub(crate) async fn sleep(_: Duration) {
    shuttle::future::yield_now().await;
}

pub(crate) async fn timeout<F: Future>(_: Duration, future: F) -> Result<F::Output, Infallible> {
    Ok(future.await)
}

/// Runs tasks on the execution that is checked.
#[derive(Clone, Copy, Debug)]
pub struct Handle;

impl Handle {
    pub fn spawn<T: Send + 'static>(self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        shuttle::future::spawn(task)
    }
}

pub(crate) struct Runtime;

impl Runtime {
    pub(crate) fn handle(&self) -> &Handle {
        &Handle
    }

    pub(crate) fn shutdown_background(self) {}
}

pub(crate) struct Builder;

impl Builder {
    pub(crate) fn new_multi_thread() -> Self {
        Self
    }

    pub(crate) fn worker_threads(&mut self, _: usize) -> &mut Self {
        self
    }

    pub(crate) fn thread_name(&mut self, _: &str) -> &mut Self {
        self
    }

    pub(crate) fn enable_all(&mut self) -> &mut Self {
        self
    }

    pub(crate) fn build(&mut self) -> io::Result<Runtime> {
        Ok(Runtime)
    }
}
