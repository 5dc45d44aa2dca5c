//! Client authentication (RFC 6749 section 2.3, RFC 7523, RFC 8705).

use std::{fmt, sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use keyfob_auth_core::{AuthError, ExposeSecret, SecretString, registry::SecretSource};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::{
    assertion::{AssertionAudience, AssertionOptions, Audience, client_assertion},
    callback::SecretCallback,
    http::Form,
    signer::Signer,
};

/// `client_assertion_type` (RFC 7523 section 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How the client says who it is: as in the metadata `token_endpoint_auth_methods_supported` (RFC 8414 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuth {
    /// `none`: a public client names itself and proves nothing (RFC 6749 section 2.1).
    None,
    /// `client_secret_basic`: HTTP Basic, with both halves form-encoded first (RFC 6749 section 2.3.1).
    ClientSecretBasic,
    /// `client_secret_basic_raw`: HTTP Basic with both halves as they are, for servers that do not decode them.
    ClientSecretBasicRaw,
    /// `client_secret_post`: the secret in the body (RFC 6749 section 2.3.1), for servers that know no better.
    ClientSecretPost,
    /// `client_secret_jwt`: an assertion with a MAC by the secret (RFC 7523 section 2.2, OpenID Connect Core section 9).
    ClientSecretJwt,
    /// `private_key_jwt`: an assertion signed with a private key (RFC 7523 section 2.2, OpenID Connect Core section 9).
    PrivateKeyJwt,
    /// `tls_client_auth`: a certificate of an authority that the server knows (RFC 8705 section 2.1).
    TlsClientAuth,
    /// `self_signed_tls_client_auth`: a certificate that the server knows itself (RFC 8705 section 2.2).
    SelfSignedTlsClientAuth,
}

impl ClientAuth {
    /// All of them, in the order of [`Self::NAMES`].
    #[cfg(any(test, feature = "config"))]
    const ALL: [Self; 8] = [
        Self::None,
        Self::ClientSecretBasic,
        Self::ClientSecretBasicRaw,
        Self::ClientSecretPost,
        Self::ClientSecretJwt,
        Self::PrivateKeyJwt,
        Self::TlsClientAuth,
        Self::SelfSignedTlsClientAuth,
    ];

    /// The names that the standards give them, in the order of the variants.
    pub(crate) const NAMES: [&'static str; 8] = [
        "none",
        "client_secret_basic",
        "client_secret_basic_raw",
        "client_secret_post",
        "client_secret_jwt",
        "private_key_jwt",
        "tls_client_auth",
        "self_signed_tls_client_auth",
    ];

    #[cfg(any(test, feature = "config"))]
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }

    /// The name in the standards: `client_secret_basic`.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// Where the key of an assertion comes from.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    /// Somebody else's signer.
    Signer(Arc<dyn Signer>),
    /// A key that is read here, and read again when it changes.
    #[cfg(feature = "jose")]
    Source(Arc<crate::jose::KeySource>),
}

impl Keys {
    #[cfg_attr(
        not(feature = "jose"),
        expect(clippy::unused_async, reason = "it reads keys in the other build")
    )]
    pub(crate) async fn signer(&self) -> Result<Arc<dyn Signer>, AuthError> {
        match self {
            Self::Signer(signer) => Ok(Arc::clone(signer)),
            #[cfg(feature = "jose")]
            Self::Source(source) => source.signer().await,
        }
    }

    pub(crate) fn revision(&self) -> Option<u64> {
        match self {
            Self::Signer(_) => None,
            #[cfg(feature = "jose")]
            Self::Source(source) => {
                source.revision().map(|all| all.iter().fold(0, |sum: u64, one| sum.rotate_left(17) ^ one))
            }
        }
    }
}

/// What proves that a client is the one it names.
#[derive(Clone)]
pub(crate) enum Proof {
    Nothing,
    Basic {
        secret: SecretSource,
        raw: bool,
    },
    Post(SecretSource),
    /// A MAC of an assertion, by this algorithm.
    #[cfg(feature = "jose")]
    SecretJwt {
        secret: SecretSource,
        algorithm: String,
        options: AssertionOptions,
    },
    KeyJwt {
        keys: Keys,
        options: AssertionOptions,
    },
    /// An assertion that somebody else made: a platform's, for workload identity.
    Federated(SecretCallback),
    /// The certificate that the connection was made with.
    Certificate,
}

