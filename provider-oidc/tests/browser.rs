//! Login with a browser (RFC 6749 section 4.1, RFC 7636, RFC 8252, RFC 9126, RFC 9207), with somebody who opens what is shown.

mod common;

use std::{sync::Arc, time::Duration};

use common::{build, literal};
use keyfob_auth_core::{
    Acquired, AuthError, Context, CredentialProvider, ErrorKind, Interaction, LoginRequest, Prompt, Session,
    TokenRequest, store::MemoryStore,
};
use keyfob_idp::{
    person::Person,
    server::{AuthorizationIss, AuthorizationServer, Client, Endpoint, Fault, RecordedRequest, Settings},
};
use keyfob_provider_oidc::{
    Flow, Oidc, OidcBuilder, ResponseMode,
    browser::{Page, Pending, escape_html},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};
use url::Url;

async fn server() -> AuthorizationServer {
    AuthorizationServer::start(Settings::default()).await
}

/// The public client of the embedded server. No window is to open on who runs this.
fn client(server: &AuthorizationServer) -> OidcBuilder {
    Oidc::builder(server.issuer(), "cli").flow(Flow::Browser).scopes(["openid", "read"]).open_browser(false)
}

/// A login under way whose URL has been shown.
struct Login {
    url: Url,
    prompts: UnboundedReceiver<Prompt>,
    task: JoinHandle<Result<Acquired, AuthError>>,
}

#[derive(Debug)]
struct Shown(UnboundedSender<Prompt>);

impl Interaction for Shown {
    fn show(&self, prompt: &Prompt) {
        self.0.send(prompt.clone()).unwrap();
    }
}

impl Login {
    async fn begin(provider: &Oidc) -> Self {
        Self::begin_as(provider, LoginRequest::default()).await
    }

    async fn begin_as(provider: &Oidc, request: LoginRequest) -> Self {
        let (sender, mut prompts) = unbounded_channel();
        let provider = provider.clone();
        let login = async move { provider.login(&request, None, Arc::new(Shown(sender))).await };
        let task = tokio::spawn(login);
        let first = prompts.recv().await;
        let Some(Prompt::OpenUrl { url }) = first else { panic!("{first:?}: {:?}", task.await) };
        Self { url: Url::parse(&url).unwrap(), prompts, task }
    }

