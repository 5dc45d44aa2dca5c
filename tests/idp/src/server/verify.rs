//! JWTs of others: read, and their signatures verified.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaPublicKeyComponents,
        UnparsedPublicKey, VerificationAlgorithm,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer, pem::PemObject as _},
    server::ParsedCertificate,
};
use serde_json::{Map, Value};

use super::algorithm::{Algorithm, certificate_thumbprint};

/// A public key that signatures of a client or an issuer are verified with.
#[derive(Clone, Debug)]
pub struct VerificationKey {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Jwk(Value),
    /// A SubjectPublicKeyInfo, and the thumbprint of the certificate it is from.
    Spki(Vec<u8>, Option<String>),
}

impl VerificationKey {
    /// A public JWK.
    pub fn jwk(jwk: Value) -> Self {
        Self { form: Form::Jwk(jwk) }
    }

    /// The keys of a JWK Set.
    pub fn jwks(set: &Value) -> Vec<Self> {
        set["keys"].as_array().into_iter().flatten().cloned().map(Self::jwk).collect()
    }

    /// A public key (`PUBLIC KEY`) or a certificate in PEM. With a certificate the header's `x5t#S256`, if there is
    /// one, has to be that certificate's.
    ///
    /// # Panics
    ///
    /// If the text is neither.
    pub fn pem(pem: &str) -> Self {
        if pem.contains("BEGIN CERTIFICATE") {
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate in PEM");
            let spki = ParsedCertificate::try_from(&der).expect("a certificate").subject_public_key_info();
            return Self { form: Form::Spki(spki.to_vec(), Some(certificate_thumbprint(&der))) };
        }
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).expect("a public key in PEM");
        Self { form: Form::Spki(spki.to_vec(), None) }
    }

    fn key_id(&self) -> Option<&str> {
        match &self.form {
            Form::Jwk(jwk) => jwk["kid"].as_str(),
            Form::Spki(..) => None,
        }
    }
}

/// A JWT in its parts. Nothing is verified yet.
#[derive(Debug)]
pub(super) struct Jwt {
    pub(super) header: Map<String, Value>,
    pub(super) claims: Map<String, Value>,
    message: String,
    signature: Vec<u8>,
}

impl Jwt {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err(format!("a JWT has three parts, this one {}", parts.len()));
        };
        let decode = |name: &str, part: &str| {
            URL_SAFE_NO_PAD.decode(part).map_err(|error| format!("the {name} is not base64url: {error}"))
        };
        let object = |name: &str, part: &str| {
            serde_json::from_slice(&decode(name, part)?)
                .map_err(|error| format!("the {name} is not a JSON object: {error}"))
        };
        Ok(Self {
            header: object("header", header)?,
            claims: object("claims", claims)?,
            message: format!("{header}.{claims}"),
            signature: decode("signature", signature)?,
        })
    }

    pub(super) fn algorithm_name(&self) -> &str {
        self.header.get("alg").and_then(Value::as_str).unwrap_or_default()
    }

    /// A claim that is text.
    pub(super) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// A claim that is a point in time, in seconds.
    pub(super) fn seconds(&self, claim: &str) -> Option<f64> {
        self.claims.get(claim).and_then(Value::as_f64)
    }

    /// Verifies the signature with the key that the header names, or with any if neither says.
    pub(super) fn verify(&self, keys: &[VerificationKey]) -> Result<Algorithm, String> {
        let name = self.algorithm_name();
        let algorithm = Algorithm::named(name)
            .ok_or_else(|| format!("the algorithm {name:?} is not one of {:?}", Algorithm::names()))?;
        let wanted = self.header.get("kid").and_then(Value::as_str);
        let named = |key: &&VerificationKey| match (wanted, key.key_id()) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        };
        let candidates: Vec<&VerificationKey> = keys.iter().filter(named).collect();
        if candidates.is_empty() {
            return Err(format!("no key is registered with the kid {wanted:?}"));
        }
        if candidates.into_iter().any(|key| self.is_signed_by(key)) {
            Ok(algorithm)
        } else {
            Err(format!("the {name} signature is wrong"))
        }
    }

    /// Verifies an HMAC with a client's secret.
    pub(super) fn verify_hmac(&self, secret: &str) -> Result<(), String> {
        let algorithm = match self.algorithm_name() {
            "HS256" => hmac::HMAC_SHA256,
            "HS384" => hmac::HMAC_SHA384,
            "HS512" => hmac::HMAC_SHA512,
            other => return Err(format!("the algorithm {other:?} is not HS256, HS384 or HS512")),
        };
        let key = hmac::Key::new(algorithm, secret.as_bytes());
        hmac::verify(&key, self.message.as_bytes(), &self.signature)
            .map_err(|_| "the HMAC is wrong".to_owned())
    }

    pub(super) fn is_signed_by(&self, key: &VerificationKey) -> bool {
        let Some(algorithm) = Algorithm::named(self.algorithm_name()) else { return false };
        match &key.form {
            Form::Jwk(jwk) => self.is_signed_by_jwk(algorithm, jwk),
            Form::Spki(spki, thumbprint) => {
                let claimed = self.header.get("x5t#S256").and_then(Value::as_str);
                let is_it = claimed.is_none() || claimed == thumbprint.as_deref();
                is_it && self.is_signed_by_bytes(algorithm, spki)
            }
        }
    }

    fn is_signed_by_jwk(&self, algorithm: Algorithm, jwk: &Value) -> bool {
        if jwk["alg"].as_str().is_some_and(|alg| alg != algorithm.name()) {
            return false;
        }
        let member = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap_or_default()).ok();
        match (algorithm, jwk["kty"].as_str(), jwk["crv"].as_str()) {
            (Algorithm::EdDsa, Some("OKP"), Some("Ed25519")) => {
                member("x").is_some_and(|x| self.is_signed_by_bytes(algorithm, &x))
            }
            (Algorithm::Es256, Some("EC"), Some("P-256"))
            | (Algorithm::Es384, Some("EC"), Some("P-384"))
            | (Algorithm::Es512, Some("EC"), Some("P-521")) => {
                let (Some(x), Some(y)) = (member("x"), member("y")) else { return false };
                self.is_signed_by_bytes(algorithm, &[&[4], &x[..], &y[..]].concat())
            }
            (algorithm, Some("RSA"), _) if algorithm.is_rsa() => {
                let (Some(n), Some(e)) = (member("n"), member("e")) else { return false };
                let key = RsaPublicKeyComponents { n, e };
                key.verify(rsa(algorithm), self.message.as_bytes(), &self.signature).is_ok()
            }
            _ => false,
        }
    }

    fn is_signed_by_bytes(&self, algorithm: Algorithm, key: &[u8]) -> bool {
        let how: &'static dyn VerificationAlgorithm = match algorithm {
            Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
            Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
            Algorithm::Es512 => &ECDSA_P521_SHA512_FIXED,
            Algorithm::EdDsa => &ED25519,
            _ => rsa(algorithm),
        };
        UnparsedPublicKey::new(how, key).verify(self.message.as_bytes(), &self.signature).is_ok()
    }
}

fn rsa(algorithm: Algorithm) -> &'static aws_lc_rs::signature::RsaParameters {
    match algorithm {
        Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
        _ => &RSA_PKCS1_2048_8192_SHA256,
    }
}

/// Now, in seconds, for comparison with claims.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
