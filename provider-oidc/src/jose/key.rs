//! [`SigningKey`]: a private key that is here.

use std::fmt;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::jwk::Jwk;
use keyfob_auth_core::{AuthError, ExposeSecret as _, SecretString};
use openssl::{
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{Id, PKey, PKeyRef, Private},
    sha::sha256,
    x509::X509,
};
use serde_json::{Map, Value};

use super::{algorithm::Algorithm, jwk, pem};
use crate::Signer;

/// The least of an RSA key (RFC 7518 section 3.3).
const LEAST_RSA_BITS: u32 = 2048;

/// A private key and the algorithm that it signs by.
///
/// OpenSSL wipes the key when the last clone is dropped. Signing takes about a millisecond.
#[derive(Clone)]
pub struct SigningKey {
    key: PKey<Private>,
    algorithm: Algorithm,
    key_id: Option<String>,
    certificate_thumbprint: Option<String>,
    public: Map<String, Value>,
}

/// How a key is read, and what is said of it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct KeyOptions {
    /// The passphrase of an encrypted PEM.
    pub passphrase: Option<SecretString>,
    /// The key's id at the server (`kid`); in a JWK set it also says which key is meant. Unsaid, the JWK's own.
    pub key_id: Option<String>,
    /// The algorithm (`alg`), as registered with the server. Unsaid, the JWK's own, else RS256 for an RSA key, the one of
    /// the curve for an EC key, EdDSA for an Ed25519 key.
    pub algorithm: Option<String>,
    /// The key's certificate as PEM, for servers that tell keys by the header `x5t#S256` (RFC 7515 section 4.1.8). Of
    /// several certificates, the one of this key counts.
    pub certificate: Option<SecretString>,
}

impl SigningKey {
    /// Reads a private key: PEM (PKCS#8, PKCS#1 or SEC1, encrypted or not, whatever stands around it), a JWK, or a JWK set
    /// (RFC 7517).
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration): what is wrong with the key, and what to do. Nothing
    /// of the key is in it.
    pub fn from_text(text: &SecretString, options: &KeyOptions) -> Result<Self, AuthError> {
        let text = text.expose_secret().trim_start_matches('\u{feff}').trim();
        let found = if text.is_empty() {
            return Err(AuthError::configuration("the key is empty"));
        } else if text.starts_with(['{', '[']) {
            jwk::read(text, options.key_id.as_deref())?
        } else {
            Found { key: pem::read(text, options.passphrase.as_ref())?, algorithm: None, key_id: None }
        };
        Self::new(found, options)
    }

    /// A new key on the curve P-256, for ES256.
    ///
    /// # Errors
    /// [`Transient`](keyfob_auth_core::ErrorKind::Transient) if OpenSSL has no random numbers.
    pub fn generate_p256() -> Result<Self, AuthError> {
        let generate = || -> Result<_, ErrorStack> {
            PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?)?)
        };
        let key = generate()
            .map_err(|error| AuthError::transient("OpenSSL cannot make a new key").with_source(error))?;
        Self::new(Found { key, algorithm: None, key_id: None }, &KeyOptions::default())
    }

    fn new(found: Found, options: &KeyOptions) -> Result<Self, AuthError> {
        let kind = Kind::of(&found.key)?;
        let algorithm = match options.algorithm.as_deref().or(found.algorithm.as_deref()) {
            None => kind.usual_algorithm(),
            Some(name) => Algorithm::from_name(name).ok_or_else(|| unknown(name))?,
        };
        if !algorithm.fits(kind) {
            return Err(AuthError::configuration(format!(
                "{} needs {}, but the key is {}; set `signing_alg` to {}, or give another key",
                algorithm.name(),
                algorithm.needs(),
                kind.name(),
                kind.usual_algorithm().name(),
            )));
        }
        let public = jwk::public(&found.key, kind).map_err(unreadable)?;
        let certificate_thumbprint = match &options.certificate {
            Some(text) => Some(certificate_thumbprint(text, &found.key)?),
            None => None,
        };
        let key = Self {
            key: found.key,
            algorithm,
            key_id: options.key_id.clone().or(found.key_id),
            certificate_thumbprint,
            public,
        };
        key.check()?;
        Ok(key)
    }

    /// The public key as a JWK: the members that its kind must have (RFC 7638 section 3.2), and no others.
    pub fn public_jwk(&self) -> Map<String, Value> {
        self.public.clone()
    }

    /// The thumbprint of the public key by SHA-256, in base64url (RFC 7638).
    pub fn thumbprint(&self) -> String {
        // They were put in in the order that section 3.3 wants.
        let text = serde_json::to_string(&self.public).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(sha256(text.as_bytes()))
    }

    /// The private key as a JWK, to be kept; [`from_text`](Self::from_text) reads it.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) if OpenSSL does not hand the key out.
    pub fn to_jwk_secret(&self) -> Result<SecretString, AuthError> {
        let mut members = self.public.clone();
        members.insert("alg".into(), self.algorithm.name().into());
        if let Some(id) = &self.key_id {
            members.insert("kid".into(), id.as_str().into());
        }
        jwk::write(&self.key, &members).map_err(unreadable)
    }

    /// Whether what it signs is good by its public key: a JWK may be put together of two, and a key restricted by itself.
    fn check(&self) -> Result<(), AuthError> {
        let signature = self.signature(b"keyfob")?;
        let verifier = Jwk::from_map(self.public.clone()).ok().and_then(|key| self.algorithm.verifier(&key));
        if verifier.is_some_and(|verifier| verifier.verify(b"keyfob", &signature).is_ok()) {
            return Ok(());
        }
        Err(AuthError::configuration(
            "the key is damaged: its public half does not accept what its private half signs",
        ))
    }

    /// The signature of these bytes, at once.
    pub(crate) fn signature(&self, input: &[u8]) -> Result<Vec<u8>, AuthError> {
        self.algorithm.sign(&self.key, input).map_err(|error| {
            AuthError::configuration(format!(
                "the key cannot sign by {}; is it restricted to another algorithm (`signing_alg`), or damaged?",
                self.algorithm.name()
            ))
            .with_source(error)
        })
    }
}

