//! The requests of nemo-platform 0.6.0, as they were recorded (`data/requests.json`), and ours for the same: every form that
//! is sent has the same fields with the same values, but for the differences that [`DIFFERENCES`] has.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::{Shown, describing, jwt, literal};
use keyfob_auth_core::{Context, CredentialProvider as _, Login, LoginRequest, NoInteraction, TokenRequest};
use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault, Settings};
use keyfob_provider_nemo::{Nemo, NemoBuilder, RefreshScopes};
use serde_json::{Value, json};
use std::sync::Arc;

/// By recording: which field of a form differs, what ours is, and why.
const DIFFERENCES: &[(&str, &str, Option<&str>, &str)] = &[
    (
        "auth-refresh",
        "scope",
        None,
        "what is not named stays as granted (RFC 6749 section 6): a narrow login is not widened",
    ),
    ("sdk-refresh", "scope", None, "the same"),
];

/// A form, and to which path it went; a request without one has none.
type Sent = (String, String, BTreeMap<String, String>);

struct Recording {
    name: &'static str,
    oidc: Value,
    sent: Vec<Sent>,
}

impl Recording {
    fn of(name: &'static str) -> Self {
        let all: Value = serde_json::from_str(include_str!("data/requests.json")).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let form = |form: &Value| {
            let pairs = form.as_object().into_iter().flatten();
            pairs.map(|(name, value)| (name.clone(), text(value))).collect()
        };
        let requests = all[name]["requests"].as_array().unwrap().iter();
        let sent = requests
            // The platform's API is for the application to call.
            .filter(|request| request["path"] != "/apis/entities/v2/workspaces")
            .map(|request| (text(&request["method"]), text(&request["path"]), form(&request["form"])))
            .collect();
        Self { name, oidc: all[name]["oidc"].clone(), sent }
    }

    async fn start(&self) -> AuthorizationServer {
        let document = json!({"auth_enabled": true, "oidc": self.oidc});
        let server = AuthorizationServer::start(Settings { ..describing(document) }).await;
        // The clients of the recordings were answered from a script too.
        if self.name == "device" {
            server.faults().push(
                Endpoint::DeviceAuthorization,
                answer(&json!({
                    "device_code": "fake-device-code", "user_code": "ABCD-EFGH", "expires_in": 600, "interval": 1,
                    "verification_uri": "https://idp.example.test/device",
                })),
            );
            let pending = json!({"error": "authorization_pending"});
            server
                .faults()
                .push(Endpoint::Token, Fault::Status { status: 400, retry_after: None, body: Some(pending) });
        }
        server.faults().push(
            Endpoint::Token,
            answer(&json!({
                "access_token": jwt(&json!({
                    "sub": "fake-user", "scp": "openid platform:read platform:write secrets:write", "exp": 4_000_000_000_u32,
                })),
                "refresh_token": "fake-nemo-refresh-1", "id_token": "fake-id", "token_type": "Bearer",
                "expires_in": 3600, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            })),
        );
        server
    }

    /// Compares what we sent with what was recorded.
    fn check(&self, server: &AuthorizationServer, differences: &[(&str, &str, Option<&str>, &str)]) {
        let mut recorded = self.sent.clone();
        for (_, field, ours, _) in differences.iter().filter(|(name, ..)| *name == self.name) {
            let (_, _, form) = recorded.iter_mut().find(|(_, _, form)| form.contains_key(*field)).unwrap();
            let theirs = match ours {
                Some(ours) => form.insert((*field).to_owned(), (*ours).to_owned()),
                None => form.remove(*field),
            };
            assert_ne!(theirs.as_deref(), *ours, "{}: a difference that is none", self.name);
        }
        let ours: Vec<Sent> = server
            .requests()
            .into_iter()
            .map(|request| {
                let length = request.form.len();
                let form: BTreeMap<_, _> = request.form.into_iter().collect();
                assert_eq!(form.len(), length, "{}: a field is there twice", self.name);
                (request.method, request.path, form)
            })
            .collect();
        assert_eq!(ours, recorded, "{}", self.name);
        for request in server.requests() {
            assert_eq!(request.header("authorization"), None, "the client is a public one");
            let form = request.header("content-type") == Some("application/x-www-form-urlencoded");
            assert_eq!(form, request.method == "POST");
        }
    }
}

