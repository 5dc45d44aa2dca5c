//! What the server's metadata demands of a browser login, whichever endpoints are configured; and what comes back is read for.
#![allow(clippy::unwrap_used, reason = "it is a test")]

mod common;

use std::sync::{Arc, Mutex};

use common::{build, device};
use keyfob_auth_core::{AuthError, Context, ErrorKind, LoginRequest};
use keyfob_idp::{
    person::Person,
    server::{AuthorizationIss, AuthorizationServer, Endpoint, Fault, Settings},
};
use keyfob_provider_oidc::{Exchange, Flow, Observer, OidcBuilder, ResponseMode, explain};
use serde_json::{Value, json};
use url::Url;

async fn server_saying(member: &str, value: Value) -> AuthorizationServer {
    let mut settings = Settings::default();
    settings.metadata.insert(member.into(), value);
    AuthorizationServer::start(settings).await
}

/// A browser login whose authorization endpoint is configured.
fn browser(server: &AuthorizationServer) -> OidcBuilder {
    let endpoint = format!("{}/authorize", server.issuer());
    device(server).flow(Flow::Browser).open_browser(false).authorization_endpoint(endpoint)
}

async fn start_url(builder: OidcBuilder) -> Result<Url, AuthError> {
    let (url, _) = build(builder).start(&LoginRequest::default(), None).await?;
    Ok(Url::parse(&url).unwrap())
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// What a login says that was answered by this, with its `state`.
async fn answered(builder: OidcBuilder, context: &Context, answer: &str) -> AuthError {
    let provider = builder.pushed_authorization_requests(false).build(context).unwrap();
    let (url, pending) = provider.start(&LoginRequest::default(), None).await.unwrap();
    let state = parameter(&Url::parse(&url).unwrap(), "state").unwrap();
    provider.finish(pending, &answer.replace("STATE", &state)).await.unwrap_err()
}

#[tokio::test]
async fn rfc9126_5_metadata_counts_where_the_authorization_endpoint_is_configured() {
    let server = server_saying("require_pushed_authorization_requests", json!(true)).await;
    assert!(parameter(&start_url(browser(&server)).await.unwrap(), "request_uri").is_some());
    assert_eq!((server.counters().discovery, server.counters().pushed_authorization), (1, 1));

    let server = server_saying("response_modes_supported", json!(["query"])).await;
    let error = start_url(browser(&server).response_mode(ResponseMode::FormPost)).await.unwrap_err();
    assert!(error.message().contains("response_modes_supported"), "{error}");

    let server = server_saying("authorization_response_iss_parameter_supported", json!(true)).await;
    let error = answered(browser(&server), &Context::new(), "code=c&state=STATE").await;
    assert!(error.message().contains("does not name its issuer"), "{error}");
    assert_eq!(server.counters().token, 0);

    // Who knows both endpoints may have no metadata.
    let server = server_saying("require_pushed_authorization_requests", json!(true)).await;
    let url = start_url(browser(&server).token_endpoint(server.token_endpoint())).await.unwrap();
    assert!(parameter(&url, "state").is_some());
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn rfc6749_3_1_the_authorization_endpoint_keeps_its_own_query() {
    let server = AuthorizationServer::start(Settings::default()).await;
    for pushed in [false, true] {
        let endpoint = format!("{}/authorize?tenant=one%20two&x", server.issuer());
        let builder = browser(&server).authorization_endpoint(endpoint).pushed_authorization_requests(pushed);
        let url = start_url(builder).await.unwrap();
        let query = url.query().unwrap();
        assert!(query.starts_with("tenant=one%20two&x&"), "{query}");
        assert_eq!(parameter(&url, "client_id").as_deref(), Some("cli"));
        assert_eq!(
            (parameter(&url, "request_uri").is_some(), parameter(&url, "state").is_some()),
            (pushed, !pushed)
        );
    }
    assert_eq!((server.counters().pushed_authorization, server.counters().authorization), (1, 0));
}

#[tokio::test]
async fn rfc9126_2_3_a_refused_push_that_is_not_demanded_says_how_to_go_without() {
    let said = "`pushed_authorization_requests = false`";
    let refusal = Fault::oauth_error("invalid_request");
    for (demanded, fault, pushed, helps) in [
        (false, refusal.clone(), None, true),
        (true, refusal.clone(), None, false),
        (false, refusal, Some(true), false),
        (false, Fault::unavailable(None), None, false),
    ] {
        let server = server_saying("require_pushed_authorization_requests", json!(demanded)).await;
        server.faults().push(Endpoint::PushedAuthorization, fault.clone());
        let builder = match pushed {
            Some(pushed) => browser(&server).pushed_authorization_requests(pushed),
            None => browser(&server),
        };
        let error = start_url(builder).await.unwrap_err();
        assert_eq!(error.message().contains(said), helps, "{demanded} {fault:?} {pushed:?}: {error}");
        assert_eq!(server.counters().pushed_authorization, 1);
    }
}

#[tokio::test]
async fn a_code_means_the_same_in_the_browser_as_elsewhere() {
    let server = AuthorizationServer::start(Settings::default()).await;
    for (code, kind) in [
        ("unmet_authentication_requirements", ErrorKind::InteractionRequired),
        ("login_required", ErrorKind::InteractionRequired),
        ("temporarily_unavailable", ErrorKind::Transient),
        ("access_denied", ErrorKind::Refused),
        ("invalid_grant", ErrorKind::Refused),
    ] {
        let answer = format!("error={code}&state=STATE&iss={}", server.issuer());
        let error = answered(browser(&server), &Context::new(), &answer).await;
        assert_eq!((error.kind(), error.oauth_error()), (kind, Some(code)));
    }
}

#[tokio::test]
async fn rfc9700_4_4_2_a_login_that_was_begun_at_one_issuer_is_not_ended_at_another() {
    // Their answers do not say whose they are: the login under way knows it all the same.
    let settings = || Settings { authorization_iss: AuthorizationIss::Missing, ..Settings::default() };
    let one = AuthorizationServer::start(settings()).await;
    let other = AuthorizationServer::start(settings()).await;
    let provider = |server| build(browser(server).pushed_authorization_requests(false));
    let (url, pending) = provider(&one).start(&LoginRequest::default(), None).await.unwrap();
    let callback = Person::new("alice").answer(&url).await.unwrap();
    let error = provider(&other).finish(pending.clone(), callback.url.as_str()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("another provider's"), "{error}");
    assert_eq!((one.counters().token, other.counters().token), (0, 0), "the code is sent nowhere");
    provider(&one).finish(pending, callback.url.as_str()).await.unwrap();
    assert_eq!((one.counters().token, other.counters().token), (1, 0));
}

#[tokio::test]
async fn what_was_pasted_is_told_by_its_parameters_and_no_code_as_a_name() {
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<Exchange>>>);

    impl Observer for Told {
        fn exchanged(&self, exchange: &Exchange) {
            self.0.lock().unwrap().push(exchange.clone());
        }
    }

    let server = AuthorizationServer::start(Settings::default()).await;
    for (answer, names) in [
        ("http://127.0.0.1/callback?code=Marker1&state=Marker2", vec!["code", "state"]),
        ("?error=access_denied&state=Marker2", vec!["error", "state"]),
        ("Marker1", vec!["(no name)"]),
        ("Marker1==", vec!["(no name)"]),
        ("code=Marker1&Marker2&state=Marker3#Marker4", vec!["code", "(no name)", "state"]),
    ] {
        let (told, context) = (Told::default(), Context::new());
        explain(&context, Arc::new(told.clone())).unwrap();
        answered(browser(&server), &context, answer).await;
        let last = told.0.lock().unwrap().last().unwrap().clone();
        let found: Vec<_> = last.received.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(found, names, "{answer}");
        assert!(!format!("{last} {last:?}").contains("Marker"), "{last}");
    }
}
