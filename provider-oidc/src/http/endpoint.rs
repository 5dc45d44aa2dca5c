//! [`Endpoint`]: a URL that secrets may be sent to.

use std::fmt;

use url::{Host, Url};

use crate::metadata::Which;

/// The URL of an endpoint: https, or http on this machine.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    url: Url,
    which: Option<Which>,
}

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
        Ok(Self { url, which: None })
    }

    /// Says which endpoint it is.
    pub(crate) fn being(mut self, which: Which) -> Self {
        self.which = Some(which);
        self
    }

    /// Which endpoint it is, if it is one of an authorization server's.
    pub(crate) fn which(&self) -> Option<Which> {
        self.which
    }

    /// Whether it is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }

    /// Whether it is protected on the way.
    pub(crate) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Whether it has a query.
    pub(crate) fn has_query(&self) -> bool {
        self.url.query().is_some()
    }

    /// The same host with another path.
    pub(crate) fn with_path(&self, path: &str) -> Self {
        let mut url = self.url.clone();
        url.set_path(path);
        Self { url, which: None }
    }

    /// Its host and port: whose clock it is.
    pub(crate) fn host(&self) -> String {
        format!(
            "{}:{}",
            self.url.host_str().unwrap_or_default(),
            self.url.port_or_known_default().unwrap_or(0)
        )
    }

    /// Scheme, host and port.
    #[cfg(feature = "jose")]
    pub(crate) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The whole URL, its query included.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Its path.
    pub(crate) fn path(&self) -> &str {
        self.url.path()
    }
}

impl fmt::Display for Endpoint {
    /// Without the query, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.url.clone();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9700_2_6_http_is_accepted_on_loopback_only() {
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
        assert_eq!(endpoint.url.query(), Some("key=marker"));
        assert_eq!(endpoint.to_string(), "https://idp.example/token");
        assert!(!format!("{endpoint:?}").contains("marker"));
    }
}
