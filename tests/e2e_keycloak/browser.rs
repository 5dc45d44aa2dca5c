//! A person signs in with a real browser, at Keycloak's own pages.

use std::{io::Read as _, sync::Arc};

use keyfob::{
    AuthError, Context, ErrorKind, Session, Token,
    oidc::{Flow, Oidc, OidcBuilder, ResponseMode},
    store::MemoryStore,
};
use keyfob_idp::keycloak::Keycloak;
use serde_json::Value;
use tempfile::TempDir;
use url::Url;

use crate::{
    Turn,
    app::{SCOPES, is_active, soon},
    chromium::{Opens, Person},
    support::{Home, Ran, assert_fails},
};

fn client(keycloak: &Keycloak, id: &str) -> OidcBuilder {
    // The person opens it.
    Oidc::builder(keycloak.issuer(), id).flow(Flow::Browser).scopes(SCOPES).open_browser(false)
}

/// What a login came to: its outcome, its session, the URL that was opened, and what the person saw in the end.
struct LoggedIn {
    outcome: Result<Token, AuthError>,
    session: Session,
    url: Url,
    saw: Value,
}

async fn log_in(builder: OidcBuilder, person: &Person) -> LoggedIn {
    let context = Context::new();
    let provider = builder.build(&context).unwrap();
    let session = Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap();
    let opens = Opens::by(person);
    let outcome = soon(session.login(opens.clone())).await;
    LoggedIn { outcome, session, url: opens.url(), saw: person.saw() }
}

fn names(url: &Url) -> Vec<String> {
    url.query_pairs().map(|(name, _)| name.into_owned()).collect()
}

/// The page in the end is ours, on loopback.
#[track_caller]
fn assert_page(saw: &Value, says: &str, role: &str) {
    assert!(saw["text"].as_str().unwrap().contains(says), "{saw}");
    assert_eq!(saw["role"], role, "{saw}");
    let url = Url::parse(saw["url"].as_str().unwrap()).unwrap();
    assert_eq!((url.scheme(), url.path()), ("http", "/callback"), "{saw}");
}

#[tokio::test]
async fn a_person_types_once_and_is_known_the_next_time() {
    let Some(keycloak) = Turn::wait("browser: a login, and one without typing; pushed requests").await else {
        return;
    };
    let Some(alice) = Person::new("alice") else { return };
    for typed in [1, 0] {
        let login = log_in(client(&keycloak, "native"), &alice).await;
        let token = login.outcome.unwrap();
        assert_page(&login.saw, "You are signed in", "status");
        assert_eq!(login.saw["typed"], typed, "{}", login.saw);
        // Keycloak takes pushed requests, and says so.
        assert_eq!(names(&login.url), ["client_id", "request_uri"]);
        assert!(is_active(&keycloak, token.secret()).await);
        let account = login.session.status().await.unwrap().account.unwrap();
        assert_eq!(account.name.as_deref(), Some("alice"));
        assert_ne!(login.session.refresh().await.unwrap().secret(), token.secret());
    }
    assert_eq!(keycloak.session_count("alice").await.unwrap(), 1, "both are of one session");
}

#[tokio::test]
async fn the_answer_comes_by_a_form_or_to_localhost() {
    let Some(keycloak) = Turn::wait("browser: form_post; localhost; not pushed").await else { return };
    let Some(alice) = Person::new("alice") else { return };
    let builder = client(&keycloak, "native").pushed_authorization_requests(false);
    let login = log_in(builder.clone().response_mode(ResponseMode::FormPost), &alice).await;
    login.outcome.unwrap();
    assert_page(&login.saw, "You are signed in", "status");
    assert!(names(&login.url).contains(&"response_mode".to_owned()), "{}", login.url);
    assert!(!login.saw["url"].as_str().unwrap().contains('?'), "{}", login.saw);

    let login = log_in(builder.redirect_uri("http://localhost/callback"), &alice).await;
    login.outcome.unwrap();
    assert!(login.saw["url"].as_str().unwrap().starts_with("http://localhost:"), "{}", login.saw);
}

