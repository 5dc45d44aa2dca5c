//! [`Origins`]: where tokens may go.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use http::Uri;
use url::{Host, Url};

use crate::AuthError;

/// The origins that get a session's token: scheme, host and port, each compared exactly. Nothing else gets one.
///
/// `https`, or `http` on loopback (`127.0.0.0/8`, `[::1]`, `localhost`), where nobody else listens. There are no wildcards
/// and no paths: an origin is what a browser calls one (RFC 6454). The default lists none.
///
/// # Examples
/// ```
/// use keyfob_auth_core::authorize::{Origins, Policy};
///
/// let origins = Origins::new().with("https://api.example")?.if_logged_in("https://files.example:8443")?;
/// assert_eq!(origins.covers(&"https://API.example:443/v1/jobs?all".parse::<http::Uri>()?), Some(Policy::Required));
/// assert_eq!(origins.covers(&"https://api.example.evil.example/".parse::<http::Uri>()?), None);
/// assert_eq!(origins.covers(&"http://api.example/".parse::<http::Uri>()?), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Origins(Vec<(Origin, Policy)>);

/// What happens to a request for a listed origin when there is no token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// It is not sent: the caller gets the error.
    #[default]
    Required,
    /// It is sent without a token if nobody is logged in: [`NotConfigured`](crate::ErrorKind::NotConfigured) or
    /// [`LoginRequired`](crate::ErrorKind::LoginRequired). Every other failure is the caller's error all the same, so that
    /// an outage never turns a person into nobody.
    IfLoggedIn,
}

impl Origins {
    /// No origins: no request gets a token.
    pub fn new() -> Self {
        Self::default()
    }

    /// These origins, each with [`Policy::Required`].
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration), naming the one that is no https origin (nor http on loopback).
    pub fn parse<S: AsRef<str>>(origins: impl IntoIterator<Item = S>) -> Result<Self, AuthError> {
        origins.into_iter().try_fold(Self::new(), |all, origin| all.with(origin))
    }

    /// Adds an origin whose requests are sent with a token or not at all.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) if it is no https origin (nor http on loopback).
    pub fn with(self, origin: impl AsRef<str>) -> Result<Self, AuthError> {
        self.add(Origin::secure(origin.as_ref())?, Policy::Required)
    }

    /// Adds an origin with public endpoints: its requests are sent without a token while nobody is logged in.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) if it is no https origin (nor http on loopback).
    pub fn if_logged_in(self, origin: impl AsRef<str>) -> Result<Self, AuthError> {
        self.add(Origin::secure(origin.as_ref())?, Policy::IfLoggedIn)
    }

    /// Adds an origin that may be plain http anywhere: everybody on the way can read the token and use it.
    ///
    /// For a service mesh whose proxies encrypt what leaves the machine.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) if it is no origin.
    pub fn dangerously_allow_http(self, origin: impl AsRef<str>) -> Result<Self, AuthError> {
        self.add(Origin::parse(origin.as_ref())?, Policy::Required)
    }

    /// Whether requests to this target get the token, and what happens when there is none. It allocates nothing.
    #[inline]
    pub fn covers(&self, target: &impl Target) -> Option<Policy> {
        let policy = |(_, policy): &(Origin, Policy)| *policy;
        // A look at the first bytes finds nearly all that are listed; only the parts tell that a target is not.
        let begun = target.serialised().and_then(|url| self.0.iter().find(|(origin, _)| origin.begins(url)));
        begun.map(policy).or_else(|| {
            let asked = target.location()?;
            self.0.iter().find(|(origin, _)| origin.is(asked)).map(policy)
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The later of two policies for one origin counts.
    fn add(mut self, origin: Origin, policy: Policy) -> Result<Self, AuthError> {
        self.0.retain(|(other, _)| *other != origin);
        self.0.push((origin, policy));
        Ok(self)
    }
}

/// Where a request goes: the `http` crate's [`Uri`], or a [`Url`].
pub trait Target: sealed::Sealed {
    /// Its scheme, host and port; `None` if it is neither http nor https.
    #[doc(hidden)]
    fn location(&self) -> Option<Location<'_>>;

    /// Its text, if that is as the URL standard serialises it: one spelling for each scheme, host and port.
    #[doc(hidden)]
    fn serialised(&self) -> Option<&str>;

    /// It as a URI, for signers.
    #[doc(hidden)]
    fn uri(&self) -> Result<Cow<'_, Uri>, AuthError>;
}

/// Scheme, host (an IPv6 address in brackets) and port of a target.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Location<'a> {
    https: bool,
    host: &'a str,
    port: u16,
}

impl Location<'_> {
    /// Whether both are the same origin.
    pub(crate) fn is(self, other: Location<'_>) -> bool {
        self.https == other.https && self.port == other.port && self.host.eq_ignore_ascii_case(other.host)
    }
}