impl Proof {
    /// Whether it names the token endpoint.
    pub(crate) fn names_token_endpoint(&self) -> bool {
        let audience = match self {
            #[cfg(feature = "jose")]
            Self::SecretJwt { options, .. } => &options.audience,
            Self::KeyJwt { options, .. } => &options.audience,
            _ => return false,
        };
        *audience == AssertionAudience::TokenEndpoint
    }

    /// Whether it says for which server it is.
    pub(crate) fn names_audience(&self) -> bool {
        match self {
            #[cfg(feature = "jose")]
            Self::SecretJwt { .. } => true,
            Self::KeyJwt { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Basic { .. } => "Basic",
            Self::Post(_) => "Post",
            #[cfg(feature = "jose")]
            Self::SecretJwt { .. } => "SecretJwt",
            Self::KeyJwt { .. } => "KeyJwt",
            Self::Federated(_) => "Federated",
            Self::Certificate => "Certificate",
        })
    }
}

/// A client, and what proves that it is that client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) proof: Proof,
}

/// The headers of a request that authenticate its client.
pub(crate) type Headers = Vec<(HeaderName, HeaderValue)>;

impl Client {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether it proves anything: who does not is a public client.
    pub(crate) fn is_confidential(&self) -> bool {
        !matches!(self.proof, Proof::Nothing)
    }

    /// Whether [`authenticate`](Self::authenticate) puts the id into the form.
    pub(crate) fn names_itself_in_forms(&self) -> bool {
        match &self.proof {
            Proof::Basic { .. } => false,
            Proof::KeyJwt { options, .. } => !options.alone,
            _ => true,
        }
    }

    /// Changes when the secret or the key does.
    pub(crate) fn revision(&self) -> Option<u64> {
        match &self.proof {
            Proof::Basic { secret, .. } | Proof::Post(secret) => secret.revision(),
            #[cfg(feature = "jose")]
            Proof::SecretJwt { secret, .. } => secret.revision(),
            Proof::KeyJwt { keys, .. } => keys.revision(),
            Proof::Federated(assertion) => assertion.revision(),
            Proof::Nothing | Proof::Certificate => None,
        }
    }

    /// Adds to a form what authenticates it, by exactly one method; what goes into headers is returned. Secrets and keys
    /// are read now.
    pub(crate) async fn authenticate(
        &self,
        form: &mut Form,
        audience: &Audience<'_>,
        now: SystemTime,
    ) -> Result<Headers, AuthError> {
        let id = &self.id;
        let assertion = match &self.proof {
            Proof::Basic { secret, raw } => {
                return Ok(vec![(AUTHORIZATION, basic(id, &secret.read().await?, *raw)?)]);
            }
            // RFC 8705 section 2: the id tells the server which client's certificate to expect.
            Proof::Nothing | Proof::Certificate => {
                form.push("client_id", id);
                return Ok(Vec::new());
            }
            Proof::Post(secret) => {
                form.push("client_id", id);
                form.push("client_secret", secret.read().await?.expose_secret());
                return Ok(Vec::new());
            }
            #[cfg(feature = "jose")]
            Proof::SecretJwt { secret, algorithm, options } => {
                let secret_text = secret.read().await?;
                let signer = crate::jose::HmacKey::new(algorithm, &secret_text)
                    .map_err(|error| error.with_origin(secret.to_string()))?;
                client_assertion(&signer, id, audience, options, now).await?
            }
            Proof::KeyJwt { keys, options } => {
                client_assertion(&*keys.signer().await?, id, audience, options, now).await?
            }
            Proof::Federated(assertion) => assertion.get().await?,
        };
        if self.names_itself_in_forms() {
            form.push("client_id", id);
        }
        form.push("client_assertion_type", ASSERTION_TYPE);
        form.push("client_assertion", assertion.expose_secret());
        Ok(Vec::new())
    }
}