#[tokio::test]
async fn consent_is_refused_and_then_given() {
    let Some(keycloak) = Turn::wait("browser: consent refused, and given").await else { return };
    let Some(alice) = Person::new("alice") else { return };
    let alice = alice.who_denies(true);
    let login = log_in(client(&keycloak, "native-consent"), &alice).await;
    let error = login.outcome.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("access_denied")), "{error}");
    assert_page(&login.saw, "The sign-in was denied.", "alert");
    assert_eq!(login.saw["denied"], 1, "{}", login.saw);
    assert!(login.session.status().await.unwrap().account.is_none());

    let alice = alice.who_denies(false);
    let login = log_in(client(&keycloak, "native-consent"), &alice).await;
    login.outcome.unwrap();
    assert_eq!(login.saw["consented"], 1, "{}", login.saw);
    assert_page(&login.saw, "You are signed in", "status");
}

/// A configuration of the command.
struct Desk {
    home: Home,
    _store: TempDir,
}

impl Desk {
    fn new(keycloak: &Keycloak, client: &str, flow: &str) -> Self {
        let store = tempfile::tempdir().unwrap();
        let home = Home::new(&format!(
            "[profile.work]\nprovider = \"oidc\"\nissuer = \"{}\"\nclient_id = \"{client}\"\nflow = \"{flow}\"\n\
             scopes = {SCOPES:?}\nstore = {{ kind = \"file\", path = {:?} }}\n",
            keycloak.issuer(),
            store.path().join("logins"),
        ));
        Self { home, _store: store }
    }

    /// `keyfob login` without a terminal, over SSH, where `BROWSER` is the person.
    fn log_in(&self, person: &Person) -> Ran {
        let mut command = self.home.command("login");
        command.env("BROWSER", Person::program()).envs(person.environment());
        command.env("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22").env_remove("DISPLAY");
        command.output().unwrap().into()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_opens_the_browser_that_is_named() {
    let Some(keycloak) = Turn::wait("browser: the command, with BROWSER").await else { return };
    let Some(alice) = Person::new("alice") else { return };
    for flow in ["browser", "auto"] {
        let desk = Desk::new(&keycloak, "native", flow);
        let ran = desk.log_in(&alice);
        assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
        assert!(
            ran.err.lines().any(|line| line.starts_with(&keycloak.issuer())),
            "the URL is shown: {}",
            ran.err
        );
        assert!(ran.err.contains("logged in as alice"), "{}", ran.err);
        assert_page(&alice.saw(), "You are signed in", "status");
        let token = desk.home.run("token");
        assert!(is_active(&keycloak, token.out.trim_end()).await);
    }
    // Not alice, whose consent Keycloak may remember.
    let bob = Person::new("bob").unwrap().who_denies(true);
    let ran = Desk::new(&keycloak, "native-consent", "browser").log_in(&bob);
    assert_fails(&ran, 1, &["the sign-in was denied: access_denied"]);
    assert_page(&bob.saw(), "The sign-in was denied.", "alert");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_asks_for_a_code_where_no_browser_is() {
    let Some(keycloak) = Turn::wait("browser: none, so a code").await else { return };
    let desk = Desk::new(&keycloak, "native", "auto");
    let mut command = desk.home.command("login");
    command.env_remove("BROWSER").env("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22");
    let mut login = command.spawn().unwrap();
    let mut said = String::new();
    let mut stderr = login.stderr.take().unwrap();
    let address = loop {
        let mut some = [0; 1024];
        let read = stderr.read(&mut some).unwrap();
        assert_ne!(read, 0, "it ended: {said}");
        said += std::str::from_utf8(&some[..read]).unwrap();
        if let Some(line) = said.lines().find(|line| line.contains("user_code=")) {
            break line.to_owned();
        }
    };
    keycloak.sign_in_at_device(&address, "alice", false).await.unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert!(login.wait().unwrap().success() && said.contains("logged in as alice"), "{said}");
}
