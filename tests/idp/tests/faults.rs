//! Each fault of the embedded authorization server is what it says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use keyfob_idp::server::{AuthorizationServer, DEVICE_CODE_GRANT, Endpoint, Fault, Settings};
use serde_json::{Value, json};

/// A server, a client to ask it with, and a refresh token.
struct Peer {
    server: AuthorizationServer,
    http: reqwest::Client,
    refresh_token: String,
}

impl Peer {
    async fn start() -> Self {
        let server = AuthorizationServer::start(Settings::default()).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let form = [
            ("grant_type", "password"),
            ("client_id", "cli"),
            ("username", "alice"),
            ("password", "alice-password"),
        ];
        let response = http.post(server.token_endpoint()).form(&form).send().await.unwrap();
        let body: Value = response.json().await.unwrap();
        let refresh_token = body["refresh_token"].as_str().unwrap().to_owned();
        Self { server, http, refresh_token }
    }

    /// The answer to a refresh that meets a fault.
    async fn meet(&self, fault: Fault) -> reqwest::Result<reqwest::Response> {
        self.server.faults().push(Endpoint::Token, fault);
        self.refresh().await
    }

    async fn refresh(&self) -> reqwest::Result<reqwest::Response> {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", "cli"),
            ("refresh_token", self.refresh_token.as_str()),
        ];
        self.http.post(self.server.token_endpoint()).form(&form).send().await
    }

    /// How many refreshes arrived and how many the server did.
    fn counts(&self) -> (u64, u64) {
        let counters = self.server.counters();
        (counters.requests_of("refresh_token"), counters.successes_of("refresh_token"))
    }

    async fn api(&self) -> reqwest::Response {
        self.http.get(self.server.api_url()).send().await.unwrap()
    }
}

