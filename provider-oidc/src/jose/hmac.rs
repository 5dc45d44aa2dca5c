//! [`HmacKey`]: a secret that signs (RFC 7518 section 3.2).

use std::fmt;

use async_trait::async_trait;
use josekit::jws::{HS256, HS384, HS512, JwsSigner};
use keyfob_auth_core::{AuthError, ExposeSecret as _, SecretString};

use crate::Signer;

/// A client secret that signs instead of being sent: `client_secret_jwt` (OpenID Connect Core section 9).
pub struct HmacKey(Box<dyn JwsSigner>);

impl HmacKey {
    /// A secret, and `HS256`, `HS384` or `HS512`.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) if the algorithm is another, or the secret shorter
    /// than the algorithm's hash: RFC 7518 section 3.2 forbids that, and so do servers.
    pub fn new(algorithm: &str, secret: &SecretString) -> Result<Self, AuthError> {
        let secret = secret.expose_secret().as_bytes();
        let (hmac, least) = match algorithm {
            "HS256" => (HS256, 32),
            "HS384" => (HS384, 48),
            "HS512" => (HS512, 64),
            _ => {
                return Err(AuthError::configuration(format!(
                    "a client secret signs by HS256, HS384 or HS512, not by {algorithm:?} (`signing_alg`)"
                )));
            }
        };
        if secret.len() < least {
            return Err(AuthError::configuration(format!(
                "the client secret is shorter than the {least} bytes that {algorithm} needs (RFC 7518 section 3.2); ask for \
                 a longer one, or use `client_auth = \"client_secret_basic\"`"
            )));
        }
        let signer = hmac.signer_from_bytes(secret).map_err(|error| {
            AuthError::configuration("OpenSSL does not take the client secret as a key").with_source(error)
        })?;
        Ok(Self(Box::new(signer)))
    }
}

#[async_trait]
impl Signer for HmacKey {
    fn algorithm(&self) -> &str {
        self.0.algorithm().name()
    }

    async fn sign(&self, input: &[u8]) -> Result<Vec<u8>, AuthError> {
        self.0.sign(input).map_err(|error| {
            AuthError::configuration("OpenSSL cannot sign with the client secret").with_source(error)
        })
    }
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HmacKey({})", self.algorithm())
    }
}
