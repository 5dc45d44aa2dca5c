//! When somebody wants the command to stop.

/// The signals that ask the command to stop: Ctrl-C, and on Unix a closed terminal and `kill` too.
///
/// They are caught, so that a renewal under way can end.
#[derive(Debug)]
pub(super) struct Interrupts {
    #[cfg(unix)]
    signals: Vec<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Interrupts {
    /// Catches them from now on. Needs the runtime.
    pub(super) fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};

        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Self { signals: kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect() }
    }

    /// Resolves at the next one. Dropping it loses none.
    pub(super) async fn next(&mut self) {
        use std::task::Poll;

        std::future::poll_fn(|cx| {
            let came =
                self.signals.iter_mut().any(|signal| matches!(signal.poll_recv(cx), Poll::Ready(Some(()))));
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[cfg(not(unix))]
impl Interrupts {
    /// Catches them from now on. Needs the runtime.
    pub(super) fn new() -> Self {
        Self {}
    }

    /// Resolves at the next one.
    pub(super) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // It cannot be caught: the system's own way of stopping stays.
            std::future::pending::<()>().await;
        }
    }
}
