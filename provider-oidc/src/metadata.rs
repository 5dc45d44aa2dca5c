//! Discovery: OpenID Connect Discovery 1.0 section 4, and RFC 8414 section 3.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use keyfob_auth_core::{AuthError, Context};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};

use crate::{
    http::{self, Endpoint, Reply},
    json,
};

/// How long a document is used before it is fetched anew.
const FRESH: Duration = Duration::from_secs(3600);
/// How long a document that could not be fetched anew is used before the next attempt.
const RETRY: Duration = Duration::from_secs(60);
/// The longest that fetching anew may take while there is an old document: a renewal waits for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many issuers are remembered.
const MOST: usize = 1024;

/// What an authorization server says of itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metadata {
    issuer: String,
    on_loopback: bool,
    members: Map<String, Value>,
}

/// An endpoint that a document can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Token,
    DeviceAuthorization,
    Revocation,
}

impl Which {
    /// Its name in a document and in the settings.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Token => "token_endpoint",
            Self::DeviceAuthorization => "device_authorization_endpoint",
            Self::Revocation => "revocation_endpoint",
        }
    }

    fn offers(self) -> &'static str {
        match self {
            Self::Token => "tokens",
            Self::DeviceAuthorization => "device login",
            Self::Revocation => "revocation",
        }
    }
}

impl Metadata {
    /// Reads a document; its `issuer` must be the one that was asked for, byte for byte (OpenID Connect Discovery section
    /// 4.3, RFC 8414 section 3.3).
    pub(crate) fn parse(issuer: &str, on_loopback: bool, document: &[u8]) -> Result<Self, AuthError> {
        let Some(members) = json::object::<Map<String, Value>>(document) else {
            return Err(AuthError::transient(
                "the metadata document is no JSON object; does something answer in the server's place?",
            ));
        };
        match members.get("issuer").and_then(Value::as_str) {
            Some(found) if found == issuer => Ok(Self { issuer: found.to_owned(), on_loopback, members }),
            Some(found) => Err(AuthError::configuration(format!(
                "the metadata document is of the issuer {found:?}, not of {issuer:?}; they must be equal to the last character"
            ))),
            None => Err(AuthError::configuration("the metadata document names no issuer")),
        }
    }

    /// The endpoint, if the document names it.
    ///
    /// # Errors
    /// If it names none, or one that no secret may be sent to.
    pub(crate) fn endpoint(&self, which: Which) -> Result<Endpoint, AuthError> {
        let key = which.key();
        let bad = |what: &str| {
            AuthError::configuration(format!("the server's `{key}` {what}")).with_origin(self.issuer.clone())
        };
        let Some(text) = json::text(self.members.get(key)) else {
            return Err(AuthError::refused(format!(
                "the server offers no {}: its metadata names no `{key}`",
                which.offers()
            ))
            .with_origin(self.issuer.clone()));
        };
        let endpoint = Endpoint::parse(text).map_err(|what| bad(&what))?;
        if endpoint.is_https() || self.on_loopback {
            Ok(endpoint)
        } else {
            Err(bad("is on this machine, but the issuer is not"))
        }
    }
}

/// The documents that a context's providers share, by issuer.
#[derive(Default)]
pub(crate) struct Documents {
    entries: Mutex<HashMap<String, Arc<Entry>>>,
    tick: AtomicU64,
}

#[derive(Default)]
struct Entry {
    /// Held while the document is fetched: who comes meanwhile waits, and shares what came of it.
    state: tokio::sync::Mutex<State>,
    /// How many attempts have ended.
    attempts: AtomicU64,
    /// When it was last asked for.
    used: AtomicU64,
}

#[derive(Default)]
struct State {
    document: Option<Arc<Metadata>>,
    /// When the document may be fetched again.
    fetch_after: Option<Instant>,
    failure: Option<AuthError>,
}

