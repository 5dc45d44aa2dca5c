//! What happens to a session, for those who watch.

use std::{sync::OnceLock, time::SystemTime};

use tokio::sync::broadcast;

use crate::AuthError;

/// Something that happened to a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// There is a new access token.
    Renewed {
        /// When it expires; `None` if not by time.
        expires_at: Option<SystemTime>,
    },
    /// An attempt failed. While the token at hand is valid, callers do not see it.
    Failing(AuthError),
    /// Somebody has to log in.
    LoginRequired(AuthError),
    /// What was renewed could not be saved: it is served from memory, and the save goes on being tried.
    Unsaved(AuthError),
    /// What could not be saved is saved now.
    Saved,
    /// Somebody logged in.
    LoggedIn,
    /// Somebody logged out.
    LoggedOut,
    /// A token was reported bad and retired.
    Invalidated,
}

/// A subscription to a session's events. Who is slow misses the oldest.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    /// The next event; `None` when the session is gone.
    ///
    /// # Cancellation
    /// Loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Made when the first one watches: idle sessions pay nothing.
#[derive(Debug, Default)]
pub(crate) struct Announcer(OnceLock<broadcast::Sender<Event>>);

impl Announcer {
    pub(crate) fn watch(&self) -> Events {
        Events(self.0.get_or_init(|| broadcast::channel(32).0).subscribe())
    }

    pub(crate) fn announce(&self, event: Event) {
        #[cfg(feature = "metrics")]
        count(&event);
        if let Some(sender) = self.0.get() {
            // An error says that nobody watches any more.
            let _ = sender.send(event);
        }
    }
}

/// Counts the event: `keyfob_tokens_published_total`, `keyfob_failures_total` by kind of error, and so on.
#[cfg(feature = "metrics")]
fn count(event: &Event) {
    match event {
        Event::Renewed { .. } => metrics::counter!("keyfob_tokens_published_total").increment(1),
        Event::Failing(error) | Event::LoginRequired(error) => {
            metrics::counter!("keyfob_failures_total", "kind" => error.kind().as_str()).increment(1);
        }
        Event::Unsaved(_) => metrics::counter!("keyfob_unsaved_total").increment(1),
        Event::Saved => metrics::counter!("keyfob_saved_total").increment(1),
        Event::LoggedIn => metrics::counter!("keyfob_logins_total").increment(1),
        Event::LoggedOut => metrics::counter!("keyfob_logouts_total").increment(1),
        Event::Invalidated => metrics::counter!("keyfob_invalidations_total").increment(1),
    }
}
