//! The Keycloak harness against a real Keycloak; runs when `KEYFOB_E2E=keycloak` is set.
//!
//! One test with many steps, so that one server does for all of them under any test runner.

// A test tool: it may panic, and says what it does.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::time::{Duration, Instant};

use keyfob_idp::keycloak::{API_AUDIENCE, Keycloak, Options, Reply, client_secret};
use serde_json::json;

const INTERVAL: Duration = Duration::from_secs(1);

/// Where the code flow comes back to; nobody listens there.
const CALLBACK: &str = "http://127.0.0.1:54399/callback";

#[tokio::test]
async fn a_real_keycloak_is_started_and_driven() {
    let began = Instant::now();
    let options = Options { device_interval: INTERVAL, ..Options::default() };
    let Some(mut keycloak) = Keycloak::for_tests(options).await else { return };
    done("started", began);

    step("a typed code is approved", a_typed_code_is_approved(&keycloak)).await;
    step("a whole verification address is denied", a_verification_address_is_denied(&keycloak)).await;
    step("an unknown code and an unknown person are refused", strangers_are_refused(&keycloak)).await;
    step("the code flow ends in a redirect", the_code_flow_ends_in_a_redirect(&keycloak)).await;
    step("a consent is denied", a_consent_is_denied(&keycloak)).await;
    step("rotation is strict", rotation_is_strict(&keycloak)).await;
    step("client credentials", client_credentials(&keycloak)).await;
    step("a client secret is changed", a_client_secret_is_changed(&keycloak)).await;
    step("an administrator logs a person out", an_administrator_logs_a_person_out(&keycloak)).await;
    step("lifetimes change at run time", lifetimes_change_at_run_time(&keycloak)).await;
    step("a restart begins anew", a_restart_begins_anew(&mut keycloak)).await;

    let base = keycloak.base().to_owned();
    drop(keycloak);
    assert!(reqwest::get(base).await.is_err_and(|error| error.is_connect()), "the server is gone");
}

/// Device flow by a typed code, with a poll before and one after.
async fn a_typed_code_is_approved(keycloak: &Keycloak) {
    let device = start_device_flow(keycloak, "native").await;
    assert_eq!(device.body["interval"], INTERVAL.as_secs());
    assert_eq!(poll_once(keycloak, &device).await.error(), "authorization_pending");
    assert_eq!(poll_once(keycloak, &device).await.error(), "slow_down");

    let end = keycloak.sign_in_at_device(device.text("user_code"), "bob", false).await.expect("approved");
    assert!(end.contains("/device/status"), "{end}");
    let tokens = poll(keycloak, &device).await;
    assert_eq!(tokens.status, 200, "{:?}", tokens.body);

    let seen = keycloak.introspect(tokens.text("access_token")).await.expect("introspected");
    assert_eq!(seen["active"], true);
    assert_eq!(seen["username"], "bob");
    assert!(
        seen["aud"].as_array().is_some_and(|audiences| audiences.contains(&json!(API_AUDIENCE))),
        "{seen}"
    );
    assert!(seen["scope"].as_str().is_some_and(|scope| scope.contains("api:read")), "{seen}");
}

async fn a_verification_address_is_denied(keycloak: &Keycloak) {
    // Bob has just approved this client: it asks again all the same.
    let device = start_device_flow(keycloak, "native").await;
    let address = device.text("verification_uri_complete");
    keycloak.sign_in_at_device(address, "bob", true).await.expect("denied");
    assert_eq!(poll(keycloak, &device).await.error(), "access_denied");
}

async fn strangers_are_refused(keycloak: &Keycloak) {
    keycloak.sign_in_at_device("ABCD-EFGH", "alice", false).await.expect_err("no such code");
    let device = start_device_flow(keycloak, "native").await;
    let refused = keycloak.sign_in_at_device(device.text("user_code"), "carol", false).await;
    assert!(refused.expect_err("no such person").to_string().contains("sign-in was refused"));
}

