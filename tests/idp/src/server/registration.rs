//! Who is registered: clients, users and issuers.

use serde_json::Value;

use super::{algorithm::Algorithm, verify::VerificationKey};

/// A registered client.
#[derive(Clone, Debug)]
pub struct Client {
    /// The `client_id`.
    pub id: String,
    /// The `client_secret`; none for a public client and for one with keys.
    pub secret: Option<String>,
    /// The methods by which the client may authenticate.
    pub auth_methods: Vec<TokenEndpointAuthMethod>,
    /// Where answers may be sent. One on loopback (`http` and `127.0.0.1`, `[::1]` or `localhost`) without a port is
    /// good for any port, as RFC 8252 section 7.3 says; every other one is compared as it is.
    pub redirect_uris: Vec<String>,
    /// Where a browser may be sent after a logout, by the same rule.
    pub post_logout_redirect_uris: Vec<String>,
    /// What the client's assertions are signed with.
    pub keys: Vec<VerificationKey>,
    /// The only algorithm of the client's assertions, if there is only one (`token_endpoint_auth_signing_alg`).
    pub assertion_algorithm: Option<String>,
    /// The issuer and subject of assertions by others that stand for this client.
    pub federated: Option<(String, String)>,
    /// The client's certificate.
    pub certificate: Option<RegisteredCertificate>,
    /// Whether the client's tokens are bound by DPoP.
    pub dpop: Dpop,
    /// Whether the client has to push its authorization requests.
    pub require_pushed_authorization_requests: bool,
    /// What the client wants its ID tokens signed with, of the server's algorithms.
    pub id_token_algorithm: Option<Algorithm>,
}

impl Client {
    /// A public client: it names itself and proves nothing.
    pub fn public(id: &str) -> Self {
        Self::new(id, None, vec![TokenEndpointAuthMethod::None])
    }

    /// A confidential client that may use `client_secret_basic` and `client_secret_post`.
    pub fn confidential(id: &str, secret: &str) -> Self {
        let auth_methods =
            vec![TokenEndpointAuthMethod::ClientSecretBasic, TokenEndpointAuthMethod::ClientSecretPost];
        Self::new(id, Some(secret), auth_methods)
    }

    /// A client that signs its assertions with a key of these (`private_key_jwt`).
    pub fn with_keys(id: &str, keys: Vec<VerificationKey>) -> Self {
        Self { keys, ..Self::new(id, None, vec![TokenEndpointAuthMethod::PrivateKeyJwt]) }
    }

    /// A client with a certificate (`tls_client_auth` or `self_signed_tls_client_auth`).
    pub fn with_certificate(id: &str, certificate: RegisteredCertificate) -> Self {
        let method = match certificate {
            RegisteredCertificate::DnsName(_) => TokenEndpointAuthMethod::TlsClientAuth,
            RegisteredCertificate::Pinned(_) => TokenEndpointAuthMethod::SelfSignedTlsClientAuth,
        };
        Self { certificate: Some(certificate), ..Self::new(id, None, vec![method]) }
    }

    /// A client that another issuer's assertions with this subject stand for (`private_key_jwt` by a workload's token).
    pub fn federated(id: &str, issuer: &str, subject: &str) -> Self {
        let federated = Some((issuer.to_owned(), subject.to_owned()));
        Self { federated, ..Self::new(id, None, vec![TokenEndpointAuthMethod::PrivateKeyJwt]) }
    }

    fn new(id: &str, secret: Option<&str>, auth_methods: Vec<TokenEndpointAuthMethod>) -> Self {
        let loopback = |path| ["127.0.0.1", "[::1]", "localhost"].map(|host| format!("http://{host}{path}"));
        Self {
            id: id.to_owned(),
            secret: secret.map(str::to_owned),
            auth_methods,
            redirect_uris: loopback("/callback").into(),
            post_logout_redirect_uris: loopback("/signed-out").into(),
            keys: Vec::new(),
            assertion_algorithm: None,
            federated: None,
            certificate: None,
            dpop: Dpop::Optional,
            require_pushed_authorization_requests: false,
            id_token_algorithm: None,
        }
    }

