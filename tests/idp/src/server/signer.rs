//! The keys of a server, and random values.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    algorithm::{Algorithm, SigningKey, signing_input},
    verify::{Jwt, VerificationKey},
};

/// The signing keys of a server, one for each of its algorithms, and their predecessors.
#[derive(Debug)]
pub(super) struct Signer {
    /// Newest first.
    keys: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    key: SigningKey,
    current: bool,
    published: bool,
}

impl Held {
    fn new(key: SigningKey) -> Self {
        Self { key, current: true, published: true }
    }
}

/// An ID token before it is signed, for [`Settings::id_token`](super::Settings::id_token) to spoil.
#[derive(Clone, Debug)]
pub struct IdToken {
    /// The header: `alg`, `kid` and `typ`.
    pub header: Value,
    /// The claims.
    pub claims: Value,
    /// What signs it.
    pub signature: IdTokenSignature,
    /// What the answer holds in its place, if anything.
    pub instead: Option<String>,
}

/// What signs an ID token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdTokenSignature {
    /// The server's key.
    Right,
    /// A key that is not published, of the same algorithm.
    Stranger,
    /// Nothing: the third part is empty. The header still says what it says.
    Missing,
    /// HMAC with SHA-256, keyed by the public key: what a client that trusts the header's `alg` would accept.
    HmacOfPublicKey,
}

impl Signer {
    pub(super) fn generate(algorithms: &[Algorithm]) -> Self {
        Self { keys: algorithms.iter().copied().map(SigningKey::of_new_server).map(Held::new).collect() }
    }

    /// Makes a new key for each algorithm; the old ones stay published or not.
    pub(super) fn rotate(&mut self, keep: bool) {
        let mut algorithms = Vec::new();
        for held in &mut self.keys {
            if held.current {
                algorithms.push(held.key.algorithm());
            }
            held.current = false;
            held.published &= keep;
        }
        let new = algorithms.into_iter().map(SigningKey::generate).map(Held::new);
        self.keys.splice(0..0, new.collect::<Vec<_>>());
    }

    /// The published keys, newest first.
    pub(super) fn jwks(&self) -> Vec<Value> {
        self.keys.iter().filter(|held| held.published).map(|held| held.key.jwk()).collect()
    }

    /// A JWT signed with the key of an algorithm, or of the first one.
    pub(super) fn sign(&self, algorithm: Option<Algorithm>, typ: &str, claims: &Value) -> String {
        self.key(algorithm).sign(typ, claims)
    }

    /// The algorithm that a wish for one comes to.
    pub(super) fn algorithm(&self, wish: Option<Algorithm>) -> Algorithm {
        self.key(wish).algorithm()
    }

    /// An ID token with these claims, ready to be spoilt.
    pub(super) fn draft(&self, algorithm: Option<Algorithm>, claims: Value) -> IdToken {
        let key = self.key(algorithm);
        let header = json!({ "alg": key.algorithm().name(), "kid": key.key_id(), "typ": "JWT" });
        IdToken { header, claims, signature: IdTokenSignature::Right, instead: None }
    }

    /// Signs an ID token as it says; the key is the one that its draft named.
    pub(super) fn finish(&self, algorithm: Option<Algorithm>, draft: IdToken) -> String {
        if let Some(instead) = draft.instead {
            return instead;
        }
        let key = self.key(algorithm);
        let (header, claims) = (&draft.header, &draft.claims);
        match draft.signature {
            IdTokenSignature::Right => key.sign_with_header(header, claims),
            IdTokenSignature::Stranger => {
                SigningKey::generate(key.algorithm()).sign_with_header(header, claims)
            }
            IdTokenSignature::Missing => format!("{}.", signing_input(header, claims)),
            IdTokenSignature::HmacOfPublicKey => {
                let message = signing_input(header, claims);
                let secret = hmac::Key::new(hmac::HMAC_SHA256, key.public_bytes());
                let tag = hmac::sign(&secret, message.as_bytes());
                format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
            }
        }
    }

    /// Tells whether the server signed a JWT, with a key of today or of before.
    pub(super) fn signed(&self, jwt: &Jwt) -> bool {
        self.keys.iter().any(|held| jwt.is_signed_by(&VerificationKey::jwk(held.key.jwk())))
    }

    fn key(&self, algorithm: Option<Algorithm>) -> &SigningKey {
        let mut current = self.keys.iter().filter(|held| held.current).map(|held| &held.key);
        let wished = algorithm.and_then(|wish| current.clone().find(|key| key.algorithm() == wish));
        wished.or_else(|| current.next()).expect("the settings name a signing algorithm")
    }
}

/// A random value with a prefix that tells what it is, of 192 bits.
pub(super) fn random(prefix: &str) -> String {
    let mut bytes = [0; 24];
    aws_lc_rs::rand::fill(&mut bytes).expect("random bytes");
    format!("{prefix}-{}", URL_SAFE_NO_PAD.encode(bytes))
}
