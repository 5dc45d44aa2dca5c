//! The keys that issuers sign with (`jwks_uri`), and the signatures of their ID tokens.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::jwk::Jwk;
use keyfob_auth_core::{AuthError, Context};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use crate::{
    id_token::{self, refused},
    json,
    recent::Recent,
};

/// How long keys are used before they are fetched anew.
const FRESH: Duration = Duration::from_secs(3600);
/// How long keys that could not be fetched anew are used before the next attempt.
const RETRY: Duration = Duration::from_secs(60);
/// The longest that fetching anew may take while there are old keys that may do.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long no keys are fetched for a token's sake after that has helped nothing.
const COOLDOWN: Duration = Duration::from_secs(30);
/// How many keys of an issuer are looked at.
const MOST_KEYS: usize = 100;

/// Checks the signature of an ID token by the issuer's keys (OpenID Connect Core section 3.1.3.7, points 6 to 8).
///
/// The algorithm must be the registered one, else any that signs with a private key. The keys are fetched when they are
/// first needed, each hour, and for a token that they do not vouch for (a new `kid`): the last at most once in 30 s
/// unless it helps. All who ask meanwhile share one fetch. `fetch` yields the body of `jwks_uri`; it is polled at most
/// once, and only if it is needed. `keys` names that URL and the network that it is asked by: only who would fetch the
/// same may share what was fetched.
///
/// # Errors
/// Refused if the signature does not hold; the error of `fetch` if there are no keys to tell.
///
/// # Cancellation
/// If who fetches is dropped, the next one fetches.
pub(crate) fn verify_id_token<'a>(
    context: &'a Context,
    keys: &'a str,
    registered: Option<&'a str>,
    token: &'a str,
    fetch: impl Future<Output = Result<Zeroizing<Vec<u8>>, AuthError>> + Send + 'a,
) -> impl Future<Output = Result<(), AuthError>> + Send + 'a {
    // It is large, and would be part of each future here.
    let fetch = Box::pin(fetch);
    async move {
        let signed = Signed::read(token, registered)?;
        let issuer = context.shared(|| Ok(Issuers::default()))?.0.get(keys);
        issuer.check(&signed, fetch).await
    }
}

/// How keys are fetched.
type Fetch<'a> = Pin<Box<dyn Future<Output = Result<Zeroizing<Vec<u8>>, AuthError>> + Send + 'a>>;

/// An ID token, as its signature is checked.
struct Signed<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    input: &'a str,
    signature: Vec<u8>,
}

impl<'a> Signed<'a> {
    fn read(token: &'a str, registered: Option<&str>) -> Result<Self, AuthError> {
        let token = id_token::Parts::split(token)?;
        let name = json::text(token.header.get("alg")).unwrap_or_default();
        let algorithm = match Algorithm::from_name(name) {
            Some(algorithm) if registered.is_none_or(|registered| registered == name) => algorithm,
            Some(_) => {
                return Err(refused(&format!(
                    "it is signed by {name}, not by {} as registered (`alg`)",
                    registered.unwrap_or_default()
                )));
            }
            // With a public key for a secret, anybody could sign by them.
            None if name.starts_with("HS") => {
                return Err(refused(
                    "it is signed with a shared secret (`alg` HS256, HS384 or HS512); register the client for RS256 or ES256",
                ));
            }
            None => return Err(refused("it is signed by an algorithm that is not known here (`alg`)")),
        };
        let signature = URL_SAFE_NO_PAD.decode(token.signature);
        Ok(Self {
            algorithm,
            key_id: json::text(token.header.get("kid")).map(str::to_owned),
            input: token.input,
            signature: signature.map_err(|_| refused("its signature cannot be read"))?,
        })
    }

    /// Checks it by these keys.
    fn check(&self, keys: &[Jwk]) -> Result<(), AuthError> {
        let named = |key: &&Jwk| self.key_id.is_none() || key.key_id() == self.key_id.as_deref();
        let fitting = keys.iter().filter(named).filter_map(|key| self.algorithm.verifier(key));
        let verifiers: Vec<_> = fitting.collect();
        match (&self.key_id, verifiers.len()) {
            (Some(_), 0) => Err(refused("it is signed with a key that the server does not publish (`kid`)")),
            (None, 0) => Err(refused("the server publishes no key that could have signed it")),
            (None, 2..) => {
                Err(refused("it does not say with which of the server's keys it is signed (`kid`)"))
            }
            _ if verifiers.iter().any(|one| one.verify(self.input.as_bytes(), &self.signature).is_ok()) => {
                Ok(())
            }
            _ => Err(refused("its signature is wrong")),
        }
    }
}

/// The keys that a context's providers share, by their URL and network.
#[derive(Default)]
struct Issuers(Recent<Issuer>);

