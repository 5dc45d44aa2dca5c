//! Keys are made anew by OpenSSL for each run; the few that are written down are test vectors of RFCs.

mod bad_keys;
mod fuzz;
mod jwks;
mod keys;
mod source;

use std::sync::OnceLock;

use keyfob_auth_core::{AuthError, SecretString};
use openssl::{
    asn1::Asn1Time,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{Id, PKey, Private},
    pkey_ctx::PkeyCtx,
    rsa::Rsa,
    x509::X509,
};

use super::{KeyOptions, SigningKey};

/// An RSA key that all tests share: it takes time to make one.
fn rsa() -> PKey<Private> {
    static KEY: OnceLock<PKey<Private>> = OnceLock::new();
    KEY.get_or_init(|| PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()).clone()
}

fn ec(curve: Nid) -> PKey<Private> {
    PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap()).unwrap()
}

fn p256() -> PKey<Private> {
    ec(Nid::X9_62_PRIME256V1)
}

fn ed25519() -> PKey<Private> {
    PKey::generate_ed25519().unwrap()
}

/// An RSA key for PSS alone.
fn rsa_pss() -> PKey<Private> {
    let mut generator = PkeyCtx::new_id(Id::RSA_PSS).unwrap();
    generator.keygen_init().unwrap();
    generator.set_rsa_keygen_bits(2048).unwrap();
    generator.keygen().unwrap()
}

fn pkcs8(key: &PKey<Private>) -> String {
    String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap()
}

/// A certificate of the key, by another.
fn certificate(key: &PKey<Private>) -> X509 {
    let mut certificate = X509::builder().unwrap();
    certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    certificate.set_pubkey(key).unwrap();
    certificate.sign(&rsa(), MessageDigest::sha256()).unwrap();
    certificate.build()
}

fn certificate_pem(key: &PKey<Private>) -> String {
    String::from_utf8(certificate(key).to_pem().unwrap()).unwrap()
}

fn read(text: &str, options: &KeyOptions) -> Result<SigningKey, AuthError> {
    SigningKey::from_text(&SecretString::from(text), options)
}

fn with_passphrase(passphrase: &str) -> KeyOptions {
    KeyOptions { passphrase: Some(passphrase.into()), ..KeyOptions::default() }
}

fn with_algorithm(algorithm: &str) -> KeyOptions {
    KeyOptions { algorithm: Some(algorithm.into()), ..KeyOptions::default() }
}

fn with_key_id(id: &str) -> KeyOptions {
    KeyOptions { key_id: Some(id.into()), ..KeyOptions::default() }
}

/// The private key as a JWK, with these members changed; null removes one.
fn jwk(key: &PKey<Private>, changes: &serde_json::Value) -> serde_json::Value {
    use keyfob_auth_core::ExposeSecret as _;
    let jwk = read(&pkcs8(key), &KeyOptions::default()).unwrap().to_jwk_secret().unwrap();
    let mut jwk: serde_json::Value = serde_json::from_str(jwk.expose_secret()).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        jwk[name] = value.clone();
    }
    jwk.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    jwk
}
