//! Logout at the provider by the person's browser (OpenID Connect RP-Initiated Logout 1.0).
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::sync::Arc;

use common::{build, device};
use keyfob_auth_core::{
    CredentialProvider, ErrorKind, ExposeSecret, Interaction, Login, LoginRequest, Prompt,
};
use keyfob_idp::{
    person::Person,
    server::{AuthorizationServer, Settings},
};
use keyfob_provider_oidc::{Flow, Oidc};
use tokio::sync::Mutex;
use url::Url;

/// A person with one browser, whose cookies live on.
struct Browser(Arc<Mutex<Person>>);

impl std::fmt::Debug for Browser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Browser")
    }
}

impl Interaction for Browser {
    fn show(&self, prompt: &Prompt) {
        if let Prompt::OpenUrl { url } = prompt {
            let (person, url) = (Arc::clone(&self.0), url.clone());
            tokio::spawn(async move { person.lock().await.visit(&url).await.unwrap() });
        }
    }
}

async fn log_in(provider: &Oidc, person: &Arc<Mutex<Person>>) -> Login {
    let browser = Arc::new(Browser(Arc::clone(person)));
    provider.login(&LoginRequest::default(), None, browser).await.unwrap().login.unwrap()
}

fn browser(server: &AuthorizationServer) -> Oidc {
    build(device(server).flow(Flow::Browser).open_browser(false))
}

#[tokio::test]
async fn rp_initiated_logout_2_the_url_ends_the_persons_session_at_the_provider() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = browser(&server);
    let alice = Arc::new(Mutex::new(Person::new("alice")));
    let login = log_in(&provider, &alice).await;
    log_in(&provider, &alice).await;
    assert_eq!((server.counters().login_pages, server.counters().silent_sign_ins), (1, 1), "no typing");

    let url = provider.end_session_url(Some(&login), Some("http://127.0.0.1/signed-out")).await.unwrap();
    let parsed = Url::parse(url.expose_secret()).unwrap();
    assert_eq!(parsed.path(), "/end_session");
    let query: Vec<_> = parsed.query_pairs().collect();
    let hint = login.id_token.as_ref().unwrap().expose_secret();
    for (name, value) in [
        ("client_id", "cli"),
        ("id_token_hint", hint),
        ("post_logout_redirect_uri", "http://127.0.0.1/signed-out"),
    ] {
        assert!(query.iter().any(|(key, found)| key == name && found == value), "{name}: {query:?}");
    }
    // `answer` stops where the browser is sent in the end.
    let answer = alice.lock().await.answer(url.expose_secret()).await.unwrap();
    assert_eq!((answer.url.host_str(), answer.url.path()), (Some("127.0.0.1"), "/signed-out"));
    assert_eq!((server.counters().end_session, server.counters().sessions_ended), (1, 1));
    log_in(&provider, &alice).await;
    assert_eq!(server.counters().login_pages, 2, "the next login needs typing again");
}

#[tokio::test]
async fn rp_initiated_logout_2_without_a_login_the_person_is_told_by_the_providers_page() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let url = browser(&server).end_session_url(None, None).await.unwrap();
    let parsed = Url::parse(url.expose_secret()).unwrap();
    assert_eq!(parsed.query(), Some("client_id=cli"));
    assert_eq!(format!("{url:?}").find("client_id"), None, "it is a secret");
    let page = Person::new("alice").visit(url.expose_secret()).await.unwrap();
    assert_eq!(page.url.path(), "/end_session");
}

#[tokio::test]
async fn rp_initiated_logout_3_where_to_return_to_must_be_registered_and_a_url() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = browser(&server);
    let alice = Arc::new(Mutex::new(Person::new("alice")));
    let login = log_in(&provider, &alice).await;
    let error = provider.end_session_url(Some(&login), Some("not a url")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let url = provider.end_session_url(Some(&login), Some("https://evil.example/")).await.unwrap();
    assert!(
        alice.lock().await.answer(url.expose_secret()).await.is_err(),
        "the provider does not send anybody there"
    );
}

#[tokio::test]
async fn a_server_without_logout_says_so_and_an_endpoints_own_query_stays() {
    let metadata = serde_json::json!({"end_session_endpoint": null}).as_object().unwrap().clone();
    let server = AuthorizationServer::start(Settings { metadata, ..Settings::default() }).await;
    let error = browser(&server).end_session_url(None, None).await.unwrap_err();
    assert!(error.to_string().contains("offers no logout"), "{error}");
    let configured = device(&server).end_session_endpoint(format!("{}/out?tenant=1", server.issuer()));
    let url = build(configured).end_session_url(None, None).await.unwrap();
    assert!(url.expose_secret().ends_with("/out?tenant=1&client_id=cli"), "{}", url.expose_secret());
}
