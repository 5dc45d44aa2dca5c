//! Assertions: JWTs by which a client proves who it is, or whom it acts for (RFC 7521, RFC 7523).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{AuthError, SecretString};
use serde_json::{Map, Value};

use crate::signer::{Signer, sign_jwt};

/// How long an assertion is valid: no longer than it takes to be used.
pub(crate) const LIFETIME: Duration = Duration::from_secs(300);

/// Whom a client assertion is for (`aud`, RFC 7523 section 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AssertionAudience {
    /// The issuer: what newer specifications want, because only the right server takes it.
    #[default]
    Issuer,
    /// The URL of the token endpoint, as RFC 7523 has it, and many servers.
    TokenEndpoint,
    /// Something else that the server wants.
    Other(String),
}

impl AssertionAudience {
    #[cfg(feature = "config")]
    pub(crate) const NAMES: [&'static str; 2] = ["issuer", "token_endpoint"];
}

/// What goes into an assertion.
#[derive(Clone, Debug)]
pub(crate) struct AssertionOptions {
    pub(crate) audience: AssertionAudience,
    pub(crate) lifetime: Duration,
    /// Whether it says when it was made, and has an id: a server that is told neither cannot tell it from a replay.
    pub(crate) issued_at: bool,
    pub(crate) identified: bool,
    /// Further claims; they replace what would stand there.
    pub(crate) claims: Map<String, Value>,
    /// Whether no `client_id` goes beside it.
    pub(crate) alone: bool,
}

impl Default for AssertionOptions {
    fn default() -> Self {
        Self {
            audience: AssertionAudience::Issuer,
            lifetime: LIFETIME,
            issued_at: true,
            identified: true,
            claims: Map::new(),
            alone: false,
        }
    }
}

/// The names of a server that an assertion can be for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Audience<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) token_endpoint: &'a str,
}

/// A client assertion: issuer and subject are the client (RFC 7523 section 3), and the id is new each time.
pub(crate) async fn client_assertion(
    signer: &dyn Signer,
    client_id: &str,
    audience: &Audience<'_>,
    options: &AssertionOptions,
    now: SystemTime,
) -> Result<SecretString, AuthError> {
    assertion(signer, client_id, client_id, audience, options, now).await
}

/// An assertion by this issuer about this subject.
pub(crate) async fn assertion(
    signer: &dyn Signer,
    issuer: &str,
    subject: &str,
    audience: &Audience<'_>,
    options: &AssertionOptions,
    now: SystemTime,
) -> Result<SecretString, AuthError> {
    let mut claims = Map::new();
    claims.insert("iss".into(), issuer.into());
    claims.insert("sub".into(), subject.into());
    let aud = match &options.audience {
        AssertionAudience::Issuer => audience.issuer,
        AssertionAudience::TokenEndpoint => audience.token_endpoint,
        AssertionAudience::Other(other) => other,
    };
    claims.insert("aud".into(), aud.into());
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if options.issued_at {
        claims.insert("iat".into(), seconds.into());
    }
    claims.insert("exp".into(), seconds.saturating_add(options.lifetime.as_secs()).into());
    if options.identified {
        claims.insert("jti".into(), random(16)?.into());
    }
    claims.extend(options.claims.clone());
    sign_jwt(signer, "JWT", Map::new(), &claims).await
}

/// So many random bytes of the operating system's, in base64url.
pub(crate) fn random(bytes: usize) -> Result<String, AuthError> {
    let mut buffer = zeroize::Zeroizing::new(vec![0; bytes]);
    getrandom::fill(&mut buffer).map_err(|error| {
        AuthError::transient("the operating system gives no random numbers").with_source(error)
    })?;
    Ok(URL_SAFE_NO_PAD.encode(&*buffer))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use keyfob_auth_core::ExposeSecret;
    use serde_json::json;

    use super::*;

    #[derive(Debug)]
    struct Fake;

    #[async_trait]
    impl Signer for Fake {
        fn algorithm(&self) -> &str {
            "RS256"
        }
        fn key_id(&self) -> Option<&str> {
            Some("k1")
        }
        async fn sign(&self, input: &[u8]) -> Result<Vec<u8>, AuthError> {
            assert_eq!(input.iter().filter(|byte| **byte == b'.').count(), 1);
            Ok(b"signature".to_vec())
        }
    }

    const AUDIENCE: Audience<'_> =
        Audience { issuer: "https://idp.example", token_endpoint: "https://idp.example/t" };

    async fn made(options: &AssertionOptions) -> (Value, Value) {
        let now = UNIX_EPOCH + Duration::from_millis(1_800_000_000_900);
        let jwt = client_assertion(&Fake, "app", &AUDIENCE, options, now).await.unwrap();
        let parts: Vec<_> =
            jwt.expose_secret().split('.').map(|p| URL_SAFE_NO_PAD.decode(p).unwrap()).collect();
        assert_eq!(parts[2], b"signature");
        (serde_json::from_slice(&parts[0]).unwrap(), serde_json::from_slice(&parts[1]).unwrap())
    }

    #[tokio::test]
    async fn rfc7523_3_issuer_and_subject_are_the_client_and_the_audience_is_one_string() {
        let (header, mut claims) = made(&AssertionOptions::default()).await;
        assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
        let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(id.as_str().unwrap()).unwrap().len(), 16);
        let expected = json!({
            "iss": "app", "sub": "app", "aud": "https://idp.example",
            "iat": 1_800_000_000, "exp": 1_800_000_300,
        });
        assert_eq!(claims, expected);
    }

    #[tokio::test]
    async fn rfc7523_3_every_assertion_has_an_id_of_its_own() {
        let id = async || made(&AssertionOptions::default()).await.1["jti"].clone();
        assert_ne!(id().await, id().await);
    }

    #[tokio::test]
    async fn options_change_what_they_say() {
        let options = AssertionOptions {
            audience: AssertionAudience::TokenEndpoint,
            lifetime: Duration::from_secs(60),
            issued_at: false,
            identified: false,
            claims: json!({"scope": "x"}).as_object().unwrap().clone(),
            alone: false,
        };
        let (_, claims) = made(&options).await;
        let expected = json!({
            "iss": "app", "sub": "app", "aud": "https://idp.example/t", "exp": 1_800_000_060, "scope": "x",
        });
        assert_eq!(claims, expected);
        let (_, claims) = made(&AssertionOptions { lifetime: Duration::MAX, ..options }).await;
        assert_eq!(claims["exp"], json!(u64::MAX));
    }
}
