//! What a redirect answer asks for.

use std::{error::Error as StdError, fmt};

use http::{HeaderMap, Method, StatusCode, header};
use reqwest::{Request, Url};

/// A request was redirected more often than the client follows.
///
/// It is found in a [`reqwest_middleware::Error::Middleware`] by downcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooManyRedirects {
    /// How many were followed.
    pub followed: usize,
}

impl fmt::Display for TooManyRedirects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server redirected the request more than {} times, perhaps in a circle", self.followed)
    }
}

impl StdError for TooManyRedirects {}

/// The next request, and whether it needs the body of this one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) url: Url,
    pub(super) method: Method,
    pub(super) keeps_body: bool,
}

/// Where a redirect answer leads (RFC 9110 section 15.4); `None` if it is none, or leads to nowhere that http goes.
pub(super) fn hop(from: &Url, method: &Method, status: StatusCode, headers: &HeaderMap) -> Option<Hop> {
    let to_get = match status {
        // Everybody turns POST into GET here, and nothing else (sections 15.4.2 and 15.4.3).
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => *method == Method::POST,
        StatusCode::SEE_OTHER => *method != Method::HEAD,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => false,
        _ => return None,
    };
    let location = std::str::from_utf8(headers.get(header::LOCATION)?.as_bytes()).ok()?;
    let mut url = from.join(location).ok()?;
    if !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    // A server does not get to choose the caller's credentials.
    url.set_username("").and_then(|()| url.set_password(None)).ok()?;
    if url.fragment().is_none() {
        url.set_fragment(from.fragment());
    }
    let method = if to_get { Method::GET } else { method.clone() };
    Some(Hop { url, method, keeps_body: !to_get && status != StatusCode::SEE_OTHER })
}

impl Hop {
    /// Makes the next request of this one, which has its body or had none.
    pub(super) fn take(self, request: &mut Request) {
        *request.url_mut() = self.url;
        *request.method_mut() = self.method;
        if !self.keeps_body {
            *request.body_mut() = None;
            for name in [
                header::CONTENT_TYPE,
                header::CONTENT_LENGTH,
                header::CONTENT_ENCODING,
                header::TRANSFER_ENCODING,
            ] {
                request.headers_mut().remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(method: &str, status: u16, location: &str) -> Option<(String, String, bool)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, http::HeaderValue::from_bytes(location.as_bytes()).unwrap());
        let from = Url::parse("https://api.example/a/b?q#part").unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let hop = hop(&from, &method, StatusCode::from_u16(status).unwrap(), &headers)?;
        Some((hop.method.to_string(), hop.url.to_string(), hop.keeps_body))
    }

    #[test]
    fn methods_change_as_rfc9110_says() {
        for (method, status, next, keeps_body) in [
            ("GET", 301, "GET", true),
            ("POST", 301, "GET", false),
            ("POST", 302, "GET", false),
            ("PUT", 302, "PUT", true),
            ("POST", 303, "GET", false),
            ("DELETE", 303, "GET", false),
            ("HEAD", 303, "HEAD", false),
            ("POST", 307, "POST", true),
            ("PATCH", 308, "PATCH", true),
        ] {
            let expected = Some((next.to_owned(), "https://api.example/x#part".to_owned(), keeps_body));
            assert_eq!(to(method, status, "/x"), expected, "{method} {status}");
        }
        for status in [200, 201, 300, 304, 305, 306, 401] {
            assert_eq!(to("GET", status, "/x"), None, "{status}");
        }
    }

    #[test]
    fn locations_are_resolved_and_lose_credentials() {
        let url = |location| to("GET", 302, location).map(|(_, url, _)| url);
        assert_eq!(url("c#own").as_deref(), Some("https://api.example/a/c#own"));
        assert_eq!(url("//other.example/x#").as_deref(), Some("https://other.example/x#"));
        assert_eq!(url("http://u:p@other.example/x#f").as_deref(), Some("http://other.example/x#f"));
        for location in ["ftp://other.example/", "file:///etc/passwd", "data:,x", "https://", "http://[::1"] {
            assert_eq!(url(location), None, "{location}");
        }
        assert_eq!(
            hop(
                &Url::parse("https://a.example").unwrap(),
                &Method::GET,
                StatusCode::FOUND,
                &HeaderMap::new()
            ),
            None
        );
    }
}
