//! What all sessions at one token endpoint share: a cap on concurrent exchanges, and a pause after it failed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{MutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::{
    AuthError, ErrorKind,
    clock::{Clock, Now},
    session::policy,
};

#[derive(Debug)]
pub(crate) struct Endpoint {
    permits: Arc<Semaphore>,
    failure: Mutex<Option<Failure>>,
    /// Held by the one exchange that finds out whether the endpoint is back.
    probe: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Failure {
    count: u32,
    not_before: Now,
    error: AuthError,
}

/// The right to make one exchange.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    _permit: Option<OwnedSemaphorePermit>,
    _probe: Option<MutexGuard<'a, ()>>,
}

impl Endpoint {
    pub(crate) fn new(concurrent: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(concurrent)), failure: Mutex::default(), probe: tokio::sync::Mutex::default() }
    }

    /// Waits for its turn.
    ///
    /// # Errors
    /// The endpoint's last failure, if it is too early to try again.
    pub(crate) async fn enter(&self, clock: &Clock) -> Result<Pass<'_>, AuthError> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let mut probe = None;
        if self.failure().is_some() {
            let guard = self.probe.lock().await;
            if let Some(failure) = self.failure() {
                let now = clock.now();
                if !now.reached(failure.not_before) {
                    return Err(failure.error.with_retry_after(now.until(failure.not_before)));
                }
                probe = Some(guard);
            }
        }
        Ok(Pass { _permit: permit, _probe: probe })
    }

    /// Learns from how an exchange ended. Only [`ErrorKind::Transient`] speaks of the endpoint.
    pub(crate) fn learn(&self, outcome: Result<(), &AuthError>, clock: &Clock) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *failure = match outcome {
            Err(error) if error.kind() == ErrorKind::Transient => {
                let count = failure.as_ref().map_or(0, |f| f.count).saturating_add(1);
                let pause = policy::pause(error, count, policy::jitter()).unwrap_or(Duration::from_secs(1));
                Some(Failure { count, not_before: clock.now().plus(pause), error: error.clone() })
            }
            _ => None,
        };
    }

    fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
