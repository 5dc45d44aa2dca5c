//! Login with a browser (RFC 6749 section 4.1, RFC 7636, RFC 8252, RFC 9126, RFC 9207), with somebody who opens what is shown.
#![cfg(feature = "browser")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod callback;
#[path = "../common/mod.rs"]
mod common;
mod listener;
mod native;
mod support;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use keyfob_auth_core::{
    Acquired, AuthError, Context, ErrorKind, LoginRequest, Prompt, Session, TokenRequest, store::MemoryStore,
};
use keyfob_idp::{
    person::Person,
    server::{AuthorizationServer, Client, Endpoint, Fault, Settings},
};
use keyfob_provider_oidc::{
    Flow, Oidc, ResponseMode,
    browser::{Page, Pending, escape_html},
};

use common::{build, literal};
use support::{Login, client, exchanges, is_closed, refused, requests, server};

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
async fn rfc6749_10_12_every_login_has_its_own_secrets_and_port() {
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

    let mut settings = Settings::default();
    settings.metadata.insert("response_modes_supported".into(), serde_json::json!(["query", "fragment"]));
    let without = AuthorizationServer::start(settings).await;
    let error = refused(&build(client(&without).response_mode(ResponseMode::FormPost))).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.message().contains("response_modes_supported"), "{error}");
}

#[tokio::test]
async fn rfc9126_4_the_browser_gets_client_id_and_request_uri_only() {
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
        assert_eq!((server.counters().pushed_authorization, exchanges(&server)), (1, 1));
    }
}

#[tokio::test]
async fn rfc9126_2_1_everything_is_pushed_with_the_client_authentication() {
    let server = server().await;
    let confidential = Oidc::builder(server.issuer(), "service")
        .client_secret(literal("service-secret"))
        .flow(Flow::Browser)
        .scopes(["openid", "read"])
        .open_browser(false);
    for (builder, secret) in [(client(&server), false), (confidential, true)] {
        server.reset_counters();
        let provider =
            build(builder.login_hint("alice").resource("https://r.example").extra_parameter("x", "y"));
        let login = Login::begin(&provider).await;
        Person::new("alice").visit(login.url.as_str()).await.unwrap();
        login.end().await.unwrap();
        let [pushed] = &requests(&server, Endpoint::PushedAuthorization)[..] else { panic!("one push") };
        let [exchange] = &requests(&server, Endpoint::Token)[..] else { panic!("one exchange") };
        assert_eq!((pushed.method.as_str(), pushed.query.len()), ("POST", 0));
        let mut names: Vec<_> = pushed.form.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "client_id",
                "code_challenge",
                "code_challenge_method",
                "login_hint",
                "nonce",
                "redirect_uri",
                "resource",
                "response_type",
                "scope",
                "state",
                "x",
            ]
        );
        assert!(pushed.parameter("redirect_uri").unwrap().starts_with("http://127.0.0.1:"));
        // As at the token endpoint.
        assert_eq!(pushed.header("authorization").is_some(), secret);
        assert_eq!(pushed.header("authorization"), exchange.header("authorization"));
    }
}

#[tokio::test]
async fn rfc9126_5_where_pushing_is_demanded_it_is_done_or_an_error() {
    let settings = Settings { require_pushed_authorization_requests: true, ..Settings::default() };
    let server = AuthorizationServer::start(settings).await;
    let login = Login::begin(&build(client(&server))).await;
    assert!(login.parameter("request_uri").is_some());
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
    server.reset_counters();
    let without =
        build(client(&server).pushed_authorization_requests(false).login_timeout(Duration::from_secs(5)));
    let error = refused(&without).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.message().contains("pushed_authorization_requests"), "{error}");
    assert_eq!((server.counters().pushed_authorization, server.counters().authorization), (0, 0));
}

#[tokio::test]
async fn rfc9126_2_2_an_expired_request_uri_is_pushed_again_and_both_are_of_one_login() {
    let settings = Settings { pushed_request_lifetime: Duration::from_secs(4), ..Settings::default() };
    let server = AuthorizationServer::start(settings).await;
    let mut login = Login::begin(&build(client(&server))).await;
    let mut alice = Person::new("alice");
    let mut shown = vec![login.url.to_string()];
    loop {
        let Some(Prompt::AnotherUrl { url }) = login.prompts.recv().await else { panic!("another address") };
        assert!(!shown.contains(&url));
        assert!(alice.visit(shown.last().unwrap()).await.is_err(), "the one before is good no more");
        shown.push(url);
        // On a machine that is slow it may have expired meanwhile.
        if alice.visit(shown.last().unwrap()).await.is_ok() {
            break;
        }
    }
    let acquired = login.end().await.unwrap();
    assert!(acquired.login.is_some_and(|login| login.refresh_token.is_some()));
    let counters = server.counters();
    assert_eq!((counters.pushed_authorization, exchanges(&server)), (shown.len() as u64, 1));
}

#[tokio::test]
async fn nobody_signs_in_by_a_flow_that_is_the_services_own() {
    let server = server().await;
    let service = Oidc::builder(server.issuer(), "service").client_secret(literal("service-secret"));
    for (builder, refused) in [
        (service.clone(), true),
        (service.clone().flow(Flow::ClientCredentials), true),
        (service.clone().flow(Flow::Browser).pushed_authorization_requests(false), false),
    ] {
        let started = build(builder).start(&LoginRequest::default(), None).await;
        assert_eq!(started.is_err(), refused);
        if let Err(error) = started {
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(
                error.message().contains("client_credentials") && error.message().contains("browser"),
                "{error}"
            );
        }
    }
    assert_eq!(server.counters().pushed_authorization, 0);
}

#[tokio::test]
async fn rfc9126_2_2_a_web_application_is_told_until_when_its_url_is_good() {
    let server = server().await;
    let now = SystemTime::now();
    let builder = || client(&server);
    let (_, pending) = build(builder()).start(&LoginRequest::default(), None).await.unwrap();
    let life = pending.url_expires_at().unwrap().duration_since(now).unwrap();
    assert!((58..=61 + now.elapsed().unwrap().as_secs()).contains(&life.as_secs()), "{life:?}");
    let kept: Pending = serde_json::from_str(&serde_json::to_string(&pending).unwrap()).unwrap();
    assert_eq!(kept.url_expires_at(), pending.url_expires_at());
    let plain = build(builder().pushed_authorization_requests(false));
    let (_, pending) = plain.start(&LoginRequest::default(), None).await.unwrap();
    assert_eq!(pending.url_expires_at(), None);
    assert_eq!(server.counters().pushed_authorization, 1);
}

#[tokio::test]
async fn rfc9126_2_3_a_refused_push_is_told_before_a_browser_opens() {
    let server = server().await;
    server.faults().push(Endpoint::PushedAuthorization, Fault::oauth_error("invalid_scope"));
    let error = refused(&build(client(&server))).await;
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("invalid_scope")));
    assert_eq!((server.counters().pushed_authorization, server.counters().authorization), (1, 0));
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
            Err(error) if error.status() == Some(503) => panic!("a page's own bug"),
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
    // One that panics is replaced in its turn.
    server.faults().push(Endpoint::Token, Fault::status(503));
    let login = Login::begin(&provider).await;
    let page = Person::new("alice").visit(login.url.as_str()).await.unwrap();
    assert!(page.words.contains("You are not signed in"), "{page:?}");
    assert_eq!(login.end().await.unwrap_err().status(), Some(503));
}

#[tokio::test]
async fn rfc8707_2_resources_are_the_same_in_both_requests() {
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
