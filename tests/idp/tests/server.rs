//! The embedded authorization server does what the tests that use it rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use keyfob_idp::server::{
    AccessTokenFormat, AuthorizationServer, AutoApprove, Client, Counters, DEVICE_CODE_GRANT, Discovery,
    Endpoint, ExpiresInStyle, Fault, Settings, TokenEndpointAuthMethod, TokenTypeStyle,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A server and a client to ask it with.
struct Peer {
    server: AuthorizationServer,
    http: reqwest::Client,
}

impl Peer {
    async fn start(settings: Settings) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        Self { server: AuthorizationServer::start(settings).await, http: http.build().unwrap() }
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> reqwest::Result<(StatusCode, Value)> {
        let response = self.http.post(self.server.url(path)).form(form).send().await?;
        let status = response.status();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    async fn sign_in(&self, scope: &str) -> Value {
        let form = [
            ("grant_type", "password"),
            ("client_id", "cli"),
            ("username", "alice"),
            ("password", "alice-password"),
            ("scope", scope),
        ];
        let (status, body) = self.post("/token", &form).await.unwrap();
        assert_eq!(status, 200, "{body}");
        body
    }

    async fn refresh(&self, refresh_token: &str) -> reqwest::Result<(StatusCode, Value)> {
        let form = [("grant_type", "refresh_token"), ("client_id", "cli"), ("refresh_token", refresh_token)];
        self.post("/token", &form).await
    }

    async fn client_credentials(&self, secret: &str) -> reqwest::Result<(StatusCode, Value)> {
        let form =
            [("grant_type", "client_credentials"), ("client_id", "service"), ("client_secret", secret)];
        self.post("/token", &form).await
    }

    async fn begin_device(&self) -> (String, String) {
        let form = [("client_id", "cli"), ("scope", "openid offline_access")];
        let (status, body) = self.post("/device_authorization", &form).await.unwrap();
        assert_eq!(status, 200);
        assert_eq!(body["verification_uri"], self.server.url("/device"));
        (text(&body, "device_code"), text(&body, "user_code"))
    }

    async fn poll(&self, device_code: &str) -> Value {
        let form = [("grant_type", DEVICE_CODE_GRANT), ("client_id", "cli"), ("device_code", device_code)];
        self.post("/token", &form).await.unwrap().1
    }

    async fn api(&self, token: &str) -> reqwest::Response {
        self.http.post(self.server.api_url()).bearer_auth(token).body("12345").send().await.unwrap()
    }
}

fn text(body: &Value, member: &str) -> String {
    body[member].as_str().unwrap_or_else(|| panic!("{member} in {body}")).to_owned()
}

fn device(interval: Duration) -> Settings {
    Settings { device_interval: interval, ..Settings::default() }
}

#[tokio::test]
async fn rotation_is_strict_and_reuse_kills_the_family() {
    let peer = Peer::start(Settings::default()).await;
    let first = peer.sign_in("read write").await;
    let (_, second) = peer.refresh(&text(&first, "refresh_token")).await.unwrap();
    assert_eq!((&second["scope"], &second["expires_in"]), (&json!("read write"), &json!(60)));
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    assert_eq!(peer.api(&text(&second, "access_token")).await.status(), 200);

    let (status, body) = peer.refresh(&text(&first, "refresh_token")).await.unwrap();
    assert_eq!((status.as_u16(), &body["error"]), (400, &json!("invalid_grant")));
    let (_, body) = peer.refresh(&text(&second, "refresh_token")).await.unwrap();
    assert_eq!(body["error"], "invalid_grant", "the family is dead");
    assert_eq!(peer.api(&text(&second, "access_token")).await.status(), 401);

    let counters = peer.server.counters();
    assert_eq!((counters.reuse, counters.families_killed, counters.invalid_grant), (1, 1, 2));
    assert_eq!((counters.requests_of("refresh_token"), counters.successes_of("refresh_token")), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_refreshes_rotate_once() {
    let peer = Peer::start(Settings { reuse_detection: false, ..Settings::default() }).await;
    let refresh_token = text(&peer.sign_in("read").await, "refresh_token");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (http, url, token) = (peer.http.clone(), peer.server.token_endpoint(), refresh_token.clone());
        tasks.spawn(async move {
            let form = [("grant_type", "refresh_token"), ("client_id", "cli"), ("refresh_token", &token)];
            http.post(url).form(&form).send().await.unwrap().status()
        });
    }
    let statuses = tasks.join_all().await;
    assert_eq!(statuses.iter().filter(|status| status.is_success()).count(), 1);
    let counters = peer.server.counters();
    assert_eq!((counters.reuse, counters.families_killed), (15, 0));
}

#[tokio::test]
async fn reuse_is_honoured_within_the_grace_window() {
    let grace = Some(Duration::from_secs(1));
    let peer = Peer::start(Settings { reuse_grace: grace, ..Settings::default() }).await;
    let first = text(&peer.sign_in("read").await, "refresh_token");
    assert_eq!(peer.refresh(&first).await.unwrap().0, 200);
    assert_eq!(peer.refresh(&first).await.unwrap().0, 200);
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(peer.refresh(&first).await.unwrap().0, 400);
    let counters = peer.server.counters();
    assert_eq!((counters.reuse, counters.families_killed), (2, 1));
}

#[tokio::test]
async fn refresh_tokens_need_not_rotate() {
    let peer = Peer::start(Settings { refresh_token_rotation: false, ..Settings::default() }).await;
    let token = text(&peer.sign_in("read").await, "refresh_token");
    for _ in 0..2 {
        assert_eq!(peer.refresh(&token).await.unwrap().1["refresh_token"], token);
    }
    let peer = Peer::start(Settings { omit_refresh_token_on_refresh: true, ..Settings::default() }).await;
    let token = text(&peer.sign_in("read").await, "refresh_token");
    for _ in 0..2 {
        let (status, body) = peer.refresh(&token).await.unwrap();
        assert_eq!((status.as_u16(), &body["refresh_token"]), (200, &Value::Null));
    }
}

#[tokio::test]
async fn a_refresh_may_narrow_the_scope_and_not_widen_it() {
    let peer = Peer::start(Settings::default()).await;
    let token = text(&peer.sign_in("read write").await, "refresh_token");
    let mut form = [
        ("grant_type", "refresh_token"),
        ("client_id", "cli"),
        ("refresh_token", token.as_str()),
        ("scope", "read admin"),
    ];
    assert_eq!(peer.post("/token", &form).await.unwrap().1["error"], "invalid_scope");
    form[3].1 = "read";
    assert_eq!(peer.post("/token", &form).await.unwrap().1["scope"], "read");
}

#[tokio::test]
async fn the_device_flow_waits_slows_down_and_grants() {
    let peer = Peer::start(device(Duration::from_secs(1))).await;
    let (device_code, user_code) = peer.begin_device().await;
    assert_eq!(peer.server.pending_user_codes(), [user_code.as_str()]);
    assert_eq!(peer.poll(&device_code).await["error"], "authorization_pending");
    tokio::time::sleep(Duration::from_millis(1010)).await;
    assert_eq!(peer.poll(&device_code).await["error"], "authorization_pending");
    peer.server.approve(&user_code.to_lowercase().replace('-', " "), "alice").unwrap();
    peer.server.approve(&user_code, "alice").unwrap_err();
    assert_eq!(peer.poll(&device_code).await["error"], "slow_down");
    tokio::time::sleep(Duration::from_millis(1010)).await;
    assert_eq!(peer.poll(&device_code).await["error"], "slow_down", "the interval has grown by 5 s");
    let counters = peer.server.counters();
    assert_eq!((counters.device_polls, counters.device_polls_too_early), (4, 2));

    let (device_code, user_code) = peer.begin_device().await;
    let page = self_decision(&peer, &user_code, "approve").await;
    assert!(page.contains("Approved"), "{page}");
    let granted = peer.poll(&device_code).await;
    assert!(granted["refresh_token"].is_string() && granted["id_token"].is_string(), "{granted}");
    assert_eq!(peer.poll(&device_code).await["error"], "invalid_grant", "redeemed");
}

async fn self_decision(peer: &Peer, user_code: &str, action: &str) -> String {
    let form = [("user_code", user_code), ("user", "alice"), ("action", action)];
    text(&json!({ "page": peer.post("/device", &form).await.unwrap().1 }), "page")
}

#[tokio::test]
async fn the_device_flow_denies_and_expires_and_approves_itself() {
    let peer = Peer::start(device(Duration::ZERO)).await;
    let (device_code, user_code) = peer.begin_device().await;
    assert!(self_decision(&peer, &user_code, "deny").await.contains("Denied"));
    assert_eq!(peer.poll(&device_code).await["error"], "access_denied");

    let brief = Duration::from_millis(100);
    let peer = Peer::start(Settings { device_expires_in: brief, ..device(Duration::ZERO) }).await;
    let (device_code, user_code) = peer.begin_device().await;
    tokio::time::sleep(brief).await;
    assert_eq!(peer.poll(&device_code).await["error"], "expired_token");
    peer.server.approve(&user_code, "alice").unwrap_err();

    let auto_approve = Some(AutoApprove { user: "bob".to_owned(), after_polls: 2 });
    let peer = Peer::start(Settings { auto_approve, ..device(Duration::ZERO) }).await;
    let (device_code, _) = peer.begin_device().await;
    assert_eq!(peer.poll(&device_code).await["error"], "authorization_pending");
    assert_eq!(peer.poll(&device_code).await["error"], "authorization_pending");
    let token = text(&peer.poll(&device_code).await, "access_token");
    let echo: Value = peer.api(&token).await.json().await.unwrap();
    assert_eq!(echo["subject"], "subject-bob");
}

#[tokio::test]
async fn the_api_echoes_valid_tokens_only() {
    let lifetime = Duration::from_secs(1);
    let peer = Peer::start(Settings { access_token_lifetime: lifetime, ..Settings::default() }).await;
    let token = text(&peer.sign_in("read").await, "access_token");
    let echo: Value = peer.api(&token).await.json().await.unwrap();
    let expected = json!({
        "method": "POST", "path": "/api/echo", "subject": "subject-alice", "client_id": "cli",
        "scopes": ["read"], "body_length": 5, "generation": 1,
    });
    assert_eq!(echo, expected);
    tokio::time::sleep(lifetime).await;
    let expired = peer.api(&token).await;
    assert_eq!(expired.status(), 401);
    assert_eq!(expired.headers()["www-authenticate"], r#"Bearer error="invalid_token""#);
    let anonymous = peer.http.get(peer.server.api_url()).send().await.unwrap();
    assert_eq!(anonymous.headers()["www-authenticate"], "Bearer");

    let public: Value = peer.http.get(peer.server.public_url()).send().await.unwrap().json().await.unwrap();
    assert_eq!(public["authorization"], false);
    let redirect =
        peer.http.get(peer.server.redirect_url("http://example.test/?a=b", 307)).send().await.unwrap();
    assert_eq!(redirect.status(), 307);
    assert_eq!(redirect.headers()["location"], "http://example.test/?a=b");
    let counters = peer.server.counters();
    assert_eq!((counters.api, counters.api_ok, counters.api_unauthorized), (3, 1, 2));
    assert_eq!((counters.public, counters.redirect), (1, 1));
}

#[tokio::test]
async fn revoked_tokens_are_rejected() {
    let peer = Peer::start(Settings::default()).await;
    let body = peer.sign_in("read").await;
    let (access, refresh) = (text(&body, "access_token"), text(&body, "refresh_token"));
    assert!(peer.server.revoke_access_token(&access));
    assert!(!peer.server.revoke_access_token(&access));
    assert_eq!(peer.api(&access).await.status(), 401);

    let (_, body) = peer.refresh(&refresh).await.unwrap();
    let (access, refresh) = (text(&body, "access_token"), text(&body, "refresh_token"));
    let echo: Value = peer.api(&access).await.json().await.unwrap();
    assert_eq!(echo["generation"], 2);
    let stolen = [("client_id", "service"), ("client_secret", "service-secret"), ("token", &refresh)];
    assert_eq!(peer.post("/revoke", &stolen).await.unwrap().0, 400);
    let form = [("client_id", "cli"), ("token", &refresh)];
    assert_eq!(peer.post("/revoke", &form).await.unwrap().0, 200);
    assert_eq!(peer.post("/revoke", &form).await.unwrap().0, 200);
    assert_eq!(peer.api(&access).await.status(), 401);
    assert_eq!(peer.refresh(&refresh).await.unwrap().1["error"], "invalid_grant");

    let body = peer.sign_in("read").await;
    assert_eq!(peer.server.revoke_all_access_tokens(), 1);
    assert_eq!(peer.api(&text(&body, "access_token")).await.status(), 401);
    assert_eq!((peer.server.log_out("bob"), peer.server.log_out("alice")), (0, 1));
    assert_eq!(peer.refresh(&text(&body, "refresh_token")).await.unwrap().0, 400);
    let counters = peer.server.counters();
    assert_eq!((counters.revocation, counters.families_revoked, counters.families_killed), (3, 2, 0));
}

#[tokio::test]
async fn a_secret_can_change_and_basic_is_form_decoded() {
    let secret = "a b+c%d:é&=";
    let only_basic = Client::confidential("odd id", secret).only(TokenEndpointAuthMethod::ClientSecretBasic);
    let peer = Peer::start(Settings::default().with_client(only_basic)).await;
    assert_eq!(peer.client_credentials("service-secret").await.unwrap().0, 200);
    peer.server.set_secret("service", "another").unwrap();
    let (status, body) = peer.client_credentials("service-secret").await.unwrap();
    assert_eq!((status.as_u16(), &body["error"]), (401, &json!("invalid_client")));
    let (_, body) = peer.client_credentials("another").await.unwrap();
    assert!(body["access_token"].is_string() && body["refresh_token"].is_null(), "{body}");

    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let ask = |id: String, secret: String| {
        let form = [("grant_type", "client_credentials")];
        peer.http.post(peer.server.token_endpoint()).basic_auth(id, Some(secret)).form(&form).send()
    };
    assert_eq!(ask(encode("odd id"), encode(secret)).await.unwrap().status(), 200);
    let refused = ask("odd id".to_owned(), secret.to_owned()).await.unwrap();
    assert_eq!(refused.status(), 401);
    assert!(refused.headers().contains_key("www-authenticate"));
    assert_eq!(peer.server.counters().invalid_client, 2);
}

#[tokio::test]
async fn introspection_tells_what_a_token_is() {
    let peer = Peer::start(Settings::default()).await;
    let body = peer.sign_in("read").await;
    let ask = async |token: &str| {
        let form = [("client_id", "service"), ("client_secret", "service-secret"), ("token", token)];
        peer.post("/introspect", &form).await.unwrap().1
    };
    let access = ask(&text(&body, "access_token")).await;
    assert_eq!((&access["active"], &access["username"]), (&json!(true), &json!("alice")));
    assert_eq!(ask(&text(&body, "refresh_token")).await["active"], true);
    assert_eq!(ask("nonsense").await, json!({ "active": false }));
    let form = [("client_id", "cli"), ("token", "nonsense")];
    assert_eq!(peer.post("/introspect", &form).await.unwrap().0, 401);
    assert_eq!(peer.server.counters().introspection, 4);
}

#[tokio::test]
async fn the_answer_has_the_style_of_the_settings() {
    let settings = Settings {
        expires_in_style: ExpiresInStyle::Text,
        token_type_style: TokenTypeStyle::Missing,
        issue_refresh_token: false,
        discovery: Discovery::Rfc8414Only,
        access_token_lifetime: Duration::from_millis(2900),
        access_token_format: AccessTokenFormat::Jwt,
        ..Settings::default()
    };
    let peer = Peer::start(settings).await;
    let body = peer.sign_in("openid").await;
    assert_eq!((&body["expires_in"], peer.server.expires_in()), (&json!("2"), 2));
    assert!(body["token_type"].is_null() && body["refresh_token"].is_null());
    verify(&peer, &text(&body, "access_token")).await;
    let claims = verify(&peer, &text(&body, "id_token")).await;
    assert_eq!(claims["aud"], "cli");
    assert_eq!(claims["email"], "alice@example.test");
    assert_eq!(peer.api(&text(&body, "access_token")).await.status(), 200);

    let get = async |path: &str| peer.http.get(peer.server.url(path)).send().await.unwrap();
    assert_eq!(get("/.well-known/openid-configuration").await.status(), 404);
    let metadata: Value = get("/.well-known/oauth-authorization-server").await.json().await.unwrap();
    assert_eq!(metadata["issuer"], peer.server.issuer());
    assert_eq!(metadata["token_endpoint"], peer.server.token_endpoint());
    assert_eq!((peer.server.counters().discovery, peer.server.counters().jwks), (2, 2));
}

/// Verifies a JWT with the published key and returns its claims.
async fn verify(peer: &Peer, jwt: &str) -> Value {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let jwks: Value = peer.http.get(peer.server.url("/jwks")).send().await.unwrap().json().await.unwrap();
    let key = &jwks["keys"][0];
    let point = [vec![4], decode(&text(key, "x")), decode(&text(key, "y"))].concat();
    let (message, signature) = jwt.rsplit_once('.').unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    assert_eq!((&header["alg"], &header["kid"]), (&json!("ES256"), &key["kid"]));
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(message.as_bytes(), &decode(signature))
        .unwrap();
    serde_json::from_slice(&decode(claims)).unwrap()
}

#[tokio::test]
async fn the_server_runs_on_its_own_thread_and_its_port_is_free_after() {
    let server = AuthorizationServer::start_on_own_thread(Settings::default());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = server.url("/control/counters");
    let counters: Counters = http.get(&url).send().await.unwrap().json().await.unwrap();
    assert_eq!(counters, server.counters());
    let address = server.address();
    drop(server);
    assert!(http.get(&url).send().await.is_err());
    let again =
        AuthorizationServer::start_on_own_thread(Settings { port: address.port(), ..Settings::default() });
    assert_eq!(again.address(), address);
}

#[tokio::test]
async fn control_works_over_http() {
    let peer = Peer::start(device(Duration::ZERO)).await;
    let (device_code, user_code) = peer.begin_device().await;
    let form = [("user_code", user_code.as_str()), ("user", "nobody")];
    assert_eq!(peer.post("/control/approve", &form).await.unwrap().0, 404);
    let form = [("user_code", user_code.as_str()), ("user", "alice")];
    assert_eq!(peer.post("/control/approve", &form).await.unwrap().0, 204);
    let token = text(&peer.poll(&device_code).await, "access_token");
    assert_eq!(peer.post("/control/revoke_access_tokens", &[]).await.unwrap().1["revoked"], 1);
    assert_eq!(peer.api(&token).await.status(), 401);
    assert_eq!(peer.post("/control/log_out", &[("user", "alice")]).await.unwrap().1["ended"], 1);
    let secret = [("client_id", "service"), ("client_secret", "mended")];
    assert_eq!(peer.post("/control/secret", &secret).await.unwrap().0, 204);
    assert_eq!(peer.client_credentials("mended").await.unwrap().0, 200);

    let command = json!({ "endpoint": "token", "fault": Fault::unavailable(Some(3)) });
    let faults = peer.server.url("/control/faults");
    assert_eq!(peer.http.post(&faults).json(&command).send().await.unwrap().status(), 204);
    assert_eq!(peer.server.faults().pending(Endpoint::Token), 1);
    assert_eq!(peer.http.request(Method::DELETE, &faults).send().await.unwrap().status(), 204);
    assert_eq!(peer.server.faults().pending(Endpoint::Token), 0);

    assert_eq!(peer.post("/control/down", &[("seconds", "1.5")]).await.unwrap().0, 204);
    let start = Instant::now();
    peer.client_credentials("mended").await.unwrap_err();
    while peer.client_credentials("mended").await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(peer.server.counters().requests_of("client_credentials"), 2, "none counts while down");
}
