//! What comes to the listener: answers, bad answers, and strangers.

use std::{
    error::Error as _,
    time::{Duration, Instant},
};

use keyfob_auth_core::{AuthError, ErrorKind};
use keyfob_idp::{
    person::Person,
    server::{AuthorizationIss, AuthorizationServer, Endpoint, Fault, Settings},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use url::{Url, form_urlencoded::Serializer};

use crate::{
    common::build,
    support::{Answer, Login, client, exchanges, is_closed, requests, server},
};

#[tokio::test]
async fn rfc8252_7_3_strangers_do_not_end_the_wait() {
    let server = server().await;
    let login = Login::begin(&build(client(&server).pushed_authorization_requests(false))).await;
    let (state, port) = (login.parameter("state").unwrap(), login.port());
    for query in [
        "",
        "code=marker",
        "state=",
        "code=marker&state=wrong",
        &format!("code=marker&state={state}x"),
        &format!("code=marker&state={}", &state[1..]),
        &format!("code=marker&state={state}&state={state}"),
        "error=access_denied",
        "error=access_denied&state=wrong&error_description=marker",
    ] {
        let answer = login.get(query).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.body.contains("not the sign-in that is waited for"), "{query}: {answer:?}");
        assert!(!answer.body.contains("marker"), "{answer:?}");
    }
    let host = format!("Host: 127.0.0.1:{port}\r\n");
    let target = format!("/callback?code=marker&state={state}");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    for (request, status) in [
        (format!("GET /favicon.ico HTTP/1.1\r\n{host}\r\n"), 404),
        (format!("GET /other?code=marker&state={state} HTTP/1.1\r\n{host}\r\n"), 404),
        (format!("HEAD {target} HTTP/1.1\r\n{host}\r\n"), 405),
        (format!("OPTIONS {target} HTTP/1.1\r\n{host}\r\n"), 405),
        (format!("PUT {target} HTTP/1.1\r\n{host}Content-Length: 0\r\n\r\n"), 405),
        // DNS rebinding.
        (format!("GET {target} HTTP/1.1\r\nHost: evil.example:{port}\r\n\r\n"), 421),
        (format!("GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"), 421),
        (format!("GET {target} HTTP/1.1\r\n\r\n"), 400),
        ("\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned(), 400),
        (format!("POST /callback HTTP/1.1\r\n{host}{form}\r\n"), 411),
        (format!("POST /callback HTTP/1.1\r\n{host}{form}Content-Length: 70000\r\n\r\n"), 413),
        (
            format!(
                "POST /callback HTTP/1.1\r\n{host}Content-Type: text/plain\r\nContent-Length: 3\r\n\r\na=b"
            ),
            415,
        ),
        (format!("GET {target}{} HTTP/1.1\r\n{host}\r\n", "x".repeat(100_000)), 431),
    ] {
        let answer = login.send(&request).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{request:.80}");
        assert!(answer.head.contains("cache-control: no-store") && answer.head.contains("connection: close"));
        assert_eq!(answer.head.contains("allow: get, post"), status == 405);
    }
    assert_eq!(exchanges(&server), 0);
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
    assert_eq!(exchanges(&server), 1);
}

#[tokio::test]
async fn who_sends_nothing_blocks_nobody() {
    let server = server().await;
    let login = Login::begin(&build(client(&server))).await;
    let port = server_port(&login, &server);
    // More than are read from at once, each in the middle of its request: the oldest gives way.
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(begun(port).await);
    }
    let began = Instant::now();
    ended(&mut idle[0]).await;
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "sooner than one gives up: {:?}", began.elapsed());
}

#[tokio::test]
async fn who_is_slow_is_not_waited_for() {
    let server = server().await;
    let login = Login::begin(&build(client(&server))).await;
    let port = server_port(&login, &server);
    let began = Instant::now();
    let mut slow = begun(port).await;
    ended(&mut slow).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(10), "{took:?}");
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
}

/// A connection that has sent the beginning of a request.
async fn begun(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET /callback?").await.unwrap();
    stream
}

/// Waits until the other end has closed it without a word.
async fn ended(stream: &mut TcpStream) {
    let read = timeout(Duration::from_secs(20), stream.read(&mut [0; 64])).await.unwrap();
    assert!(!matches!(read, Ok(1..)), "{read:?}");
}

