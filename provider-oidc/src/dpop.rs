//! DPoP: tokens that are bound to a key (RFC 9449).

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{
    AccessToken, AuthError, Binding, Clock, Context, ExposeSecret, Presentation, RequestSigner, SecretString,
};
use serde_json::{Map, Value};

use crate::{
    Signer as _,
    assertion::random,
    http::Clocks,
    jose::{KeyOptions, SigningKey},
};

/// The header of a proof (RFC 9449 section 4.1).
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");
/// The header of a nonce (RFC 9449 section 8.1).
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// The longest nonce that is kept.
const LONGEST_NONCE: usize = 1024;
/// How many nonces are kept, and how many keys.
const MOST: usize = 1024;

/// The key that a login's tokens are bound to.
pub(crate) struct DpopKey {
    key: SigningKey,
}

impl DpopKey {
    /// A new key, for a new login.
    pub(crate) fn generate() -> Result<Self, AuthError> {
        Ok(Self { key: SigningKey::generate_p256()? })
    }

    /// The key that a login holds.
    pub(crate) fn read(secret: &SecretString) -> Result<Self, AuthError> {
        let key = SigningKey::from_text(secret, &KeyOptions::default())
            .map_err(|error| error.with_origin("the DPoP key of the stored login"))?;
        Ok(Self { key })
    }

    /// As a login holds it.
    pub(crate) fn to_secret(&self) -> Result<SecretString, AuthError> {
        self.key.to_jwk_secret()
    }

    /// What it signs by.
    pub(crate) fn algorithm(&self) -> &str {
        self.key.algorithm()
    }

    /// `dpop_jkt` (RFC 9449 section 10) and `cnf.jkt`.
    pub(crate) fn thumbprint(&self) -> String {
        self.key.thumbprint()
    }

    /// A proof for one request (RFC 9449 section 4.2).
    pub(crate) fn proof(&self, about: &About<'_>) -> Result<HeaderValue, AuthError> {
        let mut header = Map::new();
        header.insert("alg".into(), self.key.algorithm().into());
        header.insert("typ".into(), "dpop+jwt".into());
        header.insert("jwk".into(), Value::Object(self.key.public_jwk()));
        let mut claims = Map::new();
        claims.insert("htm".into(), about.method.into());
        claims.insert("htu".into(), about.uri.into());
        let now = about.now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        claims.insert("iat".into(), now.into());
        claims.insert("jti".into(), random(16)?.into());
        if let Some(nonce) = about.nonce {
            claims.insert("nonce".into(), nonce.into());
        }
        if let Some(token) = about.access_token {
            let hash = hmac_sha256::Hash::hash(token.expose_secret().as_bytes());
            claims.insert("ath".into(), URL_SAFE_NO_PAD.encode(hash).into());
        }
        let encode = |part: Map<String, Value>| URL_SAFE_NO_PAD.encode(Value::Object(part).to_string());
        let mut proof = format!("{}.{}", encode(header), encode(claims));
        let signature = self.key.signature(proof.as_bytes())?;
        proof.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut proof);
        HeaderValue::from_str(&proof)
            .map_err(|error| AuthError::refused("a DPoP proof fits no header").with_source(error))
    }
}

impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

/// What a proof is about.
pub(crate) struct About<'a> {
    pub(crate) method: &'a str,
    /// Without query and fragment.
    pub(crate) uri: &'a str,
    pub(crate) now: SystemTime,
    pub(crate) nonce: Option<&'a str>,
    /// The token that goes with it; none at the token endpoint.
    pub(crate) access_token: Option<&'a SecretString>,
}

/// Nonces by origin; those of authorization servers and of resource servers apart, as a host may be both.
#[derive(Default)]
pub(crate) struct Nonces {
    of_authorization_servers: Mutex<HashMap<String, String>>,
    of_resources: Mutex<HashMap<String, String>>,
}

/// Which server's nonces.
#[derive(Clone, Copy)]
pub(crate) enum Server {
    Authorization,
    Resource,
}

impl Nonces {
    fn of(&self, server: Server) -> &Mutex<HashMap<String, String>> {
        match server {
            Server::Authorization => &self.of_authorization_servers,
            Server::Resource => &self.of_resources,
        }
    }

    pub(crate) fn get(&self, server: Server, origin: &str) -> Option<String> {
        self.of(server).lock().unwrap_or_else(PoisonError::into_inner).get(origin).cloned()
    }

