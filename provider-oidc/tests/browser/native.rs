//! What is asked of native apps (RFC 8252): PKCE (RFC 7636), and a way back that is this machine's alone.

use std::{collections::BTreeSet, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{ErrorKind, LoginRequest};
use keyfob_idp::{
    person::Person,
    server::{AuthorizationServer, Client, Endpoint, Fault, Settings},
};
use keyfob_provider_oidc::{Flow, Oidc};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    common::{build, literal},
    support::{Login, client, exchanges, refused, requests, send, server},
};

/// The challenge of a verifier (RFC 7636 section 4.2).
fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(hmac_sha256::Hash::hash(verifier.as_bytes()))
}

#[tokio::test]
async fn rfc7636_4_1_the_verifier_is_43_unreserved_characters_and_new_for_each_request() {
    let server = server().await;
    let known = client(&server)
        .authorization_endpoint(server.url("/authorize"))
        .token_endpoint(server.token_endpoint());
    let provider = build(known);
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let (url, pending) = provider.start(&LoginRequest::default(), None).await.unwrap();
        let kept = serde_json::to_value(&pending).unwrap();
        let verifier = kept["code_verifier"].as_str().unwrap();
        assert_eq!(verifier.len(), 43);
        assert!(verifier.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)), "{verifier}");
        assert_eq!(URL_SAFE_NO_PAD.decode(verifier).unwrap().len(), 32, "256 bits");
        assert!(url.contains(&format!("code_challenge={}&", s256(verifier))) && !url.contains(verifier));
        assert!(seen.insert(verifier.to_owned()), "it was used before");
    }
    // No bit is always the same.
    let bytes: Vec<_> = seen.iter().map(|verifier| URL_SAFE_NO_PAD.decode(verifier).unwrap()).collect();
    for at in 0..32 {
        assert_eq!(bytes.iter().fold(0, |all, bytes| all | bytes[at]), 0xff, "byte {at}");
        assert_eq!(bytes.iter().fold(0xff, |all, bytes| all & bytes[at]), 0, "byte {at}");
    }
    assert!(server.requests().is_empty());
}

/// A server that says this of the methods that it takes; nothing at all if it is null.
async fn server_taking(methods: Value) -> AuthorizationServer {
    let mut settings = Settings::default();
    settings.metadata.insert("code_challenge_methods_supported".into(), methods);
    AuthorizationServer::start(settings).await
}

#[tokio::test]
async fn rfc7636_4_2_s256_is_sent_always_and_plain_never() {
    let refusal = "error=invalid_request&error_description=code_challenge_method+must+be+plain";
    for methods in [json!(null), json!([]), json!(["plain"]), json!(["plain", "S256"]), json!(["S256"])] {
        let server = server_taking(methods.clone()).await;
        let provider = build(client(&server).pushed_authorization_requests(false));
        let challenge = |login: &Login| {
            assert_eq!(login.parameter("code_challenge_method").as_deref(), Some("S256"), "{methods}");
            login.parameter("code_challenge").unwrap()
        };
        // Neither does an error bring another method.
        let first = Login::begin(&provider).await;
        let before = challenge(&first);
        let answer = format!("{refusal}&state={}&iss={}", first.parameter("state").unwrap(), server.issuer());
        assert_eq!(first.get(&answer).await.status, 400);
        assert_eq!(first.end().await.unwrap_err().oauth_error(), Some("invalid_request"));

        let second = Login::begin(&provider).await;
        let after = challenge(&second);
        assert_ne!(before, after);
        Person::new("alice").visit(second.url.as_str()).await.unwrap();
        second.end().await.unwrap();
        let [exchange] = &requests(&server, Endpoint::Token)[..] else { panic!("one exchange") };
        assert_eq!(s256(exchange.parameter("code_verifier").unwrap()), after);
        assert_eq!(server.counters().authorization, 1);
    }
}

#[tokio::test]
async fn rfc7636_4_2_a_pushed_request_says_s256_too_also_after_an_error() {
    let server = server_taking(json!(["plain"])).await;
    let provider = build(client(&server));
    server.faults().push(Endpoint::PushedAuthorization, Fault::oauth_error("invalid_request"));
    assert_eq!(refused(&provider).await.kind(), ErrorKind::Refused);
    let login = Login::begin(&provider).await;
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
    let pushed = requests(&server, Endpoint::PushedAuthorization);
    let methods: Vec<_> = pushed.iter().map(|request| request.parameter("code_challenge_method")).collect();
    assert_eq!(methods, [Some("S256"); 2]);
    let [exchange] = &requests(&server, Endpoint::Token)[..] else { panic!("one exchange") };
    let sent = pushed[1].parameter("code_challenge").unwrap();
    assert_eq!(s256(exchange.parameter("code_verifier").unwrap()), sent);
    assert_ne!(pushed[0].parameter("code_challenge"), Some(sent));
}