    /// The client with one allowed method only.
    #[must_use]
    pub fn only(mut self, method: TokenEndpointAuthMethod) -> Self {
        self.auth_methods = vec![method];
        self
    }

    /// The client with these redirect URIs only.
    #[must_use]
    pub fn with_redirect_uris(mut self, uris: &[&str]) -> Self {
        self.redirect_uris = uris.iter().copied().map(str::to_owned).collect();
        self
    }

    /// Whether the client proves nothing when it names itself.
    pub(super) fn is_public(&self) -> bool {
        self.auth_methods.contains(&TokenEndpointAuthMethod::None)
    }
}

/// How a client authenticates, as in the metadata `token_endpoint_auth_methods_supported`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenEndpointAuthMethod {
    /// `none`: `client_id` in the form and no secret.
    None,
    /// `client_secret_basic`: HTTP Basic, each half form-encoded as RFC 6749 section 2.3.1 says.
    ClientSecretBasic,
    /// `client_secret_post`: `client_id` and `client_secret` in the form.
    ClientSecretPost,
    /// `client_secret_jwt`: an assertion with an HMAC keyed by the secret.
    ClientSecretJwt,
    /// `private_key_jwt`: an assertion signed with a registered key, or a federated one.
    PrivateKeyJwt,
    /// `tls_client_auth`: a certificate from the server's own authority, for a registered name.
    TlsClientAuth,
    /// `self_signed_tls_client_auth`: the registered certificate.
    SelfSignedTlsClientAuth,
}

/// The certificate of a client (RFC 8705).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisteredCertificate {
    /// One that the server's own authority stands behind, for this DNS name (`tls_client_auth_san_dns`).
    DnsName(String),
    /// The one with this SHA-256 thumbprint, in base64url, whoever issued it.
    Pinned(String),
}

/// Whether a client's tokens are bound by DPoP (RFC 9449).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dpop {
    /// If the client sends a proof.
    Optional,
    /// Always: a token request without a proof is refused.
    Required,
    /// Never: proofs are ignored, as by a server that does not know them.
    Ignored,
}

/// A user who can approve and sign in.
#[derive(Clone, Debug)]
pub struct User {
    /// The name, which is also the claim `preferred_username`.
    pub name: String,
    /// The claim `sub`.
    pub subject: String,
    /// The claim `email`.
    pub email: String,
    /// The password of the password grant.
    pub password: String,
}

impl User {
    /// A user `NAME` with the subject `subject-NAME`, the email `NAME@example.test` and the password
    /// `NAME-password`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            subject: format!("subject-{name}"),
            email: format!("{name}@example.test"),
            password: format!("{name}-password"),
        }
    }
}

/// An issuer whose JWTs are accepted. Their `aud` has to be this server's issuer or token endpoint, or one of the
/// audiences named here.
#[derive(Clone, Debug)]
pub struct TrustedIssuer {
    /// The claim `iss`.
    pub issuer: String,
    /// Its keys.
    pub keys: Vec<VerificationKey>,
    /// What `aud` may be as well.
    pub audiences: Vec<String>,
}

impl TrustedIssuer {
    /// An issuer with these keys.
    pub fn new(issuer: &str, keys: Vec<VerificationKey>) -> Self {
        Self { issuer: issuer.to_owned(), keys, audiences: Vec::new() }
    }

    /// An issuer with the keys of a JWK Set.
    pub fn with_jwks(issuer: &str, jwks: &Value) -> Self {
        Self::new(issuer, VerificationKey::jwks(jwks))
    }

    /// The issuer with one more audience.
    #[must_use]
    pub fn for_audience(mut self, audience: &str) -> Self {
        self.audiences.push(audience.to_owned());
        self
    }
}