fn answer(body: &Value) -> Fault {
    Fault::Status { status: 200, retry_after: None, body: Some(body.clone()) }
}

fn build(builder: NemoBuilder) -> Nemo {
    builder.build(&Context::new()).unwrap()
}

#[tokio::test]
async fn sign_ins_with_a_password_are_asked_for_alike() {
    for (name, username, password, scopes) in [
        ("password-grant", "ci-user", "fake-password", vec![]),
        ("password-grant-scope", "u", "p", vec!["platform:read", "secrets:write"]),
        ("scope-prefix", "u", "p", vec![]),
    ] {
        let recording = Recording::of(name);
        let server = recording.start().await;
        let nemo = build(
            Nemo::builder(server.issuer()).username(username).password(literal(password)).scopes(scopes),
        );
        nemo.login(&LoginRequest::default(), None, Arc::new(NoInteraction)).await.unwrap();
        recording.check(&server, DIFFERENCES);
    }
}

#[tokio::test]
async fn a_sign_in_with_a_code_is_asked_for_alike() {
    let recording = Recording::of("device");
    let server = recording.start().await;
    let nemo = build(Nemo::builder(server.issuer()));
    nemo.login(&LoginRequest::default(), None, Shown::new()).await.unwrap();
    recording.check(&server, DIFFERENCES);
}

#[tokio::test]
async fn renewals_are_asked_for_alike() {
    for name in ["auth-refresh", "sdk-refresh"] {
        for (scopes, differences) in [(RefreshScopes::Granted, DIFFERENCES), (RefreshScopes::Default, &[])] {
            let recording = Recording::of(name);
            let server = recording.start().await;
            let (_, _, form) = &recording.sent[1];
            let nemo = build(Nemo::builder(server.issuer()).refresh_scopes(scopes));
            let login = Login::with_refresh_token(form["refresh_token"].as_str());
            nemo.acquire(&TokenRequest::default(), Some(&login)).await.unwrap();
            recording.check(&server, differences);
        }
    }
}

#[tokio::test]
async fn a_workloads_token_is_exchanged_alike() {
    for name in ["workload-exchange", "workload-exchange-docker-proof"] {
        let recording = Recording::of(name);
        let server = recording.start().await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let (_, _, form) = &recording.sent[1];
        std::fs::write(&file, format!("  {}\n\n", form["subject_token"])).unwrap();
        let source = keyfob_auth_core::registry::SecretSource::File(file);
        let nemo = build(Nemo::builder(server.issuer()).workload_token(source));
        nemo.acquire(&TokenRequest::default(), None).await.unwrap();
        recording.check(&server, DIFFERENCES);
    }
}

/// Their logout asks for discovery alone, and tells nobody. Ours revokes where the issuer says how: here its metadata cannot
/// be had, and the logout succeeds all the same.
#[tokio::test]
async fn a_logout_is_no_failure_where_the_issuer_cannot_be_asked() {
    let recording = Recording::of("logout");
    assert_eq!(recording.sent.len(), 1);
    let mut oidc = Recording::of("auth-refresh").oidc;
    oidc["issuer"] = "http://idp:8080/realms/x".into();
    let server = AuthorizationServer::start(describing(json!({"auth_enabled": true, "oidc": oidc}))).await;
    let nemo = build(Nemo::builder(server.issuer()));
    nemo.revoke(&Login::with_refresh_token("fake-nemo-refresh-old"), &[]).await.unwrap();
    recording.check(&server, DIFFERENCES);
}
