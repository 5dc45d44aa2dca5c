//! What a browser asks the listener for: as much of HTTP/1.1 (RFC 9112) as a callback needs.

use keyfob_auth_core::SecretString;
use zeroize::Zeroizing;

use super::callback;

/// The longest head, and the longest body.
const LONGEST: usize = callback::LONGEST;
const MOST_HEADERS: usize = 100;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// The address that a browser was sent to.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// What it names as the host, its port included. Another name may be a stranger's page that had this machine's address
    /// put into its own domain (DNS rebinding).
    pub(super) hosts: Vec<String>,
    pub(super) path: String,
}

/// Why a request is none for this listener: its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is no request, or an odd one.
    Malformed,
    WrongPath,
    WrongMethod,
    NoLength,
    TooLong,
    NoForm,
    WrongHost,
    HeadTooLong,
}

impl Refusal {
    pub(super) fn status(self) -> &'static str {
        match self {
            Self::Malformed => "400 Bad Request",
            Self::WrongPath => "404 Not Found",
            Self::WrongMethod => "405 Method Not Allowed",
            Self::NoLength => "411 Length Required",
            Self::TooLong => "413 Content Too Large",
            Self::NoForm => "415 Unsupported Media Type",
            Self::WrongHost => "421 Misdirected Request",
            Self::HeadTooLong => "431 Request Header Fields Too Large",
        }
    }
}

/// A request as it arrives, in memory that is wiped.
pub(super) struct Incoming {
    bytes: Zeroizing<Vec<u8>>,
    /// Where the head ends, and how long the body is.
    body: Option<(usize, usize)>,
}

impl Incoming {
    pub(super) fn new() -> Self {
        // It does not grow: a buffer that is left behind would not be wiped.
        Self { bytes: Zeroizing::new(Vec::with_capacity(2 * LONGEST + HEAD_END.len())), body: None }
    }

    /// Takes in what has arrived. An answer to a login is the query of a GET or the form of a POST; `None` until it is whole.
    pub(super) fn take(&mut self, chunk: &[u8], at: &Address) -> Result<Option<SecretString>, Refusal> {
        let seen = self.bytes.len();
        let room = self.bytes.capacity() - seen;
        self.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        let (start, length) = match self.body {
            Some(body) => body,
            None => {
                let from = seen.saturating_sub(HEAD_END.len() - 1);
                let end = self.bytes[from..].windows(HEAD_END.len()).position(|four| four == HEAD_END);
                let head = match end {
                    Some(end) if from + end <= LONGEST => from + end + HEAD_END.len(),
                    None if self.bytes.len() <= LONGEST => return Ok(None),
                    _ => return Err(Refusal::HeadTooLong),
                };
                match read_head(&self.bytes[..head], at)? {
                    Wanted::Query(query) => return Ok(Some(query)),
                    Wanted::Form(length) => *self.body.insert((head, length)),
                }
            }
        };
        match self.bytes.get(start..start + length) {
            None => Ok(None),
            Some(form) => {
                let form = std::str::from_utf8(form).map_err(|_| Refusal::Malformed)?;
                Ok(Some(form.into()))
            }
        }
    }
}

enum Wanted {
    Query(SecretString),
    /// A body of this length.
    Form(usize),
}

fn read_head(head: &[u8], at: &Address) -> Result<Wanted, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLong),
        Ok(httparse::Status::Partial) | Err(_) => return Err(Refusal::Malformed),
    }
    let (Some(method), Some(target)) = (request.method, request.path) else { return Err(Refusal::Malformed) };
    let header = |name: &str| one(request.headers, name);
    let host = header("host")?.ok_or(Refusal::Malformed)?;
    if !at.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host)) {
        return Err(Refusal::WrongHost);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path != at.path {
        return Err(Refusal::WrongPath);
    }
    match method {
        "GET" => Ok(Wanted::Query(query.into())),
        "POST" => {
            let kind = header("content-type")?.unwrap_or_default();
            let kind = kind.split(';').next().unwrap_or_default().trim();
            if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
                return Err(Refusal::NoForm);
            }
            if header("transfer-encoding")?.is_some() {
                return Err(Refusal::NoLength);
            }
            let length = header("content-length")?.ok_or(Refusal::NoLength)?;
            if length.is_empty() || !length.bytes().all(|digit| digit.is_ascii_digit()) {
                return Err(Refusal::Malformed);
            }
            match length.parse() {
                Ok(length) if length <= LONGEST => Ok(Wanted::Form(length)),
                _ => Err(Refusal::TooLong),
            }
        }
        _ => Err(Refusal::WrongMethod),
    }
}