/// The metadata of the issuer: remembered, or fetched once for everybody who asks meanwhile.
///
/// # Cancellation
/// If who fetches is dropped, the next one fetches.
pub(crate) async fn discover(context: &Context, issuer: &Issuer) -> Result<Arc<Metadata>, AuthError> {
    let entry = context.shared(|| Ok(Documents::default()))?.entry(&issuer.text);
    let seen = entry.attempts.load(SeqCst);
    let mut state = entry.state.lock().await;
    if let Some(document) = &state.document
        && state.fetch_after.is_some_and(|time| Instant::now() < time)
    {
        return Ok(Arc::clone(document));
    }
    if let Some(failure) = &state.failure
        && entry.attempts.load(SeqCst) != seen
    {
        // The attempt that this call waited for.
        return Err(failure.clone());
    }
    let fetched = match &state.document {
        None => fetch(context, issuer).await,
        Some(_) => timeout(PATIENCE, fetch(context, issuer))
            .await
            .unwrap_or_else(|_| Err(AuthError::transient("the metadata document took too long"))),
    };
    entry.attempts.fetch_add(1, SeqCst);
    match fetched {
        Ok(document) => {
            let document = Arc::new(document);
            *state = State {
                document: Some(Arc::clone(&document)),
                fetch_after: Instant::now().checked_add(FRESH),
                failure: None,
            };
            Ok(document)
        }
        Err(error) => match &state.document {
            Some(stale) => {
                tracing::warn!(issuer = issuer.text, %error, "the metadata could not be fetched anew; the old is used");
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

impl Documents {
    fn entry(&self, issuer: &str) -> Arc<Entry> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if !entries.contains_key(issuer) && entries.len() >= MOST {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.used.load(SeqCst));
            if let Some(issuer) = oldest.map(|(issuer, _)| issuer.clone()) {
                entries.remove(&issuer);
            }
        }
        let entry = Arc::clone(entries.entry(issuer.to_owned()).or_default());
        entry.used.store(self.tick.fetch_add(1, SeqCst), SeqCst);
        entry
    }
}

/// The identifier of an authorization server: compared as text, fetched from as a URL.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    pub(crate) text: String,
    url: Endpoint,
}

impl Issuer {
    /// Checks an issuer (OpenID Connect Discovery section 3, RFC 8414 section 2); the error is the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let url = Endpoint::parse(text)?;
        if url.has_query() {
            return Err("must have no query".into());
        }
        Ok(Self { text: text.to_owned(), url })
    }

    /// Where OpenID Connect Discovery section 4.1 has the document: below the issuer's path.
    fn openid_configuration(&self) -> Endpoint {
        self.url.with_path(&format!("{}/.well-known/openid-configuration", self.path()))
    }

    /// Where RFC 8414 section 3.1 has the document: between host and path.
    fn oauth_authorization_server(&self) -> Endpoint {
        self.url.with_path(&format!("/.well-known/oauth-authorization-server{}", self.path()))
    }

    fn path(&self) -> &str {
        let path = self.url.path();
        path.strip_suffix('/').unwrap_or(path)
    }
}

async fn fetch(context: &Context, issuer: &Issuer) -> Result<Metadata, AuthError> {
    let first = match try_fetch(context, issuer, &issuer.openid_configuration()).await? {
        Ok(document) => return Ok(document),
        Err(absent) => absent,
    };
    match try_fetch(context, issuer, &issuer.oauth_authorization_server()).await? {
        Ok(document) => Ok(document),
        Err(_) => Err(first),
    }
}

/// `Ok(Err)` where there is no document, so that it may be elsewhere.
async fn try_fetch(
    context: &Context,
    issuer: &Issuer,
    from: &Endpoint,
) -> Result<Result<Metadata, AuthError>, AuthError> {
    let reply = http::get(context, from).await?;
    judge(issuer, &reply)
}

fn judge(issuer: &Issuer, reply: &Reply) -> Result<Result<Metadata, AuthError>, AuthError> {
    if reply.is_overload() {
        return Err(reply.bare_error("the metadata could not be fetched"));
    }
    if !reply.is_success() {
        let absent = AuthError::configuration("the issuer has no metadata there; is it spelt right?");
        return Ok(Err(reply.error(absent)));
    }
    match Metadata::parse(&issuer.text, issuer.url.is_loopback(), &reply.body) {
        Ok(document) => Ok(Ok(document)),
        // A page that answers for every path.
        Err(error) if json::object::<Value>(&reply.body).is_none() => Ok(Err(reply.error(error))),
        Err(error) => Err(reply.error(error)),
    }
}

