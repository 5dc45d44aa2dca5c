//! [`Signer`]: what signs assertions and proofs.

use std::fmt;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{AuthError, SecretString};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// Signs with a private key that need not be here: a KMS, an HSM or a TPM implements it as well as a key in a file.
///
/// # What an implementation must guarantee
/// - [`algorithm`](Self::algorithm) and [`key_id`](Self::key_id) belong to the key that signs, and are quick.
/// - The key is in no error and in no `Debug`.
///
/// # Examples
/// ```
/// use keyfob_auth_core::{AuthError, async_trait};
/// use keyfob_provider_oidc::Signer;
///
/// #[derive(Debug)]
/// struct Kms;
///
/// #[async_trait]
/// impl Signer for Kms {
///     fn algorithm(&self) -> &str {
///         "ES256"
///     }
///
///     async fn sign(&self, input: &[u8]) -> Result<Vec<u8>, AuthError> {
///         // Ask the service, with `input` or its hash.
///         # let _ = input;
///         Err(AuthError::transient("the key service cannot be reached"))
///     }
/// }
/// ```
#[async_trait]
pub trait Signer: fmt::Debug + Send + Sync {
    /// The JWS algorithm (`alg`, RFC 7518 section 3.1): `RS256`, `ES256`.
    fn algorithm(&self) -> &str;

    /// The key's id (`kid`, RFC 7515 section 4.1.4), where the server tells keys by it. By default none.
    fn key_id(&self) -> Option<&str> {
        None
    }

    /// Further header parameters (RFC 7515 section 4.1): `x5t#S256`, `x5c`. By default none.
    fn header_parameters(&self) -> Map<String, Value> {
        Map::new()
    }

    /// The signature of these bytes, in the form that JWS has for the algorithm (RFC 7518 section 3): for ECDSA the two
    /// numbers one after the other, not DER.
    ///
    /// # Errors
    /// [`Transient`](keyfob_auth_core::ErrorKind::Transient) if another time may be better,
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) if the key cannot be used at all.
    async fn sign(&self, input: &[u8]) -> Result<Vec<u8>, AuthError>;
}

/// A signed JWT (RFC 7519) in compact form.
pub(crate) async fn sign_jwt(
    signer: &dyn Signer,
    typ: &str,
    more: Map<String, Value>,
    claims: &Map<String, Value>,
) -> Result<SecretString, AuthError> {
    let mut header = Map::new();
    header.insert("alg".into(), signer.algorithm().into());
    header.insert("typ".into(), typ.into());
    if let Some(id) = signer.key_id() {
        header.insert("kid".into(), id.into());
    }
    header.extend(signer.header_parameters());
    header.extend(more);
    let encode = |part: &Map<String, Value>| {
        let text = Zeroizing::new(serde_json::to_vec(part).unwrap_or_default());
        URL_SAFE_NO_PAD.encode(&*text)
    };
    let mut jwt = format!("{}.{}", encode(&header), encode(claims));
    let signature = signer.sign(jwt.as_bytes()).await?;
    jwt.reserve_exact(1 + signature.len().div_ceil(3) * 4);
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut jwt);
    Ok(SecretString::from(jwt))
}
