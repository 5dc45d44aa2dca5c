//! The key of a server, and random values.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Signs JWTs with ES256. The key lives as long as the server.
#[derive(Debug)]
pub(super) struct Signer {
    key: EcdsaKeyPair,
    key_id: String,
}

impl Signer {
    pub(super) fn generate() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key");
        // The thumbprint of RFC 7638, over the required members in alphabetical order.
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(public_jwk(&key).to_string()));
        Self { key, key_id }
    }

    /// The public key as a JWK Set.
    pub(super) fn jwks(&self) -> Value {
        let mut jwk = public_jwk(&self.key);
        jwk["kid"] = json!(self.key_id);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!("ES256");
        json!({ "keys": [jwk] })
    }

    /// A signed JWT with these claims.
    pub(super) fn sign(&self, typ: &str, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "kid": self.key_id, "typ": typ });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).expect("a signature");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn public_jwk(key: &EcdsaKeyPair) -> Value {
    // Uncompressed: 4, then both coordinates of 32 bytes.
    let point = key.public_key().as_ref();
    let (x, y) = point[1..].split_at(32);
    json!({ "crv": "P-256", "kty": "EC", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) })
}

/// A random value with a prefix that tells what it is, of 192 bits.
pub(super) fn random(prefix: &str) -> String {
    let mut bytes = [0; 24];
    aws_lc_rs::rand::fill(&mut bytes).expect("random bytes");
    format!("{prefix}-{}", URL_SAFE_NO_PAD.encode(bytes))
}