#[cfg(test)]
mod tests {
    use keyfob_auth_core::ErrorKind;
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://idp.example/realm";

    fn parse(document: &Value) -> Result<Metadata, AuthError> {
        Metadata::parse(ISSUER, false, document.to_string().as_bytes())
    }

    #[test]
    fn issuer_mismatch_is_refused_byte_for_byte() {
        assert!(parse(&json!({"issuer": ISSUER})).is_ok());
        for other in [
            json!({"issuer": "https://idp.example/realm/"}),
            json!({"issuer": "https://IDP.example/realm"}),
            json!({"issuer": "https://idp.example:443/realm"}),
            json!({"issuer": "http://idp.example/realm"}),
            json!({"issuer": " https://idp.example/realm"}),
            json!({"issuer": ""}),
            json!({"issuer": [ISSUER]}),
            json!({"issuer": null}),
            json!({}),
        ] {
            assert_eq!(parse(&other).unwrap_err().kind(), ErrorKind::Configuration, "{other}");
        }
    }

    #[test]
    fn no_json_object_is_no_verdict() {
        for body in ["", "null", "[]", "<html></html>", "{\"issuer\":"] {
            let error = Metadata::parse(ISSUER, false, body.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Transient, "{body:?}");
        }
    }

    #[test]
    fn endpoints_are_https_unless_the_issuer_is_on_loopback() {
        let document = |url: &str| json!({"issuer": ISSUER, "token_endpoint": url});
        let endpoint = |url: &str| parse(&document(url)).unwrap().endpoint(Which::Token);
        assert!(endpoint("https://elsewhere.example/token?tenant=1").is_ok());
        for bad in ["http://idp.example/token", "http://127.0.0.1/token", "https://idp.example/t#f", "token"]
        {
            assert_eq!(endpoint(bad).unwrap_err().kind(), ErrorKind::Configuration, "{bad}");
        }
        let local = json!({"issuer": "http://127.0.0.1:1", "token_endpoint": "http://127.0.0.1:1/token"});
        let local = Metadata::parse("http://127.0.0.1:1", true, local.to_string().as_bytes()).unwrap();
        assert!(local.endpoint(Which::Token).is_ok());
    }

    #[test]
    fn a_bad_endpoint_that_is_not_used_does_no_harm() {
        let document = parse(&json!({
            "issuer": ISSUER,
            "token_endpoint": "https://idp.example/token",
            "revocation_endpoint": 7,
            "device_authorization_endpoint": "",
            "grant_types_supported": "what?",
        }))
        .unwrap();
        assert!(document.endpoint(Which::Token).is_ok());
        let error = document.endpoint(Which::Revocation).unwrap_err();
        assert!(error.to_string().contains("offers no revocation"), "{error}");
        let error = document.endpoint(Which::DeviceAuthorization).unwrap_err();
        assert!(error.to_string().contains("offers no device login"), "{error}");
    }

    #[test]
    fn well_known_paths_handle_a_terminating_slash_once() {
        for (issuer, oidc, oauth) in [
            (
                "https://a.example",
                "/.well-known/openid-configuration",
                "/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example/",
                "/.well-known/openid-configuration",
                "/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example/r/x",
                "/r/x/.well-known/openid-configuration",
                "/.well-known/oauth-authorization-server/r/x",
            ),
            (
                "https://a.example/r/",
                "/r/.well-known/openid-configuration",
                "/.well-known/oauth-authorization-server/r",
            ),
        ] {
            let issuer = Issuer::parse(issuer).unwrap();
            assert_eq!(issuer.openid_configuration().path(), oidc);
            assert_eq!(issuer.oauth_authorization_server().path(), oauth);
        }
    }

    #[test]
    fn an_issuer_has_neither_query_nor_fragment() {
        for bad in ["https://a.example?x", "https://a.example/#x", "http://a.example", "a.example", ""] {
            assert!(Issuer::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let documents = Documents::default();
        let first = documents.entry("first");
        for n in 0..MOST {
            if n % 100 == 0 {
                documents.entry("first");
            }
            documents.entry(&n.to_string());
        }
        assert_eq!(documents.entries.lock().unwrap().len(), MOST);
        assert!(Arc::ptr_eq(&first, &documents.entry("first")), "what is in use stays");
    }
}
