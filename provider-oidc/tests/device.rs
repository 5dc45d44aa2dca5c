//! The device authorization grant (RFC 8628), with exact counts of polls.

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Shown, build, device, literal};
use keyfob_auth_core::{
    Acquired, AuthError, CredentialProvider, ErrorKind, LoginRequest, Prompt, TokenRequest,
};
use keyfob_idp::server::{AuthorizationServer, AutoApprove, DEVICE_CODE_GRANT, Endpoint, Fault, Settings};
use keyfob_provider_oidc::{Flow, Oidc};
use serde_json::json;

/// A server with an interval of a second where alice approves after so many polls.
async fn server(approve_after: Option<u32>) -> AuthorizationServer {
    AuthorizationServer::start(settings(approve_after)).await
}

fn settings(approve_after: Option<u32>) -> Settings {
    Settings {
        device_interval: Duration::from_secs(1),
        auto_approve: approve_after.map(|after_polls| AutoApprove { user: "alice".into(), after_polls }),
        ..Settings::default()
    }
}

async fn log_in(provider: &Oidc, ui: &Arc<Shown>) -> Result<Acquired, AuthError> {
    let ui = Arc::clone(ui);
    provider.login(&LoginRequest::default(), None, ui).await
}

fn polls(server: &AuthorizationServer) -> u64 {
    let counters = server.counters();
    assert_eq!(counters.device_polls_too_early, 0, "never sooner than the interval");
    counters.requests_of(DEVICE_CODE_GRANT)
}

/// When the polls came.
fn arrivals(server: &AuthorizationServer) -> Vec<Instant> {
    let all = server.requests();
    all.iter().filter(|request| request.endpoint == Some(Endpoint::Token)).map(|request| request.at).collect()
}

/// Checks that so many seconds at least were between the polls; on a machine that is busy, more.
fn assert_pauses(server: &AuthorizationServer, seconds: &[u64]) {
    let pauses: Vec<_> = arrivals(server).windows(2).map(|two| two[1].duration_since(two[0])).collect();
    assert_eq!(pauses.len(), seconds.len());
    let kept = |(pause, least): (&Duration, &u64)| *pause >= Duration::from_secs(*least);
    assert!(pauses.iter().zip(seconds).all(kept), "{pauses:?}, and not {seconds:?}");
}

#[tokio::test]
async fn rfc8628_3_5_authorization_pending_continues_until_it_is_approved() {
    let server = server(Some(2)).await;
    let ui = Shown::new();
    let acquired = log_in(&build(device(&server)), &ui).await.unwrap();

    assert_eq!(polls(&server), 3);
    let counters = server.counters();
    assert_eq!((counters.discovery, counters.device_authorization), (1, 1));
    let age = acquired.access.age().unwrap();
    assert!(age < Duration::from_secs(1), "counted from the last poll, not from the first: {age:?}");
    let login = acquired.login.unwrap();
    let account = login.account.unwrap();
    assert_eq!((account.subject.as_str(), account.name.as_deref()), ("subject-alice", Some("alice")));
    assert_eq!(account.issuer.as_deref(), Some(server.issuer()));
    assert_eq!(login.scopes.unwrap().to_string(), "openid read");
    assert!(login.refresh_token.is_some() && login.id_token.is_some() && !login.reusable);
}

#[tokio::test]
async fn rfc8628_3_3_1_the_user_code_is_shown_beside_the_complete_uri() {
    let server = server(Some(0)).await;
    let ui = Shown::new();
    log_in(&build(device(&server)), &ui).await.unwrap();
    assert_eq!(polls(&server), 1);
    let [Prompt::DeviceCode(code)] = &ui.prompts()[..] else { panic!("{:?}", ui.prompts()) };
    assert_eq!(code.verification_uri, server.url("/device"));
    assert_eq!(code.user_code.len(), "ABCD-EFGH".len());
    assert_eq!(
        code.verification_uri_complete.as_ref().unwrap(),
        &format!("{}?user_code={}", server.url("/device"), code.user_code)
    );
    assert!(code.expires_in > Duration::from_secs(590) && code.expires_in <= Duration::from_secs(600));
}