    /// Keeps the nonce of an answer, whatever its status (RFC 9449 section 8.2), and returns it.
    pub(crate) fn learn<'a>(&self, server: Server, origin: &str, headers: &'a HeaderMap) -> Option<&'a str> {
        let nonce = headers.get(DPOP_NONCE).and_then(|nonce| nonce.to_str().ok());
        let nonce = nonce.filter(|nonce| !nonce.is_empty() && nonce.len() <= LONGEST_NONCE)?;
        let mut nonces = self.of(server).lock().unwrap_or_else(PoisonError::into_inner);
        if nonces.len() >= MOST && !nonces.contains_key(origin) {
            // A server whose nonce is gone demands one anew.
            nonces.clear();
        }
        nonces.insert(origin.to_owned(), nonce.to_owned());
        Some(nonce)
    }
}

/// Whether an answer of a resource refuses the proof for this reason (RFC 9449 sections 7.1 and 9).
fn refuses(status: StatusCode, headers: &HeaderMap, error: &str) -> bool {
    let challenges = || headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
    status == StatusCode::UNAUTHORIZED && challenges().any(|challenge| challenge.contains(error))
}

/// Signs requests to resources (RFC 9449 section 7). Its nonces are the context's, and so outlive it.
pub(crate) struct DpopSigner {
    key: DpopKey,
    authorization: HeaderValue,
    token: SecretString,
    clock: Clock,
    nonces: Arc<Nonces>,
    clocks: Arc<Clocks>,
}

impl DpopSigner {
    /// For the token, with the login's key.
    ///
    /// # Errors
    /// Refused if the token is bound to another key: exchanges at the same time may each have made one, and the login keeps
    /// the last.
    pub(crate) fn new(context: &Context, token: &AccessToken, key: &SecretString) -> Result<Self, AuthError> {
        let key = DpopKey::read(key)?;
        if let Binding::Dpop(bound) = token.binding()
            && *bound != key.thumbprint()
        {
            return Err(AuthError::refused("the token is bound to another key than the login's"));
        }
        let Presentation::Header(_, authorization) =
            Presentation::header(header::AUTHORIZATION, "DPoP ", token)?
        else {
            return Err(AuthError::refused("the access token fits no header"));
        };
        Ok(Self {
            key,
            authorization,
            token: token.secret().clone(),
            clock: context.clock().clone(),
            nonces: context.shared(|| Ok(Nonces::default()))?,
            clocks: context.shared(|| Ok(Clocks::default()))?,
        })
    }
}

impl fmt::Debug for DpopSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopSigner").field("key", &self.key).finish_non_exhaustive()
    }
}

impl RequestSigner for DpopSigner {
    fn sign(&self, method: &Method, uri: &Uri) -> Result<HeaderMap, AuthError> {
        let origin = origin(uri);
        let nonce = self.nonces.get(Server::Resource, &origin);
        let target = format!("{origin}{}", uri.path());
        let proof = self.key.proof(&About {
            method: method.as_str(),
            uri: &target,
            now: self.clocks.time_at(&host(uri), self.clock.wall()),
            nonce: nonce.as_deref(),
            access_token: Some(&self.token),
        })?;
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        headers.insert(DPOP, proof);
        Ok(headers)
    }

    fn observe(&self, uri: &Uri, status: StatusCode, headers: &HeaderMap) -> bool {
        let host = host(uri);
        let known = self.clocks.skew(&host);
        self.clocks.learn(&host, headers, self.clock.wall());
        let learnt = self.nonces.learn(Server::Resource, &origin(uri), headers).is_some();
        // A nonce not only if it is new: another request may have learnt it since this one was signed.
        learnt && refuses(status, headers, "use_dpop_nonce")
            || self.clocks.has_moved(&host, known) && refuses(status, headers, "invalid_dpop_proof")
    }
}

/// Whose clock it is, as [`Endpoint::host`](crate::http::Endpoint::host) names it.
fn host(uri: &Uri) -> String {
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    format!("{}:{port}", uri.host().unwrap_or_default().to_ascii_lowercase())
}

/// Scheme, host and port; the default port is left out, as in the normal form that servers compare (RFC 9449 section 4.3).
fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("https");
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    match uri.port_u16() {
        Some(port) if !matches!((scheme, port), ("https", 443) | ("http", 80)) => {
            format!("{scheme}://{host}:{port}")
        }
        _ => format!("{scheme}://{host}"),
    }
}

/// For the tests of arbitrary input.
#[cfg(test)]
pub(crate) fn observe_anything(headers: &HeaderMap) {
    let nonces = Nonces::default();
    for server in [Server::Authorization, Server::Resource] {
        let learnt = nonces.learn(server, "https://api.example", headers).map(str::to_owned);
        assert_eq!(nonces.get(server, "https://api.example"), learnt);
        assert!(learnt.is_none_or(|nonce| nonce.len() <= LONGEST_NONCE));
    }
    refuses(StatusCode::UNAUTHORIZED, headers, "use_dpop_nonce");
}