#[derive(Default)]
struct Issuer {
    known: Mutex<Known>,
    /// Held while keys are fetched: who needs them waits, and shares what came of it.
    turn: tokio::sync::Mutex<()>,
    /// How many attempts have ended.
    attempts: AtomicU64,
}

/// What is known of an issuer's keys.
#[derive(Clone, Default)]
struct Known {
    keys: Option<Arc<[Jwk]>>,
    /// When they may be fetched again because they are old.
    fetch_after: Option<Instant>,
    /// When they may be fetched again because they do not vouch for a token.
    search_after: Option<Instant>,
    /// What came of the last attempt, if no keys did.
    failure: Option<AuthError>,
}

impl Known {
    fn fresh(&self) -> Option<&Arc<[Jwk]>> {
        self.keys.as_ref().filter(|_| to_come(self.fetch_after))
    }
}

impl Issuer {
    async fn check(&self, signed: &Signed<'_>, fetch: Fetch<'_>) -> Result<(), AuthError> {
        let (keys, fetch) = self.keys(fetch).await?;
        let Err(failure) = signed.check(&keys) else { return Ok(()) };
        let Some(keys) = self.newer_than(&keys, fetch).await? else { return Err(failure) };
        signed.check(&keys)?;
        self.known().search_after = None;
        Ok(())
    }

    /// The keys: remembered, or fetched. With them `fetch`, unless it, or one that this call waited for, has just been
    /// polled.
    async fn keys<'a>(&self, fetch: Fetch<'a>) -> Result<(Arc<[Jwk]>, Option<Fetch<'a>>), AuthError> {
        let seen = self.attempts.load(SeqCst);
        if let Some(keys) = self.known().fresh() {
            return Ok((Arc::clone(keys), Some(fetch)));
        }
        let _turn = self.turn.lock().await;
        let known = self.known().clone();
        if let Some(keys) = known.fresh() {
            return Ok((Arc::clone(keys), None));
        }
        let keys = match (known.keys, known.failure) {
            (None, Some(failure)) if self.attempts.load(SeqCst) != seen => Err(failure),
            (None, _) => self.keep(fetch.await),
            (Some(stale), _) => {
                let late = |_| Err(AuthError::transient("the server's keys took too long"));
                self.keep(timeout(PATIENCE, fetch).await.unwrap_or_else(late)).or_else(|error| {
                    tracing::warn!(%error, "the server's keys could not be fetched anew; the old are used");
                    self.known().fetch_after = Instant::now().checked_add(RETRY);
                    Ok(stale)
                })
            }
        };
        Ok((keys?, None))
    }

    /// Other keys than these, if somebody has fetched them or they may be fetched now.
    async fn newer_than(
        &self,
        keys: &Arc<[Jwk]>,
        fetch: Option<Fetch<'_>>,
    ) -> Result<Option<Arc<[Jwk]>>, AuthError> {
        let _turn = self.turn.lock().await;
        let known = self.known().clone();
        if let Some(newer) = known.keys.filter(|newer| !Arc::ptr_eq(newer, keys)) {
            return Ok(Some(newer));
        }
        let Some(fetch) = fetch.filter(|_| !to_come(known.search_after)) else {
            return known.failure.map_or(Ok(None), Err);
        };
        let fetched = self.keep(fetch.await);
        self.known().search_after = Instant::now().checked_add(COOLDOWN);
        fetched.map(Some)
    }

    /// What came of an attempt.
    fn keep(&self, fetched: Result<Zeroizing<Vec<u8>>, AuthError>) -> Result<Arc<[Jwk]>, AuthError> {
        let keys: Result<Arc<[Jwk]>, _> = fetched.and_then(|body| parse(&body)).map(Arc::from);
        self.attempts.fetch_add(1, SeqCst);
        let mut known = self.known();
        known.failure = keys.as_ref().err().cloned();
        if let Ok(keys) = &keys {
            known.keys = Some(Arc::clone(keys));
            known.fetch_after = Instant::now().checked_add(FRESH);
        }
        keys
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_come(time: Option<Instant>) -> bool {
    time.is_some_and(|time| Instant::now() < time)
}

/// The keys of a JWK set (RFC 7517 section 5), as many of them as can be read.
pub(super) fn parse(body: &[u8]) -> Result<Vec<Jwk>, AuthError> {
    let mut members: Map<String, Value> = json::object(body).unwrap_or_default();
    let Some(Value::Array(keys)) = members.remove("keys") else {
        return Err(AuthError::transient(
            "the server's keys are no JWK set; does something answer in the server's place?",
        ));
    };
    let readable = |key| match key {
        Value::Object(members) => Jwk::from_map(members)
            .inspect_err(
                |error| tracing::debug!(%error, "a key of the server cannot be read and is passed over"),
            )
            .ok(),
        _ => None,
    };
    Ok(keys.into_iter().take(MOST_KEYS).filter_map(readable).collect())
}
