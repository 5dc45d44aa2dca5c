//! Requests to an authorization server: no redirects, bounded answers, deadlines, nothing secret in errors.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use keyfob_auth_core::{AuthError, Context};
use reqwest::{
    Client, ClientBuilder, RequestBuilder, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use url::{Host, Url, form_urlencoded};
use zeroize::{Zeroize, Zeroizing};

/// The longest that a connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// The longest that a request may take, its answer included.
const DEADLINE: Duration = Duration::from_secs(30);
/// The largest answer that is read.
pub(crate) const LARGEST_ANSWER: usize = 1 << 20;
/// The longest wait that a server can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The URL of an endpoint: https, or http on this machine.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(Url);

impl Endpoint {
    /// Checks a URL; the error says what is wrong with it, as the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => return Err("must be an https URL (http is accepted on loopback only)".into()),
            scheme => return Err(format!("must be an https URL, not {scheme}")),
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("names no host".into());
        }
        if url.fragment().is_some() {
            return Err("must have no fragment (RFC 6749 section 3.2)".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not contain a user name or a password".into());
        }
        Ok(Self(url))
    }

    /// Whether it is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }

    /// Whether it is protected on the way.
    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether it has a query.
    pub(crate) fn has_query(&self) -> bool {
        self.0.query().is_some()
    }

    /// The same host with another path.
    pub(crate) fn with_path(&self, path: &str) -> Self {
        let mut url = self.0.clone();
        url.set_path(path);
        Self(url)
    }

    /// Its path.
    pub(crate) fn path(&self) -> &str {
        self.0.path()
    }
}

impl fmt::Display for Endpoint {
    /// Without the query, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        url.set_query(None);
        url.fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(domain)) => domain == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A form in a buffer that is wiped (`application/x-www-form-urlencoded`).
#[derive(Default)]
pub(crate) struct Form(Zeroizing<String>);

impl Form {
    /// Adds a parameter.
    pub(crate) fn push(&mut self, name: &str, value: &str) {
        // Encoded, a byte is three at most. What is outgrown is wiped.
        let most = 3 * (name.len() + value.len()) + 2;
        if self.0.capacity() - self.0.len() < most {
            let mut grown = Zeroizing::new(String::with_capacity(2 * (self.0.len() + most)));
            grown.push_str(&self.0);
            self.0 = grown;
        }
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.extend(form_urlencoded::byte_serialize(name.as_bytes()));
        self.0.push('=');
        self.0.extend(form_urlencoded::byte_serialize(value.as_bytes()));
    }

    /// Adds a parameter, unless its value is empty.
    pub(crate) fn push_some(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.push(name, value);
        }
    }

    /// Its body.
    fn into_body(mut self) -> Bytes {
        Bytes::from_owner(Zeroizing::new(std::mem::take(&mut *self.0).into_bytes()))
    }

    #[cfg(test)]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a server answered, read to its end.
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// `Retry-After`, an hour at most.
    pub(crate) retry_after: Option<Duration>,
    /// The body, wiped when it is dropped.
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// Who answered, as errors name it.
    pub(crate) origin: String,
}

impl Reply {
    /// An error about this answer.
    pub(crate) fn error(&self, error: AuthError) -> AuthError {
        error.with_status(self.status).with_origin(self.origin.clone())
    }

    /// Whether it is a success by its status.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the status says that another time may be better.
    pub(crate) fn is_overload(&self) -> bool {
        matches!(self.status, 408 | 425 | 429 | 500..=599)
    }

    /// The error of an answer that says nothing but its status.
    pub(crate) fn bare_error(&self, what: &str) -> AuthError {
        let error = if self.is_overload() {
            let error = AuthError::transient(format!("{what}: the server cannot answer now"));
            // A gateway that gave up does not know what the server behind it did.
            let error = if matches!(self.status, 500 | 502 | 504) { error.with_answer_lost() } else { error };
            match self.retry_after {
                Some(after) => error.with_retry_after(after),
                None => error,
            }
        } else if (300..400).contains(&self.status) {
            AuthError::refused(format!("{what}: the server redirects elsewhere, which is not followed"))
        } else {
            AuthError::refused(format!("{what}: the server refused without saying why"))
        };
        self.error(error)
    }
}

/// Sends a form.
///
/// # Errors
/// Transient ones alone: what the server says is in the reply, whatever its status.
pub(crate) async fn post(
    context: &Context,
    endpoint: &Endpoint,
    form: Form,
    authorization: Option<HeaderValue>,
) -> Result<Reply, AuthError> {
    let mut request = client(context, endpoint)?
        .post(endpoint.0.clone())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form.into_body());
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    send(context, endpoint, request).await
}

/// Fetches a document.
///
/// # Errors
/// As [`post`].
pub(crate) async fn get(context: &Context, endpoint: &Endpoint) -> Result<Reply, AuthError> {
    send(context, endpoint, client(context, endpoint)?.get(endpoint.0.clone())).await
}

