//! `WWW-Authenticate`, with all its challenges.

use http::{HeaderMap, header};

/// One challenge of an answer (RFC 9110 section 11.6.1): a scheme, and parameters or a token68.
///
/// The text is the server's: bounded, but not to be printed unescaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpChallenge {
    /// The scheme as written (`Bearer`); compare it without regard to case.
    pub scheme: String,
    /// The one value without a name that schemes like `Negotiate` have.
    pub token68: Option<String>,
    /// The parameters in order, names as written. Of two with one name the first counts.
    pub params: Vec<(String, String)>,
}

impl HttpChallenge {
    /// Whether it is of this scheme.
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// The parameter of this name, without regard to case.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// The challenges of an answer, in order, from all its `WWW-Authenticate` headers.
///
/// It reads whatever it is given: what makes no sense is passed over, and there is a limit to the length and number of
/// what is read.
///
/// # Examples
/// ```
/// use keyfob_auth_core::authorize::challenges;
///
/// let mut headers = http::HeaderMap::new();
/// headers.insert("www-authenticate", r#"Negotiate, Bearer realm="a, b", error="insufficient_scope", scope="x y""#.parse()?);
/// let found = challenges(&headers);
/// assert_eq!(found.len(), 2);
/// assert_eq!(found[1].param("scope"), Some("x y"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn challenges(headers: &HeaderMap) -> Vec<HttpChallenge> {
    let mut found = Vec::new();
    let mut left = LONGEST;
    for value in headers.get_all(header::WWW_AUTHENTICATE) {
        let bytes = value.as_bytes();
        let bytes = &bytes[..bytes.len().min(left)];
        left -= bytes.len();
        Cursor { bytes, at: 0 }.read(&mut found);
    }
    found
}

/// Bytes that are read, over all headers; a claims challenge takes a few thousand.
const LONGEST: usize = 64 * 1024;
const MOST_CHALLENGES: usize = 32;
const MOST_PARAMS: usize = 64;