#[tokio::test]
async fn rfc8628_3_5_slow_down_adds_5_s_for_good() {
    let server = server(Some(1)).await;
    server.faults().push(Endpoint::Token, Fault::SlowDown);
    log_in(&build(device(&server)), &Shown::new()).await.unwrap();
    assert_eq!(polls(&server), 3);
    assert_pauses(&server, &[6, 6]);
}

#[tokio::test]
async fn rfc8628_3_5_access_denied_ends_it_at_the_next_poll() {
    let server = server(None).await;
    let ui = Shown::new();
    let provider = build(device(&server));
    let (outcome, ()) = tokio::join!(log_in(&provider, &ui), async {
        server.deny(&ui.user_code().await).unwrap();
    });
    let error = outcome.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("access_denied")));
    assert!(error.to_string().contains("was denied") && error.to_string().contains("(HTTP 400)"), "{error}");
    assert_eq!(polls(&server), 1);
}

#[tokio::test]
async fn rfc8628_3_2_expires_in_counts_from_the_request() {
    let settings = Settings { device_expires_in: Duration::from_secs(3), ..settings(None) };
    let server = AuthorizationServer::start(settings).await;
    // The answer takes a second of the three.
    server.faults().push(Endpoint::DeviceAuthorization, Fault::DelayAnswer(Duration::from_millis(1200)));
    let error = log_in(&build(device(&server)), &Shown::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("expired"), "{error}");
    assert_eq!(polls(&server), 1);
}

#[tokio::test]
async fn rfc8628_3_5_expired_token_ends_it() {
    let server = server(None).await;
    server.faults().push(Endpoint::Token, Fault::oauth_error("expired_token"));
    let error = log_in(&build(device(&server)), &Shown::new()).await.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("expired_token")));
    assert!(error.message().contains("expired"), "{error}");
    assert_eq!(polls(&server), 1);
}

#[tokio::test]
async fn rfc8628_3_5_blips_are_survived_with_backoff() {
    let server = server(Some(0)).await;
    server.faults().push(Endpoint::Token, Fault::DropBefore);
    server.faults().push(Endpoint::Token, Fault::status(503));
    let ui = Shown::new();
    log_in(&build(device(&server)), &ui).await.unwrap();
    assert_eq!(polls(&server), 3);
    assert_pauses(&server, &[2, 4]);
    assert!(matches!(&ui.prompts()[..], [Prompt::DeviceCode(_), Prompt::Progress(_)]), "{:?}", ui.prompts());
}

#[tokio::test]
async fn rfc8628_3_5_a_time_out_is_survived_with_backoff() {
    let server = server(Some(0)).await;
    server.faults().push(Endpoint::Token, Fault::Delay(Duration::from_secs(60)));
    let patience = Duration::from_secs(3);
    log_in(&build(device(&server).timeout(patience)), &Shown::new()).await.unwrap();
    assert_eq!(polls(&server), 2);
    // Of twice the interval, after that.
    let pause = arrivals(&server)[1] - arrivals(&server)[0];
    assert!(pause >= patience + Duration::from_millis(1800), "{pause:?}");
}

#[tokio::test]
async fn rfc8628_3_5_no_poll_begins_before_the_last_one_is_answered() {
    let server = server(Some(1)).await;
    let answering = Duration::from_secs(3);
    server.faults().push(Endpoint::Token, Fault::DelayAnswer(answering));
    log_in(&build(device(&server)), &Shown::new()).await.unwrap();
    assert_eq!(polls(&server), 2);
    // The interval counts from the answer.
    assert_pauses(&server, &[answering.as_secs() + 1]);
}

#[tokio::test]
async fn rfc8628_retry_after_is_honoured() {
    let server = server(Some(0)).await;
    server.faults().push(Endpoint::Token, Fault::too_many_requests(Some(3)));
    log_in(&build(device(&server)), &Shown::new()).await.unwrap();
    assert_eq!(polls(&server), 2);
    assert_pauses(&server, &[3]);
}

#[tokio::test]
async fn rfc8628_retry_after_is_honoured_while_the_person_has_not_decided() {
    let server = server(Some(0)).await;
    let body = Some(json!({"error": "authorization_pending"}));
    let pending = Fault::Status { status: 400, retry_after: Some("3".into()), body };
    server.faults().push(Endpoint::Token, pending);
    log_in(&build(device(&server)), &Shown::new()).await.unwrap();
    assert_eq!(polls(&server), 2);
    assert_pauses(&server, &[3]);
}