#[tokio::test]
async fn faults_that_answer_do_not_act() {
    let peer = Peer::start().await;
    let response = peer.meet(Fault::unavailable(Some(7))).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"7".parse().unwrap())
    );
    let body = Some(json!({ "error": "temporarily_unavailable" }));
    let response =
        peer.meet(Fault::Status { status: 500, retry_after: None, body: body.clone() }).await.unwrap();
    assert_eq!(response.status(), 500);
    assert_eq!(Some(response.json::<Value>().await.unwrap()), body);
    let date = "Sun, 06 Nov 1994 08:49:37 GMT".to_owned();
    let response = peer.meet(Fault::TooManyRequests { retry_after: Some(date.clone()) }).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &date.parse().unwrap())
    );
    let response = peer.meet(Fault::Html(502)).await.unwrap();
    assert_eq!(response.status(), 502);
    assert!(response.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    let response = peer.meet(Fault::oauth_error("server_error")).await.unwrap();
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "error": "server_error" }));
    assert_eq!(peer.counts(), (5, 0));
    assert_eq!(peer.server.counters().faults, 5);
    assert_eq!(peer.refresh().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_dropped_request_is_done_or_not() {
    let peer = Peer::start().await;
    let error = peer.meet(Fault::DropBefore).await.unwrap_err();
    assert!(error.is_request(), "{error:?}");
    assert_eq!(peer.counts(), (1, 0));
    peer.meet(Fault::DropAfter).await.unwrap_err();
    assert_eq!(peer.counts(), (2, 1));
    assert_eq!(peer.refresh().await.unwrap().status(), 400, "the refresh token is spent");
    assert_eq!(peer.server.counters().families_killed, 1);
}

#[tokio::test]
async fn a_dropped_connection_sends_not_a_byte() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let peer = Peer::start().await;
    peer.server.faults().push(Endpoint::Jwks, Fault::DropAfter);
    let mut stream = tokio::net::TcpStream::connect(peer.server.address()).await.unwrap();
    stream.write_all(b"GET /jwks HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"");

    peer.server.faults().push(Endpoint::Jwks, Fault::Truncated);
    let mut stream = tokio::net::TcpStream::connect(peer.server.address()).await.unwrap();
    stream.write_all(b"GET /jwks HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(length.parse::<usize>().unwrap() / 2, body.len());
}

#[tokio::test]
async fn spoilt_answers_come_after_the_act() {
    let peer = Peer::start().await;
    let response = peer.meet(Fault::Truncated).await.unwrap();
    assert_eq!(response.status(), 200);
    response.text().await.unwrap_err();
    assert_eq!(peer.counts(), (1, 1));

    let peer = Peer::start().await;
    let response = peer.meet(Fault::Malformed).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(response.json::<Value>().await.unwrap_err().is_decode());
    assert_eq!(peer.counts(), (1, 1));

    let peer = Peer::start().await;
    let response = peer.meet(Fault::EmptyBody).await.unwrap();
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (200, ""));
    assert_eq!(peer.counts(), (1, 1));

    let peer = Peer::start().await;
    let body = peer.meet(Fault::Oversized(3_000_000)).await.unwrap().text().await.unwrap();
    assert!(body.len() >= 3_000_000);
    assert!(serde_json::from_str::<Value>(&body).unwrap()["access_token"].is_string());
    assert_eq!(peer.counts(), (1, 1));
}

#[tokio::test]
async fn delays_combine() {
    let peer = Peer::start().await;
    let by = Duration::from_millis(500);
    let start = Instant::now();
    peer.meet(Fault::DropBefore.delayed(by)).await.unwrap_err();
    assert!(start.elapsed() >= by);
    assert_eq!(peer.counts(), (1, 0));
    let start = Instant::now();
    let fault = Fault::Delay(by).delayed(by);
    assert_eq!(peer.meet(fault).await.unwrap().status(), 200);
    assert!(start.elapsed() >= by * 2);

    // A client that gives up: the server acts or not, as the fault says.
    let peer = Peer::start().await;
    for (fault, counts) in [(Fault::Delay(by), (1, 0)), (Fault::DelayAnswer(by), (2, 1))] {
        tokio::time::timeout(by / 3, peer.meet(fault)).await.unwrap_err();
        tokio::time::sleep(by).await;
        assert_eq!(peer.counts(), counts);
    }
}

#[tokio::test]
async fn a_standing_fault_comes_after_the_queue() {
    let peer = Peer::start().await;
    let faults = peer.server.faults();
    faults.set_always(Endpoint::Token, Some(Fault::status(503)));
    faults.push_times(Endpoint::Token, &Fault::status(500), 2);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(peer.refresh().await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [500, 500, 503, 503]);
    faults.clear();
    assert_eq!(peer.refresh().await.unwrap().status(), 200);
}

#[tokio::test]
async fn slow_down_binds_the_device_code() {
    let peer = Peer::start().await;
    let url = peer.server.url("/device_authorization");
    let response = peer.http.post(url).form(&[("client_id", "cli")]).send().await.unwrap();
    let body: Value = response.json().await.unwrap();
    let code = body["device_code"].as_str().unwrap();
    let form = [("grant_type", DEVICE_CODE_GRANT), ("client_id", "cli"), ("device_code", code)];
    peer.server.faults().push(Endpoint::Token, Fault::SlowDown);
    for _ in 0..2 {
        let response = peer.http.post(peer.server.token_endpoint()).form(&form).send().await.unwrap();
        assert_eq!(response.json::<Value>().await.unwrap()["error"], "slow_down");
    }
    let counters = peer.server.counters();
    assert_eq!((counters.device_polls, counters.device_polls_too_early), (2, 1));
}

#[tokio::test]
async fn the_api_challenges() {
    let peer = Peer::start().await;
    let faults = [
        Fault::insufficient_scope("admin"),
        Fault::insufficient_user_authentication(Some("gold"), Some(5)),
        Fault::claims_challenge(&json!({ "access_token": { "nbf": { "essential": true } } })),
        Fault::invalid_token(),
    ];
    let expected = [
        (403, r#"error="insufficient_scope", scope="admin""#),
        (401, r#"error="insufficient_user_authentication", "#),
        (401, r#"error="insufficient_claims", claims="eyJ"#),
        (401, r#"error="invalid_token""#),
    ];
    for (fault, (status, part)) in faults.into_iter().zip(expected) {
        peer.server.faults().push(Endpoint::Api, fault);
        let response = peer.api().await;
        assert_eq!(response.status(), status);
        let challenge = response.headers()["www-authenticate"].to_str().unwrap();
        assert!(challenge.starts_with("Bearer ") && challenge.contains(part), "{challenge}");
    }
    let counters = peer.server.counters();
    assert_eq!((counters.api, counters.api_unauthorized, counters.api_forbidden), (4, 3, 1));
}

#[tokio::test]
async fn a_server_that_is_down_closes_every_connection() {
    let peer = Peer::start().await;
    peer.server.set_down(true);
    peer.refresh().await.unwrap_err();
    peer.refresh().await.unwrap_err();
    assert_eq!(peer.counts(), (0, 0));
    peer.server.set_down(false);
    assert_eq!(peer.refresh().await.unwrap().status(), 200);
}

#[tokio::test]
async fn requests_are_recorded() {
    let peer = Peer::start().await;
    peer.server.reset_counters();
    peer.meet(Fault::DropBefore).await.unwrap_err();
    peer.http.get(peer.server.url("/control/counters")).send().await.unwrap();
    let requests = peer.server.requests();
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/token"));
    assert_eq!(request.endpoint, Some(Endpoint::Token));
    assert_eq!(request.parameter("refresh_token"), Some(peer.refresh_token.as_str()));
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
}