/// Reads one header. Every step goes forward, so that it ends.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    /// `#challenge`. A comma stands between challenges as between parameters: what follows is a parameter if `=` comes
    /// after its name, else the next challenge's scheme.
    fn read(mut self, found: &mut Vec<HttpChallenge>) {
        let first = found.len();
        loop {
            self.skip(|b| matches!(b, b' ' | b'\t' | b','));
            let name = self.take(is_token);
            let Some(next) = self.peek() else {
                if !name.is_empty() {
                    self.begin(name, found);
                }
                return;
            };
            if name.is_empty() {
                self.skip_nonsense(next);
                continue;
            }
            self.skip(is_space);
            if self.peek() == Some(b'=') {
                self.at += 1;
                let value = self.value();
                if found.len() > first && found.len() <= MOST_CHALLENGES {
                    let params = found.last_mut().map(|challenge| &mut challenge.params);
                    if let Some(params) = params.filter(|params| params.len() < MOST_PARAMS) {
                        params.push((name, value));
                    }
                }
                continue;
            }
            let token68 = self.token68();
            self.begin(name, found);
            if let (Some(token68), Some(challenge)) = (token68, found.last_mut()) {
                challenge.token68 = Some(token68);
            }
        }
    }

    /// One more than is kept is begun, so that parameters of the rest go to none of those kept.
    fn begin(&self, scheme: String, found: &mut Vec<HttpChallenge>) {
        found.truncate(MOST_CHALLENGES);
        found.push(HttpChallenge { scheme, ..HttpChallenge::default() });
    }

    /// `token / quoted-string`, after `=`.
    fn value(&mut self) -> String {
        self.skip(is_space);
        if self.peek() == Some(b'"') {
            self.quoted()
        } else {
            self.take(|b| !matches!(b, b',' | b' ' | b'\t' | b'"'))
        }
    }

    /// A quoted string, with its escapes undone; one that is not closed ends with the header.
    fn quoted(&mut self) -> String {
        let mut value = Vec::new();
        self.at += 1;
        while let Some(byte) = self.next() {
            match byte {
                b'"' => break,
                b'\\' => value.extend(self.next()),
                _ => value.push(byte),
            }
        }
        String::from_utf8_lossy(&value).into_owned()
    }

    /// A token68, if that is all that follows up to the comma.
    fn token68(&mut self) -> Option<String> {
        let start = self.at;
        let mut text = self.take(is_token68);
        text.push_str(&self.take(|b| b == b'='));
        self.skip(is_space);
        if text.is_empty() || !matches!(self.peek(), None | Some(b',')) {
            self.at = start;
            return None;
        }
        Some(text)
    }

    fn skip_nonsense(&mut self, next: u8) {
        if next == b'"' {
            self.quoted();
        } else {
            self.at += 1;
        }
    }

    fn take(&mut self, of: impl Fn(u8) -> bool) -> String {
        let start = self.at;
        self.skip(of);
        String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned()
    }

    fn skip(&mut self, of: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&of) {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += usize::from(byte.is_some());
        byte
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110 section 11.2.
fn is_token68(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&[u8]]) -> Vec<HttpChallenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_bytes(value).unwrap());
        }
        challenges(&headers)
    }

    /// `scheme[68]{name=value;…}` for each challenge.
    fn shown(text: &str) -> String {
        let show = |c: &HttpChallenge| {
            let params: Vec<String> =
                c.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let token68 = c.token68.as_ref().map(|t| format!("[{t}]")).unwrap_or_default();
            let params = if params.is_empty() { String::new() } else { format!("{{{}}}", params.join(";")) };
            format!("{}{token68}{params}", c.scheme)
        };
        read(&[text.as_bytes()]).iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rfc6750_3_challenges_of_several_schemes_are_read_as_servers_write_them() {
        for (header, expected) in [
            ("", ""),
            ("Bearer", "Bearer"),
            ("Bearer ", "Bearer"),
            (r#"Bearer realm="example""#, "Bearer{realm=example}"),
            (r#"bearer ERROR=invalid_token"#, "bearer{ERROR=invalid_token}"),
            (r#"Bearer realm="a, b=c, Basic x=y""#, "Bearer{realm=a, b=c, Basic x=y}"),
            (r#"Bearer realm="say \"hi\\\"", error="e""#, r#"Bearer{realm=say "hi\";error=e}"#),
            ("Bearer realm = \"x\" ,\terror = y", "Bearer{realm=x;error=y}"),
            (r#"Basic realm="a", Bearer realm="b", error="c""#, "Basic{realm=a} Bearer{realm=b;error=c}"),
            (r#"Negotiate, NTLM, Bearer realm="x""#, "Negotiate NTLM Bearer{realm=x}"),
            ("Negotiate YWJj==, Bearer", "Negotiate[YWJj==] Bearer"),
            ("Negotiate abc/+=", "Negotiate[abc/+=]"),
            (", ,,Bearer,,error=x,,", "Bearer{error=x}"),
            (
                r#"DPoP error="use_dpop_nonce", algs="ES256 PS256""#,
                "DPoP{error=use_dpop_nonce;algs=ES256 PS256}",
            ),
            // Not well formed, and still read as far as it goes.
            (r#"Bearer realm="open"#, "Bearer{realm=open}"),
            (r#"Bearer realm="x\"#, "Bearer{realm=x}"),
            ("Bearer Basic realm=x", "Bearer Basic{realm=x}"),
            ("realm=lost, Bearer error=x", "Bearer{error=x}"),
            ("Bearer error=, realm=x", "Bearer[error=]{realm=x}"),
            (r#"Bearer claims=eyJh==, error=x"#, "Bearer{claims=eyJh==;error=x}"),
            (r#"Bearer ;;; "stray" error=x"#, "Bearer{error=x}"),
            ("=,=\"", ""),
        ] {
            assert_eq!(shown(header), expected, "{header}");
        }
    }

    #[test]
    fn rfc6750_3_several_headers_are_read_in_order_and_do_not_run_into_each_other() {
        let found = read(&[b"Basic realm=a", b"error=lost, Bearer error=x", b"Bearer \xff=\"\xff\""]);
        let schemes: Vec<&str> = found.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["Basic", "Bearer", "Bearer"]);
        assert_eq!(found[0].param("ERROR"), None);
        assert_eq!(found[1].param("ERROR"), Some("x"));
    }

    #[test]
    fn what_is_read_is_bounded() {
        let many = "Bearer a=b, ".repeat(4000);
        let found = read(&[many.as_bytes(), many.as_bytes()]);
        assert!(found.len() <= MOST_CHALLENGES + 1);
        let wide = format!("Bearer {}", "a=b, ".repeat(4000));
        assert_eq!(read(&[wide.as_bytes()])[0].params.len(), MOST_PARAMS);
        let long = format!("Bearer a=\"{}\", b=c", "x".repeat(2 * LONGEST));
        assert!(read(&[long.as_bytes()])[0].params[0].1.len() <= LONGEST);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4)) {
            let mut headers = HeaderMap::new();
            let mut total = 0;
            for value in values.iter().filter_map(|bytes| HeaderValue::from_bytes(bytes).ok()) {
                total += value.len();
                headers.append(header::WWW_AUTHENTICATE, value);
            }
            prop_assert!(challenges(&headers).len() <= total);
        }

        #[test]
        fn almost_challenges_are_read_without_a_panic(text in r#"((Bearer|DPoP|Basic|[a-z=]{0,3})[ ,]{0,2}([a-z]{0,5} ?=? ?("[^"]{0,6}"?|[a-z=/]{0,4}|\\)[, ]{0,2}){0,4}){0,4}"#) {
            if let Ok(value) = HeaderValue::from_str(&text) {
                let mut headers = HeaderMap::new();
                headers.append(header::WWW_AUTHENTICATE, value);
                prop_assert!(challenges(&headers).len() <= text.len());
            }
        }

        #[test]
        fn what_is_written_by_the_rules_is_read_back(
            all in prop::collection::vec(("[A-Za-z][A-Za-z0-9-]{0,8}", prop::collection::vec(("[a-z_]{1,8}", "[ -~]{0,20}"), 1..5)), 1..5)
        ) {
            let quote = |value: &str| value.replace('\\', r"\\").replace('"', "\\\"");
            let one = |(scheme, params): &(String, Vec<(String, String)>)| {
                let params: Vec<String> = params.iter().map(|(n, v)| format!("{n}=\"{}\"", quote(v))).collect();
                format!("{scheme} {}", params.join(", "))
            };
            let text = all.iter().map(one).collect::<Vec<_>>().join(", ");
            let found = read(&[text.as_bytes()]);
            let expected: Vec<HttpChallenge> = all
                .into_iter()
                .map(|(scheme, params)| HttpChallenge { scheme, params, token68: None })
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