/// The port of a login whose request was pushed.
fn server_port(login: &Login, server: &AuthorizationServer) -> u16 {
    assert_eq!(login.parameter("redirect_uri"), None);
    let pushed = requests(server, Endpoint::PushedAuthorization).pop().unwrap();
    Url::parse(pushed.parameter("redirect_uri").unwrap()).unwrap().port().unwrap()
}

/// What comes of an answer that the person's browser brings, with its query changed.
async fn brings(settings: Settings, change: impl Fn(&mut Vec<(String, String)>)) -> (AuthError, Answer) {
    let server = AuthorizationServer::start(settings).await;
    let login = Login::begin(&build(client(&server).pushed_authorization_requests(false))).await;
    let callback = Person::new("alice").answer(login.url.as_str()).await.unwrap();
    let mut parameters = callback.parameters();
    change(&mut parameters);
    let query = Serializer::new(String::new()).extend_pairs(parameters).finish();
    let port = login.port();
    let page = login.get(&query).await;
    assert_eq!(page.status, 400);
    assert!(page.body.contains("You are not signed in"), "{page:?}");
    let error = login.end().await.unwrap_err();
    assert_eq!(exchanges(&server), 0, "no code is sent anywhere");
    assert!(is_closed(port).await);
    (error, page)
}

fn set(parameters: &mut Vec<(String, String)>, name: &str, value: Option<&str>) {
    parameters.retain(|(known, _)| known != name);
    parameters.extend(value.map(|value| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn rfc9207_2_4_iss_is_the_expected_issuer_byte_for_byte() {
    let wrong = Settings {
        authorization_iss: AuthorizationIss::Wrong("https://evil.example/marker".into()),
        ..Settings::default()
    };
    let (error, page) = brings(wrong, |_| {}).await;
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("another issuer"), "{error}");
    let source = error.source().unwrap().to_string();
    assert!(source.contains("https://evil.example/marker") && !page.body.contains("marker"), "{source}");
    for other in [
        |iss: &str| format!("{iss}/"),
        |iss: &str| iss.replace("http:", "HTTP:"),
        |iss: &str| iss.replace("127.0.0.1", "localhost"),
        |iss: &str| format!(" {iss}"),
    ] {
        let change = |parameters: &mut Vec<(String, String)>| {
            let (_, iss) = parameters.iter_mut().find(|(name, _)| name == "iss").unwrap();
            *iss = other(iss);
        };
        let (error, _) = brings(Settings::default(), change).await;
        assert!(error.kind() == ErrorKind::Refused && error.message().contains("another issuer"), "{error}");
    }
    // One that was not announced is compared all the same.
    let missing = || Settings { authorization_iss: AuthorizationIss::Missing, ..Settings::default() };
    for iss in ["https://evil.example", ""] {
        let (error, _) = brings(missing(), |parameters| set(parameters, "iss", Some(iss))).await;
        assert!(error.message().contains("another issuer"), "{error}");
    }
}

#[tokio::test]
async fn rfc9207_2_4_an_iss_that_was_advertised_is_there() {
    let (error, _) = brings(Settings::default(), |parameters| set(parameters, "iss", None)).await;
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("does not name its issuer"), "{error}");
}

#[tokio::test]
async fn rfc9207_2_4_iss_is_checked_on_error_responses_too() {
    let denied = |iss: Option<&'static str>| {
        move |parameters: &mut Vec<(String, String)>| {
            set(parameters, "code", None);
            set(parameters, "error", Some("access_denied"));
            set(parameters, "iss", iss);
        }
    };
    for iss in [Some("https://evil.example"), None] {
        let (error, _) = brings(Settings::default(), denied(iss)).await;
        assert!(error.message().contains("issuer") && error.oauth_error().is_none(), "{error}");
    }
}

#[tokio::test]
async fn rfc6749_3_1_an_answer_with_duplicate_or_missing_parameters_is_void() {
    for name in ["code", "iss", "error"] {
        let (error, _) = brings(Settings::default(), |parameters| {
            parameters.push((name.to_owned(), "marker".into()));
            parameters.push((name.to_owned(), "marker".into()));
        })
        .await;
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.message().contains(&format!("`{name}` twice")), "{error}");
        assert!(!error.to_string().contains("marker"), "{error}");
    }
    for code in [None, Some("")] {
        let (error, _) = brings(Settings::default(), |parameters| set(parameters, "code", code)).await;
        assert!(error.message().contains("neither a code nor an error"), "{error}");
    }
}

