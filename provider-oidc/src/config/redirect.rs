//! [`RedirectUri`]: where a browser comes back to.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use url::{Host, Url};

/// A redirect URI (RFC 6749 section 3.1.2), as it is registered: servers compare it as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedirectUri {
    text: String,
    url: Url,
    /// What of the text is its port, the colon included, or where it could be.
    port_at: Range<usize>,
    port: Option<u16>,
}

impl RedirectUri {
    /// Checks a redirect URI; the error is the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
        if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err("must have no white space".into());
        }
        if url.fragment().is_some() {
            return Err("must have no fragment (RFC 6749 section 3.1.2)".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not contain a user name or a password".into());
        }
        if url.scheme() == "http" && (loopback(&url).is_none() || !text.contains("://")) {
            return Err("must be https, or http on 127.0.0.1, [::1] or localhost".into());
        }
        if text.split_once("://").is_some_and(|(_, rest)| rest.starts_with(['/', '\\'])) {
            return Err("must have its host right after `://`".into());
        }
        let (port_at, port) = port(text);
        Ok(Self { text: text.to_owned(), url, port_at, port: port.filter(|port| *port != 0) })
    }

    /// As it is registered.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Which addresses to listen at; `None` if it is not on this machine.
    pub(crate) fn loopback(&self) -> Option<Loopback> {
        if self.url.scheme() == "http" { loopback(&self.url) } else { None }
    }

    /// The port that is registered; `None` for any.
    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    /// The URI with this port, else as it is registered (RFC 8252 section 7.3).
    pub(crate) fn with_port(&self, port: u16) -> String {
        match self.port {
            Some(_) => self.text.clone(),
            None => {
                let (before, after) = (&self.text[..self.port_at.start], &self.text[self.port_at.end..]);
                format!("{before}:{port}{after}")
            }
        }
    }

    /// Its path, as a browser asks for it.
    pub(crate) fn path(&self) -> &str {
        self.url.path()
    }

    /// What a browser that was sent there names as its host.
    pub(crate) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }
}

/// Addresses of this machine. A browser may take either of what `localhost` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loopback {
    One(IpAddr),
    Both,
}

impl Loopback {
    /// The first address must be had; the second, unless the machine has no such family.
    pub(crate) fn addresses(self) -> (IpAddr, Option<IpAddr>) {
        match self {
            Self::One(address) => (address, None),
            Self::Both => (Ipv4Addr::LOCALHOST.into(), Some(Ipv6Addr::LOCALHOST.into())),
        }
    }
}

fn loopback(url: &Url) -> Option<Loopback> {
    match url.host()? {
        Host::Ipv4(address) if address.is_loopback() => Some(Loopback::One(address.into())),
        Host::Ipv6(address) if address.is_loopback() => Some(Loopback::One(address.into())),
        Host::Domain("localhost") => Some(Loopback::Both),
        _ => None,
    }
}

/// What of the text of a URL is its port, and which it is; the parser keeps none that is the scheme's usual one.
fn port(text: &str) -> (Range<usize>, Option<u16>) {
    let host = text.find("://").map_or(0, |at| at + 3);
    let end = text[host..].find(['/', '?', '\\']).map_or(text.len(), |at| host + at);
    // A colon within brackets is the address's.
    let address = text[host..end].find(']').map_or(host, |at| host + at);
    match text[address..end].find(':') {
        Some(at) => (address + at..end, text[address + at + 1..end].parse().ok()),
        None => (end..end, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_uri_keeps_its_text_and_takes_a_port() {
        for (text, port, at_8000) in [
            ("http://127.0.0.1/callback", None, "http://127.0.0.1:8000/callback"),
            ("http://127.0.0.1", None, "http://127.0.0.1:8000"),
            ("http://127.0.0.1:0/callback", None, "http://127.0.0.1:8000/callback"),
            ("http://127.0.0.1:/callback", None, "http://127.0.0.1:8000/callback"),
            ("http://[::1]:?app=1", None, "http://[::1]:8000?app=1"),
            ("http://127.0.0.1:00/callback", None, "http://127.0.0.1:8000/callback"),
            ("http://localhost:08080/callback", Some(8080), "http://localhost:08080/callback"),
            ("http://[::1]/callback?app=1", None, "http://[::1]:8000/callback?app=1"),
            ("http://localhost?app=1", None, "http://localhost:8000?app=1"),
            ("http://[::1]:53682/", Some(53682), "http://[::1]:53682/"),
            ("http://localhost:53682", Some(53682), "http://localhost:53682"),
            ("http://127.0.0.1:80/callback", Some(80), "http://127.0.0.1:80/callback"),
            ("HTTP://LocalHost/callback", None, "HTTP://LocalHost:8000/callback"),
        ] {
            let uri = RedirectUri::parse(text).unwrap();
            assert_eq!((uri.as_str(), uri.port(), uri.with_port(8000).as_str()), (text, port, at_8000));
            assert!(uri.loopback().is_some(), "{text}");
        }
    }

    #[test]
    fn rfc8252_7_3_only_loopback_is_listened_at() {
        let v4 = |address: [u8; 4]| Some(Loopback::One(IpAddr::from(address)));
        for (text, loopback) in [
            ("http://127.0.0.1/callback", v4([127, 0, 0, 1])),
            ("http://127.1.2.3/callback", v4([127, 1, 2, 3])),
            ("http://[::1]/callback", Some(Loopback::One(Ipv6Addr::LOCALHOST.into()))),
            ("http://localhost/callback", Some(Loopback::Both)),
            ("https://localhost/callback", None),
            ("https://app.example/callback", None),
            ("com.example.app:/callback", None),
        ] {
            assert_eq!(RedirectUri::parse(text).unwrap().loopback(), loopback, "{text}");
        }
        for bad in [
            "http://0.0.0.0/callback",
            "http://[::]/callback",
            "http://app.example/callback",
            "http://localhost.example/callback",
            "http://user:marker@127.0.0.1/callback",
            "http://127.0.0.1/callback#top",
            "http://127.0.0.1/call\tback",
            "http:127.0.0.1/callback",
            "http:\\\\127.0.0.1\\callback",
            "http:///127.0.0.1/callback",
            "http://\\127.0.0.1/callback",
            "http://127.0.0.1:99999/callback",
            "/callback",
        ] {
            let what = RedirectUri::parse(bad).unwrap_err();
            assert!(what.starts_with("must") || what.starts_with("is not"), "{bad}: {what}");
            assert!(!what.contains("marker"), "{what}");
        }
    }
}