    fn parameter(&self, name: &str) -> Option<String> {
        self.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    fn redirect_uri(&self) -> Url {
        Url::parse(&self.parameter("redirect_uri").unwrap()).unwrap()
    }

    fn port(&self) -> u16 {
        self.redirect_uri().port().unwrap()
    }

    async fn end(mut self) -> Result<Acquired, AuthError> {
        let outcome = self.task.await.unwrap();
        assert_eq!(self.prompts.recv().await, None, "nothing but the URL is shown");
        outcome
    }

    /// Asks for the redirect URI with this query, as a browser does.
    async fn get(&self, query: &str) -> Answer {
        let target = format!("{}?{query}", self.redirect_uri().path());
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", self.port())).await
    }

    async fn send(&self, request: &str) -> Answer {
        send(self.port(), request.as_bytes()).await
    }
}

/// What a listener answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

async fn send(port: u16, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// Whether nobody listens at the port, soon.
async fn is_closed(port: u16) -> bool {
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

fn exchanges(server: &AuthorizationServer) -> u64 {
    server.counters().requests_of("authorization_code")
}

/// The requests to this endpoint.
fn requests(server: &AuthorizationServer, endpoint: Endpoint) -> Vec<RecordedRequest> {
    server.requests().into_iter().filter(|request| request.endpoint == Some(endpoint)).collect()
}

#[tokio::test]
async fn a_person_signs_in_and_sees_a_page() {
    let server = server().await;
    let provider = build(client(&server).pushed_authorization_requests(false));
    let login = Login::begin(&provider).await;

    // RFC 7636 section 4: S256 always; OpenID Connect Core section 3.1.2.1.
    assert!(login.url.as_str().starts_with(&format!("{}?", server.url("/authorize"))));
    for (name, value) in [("response_type", "code"), ("client_id", "cli"), ("scope", "openid read")] {
        assert_eq!(login.parameter(name).as_deref(), Some(value));
    }
    assert_eq!(login.parameter("code_challenge_method").as_deref(), Some("S256"));
    for random in ["state", "nonce", "code_challenge"] {
        assert!(login.parameter(random).unwrap().len() >= 43, "{random}");
    }
    assert_eq!(login.parameter("response_mode"), None);
    let redirect_uri = login.redirect_uri();
    assert_eq!(redirect_uri.as_str(), format!("http://127.0.0.1:{}/callback", login.port()));

    let page = Person::new("alice").visit(login.url.as_str()).await.unwrap();
    assert_eq!((page.status, page.url.path()), (200, "/callback"));
    assert!(page.words.contains("You are signed in"), "{page:?}");
    let acquired = login.end().await.unwrap();
    let login = acquired.login.unwrap();
    assert_eq!(login.account.unwrap().name.as_deref(), Some("alice"));
    assert!(login.refresh_token.is_some() && login.id_token.is_some());

    let counters = server.counters();
    assert_eq!((counters.discovery, counters.authorization, counters.token), (1, 1, 1));
    let [exchange] = &requests(&server, Endpoint::Token)[..] else { panic!("one exchange") };
    assert_eq!(exchange.parameter("redirect_uri"), Some(redirect_uri.as_str()), "identical in both requests");
    assert_eq!(exchange.parameter("code_verifier").unwrap().len(), 43);
    assert!(is_closed(redirect_uri.port().unwrap()).await);
}

#[tokio::test]
async fn every_login_has_its_own_secrets_and_port() {
    let server = server().await;
    let provider = build(client(&server).pushed_authorization_requests(false));
    let (first, second) = (Login::begin(&provider).await, Login::begin(&provider).await);
    for name in ["state", "nonce", "code_challenge", "redirect_uri"] {
        assert_ne!(first.parameter(name), second.parameter(name), "{name}");
    }
    // The answer to the one is none to the other, and both end.
    let (mut alice, mut bob) = (Person::new("alice"), Person::new("bob"));
    let for_second = bob.answer(second.url.as_str()).await.unwrap();
    let answer = first.get(for_second.url.query().unwrap()).await;
    assert_eq!(answer.status, 400);
    alice.visit(first.url.as_str()).await.unwrap();
    assert_eq!(second.get(for_second.url.query().unwrap()).await.status, 200);
    let name = |acquired: Acquired| acquired.login.unwrap().account.unwrap().name.unwrap();
    assert_eq!(
        (name(first.end().await.unwrap()), name(second.end().await.unwrap())),
        ("alice".into(), "bob".into())
    );
    assert_eq!(exchanges(&server), 2);
}

#[tokio::test]
async fn who_is_signed_in_already_types_nothing() {
    let server = server().await;
    let provider = build(client(&server));
    let mut alice = Person::new("alice");
    for _ in 0..2 {
        let login = Login::begin(&provider).await;
        alice.visit(login.url.as_str()).await.unwrap();
        login.end().await.unwrap();
    }
    let counters = server.counters();
    assert_eq!((counters.login_pages, counters.silent_sign_ins, counters.codes_issued), (1, 1, 2));
    // Asked for another account, the server asks.
    let mut request = LoginRequest::default();
    request.prompt = Some("select_account".into());
    let login = Login::begin_as(&provider, request).await;
    alice.visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
    assert_eq!(server.counters().login_pages, 2);
}

#[tokio::test]
async fn form_post_brings_the_answer_in_a_form() {
    let server = server().await;
    let builder = client(&server).response_mode(ResponseMode::FormPost).pushed_authorization_requests(false);
    let login = Login::begin(&build(builder)).await;
    assert_eq!(login.parameter("response_mode").as_deref(), Some("form_post"));
    let page = Person::new("alice").visit(login.url.as_str()).await.unwrap();
    assert_eq!((page.status, page.url.query()), (200, None), "nothing of it is in the address");
    login.end().await.unwrap();
    assert_eq!(exchanges(&server), 1);
}

#[tokio::test]
async fn rfc9126_requests_are_pushed_where_the_server_takes_them() {
    let settings = Settings { require_pushed_authorization_requests: true, ..Settings::default() };
    let server = AuthorizationServer::start(settings).await;
    let confidential = Oidc::builder(server.issuer(), "service")
        .client_secret(literal("service-secret"))
        .flow(Flow::Browser)
        .open_browser(false);
    for builder in [client(&server), confidential] {
        server.reset_counters();
        let login = Login::begin(&build(builder)).await;
        let names: Vec<_> = login.url.query_pairs().map(|(name, _)| name.into_owned()).collect();
        assert_eq!(names, ["client_id", "request_uri"]);
        Person::new("alice").visit(login.url.as_str()).await.unwrap();
        login.end().await.unwrap();
        let [pushed] = &requests(&server, Endpoint::PushedAuthorization)[..] else { panic!("one push") };
        assert!(pushed.parameter("state").is_some() && pushed.parameter("request_uri").is_none());
        assert!(pushed.parameter("redirect_uri").unwrap().starts_with("http://127.0.0.1:"));
        assert_eq!(exchanges(&server), 1);
    }
    let without = build(client(&server).pushed_authorization_requests(false));
    let error = refused(&without).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.message().contains("pushed_authorization_requests"), "{error}");
}

/// The error of a login that shows nothing.
async fn refused(provider: &Oidc) -> AuthError {
    let (sender, mut prompts) = unbounded_channel();
    let error = provider.login(&LoginRequest::default(), None, Arc::new(Shown(sender))).await.unwrap_err();
    assert_eq!(prompts.recv().await, None);
    error
}

#[tokio::test]
async fn rfc9126_a_refused_push_is_told_before_a_browser_opens() {
    let server = server().await;
    server.faults().push(Endpoint::PushedAuthorization, Fault::oauth_error("invalid_scope"));
    let error = refused(&build(client(&server))).await;
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("invalid_scope")));
    assert_eq!(server.counters().authorization, 0);
}

