//! Step-up authentication (RFC 9470): from a resource's demand to the sign-in that meets it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{device, service};
use keyfob_auth_core::{
    Challenge, Context, ErrorKind, Interaction, LoginRequest, Prompt, Session,
    authorize::Origins,
    middleware::{AuthClient, auth_error},
    store::MemoryStore,
};
use keyfob_idp::{
    person::Person,
    server::{AuthorizationServer, IdTokenHook, Settings},
};
use keyfob_provider_oidc::{Flow, OidcBuilder};
use serde_json::json;
use url::Url;

/// Alice's browser, and where it was sent last.
#[derive(Default)]
struct Browser(Mutex<Option<Url>>);

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Browser")
    }
}

impl Interaction for Browser {
    fn show(&self, prompt: &Prompt) {
        if let Prompt::OpenUrl { url } = prompt {
            *self.0.lock().unwrap() = Some(Url::parse(url).unwrap());
            let url = url.clone();
            tokio::spawn(async move { Person::new("alice").visit(&url).await.unwrap() });
        }
    }
}

impl Browser {
    /// A parameter of the last authorization request.
    fn parameter(&self, name: &str) -> Option<String> {
        let url = self.0.lock().unwrap().clone().unwrap();
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

fn session_in(context: &Context, builder: OidcBuilder) -> Session {
    let provider = Arc::new(builder.build(context).unwrap());
    Session::new(provider, Arc::new(MemoryStore::new()), context).unwrap()
}

/// Alice, to sign in with her browser.
fn alice(server: &AuthorizationServer) -> Session {
    let builder = device(server).flow(Flow::Browser).open_browser(false);
    session_in(&Context::new(), builder.pushed_authorization_requests(false))
}

fn client(session: &Session, server: &AuthorizationServer) -> AuthClient {
    let origins = Origins::new().with(server.issuer()).unwrap();
    let builder = AuthClient::builder(session.clone()).origins(origins);
    builder.http(reqwest::ClientBuilder::no_proxy).build().unwrap()
}

/// What the API demands: gold or silver, by a sign-in of the last five minutes.
fn demanding(server: &AuthorizationServer) -> String {
    server.step_up_url(Some("gold silver"), Some(300))
}

/// The demand that a request for the API ends with.
async fn demanded(http: &AuthClient, url: &str) -> Challenge {
    let error = http.get(url).send().await.unwrap_err();
    let error = auth_error(&error).unwrap();
    assert_eq!(error.kind(), ErrorKind::InteractionRequired);
    error.challenge().unwrap().clone()
}

/// Requests to the authorization endpoint, for tokens, and to the API.
fn counts(server: &AuthorizationServer) -> (u64, u64, u64) {
    let counters = server.counters();
    (counters.authorization, counters.token, counters.api)
}

#[tokio::test]
async fn rfc9470_4_the_new_authorization_carries_what_was_demanded() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let (session, ui) = (alice(&server), Arc::new(Browser::default()));
    let weak = session.login(Arc::clone(&ui) as _).await.unwrap();
    assert_eq!((ui.parameter("acr_values"), ui.parameter("max_age")), (None, None));
    let http = client(&session, &server);
    let challenge = demanded(&http, &demanding(&server)).await;
    assert_eq!(challenge.acr_values.as_deref(), Some("gold silver"));
    assert_eq!(challenge.max_age, Some(Duration::from_secs(300)));
    assert_eq!(counts(&server), (1, 1, 1), "no refresh, and no second try");
    assert_eq!(session.token().await.unwrap().secret(), weak.secret(), "it is good for the rest of the API");

    session.login_with(LoginRequest::satisfying(challenge), Arc::clone(&ui) as _).await.unwrap();
    assert_eq!(ui.parameter("acr_values").as_deref(), Some("gold silver"));
    assert_eq!(ui.parameter("max_age").as_deref(), Some("300"));
    assert_eq!(http.get(demanding(&server)).send().await.unwrap().status(), 200);
    assert_eq!(counts(&server), (2, 2, 2));
    assert_eq!(server.counters().step_up_challenges, 1);
}

#[tokio::test]
async fn rfc9470_5_the_id_token_bears_the_sign_in_out_or_the_old_login_stays() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let (session, ui) = (alice(&server), Arc::new(Browser::default()));
    let weak = session.login(Arc::clone(&ui) as _).await.unwrap();
    let http = client(&session, &server);
    let challenge = demanded(&http, &demanding(&server)).await;
    for (claim, value) in [
        ("acr", json!("bronze")),
        ("acr", json!(null)),
        ("auth_time", json!(1_000_000_000)),
        ("auth_time", json!(null)),
    ] {
        let (name, said) = (claim, value.clone());
        server.set_id_token_hook(IdTokenHook::new(move |token| token.claims[name] = said.clone()));
        server.reset_counters();
        let request = LoginRequest::satisfying(challenge.clone());
        let error = session.login_with(request, Arc::clone(&ui) as _).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.message().contains(&format!("`{claim}`")), "{claim} {value}: {error}");
        assert_eq!(counts(&server), (1, 1, 0), "{claim} {value}: one attempt");
        assert_eq!(session.token().await.unwrap().secret(), weak.secret());
    }
    // Without an ID token nobody knows how the person signed in.
    server.set_id_token_hook(IdTokenHook::default());
    let mut request = LoginRequest::satisfying(challenge);
    request.token.scopes = ["read"].into_iter().collect();
    let error = session.login_with(request, Arc::clone(&ui) as _).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Refused && error.message().contains("scope openid"), "{error}");
}

#[tokio::test]
async fn rfc9470_3_where_nobody_can_sign_in_a_demand_costs_one_exchange_and_one_replay() {
    let server = AuthorizationServer::start(Settings::default()).await;
    // By a clock that stands: how often a demand is believed is a matter of time.
    let (clock, context) = common::elsewhen();
    let http = client(&session_in(&context, service(&server)), &server);
    assert_eq!(http.get(demanding(&server)).send().await.unwrap().status(), 401);
    assert_eq!(counts(&server), (0, 2, 2));
    for calls in 3..6 {
        assert_eq!(http.get(demanding(&server)).send().await.unwrap().status(), 401);
        assert_eq!(counts(&server), (0, 2, calls), "the same demand is not tried again at once");
    }
    clock.advance(Duration::from_secs(5));
    assert_eq!(http.get(demanding(&server)).send().await.unwrap().status(), 401);
    assert_eq!(counts(&server), (0, 3, 7), "but later");
}
