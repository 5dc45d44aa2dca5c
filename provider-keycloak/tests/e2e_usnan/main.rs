//! One session with the USNAN SDK itself, usnan 0.3, at a real Keycloak; runs when `KEYFOB_E2E=usnan` is set.
//!
//! The run of both side by side takes 10 seconds, or as many as `KEYFOB_E2E_SECONDS` says.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod python;
mod witness;

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use keyfob_auth_core::{AuthError, Context, CredentialProvider as _, ErrorKind, LoginRequest, Session};
use keyfob_idp::keycloak::{Keycloak as Server, Options};
use keyfob_provider_keycloak::{
    Keycloak,
    usnan::{CLIENT_ID, UsnanStore},
};
use keyfob_provider_oidc::Flow;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use self::{
    python::{Python, said, say},
    witness::{Fault, Witness, faults},
};

/// The realm, the SDK, and a person's home folder.
struct World {
    server: Server,
    python: Python,
    home: TempDir,
}

impl World {
    async fn new() -> Option<Self> {
        let began = Instant::now();
        // Longer than the SDK's margin, so that it renews when it is made and not at every call.
        let options = Options { access_token_lifetime: Duration::from_secs(120), ..Options::default() };
        let server = Server::for_group("usnan", options).await?;
        let python = Python::for_tests()?;
        let client = json!({
            "clientId": CLIENT_ID, "enabled": true, "publicClient": true, "redirectUris": ["http://localhost/*"],
            "attributes": {"oauth2.device.authorization.grant.enabled": "true"},
        });
        server.admin(Method::POST, "/clients", Some(&client)).await.unwrap();
        say(&format!("Keycloak and usnan are there, {:.1} s", began.elapsed().as_secs_f64()));
        Some(Self { server, python, home: tempfile::tempdir().unwrap() })
    }

    fn file(&self) -> PathBuf {
        self.home.path().join(if cfg!(target_os = "macos") {
            "Library/Application Support/usnan/tokens.json"
        } else {
            ".local/share/usnan/tokens.json"
        })
    }

    fn held(&self) -> Option<String> {
        // The SDK's may be half written.
        let content = fs::read(self.file()).ok()?;
        let held: Value = serde_json::from_slice(&content).unwrap_or_else(|_| json!({"refresh_token": ""}));
        Some(held["refresh_token"].as_str().unwrap().to_owned())
    }

    fn base(&self) -> String {
        self.server.endpoint("token").strip_suffix("/token").unwrap().to_owned()
    }

    fn sdk(&self, script: &str) -> Value {
        self.python.run(self.home.path(), &self.base(), script)
    }

    /// A session of another process, as far as it can tell: it shares the file and nothing else.
    fn session(&self, token_endpoint: Option<&str>) -> (Session, Arc<Keycloak>) {
        let context = Context::new();
        let provider = Keycloak::builder(self.server.base(), "test", CLIENT_ID)
            .flow(Flow::Browser)
            .oidc(|oidc| oidc.redirect_uri("http://localhost:54321/callback"))
            .oidc(|oidc| match token_endpoint {
                Some(url) => oidc.token_endpoint(url),
                None => oidc,
            })
            .build(&context)
            .unwrap();
        let provider = Arc::new(provider);
        let identity = provider.identity();
        let store = UsnanStore::open(self.file()).unwrap().of(&identity.issuer, &identity.client);
        (Session::new(Arc::clone(&provider) as _, Arc::new(store), &context).unwrap(), provider)
    }

    /// Alice signs in with keyfob.
    async fn log_in(&self, session: &Session, provider: &Keycloak) {
        let (url, pending) = provider.oidc().start(&LoginRequest::default(), None).await.unwrap();
        let redirect = self.server.authorize(&url, "alice", false).await.unwrap();
        let answer = redirect.split_once('?').unwrap().1;
        session.adopt(provider.oidc().finish(pending, answer).await.unwrap()).await.unwrap();
    }

