//! A chain of sessions: the first that can, serves.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Session, slot::Outcome};
use crate::{AuthError, ErrorKind};

#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) links: Vec<Session>,
    /// The link that served last.
    serving: AtomicUsize,
}

/// What each link is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Token,
    Refresh,
}

impl Chain {
    pub(crate) fn new(links: Vec<Session>) -> Self {
        Self { links, serving: AtomicUsize::new(0) }
    }

    /// The link that served last, else the first.
    pub(crate) fn serving(&self) -> Option<&Session> {
        self.links.get(self.serving.load(Ordering::Relaxed))
    }

    /// Asks one link after another, unless the one that served last has a token at hand. Only "not configured here" and
    /// "log in first" lead on to the next.
    pub(crate) async fn first(&self, what: What) -> Outcome {
        // Nobody waits for others while the one that served last has a token that works.
        if let (What::Token, Some(token)) = (what, self.serving().and_then(Session::cached)) {
            return Ok(token);
        }
        let mut said: Vec<AuthError> = Vec::new();
        for (i, link) in self.links.iter().enumerate() {
            let outcome = match what {
                What::Token => Box::pin(link.token()).await,
                What::Refresh => Box::pin(link.refresh()).await,
            };
            match outcome {
                Ok(token) => {
                    self.serving.store(i, Ordering::Relaxed);
                    return Ok(token);
                }
                Err(error) if matches!(error.kind(), ErrorKind::NotConfigured | ErrorKind::LoginRequired) => {
                    said.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        let kind = if said.iter().any(|e| e.kind() == ErrorKind::LoginRequired) {
            ErrorKind::LoginRequired
        } else {
            ErrorKind::NotConfigured
        };
        let each: Vec<String> =
            said.iter().enumerate().map(|(i, error)| format!("{}. {error}", i + 1)).collect();
        let each = if each.is_empty() { "it has no links".to_owned() } else { each.join("; ") };
        Err(AuthError::new(kind, format!("no credential of the chain can be used: {each}")))
    }
}
