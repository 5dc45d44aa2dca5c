//! Keys and signatures, by josekit and OpenSSL: what signs client assertions and proofs, and the signatures of ID tokens.
//!
//! A [`SigningKey`] is read from whatever form a private key comes in; an [`HmacKey`] is a client secret that signs. Both
//! are [`Signer`](crate::Signer)s, as is a key that never leaves its KMS.
//!
//! # Examples
//! ```
//! use keyfob_provider_oidc::{
//!     Signer,
//!     jose::{KeyOptions, SigningKey},
//! };
//!
//! # fn main() -> Result<(), keyfob_auth_core::AuthError> {
//! // As it comes from a file, an environment variable or a vault.
//! let text = SigningKey::generate_p256()?.to_jwk_secret()?;
//! let mut options = KeyOptions::default();
//! options.key_id = Some("2026-01".into());
//! let key = SigningKey::from_text(&text, &options)?;
//! assert_eq!((key.algorithm(), key.key_id()), ("ES256", Some("2026-01")));
//! # Ok(())
//! # }
//! ```

mod algorithm;
mod hmac;
mod jwk;
mod jwks;
mod key;
mod pem;
mod source;
#[cfg(test)]
mod tests;

pub use self::{
    hmac::HmacKey,
    key::{KeyOptions, SigningKey},
};
pub(crate) use self::{jwks::verify_id_token, source::KeySource};