#[tokio::test]
async fn rfc8252_strangers_do_not_end_the_wait() {
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
    // More than are read from at once; and one in the middle of its request.
    let port = server_port(&login, &server);
    let mut idle = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"GET /callback?").await.unwrap();
        idle.push(stream);
    }
    let began = std::time::Instant::now();
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(idle);
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
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
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
async fn rfc9207_iss_mismatch() {
    let wrong = Settings {
        authorization_iss: AuthorizationIss::Wrong("https://evil.example/marker".into()),
        ..Settings::default()
    };
    let (error, page) = brings(wrong, |_| {}).await;
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("another issuer"), "{error}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("https://evil.example/marker") && !page.body.contains("marker"), "{source}");
    // One that was not announced is compared all the same.
    let missing = || Settings { authorization_iss: AuthorizationIss::Missing, ..Settings::default() };
    for iss in ["https://evil.example", ""] {
        let (error, _) = brings(missing(), |parameters| set(parameters, "iss", Some(iss))).await;
        assert!(error.message().contains("another issuer"), "{error}");
    }
}

#[tokio::test]
async fn rfc9207_iss_advertised_but_missing() {
    let (error, _) = brings(Settings::default(), |parameters| set(parameters, "iss", None)).await;
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("does not name its issuer"), "{error}");
}

