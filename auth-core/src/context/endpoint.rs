//! What all sessions at one token endpoint share: a cap on concurrent exchanges, and a pause after it failed.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::sync::{MutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::{
    AuthError, ErrorKind,
    clock::{Clock, Now},
    session::policy,
    sync::Mutex,
};

#[derive(Debug)]
pub(crate) struct Endpoint {
    permits: Arc<Semaphore>,
    state: Mutex<State>,
    /// Held by the one exchange that finds out whether the endpoint is back.
    probe: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// How many failures were ever learnt of: tells which of them an exchange knew when it began.
    learnt: u64,
    failure: Option<Failure>,
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
    /// [`State::learnt`] when it was given.
    known: u64,
    _permit: Option<OwnedSemaphorePermit>,
    _probe: Option<MutexGuard<'a, ()>>,
}

impl Endpoint {
    pub(crate) fn new(concurrent: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(concurrent.clamp(1, Semaphore::MAX_PERMITS))),
            state: Mutex::default(),
            probe: tokio::sync::Mutex::default(),
        }
    }

    /// Waits for its turn.
    ///
    /// # Errors
    /// The endpoint's last failure, if it is too early to try again, and how long it is.
    pub(crate) async fn enter(&self, clock: &Clock) -> Result<Pass<'_>, (AuthError, Duration)> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let mut probe = None;
        if self.look().1.is_some() {
            let guard = self.probe.lock().await;
            if let Some(failure) = self.look().1 {
                let now = clock.now();
                if !now.reached(failure.not_before) {
                    let wait = now.until(failure.not_before);
                    return Err((failure.error.with_retry_after(wait), wait));
                }
                probe = Some(guard);
            }
        }
        Ok(Pass { known: self.look().0, _permit: permit, _probe: probe })
    }

    /// Learns from how an exchange ended. Only [`ErrorKind::Transient`] speaks against the endpoint, and only what it said
    /// itself speaks for it.
    pub(crate) fn learn(&self, pass: &Pass<'_>, outcome: Result<(), &AuthError>, clock: &Clock) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Exchanges side by side fail together: they are one failure, and a success among them does not mend it.
        let abreast = state.learnt > pass.known;
        match outcome {
            Err(error) if error.kind() == ErrorKind::Transient => {
                let before = state.failure.as_ref().map_or(0, |f| f.count);
                let count = if abreast { before.max(1) } else { before.saturating_add(1) };
                // Sessions have the jitter. Had the endpoint its own, they would come too early half of the time, and then
                // wait twice.
                let pause = policy::pause(error, count, 0.0).unwrap_or(Duration::from_secs(1));
                let mut not_before = clock.now().plus(pause);
                if let Some(before) =
                    state.failure.as_ref().filter(|f| abreast && f.not_before.mono > not_before.mono)
                {
                    not_before = before.not_before;
                }
                state.learnt += 1;
                state.failure = Some(Failure { count, not_before, error: told(error) });
            }
            Err(error)
                if !matches!(
                    error.kind(),
                    ErrorKind::Refused | ErrorKind::LoginRejected | ErrorKind::InteractionRequired
                ) => {}
            _ if !abreast => state.failure = None,
            _ => {}
        }
    }

    fn look(&self) -> (u64, Option<Failure>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.learnt, state.failure.clone())
    }
}

/// What others are told of a failure that was not theirs: nothing of whose it was, nor of what became of its login.
fn told(error: &AuthError) -> AuthError {
    let told = AuthError::transient(format!("the server failed a moment ago: {}", error.message()));
    match error.status() {
        Some(status) => told.with_status(status),
        None => told,
    }
}
