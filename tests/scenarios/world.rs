//! What the scenarios share: a server, folders, sessions, callers.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use keyfob::{
    AccessToken, Acquired, AuthError, Context, Freshness, Login, Session, Token, TokenStore,
    oidc::{Flow, Oidc},
    registry::SecretSource,
    store_file::FileStore,
};
use keyfob_idp::server::{AuthorizationServer, Endpoint, Settings};
use tokio::sync::Barrier;

pub(crate) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Strict: refresh tokens rotate, and one reuse ends the login.
pub(crate) fn strict() -> Settings {
    Settings { access_token_lifetime: s(600), device_interval: ms(10), ..Settings::default() }
}

pub(crate) fn start(settings: Settings) -> AuthorizationServer {
    AuthorizationServer::start_on_own_thread(settings)
}

/// Requests that spend a refresh token.
pub(crate) fn refreshes(server: &AuthorizationServer) -> u64 {
    server.counters().requests_of("refresh_token")
}

/// So many refreshes, all of them honoured, and none with a spent refresh token.
#[track_caller]
pub(crate) fn assert_refreshes(server: &AuthorizationServer, n: u64) {
    let counters = server.counters();
    let counted = (counters.requests_of("refresh_token"), counters.successes_of("refresh_token"));
    assert_eq!(counted, (n, n), "requests and answers: {counters:?}");
    assert_not_logged_out(server);
}

#[track_caller]
pub(crate) fn assert_not_logged_out(server: &AuthorizationServer) {
    let counters = server.counters();
    let trouble = (counters.reuse, counters.families_killed, counters.invalid_grant);
    assert_eq!(trouble, (0, 0, 0), "reuses, families killed and invalid grants");
}

/// When the token endpoint was asked.
pub(crate) fn asked_at(server: &AuthorizationServer) -> Vec<Instant> {
    let requests = server.requests();
    requests.iter().filter(|request| request.endpoint == Some(Endpoint::Token)).map(|r| r.at).collect()
}

/// The shortest time between two of them.
pub(crate) fn shortest_gap(moments: &[Instant]) -> Option<Duration> {
    moments.windows(2).map(|pair| pair[1] - pair[0]).min()
}

/// A folder of records.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("tokens")
    }

    pub(crate) fn store(&self) -> Arc<dyn TokenStore> {
        open(self.path())
    }
}

pub(crate) fn open(path: PathBuf) -> Arc<dyn TokenStore> {
    Arc::new(FileStore::open(path).unwrap())
}

/// A person's session, at the server's public client.
pub(crate) fn person(issuer: &str, store: Arc<dyn TokenStore>, context: &Context) -> Session {
    let provider = Oidc::builder(issuer, "cli").flow(Flow::Device).scopes(["read", "write"]);
    Session::new(Arc::new(provider.build(context).unwrap()), store, context).unwrap()
}

/// The same person in another process, or as good as: nothing is shared but the folder.
pub(crate) fn elsewhere(server: &AuthorizationServer, folder: &Folder) -> Session {
    person(server.issuer(), folder.store(), &Context::new())
}

/// A service's session, at the server's confidential client.
pub(crate) fn service(issuer: &str, label: &str, store: Arc<dyn TokenStore>, context: &Context) -> Session {
    let secret = SecretSource::Literal("service-secret".into());
    let provider = Oidc::builder(issuer, "service").client_secret(secret).label(label).build(context);
    Session::new(Arc::new(provider.unwrap()), store, context).unwrap()
}

pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Signs alice in, as a web application would, and makes that the session's login; its access token serves for so long.
pub(crate) async fn log_in(server: &AuthorizationServer, session: &Session, life: Duration) -> Token {
    log_in_with(server, session, |token| token.expires_in(life.as_secs())).await
}

pub(crate) async fn log_in_with(
    server: &AuthorizationServer,
    session: &Session,
    change: impl FnOnce(AccessToken) -> AccessToken,
) -> Token {
    let form = [
        ("grant_type", "password"),
        ("client_id", "cli"),
        ("username", "alice"),
        ("password", "alice-password"),
        ("scope", "read write"),
    ];
    let answer = http().post(server.token_endpoint()).form(&form).send().await.unwrap();
    let answer: serde_json::Value = answer.json().await.unwrap();
    let text = |member: &str| answer[member].as_str().unwrap().to_owned();
    let access = change(AccessToken::new(text("access_token")));
    let login = Login::with_refresh_token(text("refresh_token"));
    server.reset_counters();
    session.adopt(Acquired::with_login(access, login)).await.unwrap()
}

/// A login in this folder whose access token is over, by every clock. Its successors live for ten minutes.
pub(crate) async fn expired(server: &AuthorizationServer, folder: &Folder) -> Session {
    let session = elsewhere(server, folder);
    expire(server, &session).await;
    session
}

/// Logs in, and waits until the access token is over.
pub(crate) async fn expire(server: &AuthorizationServer, session: &Session) {
    log_in(server, session, s(1)).await;
    until_token_is(session, Freshness::Expired).await;
}

pub(crate) async fn until_token_is(session: &Session, freshness: Freshness) {
    let deadline = Instant::now() + s(30);
    while session.status().await.unwrap().freshness != freshness {
        assert!(Instant::now() < deadline, "the token is not {} in 30 s", freshness.as_str());
        tokio::time::sleep(ms(5)).await;
    }
}

/// Waits for something that a server or another process does.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + s(30);
    while !done() {
        assert!(Instant::now() < deadline, "not in 30 s: {what}");
        tokio::time::sleep(ms(2)).await;
    }
}

/// Waits until the server has got so many requests that spend a refresh token.
pub(crate) async fn until_refreshes(server: &AuthorizationServer, n: u64) {
    until("a refresh arrives", || refreshes(server) >= n).await;
}

/// Whoever asked: a task that is waiting for a token.
pub(crate) type Asking = tokio::task::JoinHandle<Result<Token, AuthError>>;

pub(crate) fn ask(session: &Session) -> Asking {
    let session = session.clone();
    tokio::spawn(async move { session.token().await })
}

/// So many callers at once, each a task, evenly of these sessions.
pub(crate) async fn callers(sessions: &[Session], n: usize) -> Vec<Result<Token, AuthError>> {
    let barrier = Arc::new(Barrier::new(n));
    let ask = |session: &Session| {
        let (session, barrier) = (session.clone(), Arc::clone(&barrier));
        tokio::spawn(async move {
            barrier.wait().await;
            session.token().await
        })
    };
    let tasks: Vec<_> = sessions.iter().cycle().take(n).map(ask).collect();
    let mut outcomes = Vec::with_capacity(n);
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

/// The one token that they all got.
#[track_caller]
pub(crate) fn one_token(outcomes: &[Result<Token, AuthError>]) -> String {
    let secret = outcomes[0].as_ref().unwrap().secret();
    for outcome in outcomes {
        assert!(outcome.as_ref().unwrap().secret() == secret, "two tokens");
    }
    secret.to_owned()
}

/// Says something that the test runner does not swallow.
pub(crate) fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}
