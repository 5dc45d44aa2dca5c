//! Client authentication (RFC 6749 section 2.3).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use keyfob_auth_core::{AuthError, ExposeSecret, SecretString, registry::SecretSource};
use reqwest::header::HeaderValue;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::http::Form;

/// How the client says who it is: as in the metadata `token_endpoint_auth_methods_supported` (RFC 8414 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuth {
    /// `none`: a public client names itself and proves nothing (RFC 6749 section 2.1).
    None,
    /// `client_secret_basic`: HTTP Basic, with both halves form-encoded first (RFC 6749 section 2.3.1).
    ClientSecretBasic,
    /// `client_secret_post`: the secret in the body (RFC 6749 section 2.3.1), for servers that know no better.
    ClientSecretPost,
}

impl ClientAuth {
    /// The names that the standards give them, in the order of the variants.
    pub(crate) const NAMES: [&'static str; 3] = ["none", "client_secret_basic", "client_secret_post"];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::ClientSecretBasic, Self::ClientSecretPost].into_iter().find(|a| a.as_str() == name)
    }

    /// The name in the standards: `client_secret_basic`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => Self::NAMES[0],
            Self::ClientSecretBasic => Self::NAMES[1],
            Self::ClientSecretPost => Self::NAMES[2],
        }
    }
}

/// A client, and what proves that it is that client.
#[derive(Clone, Debug)]
pub(crate) enum Client {
    Public { id: String },
    Basic { id: String, secret: SecretSource },
    Post { id: String, secret: SecretSource },
}

impl Client {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Public { id } | Self::Basic { id, .. } | Self::Post { id, .. } => id,
        }
    }

    pub(crate) fn secret(&self) -> Option<&SecretSource> {
        match self {
            Self::Public { .. } => None,
            Self::Basic { secret, .. } | Self::Post { secret, .. } => Some(secret),
        }
    }

    /// Adds to a form what authenticates it, by exactly one method; what goes into the header `Authorization` is
    /// returned. The secret is read now.
    pub(crate) async fn authenticate(&self, form: &mut Form) -> Result<Option<HeaderValue>, AuthError> {
        match self {
            Self::Public { id } => form.push("client_id", id),
            Self::Basic { id, secret } => return basic(id, &secret.read().await?).map(Some),
            Self::Post { id, secret } => {
                form.push("client_id", id);
                form.push("client_secret", secret.read().await?.expose_secret());
            }
        }
        Ok(None)
    }
}

/// `Basic base64(form(id):form(secret))`.
fn basic(id: &str, secret: &SecretString) -> Result<HeaderValue, AuthError> {
    let secret = secret.expose_secret();
    // Sizes are the most there can be, so that no buffer grows and leaves a copy behind.
    let mut pair = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.len()) + 1));
    pair.extend(form_urlencoded::byte_serialize(id.as_bytes()));
    pair.push(':');
    pair.extend(form_urlencoded::byte_serialize(secret.as_bytes()));
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

    fn encoded(id: &str, secret: &str) -> String {
        let value = basic(id, &secret.into()).unwrap();
        assert!(value.is_sensitive());
        let base64 = value.to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        String::from_utf8(STANDARD.decode(base64).unwrap()).unwrap()
    }

    #[test]
    fn client_secret_basic_form_encodes_both_halves_before_base64() {
        // RFC 6749 section 2.3.1's own example.
        let value = basic("s6BhdRkqt3", &"7Fjfp0ZBr1KtDRbnfVdmIw".into()).unwrap();
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
            assert_eq!(encoded(id, secret), pair);
        }
    }

    #[tokio::test]
    async fn exactly_one_method_is_used() {
        let secret = SecretSource::Literal("s3 cret".into());
        let id = || "id".to_owned();
        for (client, body, header) in [
            (Client::Public { id: id() }, "client_id=id", false),
            (Client::Basic { id: id(), secret: secret.clone() }, "", true),
            (Client::Post { id: id(), secret }, "client_id=id&client_secret=s3+cret", false),
        ] {
            let mut form = Form::default();
            let value = client.authenticate(&mut form).await.unwrap();
            assert_eq!((form.as_str(), value.is_some()), (body, header));
        }
    }

    #[test]
    fn names_are_the_standards() {
        for name in ClientAuth::NAMES {
            assert_eq!(ClientAuth::from_name(name).map(ClientAuth::as_str), Some(name));
        }
        assert_eq!(ClientAuth::from_name("private_key_jwt"), None);
    }
}