async fn send(context: &Context, endpoint: &Endpoint, request: RequestBuilder) -> Result<Reply, AuthError> {
    let failed = |error: reqwest::Error| {
        let what = if error.is_timeout() {
            "did not answer in time"
        } else if error.is_connect() {
            "cannot be reached"
        } else if error.is_body() || error.is_decode() {
            "broke off its answer"
        } else {
            "did not answer"
        };
        let sent = !error.is_connect();
        let error = AuthError::transient(format!("the server {what}"))
            .with_origin(endpoint.to_string())
            .with_source(error.without_url());
        // Once the request was on its way, the server may have acted on it.
        if sent { error.with_answer_lost() } else { error }
    };
    let response = request.header(ACCEPT, "application/json").send().await.map_err(failed)?;
    let mut reply = Reply {
        status: response.status().as_u16(),
        retry_after: retry_after(response.headers(), context.clock().wall()),
        body: Zeroizing::default(),
        origin: endpoint.to_string(),
    };
    match read(response).await.map_err(failed)? {
        Some(body) => reply.body = body,
        None => {
            let error = AuthError::transient("the server's answer is larger than 1 MiB").with_answer_lost();
            return Err(reply.error(error));
        }
    }
    Ok(reply)
}

/// Reads a body; `None` if it is too large.
async fn read(mut response: Response) -> Result<Option<Zeroizing<Vec<u8>>>, reqwest::Error> {
    let expected = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    if expected > LARGEST_ANSWER {
        return Ok(None);
    }
    let mut body = Zeroizing::new(Vec::with_capacity(expected.max(4096)));
    while let Some(chunk) = response.chunk().await? {
        let length = body.len() + chunk.len();
        if length > LARGEST_ANSWER {
            return Ok(None);
        }
        if length > body.capacity() {
            let mut grown = Vec::with_capacity(2 * length);
            grown.extend_from_slice(&body);
            std::mem::replace(&mut *body, grown).zeroize();
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// `Retry-After` in seconds or as a date (RFC 9110 section 10.2.3), an hour at most.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_or(LONGEST_WAIT, Duration::from_secs)
    } else {
        httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The client for everything over TLS, shared in the context.
struct Remote(Client);

/// The client for plain http on this machine: no proxy gets to see what it sends, and it needs no certificates.
struct Plain(Client);

fn client(context: &Context, endpoint: &Endpoint) -> Result<Client, AuthError> {
    if endpoint.is_https() {
        Ok(context.shared(|| build(Client::builder()).map(Remote))?.0.clone())
    } else {
        Ok(context.shared(|| build(without_tls(Client::builder().no_proxy())).map(Plain))?.0.clone())
    }
}

fn without_tls(builder: ClientBuilder) -> ClientBuilder {
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    let builder = builder.tls_certs_only([]);
    builder
}

fn build(builder: ClientBuilder) -> Result<Client, AuthError> {
    builder
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(CONNECT_DEADLINE)
        .timeout(DEADLINE)
        .user_agent(concat!("keyfob/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| {
            AuthError::configuration("no HTTP client can be made; does this machine have CA certificates?")
                .with_source(error.without_url())
        })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn http_is_accepted_on_loopback_only() {
        for good in [
            "https://idp.example/token",
            "https://idp.example/token?tenant=1",
            "http://127.0.0.1:8080/token",
            "http://127.1.2.3/token",
            "http://[::1]:8080/token",
            "http://localhost/token",
            "http://LOCALHOST/token",
        ] {
            assert!(Endpoint::parse(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("http://idp.example/token", "loopback only"),
            ("http://10.0.0.1/token", "loopback only"),
            ("http://localhost.idp.example/token", "loopback only"),
            ("http://127.0.0.1.idp.example/token", "loopback only"),
            ("http://[::ffff:7f00:1]/token", "loopback only"),
            ("ftp://idp.example/token", "not ftp"),
            ("https://idp.example/token#top", "fragment"),
            ("https://user:marker@idp.example/token", "user name"),
            ("https:///", "not a URL"),
            ("/token", "not a URL"),
            ("", "not a URL"),
        ] {
            let error = Endpoint::parse(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
            assert!(!error.contains("marker"), "{error}");
        }
    }

    #[test]
    fn an_endpoint_keeps_its_query_and_does_not_show_it() {
        let endpoint = Endpoint::parse("https://idp.example/token?key=marker").unwrap();
        assert_eq!(endpoint.0.query(), Some("key=marker"));
        assert_eq!(endpoint.to_string(), "https://idp.example/token");
        assert!(!format!("{endpoint:?}").contains("marker"));
    }

    #[test]
    fn a_form_is_encoded_as_html_forms_are() {
        let mut form = Form::default();
        form.push("grant_type", "client_credentials");
        form.push("scope", "a b");
        form.push("x", "ä&=+%");
        form.push_some("empty", "");
        assert_eq!(form.as_str(), "grant_type=client_credentials&scope=a+b&x=%C3%A4%26%3D%2B%25");
        assert_eq!(form.into_body().len(), 60);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_an_hour_at_most() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        for (value, seconds) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(3600)),
            ("7200", Some(3600)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(3600)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            assert_eq!(retry_after(&headers, now).map(|wait| wait.as_secs()), seconds, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
