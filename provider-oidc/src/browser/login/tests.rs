//! Which way a login takes, by where it runs.

use std::{collections::VecDeque, sync::Mutex};

use async_trait::async_trait;
use keyfob_auth_core::Context;
use keyfob_idp::{
    person::Person,
    server::{AuthorizationServer, AutoApprove, DEVICE_CODE_GRANT, Endpoint, Fault, Settings},
};
use tokio::sync::Notify;

use super::*;
use crate::{Flow, OidcBuilder};

/// Somebody who opens what is shown, or pastes what was arranged.
#[derive(Debug, Default)]
struct Alice {
    shown: Mutex<Vec<Prompt>>,
    news: Notify,
    pastes: Mutex<VecDeque<Paste>>,
}

#[derive(Clone, Copy, Debug)]
enum Paste {
    Right,
    Wrong(&'static str),
    Never,
}

impl Alice {
    fn who_pastes(pastes: &[Paste]) -> Self {
        Self { pastes: Mutex::new(pastes.iter().copied().collect()), ..Self::default() }
    }

    fn prompts(&self) -> Vec<Prompt> {
        self.shown.lock().unwrap().clone()
    }

    async fn url(&self) -> String {
        loop {
            let news = self.news.notified();
            for prompt in self.prompts() {
                if let Prompt::OpenUrl { url } = prompt {
                    return url;
                }
            }
            news.await;
        }
    }
}

#[async_trait]
impl Interaction for Alice {
    fn show(&self, prompt: &Prompt) {
        self.shown.lock().unwrap().push(prompt.clone());
        self.news.notify_waiters();
        self.news.notify_one();
    }