#[tokio::test]
async fn a_server_that_stays_away_is_no_denial() {
    let settings = Settings { device_expires_in: Duration::from_secs(3), ..settings(None) };
    let server = AuthorizationServer::start(settings).await;
    server.faults().set_always(Endpoint::Token, Some(Fault::status(503)));
    let error = log_in(&build(device(&server)), &Shown::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("(HTTP 503)"), "{source}");
    assert_eq!(polls(&server), 1);
}

#[tokio::test]
async fn rfc8628_3_5_any_other_error_stops_at_once() {
    let server = server(None).await;
    for code in ["invalid_grant", "invalid_client", "whatever"] {
        server.reset_counters();
        server.faults().push(Endpoint::Token, Fault::oauth_error(code));
        let error = log_in(&build(device(&server)), &Shown::new()).await.unwrap_err();
        assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some(code)));
        assert_eq!(polls(&server), 1);
    }
}

#[tokio::test]
async fn a_dropped_login_polls_no_more() {
    let server = server(None).await;
    let provider = build(device(&server));
    let ui = Shown::new();
    let login = log_in(&provider, &ui);
    assert!(tokio::time::timeout(Duration::from_millis(1500), login).await.is_err());
    assert_eq!(polls(&server), 1);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(polls(&server), 1);
}

#[tokio::test]
async fn rfc8628_3_1_a_confidential_client_authenticates_at_both_endpoints() {
    let server = server(Some(0)).await;
    let builder =
        Oidc::builder(server.issuer(), "service").client_secret(literal("service-secret")).flow(Flow::Device);
    let acquired = log_in(&build(builder), &Shown::new()).await.unwrap();
    assert_eq!(
        acquired.login.unwrap().scopes.unwrap().to_string(),
        "openid",
        "what is asked for where nothing is said"
    );
    for request in server.requests().iter().filter(|request| request.method == "POST") {
        assert!(request.header("authorization").is_some_and(|value| value.starts_with("Basic ")));
        assert_eq!(request.parameter("client_id"), None);
    }
}

#[tokio::test]
async fn a_wrong_secret_shows_no_code() {
    let server = server(None).await;
    let builder =
        Oidc::builder(server.issuer(), "service").client_secret(literal("wrong")).flow(Flow::Device);
    let ui = Shown::new();
    let error = log_in(&build(builder), &ui).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Refused, Some(401)));
    assert!(ui.prompts().is_empty());
    assert_eq!(polls(&server), 0);
}

#[tokio::test]
async fn a_server_without_device_login_says_so() {
    let mut settings = settings(None);
    settings.metadata.insert("device_authorization_endpoint".into(), json!(null));
    let server = AuthorizationServer::start(settings).await;
    let error = log_in(&build(device(&server)), &Shown::new()).await.unwrap_err();
    assert!(error.message().contains("offers no device login"), "{error}");
}

#[tokio::test]
async fn known_endpoints_need_no_discovery() {
    let server = server(Some(0)).await;
    let builder = device(&server)
        .token_endpoint(server.token_endpoint())
        .device_authorization_endpoint(server.url("/device_authorization"))
        .jwks_uri(server.url("/jwks"));
    log_in(&build(builder), &Shown::new()).await.unwrap();
    assert_eq!(
        server.requests().len(),
        2 + usize::from(cfg!(feature = "jose")),
        "the issuer's keys, where they are used"
    );
}

#[tokio::test]
async fn a_login_without_a_refresh_token_ends_with_its_token() {
    let settings = Settings { issue_refresh_token: false, ..settings(Some(0)) };
    let server = AuthorizationServer::start(settings).await;
    let provider = build(device(&server));
    let login = log_in(&provider, &Shown::new()).await.unwrap().login.unwrap();
    assert!(login.refresh_token.is_none() && login.account.is_some());
    server.reset_counters();
    let error = provider.acquire(&TokenRequest::default(), Some(&login)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn asking_without_a_login_costs_no_request() {
    let server = server(None).await;
    let error = build(device(&server)).acquire(&TokenRequest::default(), None).await.unwrap_err();
    assert_eq!((error.kind(), error.provider()), (ErrorKind::LoginRequired, Some("oidc")));
    assert!(server.requests().is_empty());
}
