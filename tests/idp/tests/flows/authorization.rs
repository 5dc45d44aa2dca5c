//! RFC 6749, RFC 7636, RFC 8252, RFC 9126, RFC 9207, and the sign-in page.

use std::time::Duration;

use keyfob_idp::{
    person::Person,
    server::{AuthorizationIss, Client, DEVICE_CODE_GRANT, Settings},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::peer::{CALLBACK, Fields, Peer, VERIFIER, fields, part, redemption, request, text, with};

#[tokio::test]
async fn a_code_is_redeemed_once_and_its_reuse_revokes() {
    let peer = Peer::start(Settings::default()).await;
    let answer = peer.authorize(&request()).await;
    assert_eq!(answer.parameter("state").as_deref(), Some("the-state"));
    assert_eq!(answer.parameter("iss").as_deref(), Some(peer.server.issuer()));
    let code = answer.parameter("code").unwrap();
    let (status, body) = peer.post_token(&redemption(&code)).await;
    assert_eq!(status, 200, "{body}");
    let claims = part(&text(&body, "id_token"), 1);
    assert_eq!((&claims["nonce"], &claims["acr"]), (&json!("the-nonce"), &json!("bronze")));
    assert_eq!(claims["sub"], "subject-alice");
    let access = text(&body, "access_token");
    assert!(peer.api_takes(&access).await);

    let (status, body) = peer.post_token(&redemption(&code)).await;
    assert_eq!((status.as_u16(), &body["error"]), (400, &json!("invalid_grant")));
    assert!(!peer.api_takes(&access).await, "the reuse revokes what the first use gave");
    let counters = peer.server.counters();
    assert_eq!((counters.authorization, counters.login_pages, counters.codes_issued), (1, 1, 1));
    assert_eq!((counters.code_reuse, counters.families_killed), (1, 1));
}

#[tokio::test]
async fn a_code_is_refused_unless_everything_fits() {
    let peer = Peer::start(Settings::default()).await;
    let long = "a".repeat(129);
    let wrong = [
        ("code_verifier", Some("0123456789-0123456789.0123456789_0123456789x"), "does not match"),
        ("code_verifier", Some("too short"), "43 to 128"),
        ("code_verifier", Some(long.as_str()), "43 to 128"),
        ("code_verifier", None, "code_verifier is missing"),
        ("redirect_uri", Some("http://127.0.0.1:49153/callback"), "not that of the authorization request"),
        ("redirect_uri", None, "redirect_uri is missing"),
    ];
    for (name, value, reason) in wrong {
        let code = peer.code(&request()).await;
        let (status, body) = peer.post_token(&with(&redemption(&code), name, value)).await;
        assert_eq!(status, 400, "{name} {value:?}");
        assert!(text(&body, "error_description").contains(reason), "{body}");
    }
    let code = peer.code(&request()).await;
    let other = with(&redemption(&code), "client_id", Some("service"));
    let (_, body) = peer.post_token(&with(&other, "client_secret", Some("service-secret"))).await;
    assert!(text(&body, "error_description").contains("another client's"), "{body}");

    let brief = Settings { code_lifetime: Duration::ZERO, ..Settings::default() };
    let peer = Peer::start(brief).await;
    let code = peer.code(&request()).await;
    let (_, body) = peer.post_token(&redemption(&code)).await;
    assert!(text(&body, "error_description").contains("expired"), "{body}");
}

#[tokio::test]
async fn a_bad_request_is_answered_to_the_client() {
    let peer = Peer::start(Settings::default()).await;
    let wrong = [
        ("response_type", Some("token"), "unsupported_response_type"),
        ("response_type", None, "invalid_request"),
        ("code_challenge", None, "invalid_request"),
        ("code_challenge", Some(VERIFIER), "invalid_request"),
        ("code_challenge_method", Some("plain"), "invalid_request"),
        ("code_challenge_method", None, "invalid_request"),
        ("state", None, "invalid_request"),
        ("nonce", None, "invalid_request"),
        ("response_mode", Some("fragment"), "invalid_request"),
        ("max_age", Some("soon"), "invalid_request"),
        ("prompt", Some("none login"), "invalid_request"),
        ("prompt", Some("dance"), "invalid_request"),
        ("claims", Some("[]"), "invalid_request"),
        ("resource", Some("not a URI"), "invalid_target"),
        ("resource", Some("https://api.test/#part"), "invalid_target"),
        ("authorization_details", Some("[{}]"), "invalid_authorization_details"),
        ("request", Some("a.b.c"), "request_not_supported"),
    ];
    for (name, value, error) in wrong {
        let answer = peer.authorize(&with(&request(), name, value)).await;
        assert_eq!(answer.parameter("error").as_deref(), Some(error), "{name} {value:?}: {answer:?}");
        assert!(answer.url.as_str().starts_with(CALLBACK));
        assert_eq!(answer.parameter("iss").as_deref(), Some(peer.server.issuer()), "also on errors");
    }
    let twice = [request(), fields(&[("nonce", "another")])].concat();
    assert_eq!(peer.authorize(&twice).await.parameter("error").as_deref(), Some("invalid_request"));
    assert_eq!(peer.server.counters().codes_issued, 0);
}

#[tokio::test]
async fn an_answer_goes_only_to_a_registered_place() {
    let fixed = Client::public("fixed")
        .with_redirect_uris(&["http://127.0.0.1:8400/callback", "https://app.test/cb"]);
    let peer = Peer::start(Settings::default().with_client(fixed)).await;
    let table = [
        ("cli", "http://127.0.0.1:1/callback", true),
        ("cli", "http://[::1]:65535/callback", true),
        ("cli", "http://localhost:8080/callback", true),
        ("cli", "http://127.0.0.1/callback", true),
        ("cli", "http://127.0.0.2:1/callback", false),
        ("cli", "https://127.0.0.1:1/callback", false),
        ("cli", "http://127.0.0.1:1/callback/", false),
        ("cli", "http://127.0.0.1:1/callback?more", false),
        ("cli", "http://127.0.0.1:1/callback#part", false),
        ("cli", "http://127.0.0.1:1/x/../callback", false),
        ("cli", "http://person@127.0.0.1:1/callback", false),
        ("cli", "http://localhost.evil.test:1/callback", false),
        ("fixed", "http://127.0.0.1:8400/callback", true),
        ("fixed", "http://127.0.0.1:8401/callback", false),
        ("fixed", "https://app.test/cb", true),
        ("fixed", "https://app.test:8443/cb", false),
        ("nobody", CALLBACK, false),
    ];
    for (client, uri, good) in table {
        let asked = with(&with(&request(), "client_id", Some(client)), "redirect_uri", Some(uri));
        let answer = Person::new("alice").answer(&peer.authorize_url(&asked)).await;
        assert_eq!(answer.is_ok(), good, "{client} {uri}: {answer:?}");
        assert!(answer.is_ok() || answer.unwrap_err().starts_with("400"), "{client} {uri}");
    }
}

#[tokio::test]
async fn a_person_denies_and_a_second_visit_needs_no_typing() {
    let peer = Peer::start(Settings::default()).await;
    let url = |more: &[(&str, &str)]| peer.authorize_url(&[request(), fields(more)].concat());
    let mut alice = Person::new("alice").who_denies(true);
    let denied = alice.answer(&url(&[])).await.unwrap();
    assert_eq!(denied.parameter("error").as_deref(), Some("access_denied"));
    let silent = alice.answer(&url(&[("prompt", "none")])).await.unwrap();
    assert_eq!(silent.parameter("error").as_deref(), Some("login_required"));

    let mut alice = alice.who_denies(false);
    for (more, pages, silent) in [
        (&[][..], 2, 0),
        (&[], 2, 1),
        (&[("prompt", "none")], 2, 2),
        (&[("login_hint", "alice")], 2, 3),
        (&[("max_age", "100")], 2, 4),
        (&[("prompt", "login")], 3, 4),
        (&[("login_hint", "bob")], 4, 4),
        (&[("max_age", "0")], 5, 4),
        (&[("acr_values", "gold")], 6, 4),
        (&[("acr_values", "gold silver")], 6, 5),
    ] {
        let answer = alice.answer(&url(more)).await.unwrap();
        assert!(answer.parameter("code").is_some(), "{more:?}: {answer:?}");
        let counters = peer.server.counters();
        assert_eq!((counters.login_pages, counters.silent_sign_ins), (pages, silent), "{more:?}");
    }
    alice.forget_cookies();
    let silent = alice.answer(&url(&[("prompt", "none")])).await.unwrap();
    assert_eq!(silent.parameter("error").as_deref(), Some("login_required"));
    let refused = Person::new("nobody").answer(&url(&[])).await.unwrap_err();
    assert!(refused.contains("There is no such user"), "{refused}");
}

#[tokio::test]
async fn a_level_is_reached_or_refused() {
    let peer = Peer::start(Settings { sign_in_as: Some("bob".to_owned()), ..Settings::default() }).await;
    let acr = async |name, value: &str| {
        let code = peer.code(&with(&request(), name, Some(value))).await;
        part(&text(&peer.post_token(&redemption(&code)).await.1, "id_token"), 1)["acr"].clone()
    };
    assert_eq!(acr("acr_values", "platinum silver").await, "silver");
    let essential = json!({ "id_token": { "acr": { "essential": true, "values": ["gold"] } } });
    assert_eq!(acr("claims", &essential.to_string()).await, "gold");
    assert_eq!(acr("acr_values", "platinum").await, "bronze", "a wish that is not essential");
    let unmet = json!({ "id_token": { "acr": { "essential": true, "value": "platinum" } } });
    let answer = peer.authorize(&with(&request(), "claims", Some(&unmet.to_string()))).await;
    assert_eq!(answer.parameter("error").as_deref(), Some("unmet_authentication_requirements"));
    assert_eq!(peer.server.counters().login_pages, 0, "bob is signed in without a page");
}

#[tokio::test]
async fn the_issuer_in_the_answer_can_be_missing_or_wrong() {
    for (iss, seen) in [
        (AuthorizationIss::Missing, None),
        (AuthorizationIss::Wrong("https://evil.test".to_owned()), Some("https://evil.test")),
    ] {
        let advertised = iss != AuthorizationIss::Missing;
        let peer = Peer::start(Settings { authorization_iss: iss, ..Settings::default() }).await;
        assert_eq!(peer.authorize(&request()).await.parameter("iss").as_deref(), seen);
        let url = peer.server.url("/.well-known/openid-configuration");
        let (_, metadata) = peer.read(peer.http.get(url)).await;
        assert_eq!(metadata["authorization_response_iss_parameter_supported"], advertised);
    }
}

#[tokio::test]
async fn a_form_post_answer_reaches_the_callback() {
    let peer = Peer::start(Settings::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let callback = format!("http://{}/callback", listener.local_addr().unwrap());
    let client = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 16384];
        let mut length = 0;
        while !String::from_utf8_lossy(&request[..length]).contains("&iss=") {
            length += stream.read(&mut request[length..]).await.unwrap();
        }
        let page = "HTTP/1.1 200 OK\r\ncontent-length: 16\r\nconnection: close\r\n\r\n<h1>Welcome</h1>";
        stream.write_all(page.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let asked = with(&request(), "redirect_uri", Some(&callback));
    let asked = with(&with(&asked, "response_mode", Some("form_post")), "state", Some("<\"&'>"));
    let last = Person::new("alice").visit(&peer.authorize_url(&asked)).await.unwrap();
    assert_eq!((last.url.as_str(), last.status, last.words.as_str()), (callback.as_str(), 200, "Welcome"));
    let received = client.await.unwrap();
    assert!(received.starts_with("POST /callback HTTP/1.1\r\n"), "{received}");
    let body = received.split("\r\n\r\n").nth(1).unwrap();
    let form: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(value("state"), Some("<\"&'>"));
    assert!(value("code").is_some_and(|code| code.starts_with("code-")));
}

#[tokio::test]
async fn a_pushed_request_is_used_once_by_its_client() {
    let settings = Settings { require_pushed_authorization_requests: true, ..Settings::default() };
    let peer = Peer::start(settings).await;
    let (status, pushed) = peer.post("/par", &request()).await;
    assert_eq!((status.as_u16(), &pushed["expires_in"]), (201, &json!(60)), "{pushed}");
    let uri = text(&pushed, "request_uri");
    let visit = |client: &'static str| fields(&[("client_id", client), ("request_uri", &uri)]);
    let refused = async |parameters: &[(&str, String)]| {
        Person::new("alice").answer(&peer.authorize_url(parameters)).await.unwrap_err()
    };
    assert!(refused(&visit("service")).await.contains("unknown"), "another client's");
    assert!(refused(&[visit("cli"), fields(&[("scope", "x")])].concat()).await.contains("other parameters"));
    let code = peer.code(&visit("cli")).await;
    assert_eq!(peer.post_token(&redemption(&code)).await.0, 200);
    assert!(refused(&visit("cli")).await.contains("was used"));

    let plain = peer.authorize(&request()).await;
    assert!(plain.parameter("error_description").unwrap().contains("has to be pushed"));
    let error = async |form: Fields<'static>| peer.post("/par", &form).await.1["error"].clone();
    assert_eq!(error(with(&request(), "request_uri", Some("x"))).await, "invalid_request");
    assert_eq!(error(with(&request(), "redirect_uri", Some("https://evil.test/"))).await, "invalid_request");
    assert_eq!(error(with(&request(), "code_challenge", None)).await, "invalid_request");
    assert_eq!(error(with(&request(), "client_id", Some("service"))).await, "invalid_client");
    assert_eq!(peer.server.counters().pushed_authorization, 5);

    let brief = Settings { pushed_request_lifetime: Duration::ZERO, ..Settings::default() };
    let peer = Peer::start(brief).await;
    let uri = text(&peer.post("/par", &request()).await.1, "request_uri");
    let late = peer.authorize_url(&fields(&[("client_id", "cli"), ("request_uri", &uri)]));
    assert!(Person::new("alice").answer(&late).await.unwrap_err().contains("expired"));
}

#[tokio::test]
async fn resources_and_details_reach_the_token_and_may_be_narrowed() {
    let format = keyfob_idp::server::AccessTokenFormat::Jwt;
    let peer = Peer::start(Settings { access_token_format: format, ..Settings::default() }).await;
    let details = json!([{ "type": "payment", "amount": 5 }]).to_string();
    let mut asked = with(&request(), "authorization_details", Some(&details));
    asked.extend(fields(&[("resource", "https://one.test/"), ("resource", "https://two.test/")]));
    let code = peer.code(&asked).await;
    let (_, body) = peer.post_token(&redemption(&code)).await;
    assert_eq!(body["authorization_details"][0]["type"], "payment");
    let claims = part(&text(&body, "access_token"), 1);
    assert_eq!(claims["aud"], json!(["https://one.test/", "https://two.test/"]));
    let refresh = |resource: &str, token: &Value| {
        let token = text(token, "refresh_token");
        fields(&[
            ("grant_type", "refresh_token"),
            ("client_id", "cli"),
            ("refresh_token", &token),
            ("resource", resource),
        ])
    };
    let (_, wide) = peer.post_token(&refresh("https://three.test/", &body)).await;
    assert_eq!(wide["error"], "invalid_target");
    let (_, narrow) = peer.post_token(&refresh("https://two.test/", &body)).await;
    let claims = part(&text(&narrow, "access_token"), 1);
    assert_eq!(claims["aud"], "https://two.test/");
}

#[tokio::test]
async fn a_person_decides_on_a_device_too() {
    let peer = Peer::start(Settings { device_interval: Duration::ZERO, ..Settings::default() }).await;
    for (denies, words, member) in [(false, "Approved", "access_token"), (true, "Denied", "error")] {
        let (_, begun) = peer.post("/device_authorization", &fields(&[("client_id", "cli")])).await;
        let mut alice = Person::new("alice").who_denies(denies);
        let last = alice.visit(&text(&begun, "verification_uri_complete")).await.unwrap();
        assert!(last.words.contains(words), "{last:?}");
        let form = [
            ("grant_type", DEVICE_CODE_GRANT),
            ("client_id", "cli"),
            ("device_code", &text(&begun, "device_code")),
        ];
        let (_, answer) = peer.post_token(&fields(&form)).await;
        assert!(answer[member].is_string(), "{answer}");
    }
}