    async fn ask(&self, question: &Question) -> Result<SecretString, AuthError> {
        assert!(question.text.contains("paste") && !question.secret);
        let next = self.pastes.lock().unwrap().pop_front();
        match next {
            Some(Paste::Right) => {
                let callback = Person::new("alice").answer(&self.url().await).await.unwrap();
                Ok(format!(" {} ", callback.url).into())
            }
            Some(Paste::Wrong(text)) => Ok(text.into()),
            Some(Paste::Never) => std::future::pending().await,
            None => Err(AuthError::interaction_required("nobody is here")),
        }
    }
}

fn over_ssh() -> Surroundings {
    Surroundings { ssh: true, display: true, ..Surroundings::default() }
}

fn at_a_desk() -> Surroundings {
    Surroundings { display: true, ..Surroundings::default() }
}

async fn server(offers_device_login: bool) -> AuthorizationServer {
    let mut settings = Settings {
        device_interval: Duration::from_secs(1),
        auto_approve: Some(AutoApprove { user: "alice".into(), after_polls: 0 }),
        ..Settings::default()
    };
    if !offers_device_login {
        settings.metadata.insert("device_authorization_endpoint".into(), serde_json::Value::Null);
    }
    AuthorizationServer::start(settings).await
}

fn client(server: &AuthorizationServer) -> OidcBuilder {
    // No window is to open on who runs this.
    Oidc::builder(server.issuer(), "cli").flow(Flow::Auto).scopes(["openid"]).open_browser(false)
}

fn build(builder: OidcBuilder) -> Oidc {
    builder.build(&Context::new()).unwrap()
}

async fn auto(provider: &Oidc, here: &Surroundings, alice: &Alice) -> Result<Acquired, AuthError> {
    provider.auto_login_at(here, &LoginRequest::default(), alice).await
}

fn codes_used(server: &AuthorizationServer) -> (u64, u64) {
    let counters = server.counters();
    (counters.requests_of("authorization_code"), counters.requests_of(DEVICE_CODE_GRANT))
}

#[tokio::test]
async fn auto_uses_the_browser_where_there_is_one() {
    let (server, alice) = (server(true).await, Alice::default());
    let provider = build(client(&server));
    let here = at_a_desk();
    let (outcome, page) = tokio::join!(auto(&provider, &here, &alice), async {
        Person::new("alice").visit(&alice.url().await).await.unwrap()
    });
    outcome.unwrap();
    assert!(page.words.contains("You are signed in"), "{page:?}");
    assert_eq!((codes_used(&server), server.counters().device_authorization), ((1, 0), 0));
}

#[tokio::test]
async fn auto_takes_the_device_login_where_there_is_none() {
    let server = server(true).await;
    for here in [
        over_ssh(),
        Surroundings { container: true, display: true, ..Surroundings::default() },
        Surroundings { wsl: true, display: true, ..Surroundings::default() },
        Surroundings::default(),
    ] {
        server.reset_counters();
        let alice = Alice::who_pastes(&[Paste::Right]);
        auto(&build(client(&server)), &here, &alice).await.unwrap();
        assert!(matches!(&alice.prompts()[..], [Prompt::DeviceCode(_)]), "{here:?}: {:?}", alice.prompts());
        assert_eq!((codes_used(&server), server.counters().authorization), ((0, 1), 0), "{here:?}");
    }
}

#[tokio::test]
async fn auto_asks_for_the_address_where_nothing_else_is_left() {
    let server = server(false).await;
    let alice = Alice::who_pastes(&[
        Paste::Wrong(""),
        Paste::Wrong("http://127.0.0.1:1/callback?code=marker&state=another"),
        Paste::Right,
    ]);
    auto(&build(client(&server)), &over_ssh(), &alice).await.unwrap();
    assert_eq!((codes_used(&server), server.counters().codes_issued), ((1, 0), 1));
    let said = alice.prompts();
    assert!(
        matches!(&said[..], [Prompt::OpenUrl { .. }, Prompt::Progress(_), Prompt::Progress(_)]),
        "{said:?}"
    );
    assert!(!format!("{:?}", &said[1..]).contains("marker"), "{said:?}");
}

#[tokio::test]
async fn auto_asks_for_the_address_if_the_client_may_not_use_device_login() {
    let server = server(true).await;
    server.faults().push(Endpoint::DeviceAuthorization, Fault::oauth_error("unauthorized_client"));
    auto(&build(client(&server)), &over_ssh(), &Alice::who_pastes(&[Paste::Right])).await.unwrap();
    assert_eq!((codes_used(&server), server.counters().device_authorization), ((1, 0), 1));
}

#[tokio::test]
async fn auto_says_what_to_do_where_nobody_can_be_asked() {
    let server = server(false).await;
    let error = auto(&build(client(&server)), &over_ssh(), &Alice::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InteractionRequired, "{error}");
    for said in ["over SSH", "no device login", "`BROWSER`", "`flow`"] {
        assert!(error.message().contains(said), "{said}: {error}");
    }
    let form_post = client(&server).response_mode(ResponseMode::FormPost);
    let error = auto(&build(form_post), &over_ssh(), &Alice::who_pastes(&[Paste::Right])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.message().contains("form_post"), "{error}");
    let patience = Alice::who_pastes(&[Paste::Wrong("x"); 50]);
    let error = auto(&build(client(&server)), &over_ssh(), &patience).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert_eq!(codes_used(&server), (0, 0));
}

#[tokio::test]
async fn auto_needs_no_metadata_where_the_endpoints_are_configured() {
    let server = AuthorizationServer::start(Settings {
        discovery: keyfob_idp::server::Discovery::Neither,
        ..Settings::default()
    })
    .await;
    let provider = client(&server)
        .scopes(["read"])
        .authorization_endpoint(server.url("/authorize"))
        .token_endpoint(server.token_endpoint());
    auto(&build(provider), &over_ssh(), &Alice::who_pastes(&[Paste::Right])).await.unwrap();
    assert_eq!(codes_used(&server), (1, 0));
}

#[tokio::test]
async fn an_explicit_browser_is_obeyed_and_takes_whatever_comes_first() {
    let server = server(true).await;
    let provider = build(client(&server).flow(Flow::Browser));
    let (request, here) = (LoginRequest::default(), over_ssh());
    // Pasted.
    let alice = Alice::who_pastes(&[Paste::Right]);
    provider.browser_login_at(&here, &request, &alice).await.unwrap();
    // By itself, while the question waits; or where nobody can be asked.
    for alice in [Alice::who_pastes(&[Paste::Never]), Alice::default()] {
        let (outcome, _) = tokio::join!(provider.browser_login_at(&here, &request, &alice), async {
            Person::new("alice").visit(&alice.url().await).await.unwrap()
        });
        outcome.unwrap();
    }
    // At a desk nobody is asked.
    let alice = Alice::who_pastes(&[Paste::Wrong("x")]);
    let here = at_a_desk();
    let (outcome, _) = tokio::join!(provider.browser_login_at(&here, &request, &alice), async {
        Person::new("alice").visit(&alice.url().await).await.unwrap()
    });
    outcome.unwrap();
    assert_eq!(alice.pastes.lock().unwrap().len(), 1);
    assert_eq!((codes_used(&server), server.counters().device_authorization), ((4, 0), 0));
}

#[tokio::test]
async fn a_redirect_uri_elsewhere_is_pasted_from() {
    let mut cli = keyfob_idp::server::Client::public("cli");
    cli.redirect_uris = vec!["com.example.app:/callback".into()];
    let server = AuthorizationServer::start(Settings::default().with_client(cli)).await;
    let builder = client(&server).flow(Flow::Browser).redirect_uri("com.example.app:/callback");
    let provider = build(builder);
    let alice = Alice::who_pastes(&[Paste::Right]);
    let request = LoginRequest::default();
    provider.browser_login_at(&at_a_desk(), &request, &alice).await.unwrap();
    let error = provider.browser_login_at(&at_a_desk(), &request, &Alice::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InteractionRequired, "{error}");
    assert!(error.message().contains("redirect URI"), "{error}");
}