#[tokio::test]
async fn error_responses_are_told_by_what_can_be_done() {
    const HOSTILE: &str = "<script>marker</script>";
    for (code, kind) in [
        ("access_denied", ErrorKind::Refused),
        ("unauthorized_client", ErrorKind::Refused),
        ("<script>marker", ErrorKind::Refused),
        ("server_error", ErrorKind::Transient),
        ("temporarily_unavailable", ErrorKind::Transient),
        ("login_required", ErrorKind::InteractionRequired),
        ("consent_required", ErrorKind::InteractionRequired),
    ] {
        let (error, page) = brings(Settings::default(), |parameters| {
            set(parameters, "code", None);
            set(parameters, "error", Some(code));
            set(parameters, "error_description", Some(HOSTILE));
        })
        .await;
        assert_eq!((error.kind(), error.oauth_error()), (kind, Some(code)));
        assert_eq!(error.oauth_description(), Some(HOSTILE));
        assert!(!page.body.contains("marker") && !page.body.contains("<script"), "{page:?}");
    }
}

#[tokio::test]
async fn a_person_who_denies_is_told_so() {
    let server = server().await;
    let login = Login::begin(&build(client(&server))).await;
    let page = Person::new("alice").who_denies(true).visit(login.url.as_str()).await.unwrap();
    assert!(page.status == 400 && page.words.contains("The sign-in was denied."), "{page:?}");
    let error = login.end().await.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("access_denied")));
    assert_eq!((exchanges(&server), server.counters().codes_issued), (0, 0));
}

#[tokio::test]
async fn rfc6749_4_1_2_a_code_is_sent_once_whatever_is_answered() {
    let server = server().await;
    let provider = build(client(&server));
    for (fault, kind) in [
        (Fault::status(503), ErrorKind::Transient),
        (Fault::too_many_requests(Some(0)), ErrorKind::Transient),
        (Fault::status(401), ErrorKind::Refused),
        (Fault::oauth_error("invalid_grant"), ErrorKind::Refused),
        (Fault::oauth_error("invalid_client"), ErrorKind::Refused),
        (Fault::oauth_error("temporarily_unavailable"), ErrorKind::Transient),
        (Fault::DropBefore, ErrorKind::Transient),
        (Fault::DropAfter, ErrorKind::Transient),
        (Fault::Truncated, ErrorKind::Transient),
        (Fault::EmptyBody, ErrorKind::Transient),
        (Fault::Html(200), ErrorKind::Transient),
    ] {
        server.reset_counters();
        server.faults().push(Endpoint::Token, fault.clone());
        let login = Login::begin(&provider).await;
        let page = Person::new("alice").visit(login.url.as_str()).await.unwrap();
        assert!(page.status == 400 && page.words.contains("You are not signed in"), "{fault:?}: {page:?}");
        let error = login.end().await.unwrap_err();
        assert_eq!((error.kind(), error.is_repeatable()), (kind, false), "{fault:?}: {error}");
        assert_eq!((exchanges(&server), server.counters().code_reuse), (1, 0), "{fault:?}");
    }
}

#[tokio::test]
async fn rfc9700_4_2_4_every_page_sends_no_referrer_and_holds_nothing_of_the_answer() {
    let server = server().await;
    let provider = build(client(&server).pushed_authorization_requests(false));
    for denies in [false, true] {
        let login = Login::begin(&provider).await;
        let callback = Person::new("alice").who_denies(denies).answer(login.url.as_str()).await.unwrap();
        let mut pages = vec![login.get("code=marker-code&state=marker-state").await];
        pages.push(login.get(callback.url.query().unwrap()).await);
        assert_eq!((pages[0].status, pages[1].status), (400, if denies { 400 } else { 200 }));
        for page in pages {
            for header in [
                "content-type: text/html; charset=utf-8",
                "cache-control: no-store",
                "referrer-policy: no-referrer",
                "content-security-policy: default-src 'none'; style-src 'unsafe-inline'",
                "x-content-type-options: nosniff",
                "connection: close",
            ] {
                assert!(page.head.contains(header), "{header}: {page:?}");
            }
            assert!(!page.body.contains("marker"), "{page:?}");
            for (name, value) in callback.parameters().iter().filter(|(_, value)| value.len() > 8) {
                assert!(!page.body.contains(value) && !page.head.contains(value), "{name}: {page:?}");
            }
        }
        assert_eq!(login.end().await.is_ok(), !denies);
    }
    assert_eq!(exchanges(&server), 1);
}