async fn the_code_flow_ends_in_a_redirect(keycloak: &Keycloak) {
    let back = keycloak.authorize(&request(keycloak, "native"), "alice", false).await.expect("signed in");
    assert!(back.starts_with(CALLBACK), "{back}");
    assert_eq!(parameter(&back, "state").as_deref(), Some("s 1"));
    assert_eq!(parameter(&back, "iss"), Some(keycloak.issuer()));
    let code = parameter(&back, "code").expect("a code");
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "native"),
        ("code", &code),
        ("redirect_uri", CALLBACK),
    ];
    let tokens = keycloak.post("token", &form).await.expect("an answer");
    assert_eq!(tokens.text("token_type"), "Bearer", "{:?}", tokens.body);
}

/// In the code flow a consent is remembered until it is taken back.
async fn a_consent_is_denied(keycloak: &Keycloak) {
    let asking = request(keycloak, "native-consent");
    let back = keycloak.authorize(&asking, "alice", true).await.expect("denied");
    assert_eq!(parameter(&back, "error").as_deref(), Some("access_denied"));

    let back = keycloak.authorize(&asking, "alice", false).await.expect("allowed");
    assert!(parameter(&back, "code").is_some(), "{back}");
    keycloak.authorize(&asking, "alice", true).await.expect_err("nobody asked");

    keycloak.forget_consents("alice").await.expect("forgotten");
    keycloak.authorize(&asking, "alice", true).await.expect("denied");
}

/// A refresh token used twice is refused, and takes the newest one with it.
async fn rotation_is_strict(keycloak: &Keycloak) {
    let first = sign_in(keycloak, "alice").await;
    let second = refresh(keycloak, &first).await;
    assert_eq!(second.status, 200, "{:?}", second.body);
    assert_ne!(first.text("refresh_token"), second.text("refresh_token"));

    assert_eq!(refresh(keycloak, &first).await.error(), "invalid_grant");
    assert_eq!(refresh(keycloak, &second).await.error(), "invalid_grant");
}

async fn client_credentials(keycloak: &Keycloak) {
    let secret = client_secret("svc-basic").expect("a secret");
    let tokens = machine(keycloak, &secret).await;
    assert_eq!(tokens.status, 200, "{:?}", tokens.body);
    let seen = keycloak.introspect(tokens.text("access_token")).await.expect("introspected");
    assert_eq!(seen["client_id"], "svc-basic");
    assert_eq!(machine(keycloak, "wrong").await.status, 401);
}

async fn a_client_secret_is_changed(keycloak: &Keycloak) {
    let old = client_secret("svc-basic").expect("a secret");
    keycloak.set_client_secret("svc-basic", "another-secret").await.expect("changed");
    assert_eq!(machine(keycloak, &old).await.status, 401);
    assert_eq!(machine(keycloak, "another-secret").await.status, 200);
    keycloak.set_client_secret("svc-basic", &old).await.expect("changed back");
    assert_eq!(machine(keycloak, &old).await.status, 200);
    keycloak.set_client_secret("no-such-client", "x").await.expect_err("no such client");
}

async fn an_administrator_logs_a_person_out(keycloak: &Keycloak) {
    keycloak.log_out_user("alice").await.expect("logged out");
    assert_eq!(keycloak.session_count("alice").await.expect("counted"), 0);

    let tokens = sign_in(keycloak, "alice").await;
    assert_eq!(keycloak.session_count("alice").await.expect("counted"), 1);
    keycloak.log_out_user("alice").await.expect("logged out");
    assert_eq!(keycloak.session_count("alice").await.expect("counted"), 0);
    assert_eq!(refresh(keycloak, &tokens).await.error(), "invalid_grant");
    let seen = keycloak.introspect(tokens.text("access_token")).await.expect("introspected");
    assert_eq!(seen["active"], false);
}

async fn lifetimes_change_at_run_time(keycloak: &Keycloak) {
    assert_lives(&sign_in(keycloak, "alice").await, 60);
    let changes = json!({"accessTokenLifespan": 7, "oauth2DevicePollingInterval": 3});
    keycloak.set_realm(&changes).await.expect("set");
    assert_lives(&sign_in(keycloak, "alice").await, 7);
    assert_eq!(start_device_flow(keycloak, "native").await.body["interval"], 3);
    // Nothing else was changed on the way.
    rotation_is_strict(keycloak).await;
}