/// `Basic base64(form(id):form(secret))`, or of both as they are.
fn basic(id: &str, secret: &SecretString, raw: bool) -> Result<HeaderValue, AuthError> {
    let secret = secret.expose_secret();
    // Sizes are the most there can be, so that no buffer grows and leaves a copy behind.
    let mut pair = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.len()) + 1));
    if raw {
        if id.contains(':') {
            return Err(AuthError::configuration(
                "`client_id` has a colon, which client_secret_basic_raw cannot send; use client_secret_basic",
            ));
        }
        pair.push_str(id);
        pair.push(':');
        pair.push_str(secret);
    } else {
        pair.extend(form_urlencoded::byte_serialize(id.as_bytes()));
        pair.push(':');
        pair.extend(form_urlencoded::byte_serialize(secret.as_bytes()));
    }
    let mut header = Zeroizing::new(String::with_capacity("Basic ".len() + 4 * pair.len().div_ceil(3)));
    header.push_str("Basic ");
    STANDARD.encode_string(pair.as_bytes(), &mut header);
    let bytes = Zeroizing::new(std::mem::take(&mut *header).into_bytes());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes))
        .map_err(|_| AuthError::configuration("the client secret fits no HTTP header"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(id: &str, secret: &str, raw: bool) -> String {
        let value = basic(id, &secret.into(), raw).unwrap();
        assert!(value.is_sensitive());
        let base64 = value.to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        String::from_utf8(STANDARD.decode(base64).unwrap()).unwrap()
    }

    #[test]
    fn rfc6749_2_3_1_basic_form_encodes_both_halves_before_base64() {
        // RFC 6749 section 2.3.1's own example.
        let value = basic("s6BhdRkqt3", &"7Fjfp0ZBr1KtDRbnfVdmIw".into(), false).unwrap();
        assert_eq!(value.to_str().unwrap(), "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3");
        for (id, secret, pair) in [
            ("my:client", "a:b", "my%3Aclient:a%3Ab"),
            ("a b", "c+d", "a+b:c%2Bd"),
            ("ä", "100%", "%C3%A4:100%25"),
            ("a@b.example", "~*-._", "a%40b.example:%7E*-._"),
            // RFC 6749 appendix B: the characters of its example.
            ("x", " %&+£€", "x:+%25%26%2B%C2%A3%E2%82%AC"),
            ("", "", ":"),
        ] {
            assert_eq!(encoded(id, secret, false), pair);
        }
    }

    #[test]
    fn raw_basic_leaves_both_halves_as_they_are() {
        assert_eq!(encoded("a@b", "100%:+ ", true), "a@b:100%:+ ");
        assert!(basic("a:b", &"secret".into(), true).is_err(), "the server would cut it elsewhere");
    }

    #[tokio::test]
    async fn rfc6749_2_3_a_request_is_authenticated_by_one_method() {
        let secret = SecretSource::Literal("s3 cret".into());
        let federated = SecretCallback::Source(SecretSource::Literal("jwt".into()));
        let assertion = format!(
            "client_id=id&client_assertion_type={}&client_assertion=jwt",
            ASSERTION_TYPE.replace(':', "%3A")
        );
        for (proof, body, header) in [
            (Proof::Nothing, "client_id=id", false),
            (Proof::Certificate, "client_id=id", false),
            (Proof::Basic { secret: secret.clone(), raw: false }, "", true),
            (Proof::Post(secret), "client_id=id&client_secret=s3+cret", false),
            (Proof::Federated(federated), assertion.as_str(), false),
        ] {
            let client = Client { id: "id".into(), proof };
            let mut form = Form::default();
            let audience =
                Audience { issuer: "https://idp.example", token_endpoint: "https://idp.example/t" };
            let headers = client.authenticate(&mut form, &audience, SystemTime::UNIX_EPOCH).await.unwrap();
            assert_eq!((form.as_str(), headers.len() == 1), (body, header));
        }
    }

    #[test]
    fn names_are_in_the_order_of_the_variants() {
        for (method, name) in ClientAuth::ALL.into_iter().zip(ClientAuth::NAMES) {
            assert_eq!(method.as_str(), name);
            assert_eq!(ClientAuth::from_name(name), Some(method));
        }
        assert_eq!(ClientAuth::from_name("basic"), None);
    }
}