impl Target for Uri {
    fn location(&self) -> Option<Location<'_>> {
        let https = is_https(self.scheme_str()?)?;
        let authority = self.authority()?;
        let host = authority.host();
        // A port that is there but is no port must not pass for the default one.
        let stated = authority.as_str().rsplit('@').next()?.strip_prefix(host)?;
        let port = if stated.is_empty() || stated == ":" { default_port(https) } else { self.port_u16()? };
        Some(Location { https, host, port })
    }

    fn serialised(&self) -> Option<&str> {
        None
    }

    fn uri(&self) -> Result<Cow<'_, Uri>, AuthError> {
        Ok(Cow::Borrowed(self))
    }
}

impl Target for Url {
    fn location(&self) -> Option<Location<'_>> {
        let https = is_https(self.scheme())?;
        Some(Location { https, host: self.host_str()?, port: self.port().unwrap_or(default_port(https)) })
    }

    #[inline]
    fn serialised(&self) -> Option<&str> {
        Some(self.as_str())
    }

    fn uri(&self) -> Result<Cow<'_, Uri>, AuthError> {
        let uri = self.as_str().parse();
        uri.map(Cow::Owned)
            .map_err(|_| AuthError::configuration("the request's URL is no URI that can be signed"))
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for http::Uri {}
    impl Sealed for url::Url {}
}

