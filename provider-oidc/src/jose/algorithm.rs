//! The signature algorithms (RFC 7518 section 3.1, RFC 8037 section 3.1).

use josekit::{
    jwk::Jwk,
    jws::{ES256, ES384, ES512, EdDSA, JwsVerifier, PS256, PS384, PS512, RS256, RS384, RS512},
};
use openssl::{
    ecdsa::EcdsaSig,
    error::ErrorStack,
    hash::MessageDigest,
    pkey::{PKeyRef, Private},
    rsa::Padding,
    sign::{RsaPssSaltlen, Signer},
};

use super::key::Kind;

/// An algorithm that signs with a private key. The symmetric ones are [`HmacKey`](super::HmacKey)'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

impl Algorithm {
    pub(super) const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The name in `alg`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The key that it needs, as an error calls it.
    pub(super) fn needs(self) -> &'static str {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => "an RSA key",
            Self::Es256 => "an EC key on the curve P-256",
            Self::Es384 => "an EC key on the curve P-384",
            Self::Es512 => "an EC key on the curve P-521",
            Self::EdDsa => "an Ed25519 key",
        }
    }

    /// Whether a key of this kind can sign by it.
    pub(super) fn fits(self, kind: Kind) -> bool {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 => kind == Kind::Rsa,
            Self::Ps256 | Self::Ps384 | Self::Ps512 => matches!(kind, Kind::Rsa | Kind::RsaPss),
            Self::Es256 => kind == Kind::P256,
            Self::Es384 => kind == Kind::P384,
            Self::Es512 => kind == Kind::P521,
            Self::EdDsa => kind == Kind::Ed25519,
        }
    }

    fn digest(self) -> Option<MessageDigest> {
        match self {
            Self::Rs256 | Self::Ps256 | Self::Es256 => Some(MessageDigest::sha256()),
            Self::Rs384 | Self::Ps384 | Self::Es384 => Some(MessageDigest::sha384()),
            Self::Rs512 | Self::Ps512 | Self::Es512 => Some(MessageDigest::sha512()),
            Self::EdDsa => None,
        }
    }

    /// A signature in the form of RFC 7518 section 3.
    ///
    /// By OpenSSL itself: a signer of josekit's leaves a copy of an RSA key in memory when it is to sign by PSS.
    pub(super) fn sign(self, key: &PKeyRef<Private>, input: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        let Some(digest) = self.digest() else {
            return Signer::new_without_digest(key)?.sign_oneshot_to_vec(input);
        };
        let mut signer = Signer::new(digest, key)?;
        if matches!(self, Self::Ps256 | Self::Ps384 | Self::Ps512) {
            signer.set_rsa_padding(Padding::PKCS1_PSS)?;
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
            signer.set_rsa_mgf1_md(digest)?;
        }
        let signature = signer.sign_oneshot_to_vec(input)?;
        let half = match self {
            Self::Es256 => 32,
            Self::Es384 => 48,
            Self::Es512 => 66,
            _ => return Ok(signature),
        };
        let numbers = EcdsaSig::from_der(&signature)?;
        let mut signature = numbers.r().to_vec_padded(half)?;
        signature.extend(numbers.s().to_vec_padded(half)?);
        Ok(signature)
    }

    /// What checks signatures by it with this key; `None` if the key is of another kind, or for something else (`use`,
    /// `key_ops`, `alg`).
    pub(super) fn verifier(self, key: &Jwk) -> Option<Box<dyn JwsVerifier>> {
        Some(match self {
            Self::Rs256 => Box::new(RS256.verifier_from_jwk(key).ok()?),
            Self::Rs384 => Box::new(RS384.verifier_from_jwk(key).ok()?),
            Self::Rs512 => Box::new(RS512.verifier_from_jwk(key).ok()?),
            Self::Ps256 => Box::new(PS256.verifier_from_jwk(key).ok()?),
            Self::Ps384 => Box::new(PS384.verifier_from_jwk(key).ok()?),
            Self::Ps512 => Box::new(PS512.verifier_from_jwk(key).ok()?),
            Self::Es256 => Box::new(ES256.verifier_from_jwk(key).ok()?),
            Self::Es384 => Box::new(ES384.verifier_from_jwk(key).ok()?),
            Self::Es512 => Box::new(ES512.verifier_from_jwk(key).ok()?),
            // Not Ed448: `at_hash` goes by the algorithm alone, and its hash is another.
            Self::EdDsa if key.curve() == Some("Ed25519") => Box::new(EdDSA.verifier_from_jwk(key).ok()?),
            Self::EdDsa => return None,
        })
    }
}