    /// Whether the token is alice's, as an API sees it.
    async fn serves(&self, token: &str) -> bool {
        let request = reqwest::Client::new().get(self.server.endpoint("userinfo")).bearer_auth(token);
        request.send().await.unwrap().status() == 200
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_login_with_the_sdk() {
    let Some(world) = World::new().await else { return };
    the_sdk_restores_what_keyfob_wrote(&world).await;
    keyfob_restores_what_the_sdk_wrote(&world).await;
    a_logout_of_either_is_both_ones(&world).await;
    both_side_by_side(&world).await;
}

async fn the_sdk_restores_what_keyfob_wrote(world: &World) {
    let (session, provider) = world.session(None);
    assert_eq!(session.token().await.unwrap_err().kind(), ErrorKind::LoginRequired);
    world.log_in(&session, &provider).await;
    let wrote = world.held().unwrap();

    let theirs = world.sdk("say(token(USNANClient()))");
    assert!(world.serves(theirs.as_str().expect("the session is restored")).await);
    let rotated = world.held().unwrap();
    assert_ne!(rotated, wrote, "the SDK renews when it is made, and writes");

    // keyfob goes on from there, and so does the SDK after it.
    let ours = session.refresh().await.unwrap();
    assert!(world.serves(ours.secret()).await);
    assert_ne!(world.held().unwrap(), rotated);
    assert!(world.sdk("say(token(USNANClient()))").is_string());
    assert_eq!(world.server.session_count("alice").await.unwrap(), 1, "one session throughout");
    assert!(session.logout().await.unwrap().revoked);
}

async fn keyfob_restores_what_the_sdk_wrote(world: &World) {
    let script = "client = USNANClient()\nclient.login('device')\nsay(token(client))";
    let mut sdk = world.python.command(world.home.path(), &world.base(), script).spawn().unwrap();
    let mut lines = BufReader::new(sdk.stdout.take().unwrap()).lines().map_while(Result::ok);
    let url = lines.find(|line| line.trim().starts_with("http")).expect("the URL to visit");
    world.server.sign_in_at_device(url.trim(), "alice", false).await.unwrap();
    let theirs = tokio::task::spawn_blocking(move || lines.last()).await.unwrap().unwrap();
    assert!(sdk.wait().unwrap().success());
    let theirs: String = serde_json::from_str(&theirs).unwrap();

    let (session, _) = world.session(None);
    let ours = session.token().await.unwrap();
    assert!(world.serves(ours.secret()).await && ours.secret() != theirs);
    assert_eq!(session.status().await.unwrap().account.unwrap().name.as_deref(), Some("alice"));
    // Another process of keyfob's has it without asking.
    let before = world.held();
    assert_eq!(world.session(None).0.token().await.unwrap().secret(), ours.secret());
    assert_eq!(world.held(), before);
    assert!(world.sdk("say(token(USNANClient()))").is_string());
}

async fn a_logout_of_either_is_both_ones(world: &World) {
    let (session, provider) = world.session(None);
    session.refresh().await.unwrap();
    world.sdk("client = USNANClient()\nclient.logout()");
    assert_eq!(world.held(), None);
    let error = session.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired, "{error}");
    assert_eq!(world.server.session_count("alice").await.unwrap(), 0);

    world.log_in(&session, &provider).await;
    assert!(session.logout().await.unwrap().revoked);
    assert_eq!(world.held(), None);
    assert!(world.sdk("say(token(USNANClient()))").is_null());
}

/// Short scripts of the SDK's, one after the other, as people run them.
const SCRIPTS: &str = r#"
import requests
until = time.time() + float(os.environ["USNAN_TEST_SECONDS"])
while time.time() < until:
    client = USNANClient()
    used = token(client)
    status = requests.get(os.environ["USNAN_TEST_API"], headers={"Authorization": f"Bearer {used}"}).status_code if used else None
    say(status)
    time.sleep(0.9)
"#;

async fn both_side_by_side(world: &World) {
    let seconds = env::var("KEYFOB_E2E_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let witness = Witness::start(world.server.endpoint("token"), world.file()).await;
    let endpoint = format!("{}/token", witness.base("keyfob"));
    let (first, provider) = world.session(Some(&endpoint));
    world.log_in(&first, &provider).await;
    let sdk = world
        .python
        .command(world.home.path(), &witness.base("sdk"), SCRIPTS)
        .env("USNAN_TEST_SECONDS", seconds.to_string())
        .env("USNAN_TEST_API", world.server.endpoint("userinfo"))
        .spawn()
        .unwrap();

    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut logins, mut renewed, mut failures) = (0, 0, Vec::new());
    let second = world.session(Some(&endpoint)).0;
    let mut processes = JoinSet::new();
    for session in [first.clone(), second] {
        processes.spawn(renew_until(session, until));
    }
    // Where nobody is logged in any more, alice signs in again at keyfob.
    while Instant::now() < until {
        if world.held().is_none() {
            world.log_in(&first, &provider).await;
            logins += 1;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (times, failed) in processes.join_all().await {
        renewed += times;
        failures.extend(failed);
    }
    let output = tokio::task::spawn_blocking(move || sdk.wait_with_output()).await.unwrap().unwrap();
    let calls = said(&output);
    let served = calls.iter().filter(|status| **status == 200).count();

    let renewals = witness.renewals();
    let found = faults(&renewals);
    let count = |fault: Fault| found.iter().filter(|found| **found == fault).count();
    say(&format!(
        "{seconds} s side by side: {renewed} renewals of keyfob's, {served} of {} scripts of the SDK's served; {} races that \
         nobody could avoid, {logins} logins for them",
        calls.len(),
        count(Fault::Race),
    ));
    // After a race: two tokens were refused one after the other, so it looks again; or the login is gone.
    let of_a_race = |error: &AuthError| match error.kind() {
        ErrorKind::Transient => error.oauth_error() == Some("invalid_grant"),
        kind => kind == ErrorKind::LoginRequired,
    };
    assert!(failures.iter().all(of_a_race), "{failures:#?}");
    assert!(failures.is_empty() || count(Fault::Race) > 0, "{failures:#?}");
    assert_eq!((count(Fault::Keyfob), count(Fault::Sdk)), (0, 0), "{renewals:#?}");
    assert!(logins <= count(Fault::Race), "a login is lost by a race only: {found:?}");
    assert!(
        renewed >= usize::try_from(seconds / 2).unwrap() && served >= 3,
        "both go on: {renewed}, {calls:?}"
    );
    assert!(
        renewals.iter().any(|renewal| renewal.by_keyfob) && renewals.iter().any(|renewal| !renewal.by_keyfob)
    );
}

/// Renews once a second, and counts; gives also what failed.
async fn renew_until(session: Session, until: Instant) -> (usize, Vec<AuthError>) {
    let (mut renewed, mut failed) = (0, Vec::new());
    while Instant::now() < until {
        match session.refresh().await {
            Ok(_) => renewed += 1,
            Err(error) => failed.push(error),
        }
        tokio::time::sleep(Duration::from_millis(1000)).await;
    }
    (renewed, failed)
}