fn is_https(scheme: &str) -> Option<bool> {
    match scheme {
        _ if scheme.eq_ignore_ascii_case("https") => Some(true),
        _ if scheme.eq_ignore_ascii_case("http") => Some(false),
        _ => None,
    }
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

/// A listed origin.
#[derive(Clone, PartialEq, Eq)]
struct Origin {
    https: bool,
    host: Host,
    port: u16,
    /// The three as a URL, with the slash that begins its path: `https://api.example/`, `https://api.example:8443/`.
    root: Box<str>,
}

impl Origin {
    fn secure(text: &str) -> Result<Self, AuthError> {
        let origin = Self::parse(text)?;
        if !origin.https && !origin.is_loopback() {
            return Err(wrong(&origin, "is plain http: tokens go to https only, or to http on loopback"));
        }
        Ok(origin)
    }

    /// Stricter than a browser's address bar, which mends what it is given: what was written is what is meant.
    fn parse(text: &str) -> Result<Self, AuthError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong(&text, "is no origin: write https://HOST or https://HOST:PORT"));
        };
        let Some(https) = is_https(scheme) else {
            return Err(wrong(&text, "is neither https nor http"));
        };
        if rest.contains('@') {
            // Not quoted: what stands before the `@` may be a password.
            return Err(AuthError::configuration(
                "an origin has a user name or a password, which belong to none",
            ));
        }
        if rest.contains('*') {
            return Err(wrong(&text, "has a wildcard: list each origin that may get the token"));
        }
        let path = rest.find(['/', '?', '#']).map_or("", |at| &rest[at..]);
        if !matches!(path, "" | "/") {
            return Err(wrong(
                &text,
                "goes beyond the host and port: an origin has no path, query or fragment",
            ));
        }
        if rest.contains(|c: char| c == '\\' || c == '%' || c.is_whitespace() || c.is_control()) {
            return Err(wrong(&text, "has a character that no host has"));
        }
        let url = Url::parse(text).map_err(|error| wrong(&text, &format!("is no origin: {error}")))?;
        let Some(host) = url.host() else { return Err(wrong(&text, "names no host")) };
        Ok(Self {
            https,
            host: host.to_owned(),
            port: url.port().unwrap_or(default_port(https)),
            root: url.as_str().into(),
        })
    }

    /// Whether a URL, as it is serialised, has this origin and neither user name nor password.
    ///
    /// A URL's authority ends at the first slash behind the scheme's two. One that begins with [`root`](Self::root) has that
    /// slash where the root has it, so that both authorities are the same text: there is no room for user info, which would
    /// end in `@`, for another port or for more of a host. And the same authority is the same host and port, whoever reads it.
    /// The reverse holds because there is but one spelling: small letters, IDNA, short IPv6, no default port. User info is
    /// what it does not see; [`is`](Self::is) does.
    #[inline]
    fn begins(&self, url: &str) -> bool {
        url.as_bytes().starts_with(self.root.as_bytes())
    }

    fn is(&self, asked: Location<'_>) -> bool {
        self.https == asked.https
            && self.port == asked.port
            && match &self.host {
                Host::Domain(name) => name.eq_ignore_ascii_case(asked.host),
                Host::Ipv4(address) => asked.host.parse::<Ipv4Addr>().is_ok_and(|asked| asked == *address),
                Host::Ipv6(address) => {
                    let inner = asked.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                    inner
                        .and_then(|host| host.parse::<Ipv6Addr>().ok())
                        .is_some_and(|asked| asked == *address)
                }
            }
    }

    fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => IpAddr::V4(*address).is_loopback(),
            Host::Ipv6(address) => IpAddr::V6(*address).is_loopback(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.host)?;
        if self.port == default_port(self.https) { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn wrong(origin: &dyn fmt::Display, what: &str) -> AuthError {
    AuthError::configuration(format!("the origin \"{}\" {what}", origin.to_string().escape_debug()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covers(origins: &Origins, uri: &str) -> bool {
        let by_uri = origins.covers(&uri.parse::<Uri>().unwrap());
        if let Ok(url) = Url::parse(uri) {
            assert_eq!(by_uri, origins.covers(&url), "{uri}: the two kinds of target differ");
        }
        by_uri.is_some()
    }

    #[test]
    fn an_origin_is_scheme_host_and_port_exactly() {
        let origins =
            Origins::parse(["https://Api.Example", "https://other.example:8443/", "https://[2001:DB8::1]"])
                .unwrap();
        for uri in [
            "https://api.example/",
            "https://API.EXAMPLE:443/x?y=https://evil.example",
            "https://api.example:/x",
            "https://user:pass@api.example/",
            "https://other.example:8443/",
            "https://[2001:db8::1]/",
            "https://[2001:db8:0:0::1]:443/",
        ] {
            assert!(covers(&origins, uri), "{uri}");
        }
        for uri in [
            "http://api.example/",
            "http://api.example:443/",
            "https://api.example:8443/",
            "https://other.example/",
            "https://sub.api.example/",
            "https://api.example.evil.example/",
            "https://api.example./",
            "https://api.example@evil.example/",
            "https://api.example:443@evil.example/",
            "https://evil.example/https://api.example",
            "https://[2001:db8::2]/",
            "ftp://api.example/",
        ] {
            assert!(!covers(&origins, uri), "{uri}");
        }
        assert_eq!(origins.covers(&Uri::from_static("/relative")), None);
        assert_eq!(origins.covers(&Uri::from_static("api.example:443")), None);
        assert_eq!(origins.covers(&Uri::from_static("https://api.example:99999/")), None);
        assert_eq!(Origins::new().covers(&Uri::from_static("https://api.example/")), None);
    }

    #[test]
    fn rfc9700_2_6_plain_http_is_for_loopback_or_the_dangerous_switch() {
        for origin in
            ["http://127.0.0.1:8080", "http://127.9.9.9", "http://[::1]:80", "http://localhost:3000"]
        {
            assert!(covers(&Origins::new().with(origin).unwrap(), origin), "{origin}");
        }
        for origin in [
            "http://api.example",
            "http://10.0.0.1",
            "http://localhost.evil.example",
            "http://[::ffff:127.0.0.1]",
        ] {
            let error = Origins::new().with(origin).unwrap_err();
            assert!(error.message().contains("plain http"), "{error}");
            assert!(Origins::new().if_logged_in(origin).is_err(), "{origin}");
            assert!(Origins::parse([origin]).is_err(), "{origin}");
            assert!(Origins::new().dangerously_allow_http(origin).is_ok(), "{origin}");
        }
        let mesh = Origins::new().dangerously_allow_http("http://jobs.mesh:8080").unwrap();
        assert!(covers(&mesh, "http://jobs.mesh:8080/x") && !covers(&mesh, "http://other.mesh:8080/x"));
    }

    #[test]
    fn what_is_no_origin_is_refused_and_said_why() {
        for (text, why) in [
            ("", "is no origin"),
            ("api.example", "is no origin"),
            ("https:/api.example", "is no origin"),
            ("https://", "is no origin"),
            ("ftp://api.example", "neither https nor http"),
            ("https://api.example/v1", "no path"),
            ("https://api.example?x", "no path"),
            ("https://api.example#x", "no path"),
            ("https://api.example//", "no path"),
            ("https://*.example", "wildcard"),
            ("https://api.example\\x", "character"),
            ("https://api .example", "character"),
            ("https://api.example\n", "character"),
            ("https://api%2eexample", "character"),
            ("https://api.example:99999", "is no origin"),
            ("https://[::1", "is no origin"),
        ] {
            let error = Origins::parse([text]).unwrap_err();
            assert!(error.message().contains(why), "{text:?}: {error}");
            assert_eq!(error.kind(), crate::ErrorKind::Configuration);
        }
        let error = Origins::new().with("https://bob:hunter2@api.example").unwrap_err();
        assert!(error.message().contains("password") && !error.message().contains("hunter2"), "{error}");
    }

    #[test]
    fn the_later_policy_of_an_origin_counts() {
        let uri = Uri::from_static("https://api.example/");
        let origins = Origins::new().with("https://api.example").unwrap();
        assert_eq!(origins.covers(&uri), Some(Policy::Required));
        let origins = origins.if_logged_in("https://api.example:443").unwrap();
        assert_eq!(origins.covers(&uri), Some(Policy::IfLoggedIn));
        assert_eq!(format!("{origins:?}"), "Origins([(https://api.example, IfLoggedIn)])");
    }

    proptest! {
        /// Two parsers that see different hosts in one text are how tokens go astray.
        #[test]
        fn both_kinds_of_target_mean_the_same_host(
            text in r"(https?|HTTPS):/{1,3}(api\.example|evil\.example|[a.@:\\/?#\[\]%0-9]|443|127\.1|\[::1\]){1,6}"
        ) {
            let origins = Origins::parse(["https://api.example", "http://127.0.0.1", "https://[::1]"]).unwrap();
            if let (Ok(uri), Ok(url)) = (text.parse::<Uri>(), Url::parse(&text)) {
                if origins.covers(&uri).is_some() {
                    prop_assert!(origins.covers(&url).is_some(), "{}", text);
                }
                if let Ok(sent) = url.as_str().parse::<Uri>() {
                    prop_assert_eq!(origins.covers(&url), origins.covers(&sent), "{}", text);
                }
            }
        }

        /// The short cut against the comparison it spares, of URLs that were parsed and of URLs that were changed afterwards.
        #[test]
        fn a_url_begins_as_an_origin_if_its_parts_are_the_same_and_it_names_no_user(
            text in concat!(
                r"(https?|HTTPS)://(([a.:/%]|api\.example){0,2}@)?",
                r"(api\.example|aPi\.Example|api%2Eexample|api。example|api\.example\.|sub\.api\.example|127\.1|0x7f\.0\.0\.1|\[0:0::1\])",
                r"(:|:443|:0443|:80|:8443|:84430)?(\.evil\.example|@evil\.example)?([/?#\\][/@:.a]{0,3})?",
            ),
            user in "[a:/@]{1,2}",
            port in prop::sample::select(vec![80, 443, 8443]),
        ) {
            let listed = ["https://API.example", "https://api.example:8443", "http://api.example", "https://127.0.0.1", "https://[::1]"];
            let listed = listed.into_iter().try_fold(Origins::new(), Origins::dangerously_allow_http).unwrap();
            if let Ok(parsed) = Url::parse(&text) {
                let [mut with_port, mut with_user] = [parsed.clone(), parsed.clone()];
                with_port.set_port(Some(port)).unwrap();
                with_user.set_username(&user).unwrap();
                for url in [parsed, with_port, with_user] {
                    let nobody = url.username().is_empty() && url.password().is_none();
                    let sent = url.as_str().parse::<Uri>().ok();
                    for (origin, _) in &listed.0 {
                        let [by_url, by_uri] = [url.location(), sent.as_ref().and_then(Target::location)]
                            .map(|parts| parts.is_some_and(|parts| origin.is(parts)));
                        prop_assert_eq!(origin.begins(url.as_str()), by_url && nobody, "{:?} {}", origin, url);
                        prop_assert!(by_uri || !origin.begins(url.as_str()), "{:?} {}", origin, url);
                    }
                }
            }
        }

        #[test]
        fn any_text_is_an_origin_or_an_error(text in r"\PC*") {
            let _ = Origins::parse([text]);
        }
    }
}