#[tokio::test]
async fn rfc8252_7_3_the_redirect_uri_is_listened_at_first_and_the_same_in_both_requests() {
    let registered = ["http://127.0.0.1/callback", "http://127.0.0.1/other?app=1"];
    let cli = Client::public("cli").with_redirect_uris(&registered);
    let server = AuthorizationServer::start(Settings::default().with_client(cli)).await;
    for (uri, pushed) in
        [(None, false), (None, true), (Some(registered[1]), false), (Some(registered[1]), true)]
    {
        server.reset_counters();
        let builder = client(&server).pushed_authorization_requests(pushed);
        let builder = uri.into_iter().fold(builder, keyfob_provider_oidc::OidcBuilder::redirect_uri);
        let mut login = Login::begin(&build(builder)).await;
        let asked = match pushed {
            true => requests(&server, Endpoint::PushedAuthorization)[0]
                .parameter("redirect_uri")
                .unwrap()
                .to_owned(),
            false => login.parameter("redirect_uri").unwrap(),
        };
        let (before, after) = uri.unwrap_or(registered[0]).split_once("127.0.0.1").unwrap();
        let port = asked.strip_prefix(before).and_then(|rest| rest.strip_prefix("127.0.0.1:"));
        let port: u16 = port.and_then(|rest| rest.strip_suffix(after)).unwrap().parse().unwrap();
        assert!(port > 0, "the system's choice");
        TcpStream::connect(("127.0.0.1", port)).await.expect("before a browser has the URL");
        Person::new("alice").visit(login.url.as_str()).await.unwrap();
        assert!((&mut login.task).await.unwrap().is_ok());
        let [exchange] = &requests(&server, Endpoint::Token)[..] else { panic!("one exchange") };
        assert_eq!(exchange.parameter("redirect_uri"), Some(asked.as_str()));
    }
}

#[tokio::test]
async fn rfc8252_8_3_no_other_address_of_this_machine_is_listened_at() {
    let server = server().await;
    let login = Login::begin(&build(client(&server).pushed_authorization_requests(false))).await;
    let port = login.port();
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    // Who listens at 0.0.0.0 is reached there, where the system has these addresses.
    for other in ["127.0.0.2", "127.255.255.254"] {
        let reached = timeout(Duration::from_secs(5), TcpStream::connect((other, port))).await;
        assert!(!matches!(reached, Ok(Ok(_))), "{other}");
    }
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
    assert_eq!(exchanges(&server), 1);
}

#[tokio::test]
async fn rfc8252_7_3_the_first_valid_answer_closes_the_listener() {
    let server = server().await;
    let login = Login::begin(&build(client(&server).pushed_authorization_requests(false))).await;
    let port = login.port();
    let callback = Person::new("alice").answer(login.url.as_str()).await.unwrap();
    // While the tokens are still waited for.
    server.faults().push(Endpoint::Token, Fault::DelayAnswer(Duration::from_secs(3)));
    let request =
        format!("GET /callback?{} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n", callback.url.query().unwrap());
    let page = tokio::spawn(async move { send(port, request.as_bytes()).await });
    while exchanges(&server) == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "nobody listens any more");
    assert_eq!(page.await.unwrap().status, 200, "who brought it still has the page");
    login.end().await.unwrap();
    assert_eq!(exchanges(&server), 1);
}

#[tokio::test]
async fn rfc8252_8_5_a_client_with_a_secret_is_protected_as_one_without() {
    let server = server().await;
    let with_secret = Oidc::builder(server.issuer(), "service")
        .client_secret(literal("service-secret"))
        .flow(Flow::Browser)
        .pushed_authorization_requests(false)
        .open_browser(false);
    let login = Login::begin(&build(with_secret)).await;
    assert_eq!(login.parameter("code_challenge_method").as_deref(), Some("S256"));
    assert!(
        ["state", "nonce", "code_challenge"].iter().all(|name| login.parameter(name).unwrap().len() >= 43)
    );
    assert_eq!(login.redirect_uri().host_str(), Some("127.0.0.1"));
    // Its answer is looked at as closely.
    assert_eq!(login.get("code=stolen&state=another").await.status, 400);
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
    let [exchange] = &requests(&server, Endpoint::Token)[..] else { panic!("one exchange") };
    assert_eq!(exchange.parameter("code_verifier").map(str::len), Some(43));
    assert!(exchange.header("authorization").unwrap().starts_with("Basic "));
}