/// The value of a header that may be there once.
fn one<'a>(headers: &[httparse::Header<'a>], name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::Malformed);
    }
    std::str::from_utf8(first.value).map(|value| Some(value.trim())).map_err(|_| Refusal::Malformed)
}

#[cfg(test)]
mod tests {
    use keyfob_auth_core::ExposeSecret;
    use proptest::prelude::*;

    use super::*;

    fn address() -> Address {
        Address { hosts: vec!["127.0.0.1:8000".into()], path: "/callback".into() }
    }

    /// What comes of a request that arrives at once; the same must come of it byte by byte.
    fn read(request: &str) -> Result<Option<String>, Refusal> {
        let answer = |read: Result<Option<SecretString>, Refusal>| {
            read.map(|answer| answer.map(|answer| answer.expose_secret().to_owned()))
        };
        let whole = answer(Incoming::new().take(request.as_bytes(), &address()));
        let mut slowly = Incoming::new();
        let mut last = Ok(None);
        for byte in request.bytes() {
            last = answer(slowly.take(&[byte], &address()));
            if last != Ok(None) {
                break;
            }
        }
        assert_eq!(whole, last, "{request:?}");
        whole
    }

    const HOST: &str = "Host: 127.0.0.1:8000\r\n";
    const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

    #[test]
    fn get_and_post_bring_an_answer() {
        let head = "GET /callback?code=c&state=s HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n";
        assert_eq!(read(&format!("{head}\r\n")), Ok(Some("code=c&state=s".into())));
        assert_eq!(
            read(&format!("{head}Cookie: a=b\r\nAccept: */*\r\n\r\n")),
            Ok(Some("code=c&state=s".into()))
        );
        assert_eq!(read(&format!("GET /callback HTTP/1.1\r\n{HOST}\r\n")), Ok(Some(String::new())));
        for kind in ["application/x-www-form-urlencoded", "Application/X-WWW-Form-URLEncoded; charset=utf-8"]
        {
            let post = format!(
                "POST /callback?code=other HTTP/1.1\r\n{HOST}content-type: {kind}\r\ncontent-length: 14\r\n\r\ncode=c&state=s"
            );
            assert_eq!(read(&post), Ok(Some("code=c&state=s".into())), "the form, not the query");
        }
        assert_eq!(read(head), Ok(None), "the head is not whole");
        let short =
            format!("POST /callback HTTP/1.1\r\n{HOST}{FORM}Content-Length: 15\r\n\r\ncode=c&state=s");
        assert_eq!(read(&short), Ok(None), "the body is not whole");
    }