#[tokio::test]
async fn rfc9207_iss_is_checked_on_error_responses_too() {
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
async fn an_answer_with_duplicate_or_missing_parameters_is_void() {
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
async fn a_code_is_sent_once_and_the_page_says_what_came_of_it() {
    let server = server().await;
    server.faults().push(Endpoint::Token, Fault::status(503));
    let login = Login::begin(&build(client(&server))).await;
    let page = Person::new("alice").visit(login.url.as_str()).await.unwrap();
    assert!(page.status == 400 && page.words.contains("You are not signed in"), "{page:?}");
    let error = login.end().await.unwrap_err();
    assert_eq!((error.kind(), error.is_repeatable()), (ErrorKind::Transient, false));
    assert_eq!((exchanges(&server), server.counters().code_reuse), (1, 0));
}

#[tokio::test]
async fn the_page_comes_after_the_exchange_and_before_the_login_returns() {
    let server = server().await;
    server.faults().push(Endpoint::Token, Fault::DelayAnswer(Duration::from_millis(300)));
    let login = Login::begin(&build(client(&server).pushed_authorization_requests(false))).await;
    let callback = Person::new("alice").answer(login.url.as_str()).await.unwrap();
    let began = std::time::Instant::now();
    let page = login.get(callback.url.query().unwrap()).await;
    assert!(began.elapsed() >= Duration::from_millis(300), "it waits for the tokens");
    assert_eq!(server.counters().successes_of("authorization_code"), 1);
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
    let length = format!("content-length: {}", page.body.len());
    assert!(page.head.contains(&length), "{page:?}");
    login.end().await.unwrap();
}

#[derive(Debug)]
struct OurPage;

impl Page for OurPage {
    fn render(&self, outcome: Result<(), &AuthError>) -> String {
        match outcome {
            Ok(()) => "<title>ours</title>".into(),
            Err(error) => escape_html(&error.to_string()),
        }
    }
}

#[tokio::test]
async fn the_page_can_be_replaced() {
    let server = server().await;
    let provider = build(client(&server).page(Arc::new(OurPage)));
    let login = Login::begin(&provider).await;
    let page = Person::new("alice").visit(login.url.as_str()).await.unwrap();
    assert_eq!(page.html, "<title>ours</title>");
    login.end().await.unwrap();
    let login = Login::begin(&provider).await;
    let page = Person::new("alice").who_denies(true).visit(login.url.as_str()).await.unwrap();
    assert!(page.html.contains("access_denied"), "{page:?}");
    login.end().await.unwrap_err();
}

#[tokio::test]
async fn the_wait_ends_at_the_deadline() {
    let server = server().await;
    let builder = client(&server).pushed_authorization_requests(false);
    let login = Login::begin(&build(builder.login_timeout(Duration::from_millis(300)))).await;
    let port = login.port();
    assert_eq!(login.get("state=wrong").await.status, 400);
    let error = login.end().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("nobody signed in within 0.3 s"), "{error}");
    assert!(is_closed(port).await);
    // The longest that can be said is no overflow.
    let endless = client(&server).login_timeout(Duration::MAX);
    let login = Login::begin(&build(endless)).await;
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
}

#[tokio::test]
async fn a_login_that_is_dropped_closes_its_port_and_connections() {
    let server = server().await;
    let login = Login::begin(&build(client(&server).pushed_authorization_requests(false))).await;
    let port = login.port();
    let mut waiting = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    waiting.write_all(b"GET /callback").await.unwrap();
    login.task.abort();
    assert!(is_closed(port).await);
    let mut rest = Vec::new();
    // Reset or ended, but not left waiting.
    let _ = tokio::time::timeout(Duration::from_secs(5), waiting.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
}

/// A port that somebody else listens at.
async fn taken(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind(format!("{address}:0")).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A server whose client may redirect to these addresses only, and that client.
async fn registered(uris: &[&str]) -> (AuthorizationServer, OidcBuilder) {
    let cli = Client::public("cli").with_redirect_uris(uris);
    let server = AuthorizationServer::start(Settings::default().with_client(cli)).await;
    let builder = client(&server).pushed_authorization_requests(false);
    let builder = uris.iter().fold(builder, |builder, uri| builder.redirect_uri(*uri));
    (server, builder)
}

#[tokio::test]
async fn the_first_registered_port_that_is_free_is_taken() {
    let (_first, first) = taken("127.0.0.1").await;
    let (second_listener, second) = taken("127.0.0.1").await;
    let uris = [first, second].map(|port| format!("http://127.0.0.1:{port}/cb"));
    let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
    let (server, builder) = registered(&uris).await;
    let provider = build(builder);

    let error = refused(&provider).await;
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    assert!(uris.iter().all(|uri| error.message().contains(uri)), "{error}");
    assert_eq!(server.counters().authorization, 0);

    drop(second_listener);
    let login = Login::begin(&provider).await;
    assert_eq!(login.redirect_uri().as_str(), uris[1]);
    // A second login at once finds no port, and does not disturb the first.
    assert_eq!(refused(&provider).await.kind(), ErrorKind::Transient);
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
    // The port is free again at once.
    let login = Login::begin(&provider).await;
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
}

#[tokio::test]
async fn localhost_is_listened_at_in_both_families() {
    if TcpListener::bind("[::1]:0").await.is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let (_server, builder) = registered(&["http://localhost/callback"]).await;
    let login = Login::begin(&build(builder)).await;
    assert_eq!(login.redirect_uri().host_str(), Some("localhost"));
    let port = login.port();
    for address in ["127.0.0.1", "::1"] {
        let mut stream = TcpStream::connect((address, port)).await.unwrap();
        let request = format!("GET /callback?state=wrong HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{address}: {answer}");
    }
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();

    // A port that a stranger has in the other family is none of ours.
    let (_stranger, port) = taken("[::1]").await;
    let fixed = format!("http://localhost:{port}/callback");
    let (_server, builder) = registered(&[&fixed]).await;
    let error = refused(&build(builder)).await;
    assert!(error.kind() == ErrorKind::Transient && error.message().contains(&fixed), "{error}");
}

#[tokio::test]
async fn ipv6_is_listened_at_where_it_is_registered() {
    if TcpListener::bind("[::1]:0").await.is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let (server, builder) = registered(&["http://[::1]/callback"]).await;
    let login = Login::begin(&build(builder)).await;
    let port = login.port();
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "that address and no other");
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
    assert_eq!(exchanges(&server), 1);
}

#[tokio::test]
async fn resources_are_the_same_in_both_requests() {
    let server = server().await;
    let provider =
        build(client(&server).resource("https://configured.example").pushed_authorization_requests(false));
    let mut token = TokenRequest::default();
    token.resources = vec!["https://a.example".into(), "https://b.example".into()];
    let login = Login::begin_as(&provider, LoginRequest::new(token)).await;
    let asked: Vec<_> = login
        .url
        .query_pairs()
        .filter(|(name, _)| name == "resource")
        .map(|(_, uri)| uri.into_owned())
        .collect();
    assert_eq!(asked, ["https://a.example", "https://b.example"]);
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
    let [exchange] = &requests(&server, Endpoint::Token)[..] else { panic!("one exchange") };
    let sent: Vec<_> =
        exchange.form.iter().filter(|(name, _)| name == "resource").map(|(_, uri)| uri).collect();
    assert_eq!(sent, ["https://a.example", "https://b.example"]);
}

#[tokio::test]
async fn a_web_application_takes_the_two_steps_itself() {
    const HOME: &str = "https://app.example/signed-in";
    let web = Client::confidential("web", "web-secret").with_redirect_uris(&[HOME]);
    let server = AuthorizationServer::start(Settings::default().with_client(web)).await;
    let context = Context::new();
    let provider = Oidc::builder(server.issuer(), "web")
        .client_secret(literal("web-secret"))
        .flow(Flow::Browser)
        .redirect_uri(HOME)
        .build(&context)
        .unwrap();
    let (url, pending) = provider.start(&LoginRequest::default(), None).await.unwrap();
    let kept = serde_json::to_string(&pending).unwrap();

    // It is secret, and shows nothing.
    let callback = Person::new("alice").answer(&url).await.unwrap();
    let state = callback.parameter("state").unwrap();
    assert!(kept.contains(&state) && !format!("{pending:?}").contains(&state));

    let pending: Pending = serde_json::from_str(&kept).unwrap();
    let wrong = provider.finish(pending.clone(), "code=x&state=another").await.unwrap_err();
    assert!(wrong.message().contains("another login"), "{wrong}");
    let without = provider.finish(pending.clone(), "code=x").await.unwrap_err();
    assert!(without.message().contains("`state`"), "{without}");
    let other = Oidc::builder(server.issuer(), "cli").flow(Flow::Browser).build(&context).unwrap();
    let foreign = other.finish(pending.clone(), callback.url.as_str()).await.unwrap_err();
    assert!(foreign.message().contains("another client"), "{foreign}");
    assert_eq!(exchanges(&server), 0);

    let acquired = provider.finish(pending, callback.url.query().unwrap()).await.unwrap();
    let session = Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap();
    let token = session.adopt(acquired).await.unwrap();
    assert_eq!(session.token().await.unwrap().secret(), token.secret());
    assert_eq!(session.status().await.unwrap().account.unwrap().name.as_deref(), Some("alice"));
    assert_eq!(exchanges(&server), 1);
}