#[async_trait]
impl Signer for SigningKey {
    fn algorithm(&self) -> &str {
        self.algorithm.name()
    }

    fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    fn header_parameters(&self) -> Map<String, Value> {
        let thumbprint = self.certificate_thumbprint.as_deref();
        thumbprint.map(|thumbprint| ("x5t#S256".to_owned(), thumbprint.into())).into_iter().collect()
    }

    async fn sign(&self, input: &[u8]) -> Result<Vec<u8>, AuthError> {
        self.signature(input)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm.name())
            .field("key_id", &self.key_id)
            .field("thumbprint", &self.thumbprint())
            .finish_non_exhaustive()
    }
}

/// A private key as it was found, and what was said of it there.
pub(super) struct Found {
    pub(super) key: PKey<Private>,
    pub(super) algorithm: Option<String>,
    pub(super) key_id: Option<String>,
}

/// The kinds of keys that JWS has algorithms for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rsa,
    /// RSA for PSS alone, by the key's own word.
    RsaPss,
    P256,
    P384,
    P521,
    Ed25519,
}

impl Kind {
    fn of(key: &PKeyRef<Private>) -> Result<Self, AuthError> {
        let wrong = |what: &str| Err(AuthError::configuration(format!("the key {what}")));
        match key.id() {
            Id::RSA | Id::RSA_PSS if key.bits() < LEAST_RSA_BITS => wrong(&format!(
                "is an RSA key of {} bits, and less than {LEAST_RSA_BITS} is not safe (RFC 7518 section 3.3); make a new one",
                key.bits()
            )),
            Id::RSA => Ok(Self::Rsa),
            Id::RSA_PSS => Ok(Self::RsaPss),
            Id::EC => match key.ec_key().ok().and_then(|key| key.group().curve_name()) {
                Some(Nid::X9_62_PRIME256V1) => Ok(Self::P256),
                Some(Nid::SECP384R1) => Ok(Self::P384),
                Some(Nid::SECP521R1) => Ok(Self::P521),
                other => wrong(&format!(
                    "is an EC key on the curve {}, which cannot be used here; P-256, P-384 and P-521 can",
                    other.and_then(|nid| nid.long_name().ok()).unwrap_or("of its own")
                )),
            },
            Id::ED25519 => Ok(Self::Ed25519),
            Id::ED448 => wrong("is an Ed448 key; of this kind only Ed25519 can be used here"),
            Id::X25519 | Id::X448 => {
                wrong("is for key agreement (X25519, X448) and cannot sign; make an Ed25519 key")
            }
            _ => wrong("is of a kind that no token is signed with; make an RSA, EC or Ed25519 key"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rsa => "an RSA key",
            Self::RsaPss => "an RSA key for PSS alone",
            Self::P256 => "an EC key on the curve P-256",
            Self::P384 => "an EC key on the curve P-384",
            Self::P521 => "an EC key on the curve P-521",
            Self::Ed25519 => "an Ed25519 key",
        }
    }

    fn usual_algorithm(self) -> Algorithm {
        match self {
            Self::Rsa => Algorithm::Rs256,
            Self::RsaPss => Algorithm::Ps256,
            Self::P256 => Algorithm::Es256,
            Self::P384 => Algorithm::Es384,
            Self::P521 => Algorithm::Es512,
            Self::Ed25519 => Algorithm::EdDsa,
        }
    }
}

/// An error about an algorithm that is none.
fn unknown(name: &str) -> AuthError {
    let known = Algorithm::ALL.map(Algorithm::name).join(", ");
    AuthError::configuration(match name {
        "HS256" | "HS384" | "HS512" => {
            format!(
                "{name} signs with a client secret, not with a key; a key signs by one of {known} (`signing_alg`)"
            )
        }
        _ => format!("a key does not sign by {name:?}; set `signing_alg` to one of {known}"),
    })
}

fn unreadable(error: ErrorStack) -> AuthError {
    AuthError::configuration("OpenSSL cannot use the key").with_source(error)
}

/// `x5t#S256` of the key's certificate.
fn certificate_thumbprint(pem: &SecretString, key: &PKeyRef<Private>) -> Result<String, AuthError> {
    let certificates = X509::stack_from_pem(pem.expose_secret().as_bytes()).unwrap_or_default();
    if certificates.is_empty() {
        return Err(AuthError::configuration(
            "the certificate is no PEM certificate (`-----BEGIN CERTIFICATE-----`)",
        ));
    }
    let own = certificates.iter().find(|one| one.public_key().is_ok_and(|public| public.public_eq(key)));
    let digest = own.and_then(|own| own.digest(MessageDigest::sha256()).ok());
    digest.map(|digest| URL_SAFE_NO_PAD.encode(digest)).ok_or_else(|| {
        AuthError::configuration("the certificate is of another key; give the one that was made for this key")
    })
}