    #[test]
    fn strangers_are_told_apart() {
        let get = |target: &str, headers: &str| format!("GET {target} HTTP/1.1\r\n{headers}\r\n");
        let post = |headers: &str| format!("POST /callback HTTP/1.1\r\n{HOST}{headers}\r\ncode=c&state=s");
        for (request, refusal) in [
            (get("/favicon.ico", HOST), Refusal::WrongPath),
            (get("/", HOST), Refusal::WrongPath),
            (get("/callback/", HOST), Refusal::WrongPath),
            (get("/callback2?code=c&state=s", HOST), Refusal::WrongPath),
            (get("http://127.0.0.1:8000/callback?code=c", HOST), Refusal::WrongPath),
            (get("/callback?code=c", &format!("{HOST}Host: evil.example\r\n")), Refusal::Malformed),
            (get("/callback?code=c", ""), Refusal::Malformed),
            ("nonsense\r\n\r\n".into(), Refusal::Malformed),
            ("\u{16}\u{3}\u{1}\r\n\r\n".into(), Refusal::Malformed),
            (format!("HEAD /callback?code=c HTTP/1.1\r\n{HOST}\r\n"), Refusal::WrongMethod),
            (format!("OPTIONS /callback HTTP/1.1\r\n{HOST}\r\n"), Refusal::WrongMethod),
            (format!("PUT /callback HTTP/1.1\r\n{HOST}\r\n"), Refusal::WrongMethod),
            (post("Content-Length: 14\r\n"), Refusal::NoForm),
            (post("Content-Type: application/json\r\nContent-Length: 14\r\n"), Refusal::NoForm),
            (post(FORM), Refusal::NoLength),
            (post(&format!("{FORM}Transfer-Encoding: chunked\r\n")), Refusal::NoLength),
            (post(&format!("{FORM}Transfer-Encoding: chunked\r\nContent-Length: 14\r\n")), Refusal::NoLength),
            (post(&format!("{FORM}Content-Length: -1\r\n")), Refusal::Malformed),
            (post(&format!("{FORM}Content-Length: +14\r\n")), Refusal::Malformed),
            (post(&format!("{FORM}Content-Length: 14\r\nContent-Length: 15\r\n")), Refusal::Malformed),
            (post(&format!("{FORM}Content-Length: 65537\r\n")), Refusal::TooLong),
            (post(&format!("{FORM}Content-Length: 99999999999999999999999\r\n")), Refusal::TooLong),
            (get(&format!("/callback?code={}", "x".repeat(LONGEST)), HOST), Refusal::HeadTooLong),
            (get("/callback", &format!("{HOST}{}", "A: b\r\n".repeat(MOST_HEADERS))), Refusal::HeadTooLong),
        ] {
            assert_eq!(read(&request), Err(refusal), "{:.200}", request);
        }
    }

    #[test]
    fn dns_rebinding_a_request_for_another_host_is_refused() {
        for host in [
            "evil.example:8000",
            "evil.example",
            "127.0.0.1",
            "127.0.0.1:8001",
            "127.0.0.2:8000",
            "localhost:8000",
            "127.0.0.1:8000.evil.example",
            "127.0.0.1.evil.example:8000",
        ] {
            for request in [
                format!("GET /callback?code=c&state=s HTTP/1.1\r\nHost: {host}\r\n\r\n"),
                format!("POST /callback HTTP/1.1\r\nHost: {host}\r\n{FORM}Content-Length: 6\r\n\r\ncode=c"),
            ] {
                assert_eq!(read(&request), Err(Refusal::WrongHost), "{host}");
            }
        }
    }

    #[test]
    fn a_head_without_an_end_is_not_kept() {
        let mut incoming = Incoming::new();
        let mut taken = 0;
        let refusal = loop {
            match incoming.take(&[b'x'; 5000], &address()) {
                Ok(_) => taken += 5000,
                Err(refusal) => break refusal,
            }
        };
        assert_eq!(refusal, Refusal::HeadTooLong);
        assert!(taken <= LONGEST && incoming.bytes.capacity() < 3 * LONGEST, "{taken}");
    }

    proptest! {
        #[test]
        fn no_request_panics_and_memory_is_bounded(
            lines in prop::collection::vec(
                prop_oneof![
                    Just("GET /callback?state=s HTTP/1.1".to_owned()),
                    Just("POST /callback HTTP/1.1".to_owned()),
                    Just("Host: 127.0.0.1:8000".to_owned()),
                    Just("Content-Type: application/x-www-form-urlencoded".to_owned()),
                    any::<usize>().prop_map(|n| format!("Content-Length: {n}")),
                    (0usize..30).prop_map(|n| format!("Content-Length: {n}")),
                    any::<String>(),
                    Just(String::new()),
                ],
                0..12,
            ),
            rest in prop::collection::vec(any::<u8>(), 0..200),
            size in 1usize..64,
        ) {
            let mut bytes = lines.join("\r\n").into_bytes();
            bytes.extend(rest);
            let mut incoming = Incoming::new();
            for chunk in bytes.chunks(size) {
                match incoming.take(chunk, &address()) {
                    Ok(None) => {}
                    Ok(Some(answer)) => {
                        let _ = callback::read(answer.expose_secret());
                        break;
                    }
                    Err(_) => break,
                }
            }
            prop_assert!(incoming.bytes.capacity() < 3 * LONGEST);
        }
    }
}
