//! How the client proves who it is, as a program says it.

use std::{sync::Arc, time::Duration};

use keyfob_auth_core::{AuthError, SecretString, registry::SecretSource};
use serde_json::{Map, Value};

use super::OidcBuilder;
use crate::{AssertionAudience, ClientAuth, Signer, callback::SecretCallback};

impl OidcBuilder {
    /// The client secret (RFC 6749 section 2.3.1), read whenever it is needed.
    pub fn client_secret(mut self, secret: impl Into<SecretSource>) -> Self {
        self.client_secret = Some(secret.into());
        self
    }

    /// How the client authenticates (RFC 6749 section 2.3). Unsaid: `private_key_jwt` with a key, a signer or an assertion,
    /// `client_secret_basic` with a secret, not at all without any.
    pub fn client_auth(mut self, auth: ClientAuth) -> Self {
        self.client_auth = Some(auth);
        self
    }

    /// The private key that signs client assertions (RFC 7523), as PEM, JWK or JWK Set; read again when it changes. Needs the
    /// feature `jose`.
    pub fn key(mut self, key: impl Into<SecretSource>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The passphrase of an encrypted key.
    pub fn key_passphrase(mut self, passphrase: impl Into<SecretSource>) -> Self {
        self.key_passphrase = Some(passphrase.into());
        self
    }

    /// The id of the key (`kid`), if the key does not say it itself; chooses the key in a JWK Set.
    pub fn key_id(mut self, id: impl Into<String>) -> Self {
        self.key_id = Some(id.into());
        self
    }

    /// The algorithm of signatures (`RS256`, `PS256`, `ES256`, `EdDSA`; with a client secret `HS256`). Unsaid: what fits the
    /// key.
    pub fn signing_alg(mut self, algorithm: impl Into<String>) -> Self {
        self.signing_alg = Some(algorithm.into());
        self
    }

    /// What signs client assertions in the place of a key that is read here: a KMS, an HSM, a TPM.
    pub fn signer(mut self, signer: Arc<dyn Signer>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Whom client assertions are for (`aud`). Unsaid: the issuer.
    pub fn assertion_audience(mut self, audience: AssertionAudience) -> Self {
        self.assertion.audience = audience;
        self
    }

    /// How long an assertion is valid, to the second. Unsaid: 5 minutes.
    pub fn assertion_lifetime(mut self, lifetime: Duration) -> Self {
        self.assertion.lifetime = lifetime;
        self
    }

    /// Further claims of the assertions that are made here; they replace what would stand there.
    pub fn assertion_claims(mut self, claims: Map<String, Value>) -> Self {
        self.assertion.claims = claims;
        self
    }

    /// Leaves `iat` and `jti` out of assertions, for servers that stumble over them. Without these a server cannot see a
    /// replay.
    pub fn bare_assertions(mut self) -> Self {
        self.assertion.issued_at = false;
        self.assertion.identified = false;
        self
    }

    /// Leaves `client_id` out of requests with a client assertion, which names the client itself (RFC 7521 section 4.2).
    pub fn nameless_assertions(mut self) -> Self {
        self.assertion.alone = true;
        self
    }

    /// A client assertion that somebody else makes, read at each use: a platform's token for its workload (RFC 7523).
    pub fn client_assertion(mut self, assertion: impl Into<SecretSource>) -> Self {
        self.client_assertion = Some(SecretCallback::Source(assertion.into()));
        self
    }

    /// A client assertion that a function of the application's own returns at each use.
    pub fn client_assertion_from<F, R>(mut self, assertion: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<SecretString, AuthError>> + Send + 'static,
    {
        self.client_assertion = Some(SecretCallback::function(assertion));
        self
    }
}