async fn a_restart_begins_anew(keycloak: &mut Keycloak) {
    let tokens = sign_in(keycloak, "alice").await;
    let (issuer, pid) = (keycloak.issuer(), keycloak.pid());
    keycloak.stop();
    assert_eq!(keycloak.pid(), None);
    keycloak.post("token", &[]).await.expect_err("nobody listens");

    keycloak.restart().await.expect("restarted");
    assert_eq!(keycloak.issuer(), issuer);
    assert_ne!(keycloak.pid(), pid);
    assert_eq!(refresh(keycloak, &tokens).await.error(), "invalid_grant");
    assert_lives(&sign_in(keycloak, "alice").await, 60);
}

/// Whether a token lives for as long as is configured: Keycloak counts from when it answers, and a second may end meanwhile.
fn assert_lives(answer: &Reply, seconds: u64) {
    let left = answer.body["expires_in"].as_u64().expect("a number");
    assert!((seconds.saturating_sub(2)..=seconds).contains(&left), "{left} s of {seconds}");
}

/// An authorization request.
fn request(keycloak: &Keycloak, client: &str) -> String {
    let fields = [
        ("client_id", client),
        ("response_type", "code"),
        ("redirect_uri", CALLBACK),
        ("scope", "openid api:read"),
        ("state", "s 1"),
    ];
    url::Url::parse_with_params(&keycloak.endpoint("auth"), fields).expect("an address").into()
}

async fn start_device_flow(keycloak: &Keycloak, client: &str) -> Reply {
    let form = [("client_id", client), ("scope", "openid api:read")];
    let device = keycloak.post("auth/device", &form).await.expect("an answer");
    assert_eq!(device.status, 200, "{:?}", device.body);
    device
}

async fn poll_once(keycloak: &Keycloak, device: &Reply) -> Reply {
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", "native"),
        ("device_code", device.text("device_code")),
    ];
    keycloak.post("token", &form).await.expect("an answer")
}

/// Polls until there is an answer.
async fn poll(keycloak: &Keycloak, device: &Reply) -> Reply {
    let mut pause = INTERVAL;
    for _ in 0..10 {
        tokio::time::sleep(pause).await;
        let reply = poll_once(keycloak, device).await;
        match reply.error() {
            "authorization_pending" => {}
            "slow_down" => pause += Duration::from_secs(5),
            _ => return reply,
        }
    }
    panic!("the device code stays pending");
}

/// Tokens the short way: by the password grant.
async fn sign_in(keycloak: &Keycloak, user: &str) -> Reply {
    let password = keyfob_idp::keycloak::password(user).expect("a password");
    let form = [
        ("grant_type", "password"),
        ("client_id", "native"),
        ("scope", "openid"),
        ("username", user),
        ("password", &password),
    ];
    let tokens = keycloak.post("token", &form).await.expect("an answer");
    assert_eq!(tokens.status, 200, "{:?}", tokens.body);
    tokens
}

async fn refresh(keycloak: &Keycloak, tokens: &Reply) -> Reply {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "native"),
        ("refresh_token", tokens.text("refresh_token")),
    ];
    keycloak.post("token", &form).await.expect("an answer")
}

async fn machine(keycloak: &Keycloak, secret: &str) -> Reply {
    let form = [
        ("grant_type", "client_credentials"),
        ("scope", "api:read"),
        ("client_id", "svc-basic"),
        ("client_secret", secret),
    ];
    keycloak.post("token", &form).await.expect("an answer")
}

fn parameter(address: &str, name: &str) -> Option<String> {
    let address = url::Url::parse(address).ok()?;
    address.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

/// Runs a step and says how long it took, so that a failure can be placed.
async fn step(name: &str, work: impl Future<Output = ()>) {
    let began = Instant::now();
    work.await;
    done(name, began);
}

fn done(name: &str, began: Instant) {
    eprintln!("{:6.2} s  {name}", began.elapsed().as_secs_f64());
}
