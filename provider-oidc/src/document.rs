//! Documents that change seldom: remembered, and fetched once for everybody who asks meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use keyfob_auth_core::AuthError;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};

use crate::{Oidc, http::Endpoint, json, recent::Recent};

/// How long a document that could not be fetched anew is used before the next attempt.
const RETRY: Duration = Duration::from_secs(60);
/// The longest that fetching anew may take while there is an old document: a renewal waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A document, once it was fetched.
pub(crate) struct Remembered<T> {
    /// Held while the document is fetched: who comes meanwhile waits, and shares what came of it.
    state: tokio::sync::Mutex<State<T>>,
    /// How many attempts have ended.
    attempts: AtomicU64,
}

struct State<T> {
    document: Option<Arc<T>>,
    /// When the document may be fetched again.
    fetch_after: Option<Instant>,
    failure: Option<AuthError>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        let state = State { document: None, fetch_after: None, failure: None };
        Self { state: tokio::sync::Mutex::new(state), attempts: AtomicU64::default() }
    }
}

impl<T> Remembered<T> {
    /// The document as it is remembered, while it is fresh; else as it is fetched. An old one is used on while it cannot be
    /// fetched anew.
    ///
    /// # Cancellation
    /// If who fetches is dropped, the next one fetches.
    pub(crate) async fn get(
        &self,
        name: &str,
        fresh: Duration,
        fetch: impl Future<Output = Result<T, AuthError>>,
    ) -> Result<Arc<T>, AuthError> {
        let seen = self.attempts.load(SeqCst);
        let mut state = self.state.lock().await;
        if let Some(document) = &state.document
            && state.fetch_after.is_some_and(|time| Instant::now() < time)
        {
            return Ok(Arc::clone(document));
        }
        if let Some(failure) = &state.failure
            && self.attempts.load(SeqCst) != seen
        {
            // The attempt that this call waited for.
            return Err(failure.clone());
        }
        let fetched = match &state.document {
            None => fetch.await,
            Some(_) => timeout(PATIENCE, fetch)
                .await
                .unwrap_or_else(|_| Err(AuthError::transient("the document took too long"))),
        };
        self.attempts.fetch_add(1, SeqCst);
        match fetched {
            Ok(document) => {
                let document = Arc::new(document);
                *state = State {
                    document: Some(Arc::clone(&document)),
                    fetch_after: Instant::now().checked_add(fresh),
                    failure: None,
                };
                Ok(document)
            }
            Err(error) => match &state.document {
                Some(stale) => {
                    tracing::warn!(name, %error, "the document could not be fetched anew; the old is used");
                    let stale = Arc::clone(stale);
                    state.fetch_after = Instant::now().checked_add(RETRY);
                    Ok(stale)
                }
                None => {
                    state.failure = Some(error.clone());
                    Err(error)
                }
            },
        }
    }
}

/// Documents of products' own, by URL and network.
#[derive(Default)]
struct Documents(Recent<Remembered<Map<String, Value>>>);

impl Oidc {
    /// A JSON object that a product publishes beside the standards' discovery. It is fetched by this provider's network, once
    /// for all of the context's providers that have the same network, and remembered for as long as `fresh` says; an old one is used on while it cannot
    /// be fetched anew.
    ///
    /// # Errors
    /// Transient if it cannot be fetched and none is remembered; refused if the server says no; configuration for a URL that
    /// is neither https nor on loopback.
    ///
    /// # Cancellation
    /// If who fetches is dropped, the next one fetches.
    pub async fn document(&self, url: &str, fresh: Duration) -> Result<Arc<Map<String, Value>>, AuthError> {
        let url = url.to_owned();
        self.run(|this| async move { this.fetch_document(&url, fresh).await }).await
    }

    async fn fetch_document(&self, url: &str, fresh: Duration) -> Result<Arc<Map<String, Value>>, AuthError> {
        let endpoint =
            Endpoint::parse(url).map_err(|what| AuthError::configuration(format!("{url:?} {what}")))?;
        let documents = self.context().shared(|| Ok(Documents::default()))?;
        let fetch = async {
            let reply = self.http.get(&endpoint).await?;
            if !reply.is_success() {
                return Err(reply.bare_error("the document could not be fetched"));
            }
            json::object(&reply.body).ok_or_else(|| {
                reply.error(AuthError::transient(
                    "the document is no JSON object; does something answer in the server's place?",
                ))
            })
        };
        documents.0.get(&self.http.network.heard_of(url)).get(url, fresh, fetch).await
    }
}
