//! The main job, told as it happens: a login, calls that stay authenticated across expiries, an outage, a refused token and
//! many processes, a logout. Everything is real but the authorization server, which runs inside this program and counts
//! what it is asked. If a count is not what the story says, the demo fails.
//!
//! `cargo xtask demo`, or `cargo run --features full --example demo`.
// It tells its story on stdout, and it may stop where a test would.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    env,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use keyfob::{
    Context, ErrorKind, Interaction, Prompt, Session,
    authorize::Origins,
    middleware::AuthClient,
    oidc::{Flow, Oidc},
    store_file::FileStore,
};
use keyfob_idp::server::{AuthorizationServer, Counters, Endpoint, Fault, Settings};

const LIFE: Duration = Duration::from_secs(4);
const REFRESH: &str = "refresh_token";
/// Set in the eight processes: `ISSUER FOLDER SECONDS`.
const WORKER: &str = "KEYFOB_DEMO_WORKER";

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if let Ok(worker) = env::var(WORKER) {
        return runtime.block_on(work(&worker));
    }
    let began = Instant::now();
    runtime.block_on(tell());
    println!("\nAll counts are what the story says. {:.0} s.", began.elapsed().as_secs_f64());
}

async fn tell() {
    let settings = Settings {
        access_token_lifetime: LIFE,
        device_interval: Duration::from_secs(1),
        ..Settings::default()
    };
    let server = Arc::new(AuthorizationServer::start(settings).await);
    let folder = tempfile::tempdir().expect("a folder");
    println!("An authorization server is at {}.", server.issuer());
    println!(
        "Its access tokens live {} s, and it rotates refresh tokens strictly: one used twice ends the login.",
        LIFE.as_secs()
    );
    let session = open(server.issuer(), folder.path());
    let counts = Counts(&server);

    headline(1, "Somebody logs in, on another device");
    let error = session.token().await.expect_err("nobody is logged in");
    assert_eq!(error.kind(), ErrorKind::LoginRequired);
    println!("Before the login, asking for a token opens nothing and asks nobody: \"{error}\".");
    session.login(Arc::new(Person(Arc::clone(&server)))).await.expect("a login");
    let status = session.status().await.expect("a status");
    println!(
        "Logged in as {}; the login is in {}.",
        status.account.expect("an account").display_name(),
        status.store
    );

    headline(2, "A thousand calls at once, at an expired token");
    let client = client(&session, &server);
    tokio::time::sleep(LIFE).await;
    let before = server.counters();
    let began = Instant::now();
    assert_eq!(calls(&client, &server, 1000).await, 1000);
    counts.since(&before, "1,000 calls answered", |c| (c.api_ok, 1000));
    counts.since(&before, "refresh requests", |c| (c.requests_of(REFRESH), 1));
    println!("  in {:.0} ms", began.elapsed().as_secs_f64() * 1000.0);

    headline(3, "The authorization server fails for a while");
    let before = server.counters();
    server.faults().set_always(Endpoint::Token, Some(Fault::unavailable(None)));
    let token = session.token().await.expect("a token");
    let expires = token.expires_at().expect("it expires");
    let left = expires.duration_since(std::time::SystemTime::now()).unwrap_or_default();
    let until = Instant::now() + left.saturating_sub(Duration::from_millis(100));
    let mut answered = 0;
    while Instant::now() < until {
        answered += calls(&client, &server, 10).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = server.counters();
    let attempts = after.requests_of(REFRESH) - before.requests_of(REFRESH);
    println!("  {answered} calls answered while the token at hand was valid, not one failed;");
    println!("  {attempts} attempt(s) to renew it in its early window: once a second at most");
    assert!(attempts <= 2 && after.api_ok - before.api_ok == answered);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let error = session.token().await.expect_err("the server is down");
    println!("  once it had expired, callers were told: \"{error}\"");
    server.faults().clear();
    let error_free = retried(&session).await;
    println!("  the server came back, and the login was still good: renewed after {error_free:.1} s");

    headline(4, "The API refuses a token that looks valid");
    server.revoke_all_access_tokens();
    let before = server.counters();
    assert_eq!(calls(&client, &server, 20).await, 20);
    counts.since(&before, "20 calls answered in the end", |c| (c.api_ok, 20));
    counts.since(&before, "renewals for all their refusals", |c| (c.requests_of(REFRESH), 1));

    headline(5, "Eight processes share the login");
    let seconds = 3 * LIFE.as_secs();
    let before = server.counters();
    let began = Instant::now();
    let answered = eight_processes(&server, folder.path(), seconds).await;
    let after = server.counters();
    let renewals = after.requests_of(REFRESH) - before.requests_of(REFRESH);
    println!(
        "  {answered} calls in {seconds} s from 8 processes, across {renewals} renewals, one for each new token"
    );
    // The early window opens after 85 percent of a life at the soonest, and the first token may be at its end.
    let most = (began.elapsed().as_secs_f64() / (0.85 * LIFE.as_secs_f64())) as u64 + 1;
    assert!(renewals <= most, "{renewals} renewals, {most} at the most");
    assert_eq!(after.successes_of(REFRESH) - before.successes_of(REFRESH), renewals, "none was refused");
    counts.since(&before, "refresh tokens used twice", |c| (c.reuse, 0));
    counts.since(&before, "logins ended by that", |c| (c.families_killed, 0));

    headline(6, "Logging out");
    let before = server.counters();
    let old = session.token().await.expect("a token").secret().to_owned();
    let report = session.logout().await.expect("a logout");
    assert!(report.was_logged_in && report.revoked);
    counts.since(&before, "revocation requests, for the refresh token and the access token", |c| {
        (c.revocation, 2)
    });
    let answer = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = answer.get(server.api_url()).bearer_auth(old).send().await.expect("an answer");
    println!("  the API says {} to the last token", answer.status());
    assert_eq!(answer.status(), 401);
    let error = session.token().await.expect_err("nobody is logged in");
    println!("  and asking for one says: \"{error}\"");
    assert!(session.drain(Duration::from_secs(10)).await);
}

/// The session of the demo: one in each process, all on the same files.
fn open(issuer: &str, folder: &std::path::Path) -> Session {
    let context = Context::new();
    let provider = Oidc::builder(issuer, "cli")
        .flow(Flow::Device)
        .scopes(["openid", "offline_access"])
        .build(&context)
        .expect("a provider");
    let store = FileStore::open(folder.join("tokens")).expect("a store");
    Session::new(Arc::new(provider), Arc::new(store), &context).expect("a session")
}

fn client(session: &Session, server: &AuthorizationServer) -> AuthClient {
    client_for(session, server.issuer())
}

/// Tokens go to this origin and to no other.
fn client_for(session: &Session, origin: &str) -> AuthClient {
    let origins = Origins::new().with(origin).expect("an origin");
    AuthClient::builder(session.clone())
        .origins(origins)
        .http(|http| http.no_proxy())
        .build()
        .expect("a client")
}

/// So many calls at once; how many were answered.
async fn calls(client: &AuthClient, server: &AuthorizationServer, n: usize) -> u64 {
    calls_to(client, &server.api_url(), n).await
}

async fn calls_to(client: &AuthClient, url: &str, n: usize) -> u64 {
    let calls: Vec<_> = (0..n)
        .map(|_| {
            let request = client.get(url).send();
            tokio::spawn(async move { request.await.is_ok_and(|answer| answer.status().is_success()) })
        })
        .collect();
    let mut answered = 0;
    for call in calls {
        answered += u64::from(call.await.expect("a call"));
    }
    answered
}

/// Asks until the pause after the failures is over; how long that took.
async fn retried(session: &Session) -> f64 {
    let began = Instant::now();
    while session.token().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(15), "the outage was not survived");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    began.elapsed().as_secs_f64()
}

async fn eight_processes(server: &AuthorizationServer, folder: &std::path::Path, seconds: u64) -> u64 {
    let program = env::current_exe().expect("this program");
    let worker = format!("{}\n{}\n{seconds}", server.issuer(), folder.display());
    let start = |_| {
        let mut command = Command::new(&program);
        command.env(WORKER, &worker).stdout(Stdio::piped());
        command.spawn().expect("a process")
    };
    let processes: Vec<_> = (0..8).map(start).collect();
    let mut answered = 0;
    for process in processes {
        let output = tokio::task::spawn_blocking(|| process.wait_with_output());
        let output = output.await.expect("a thread").expect("an exit");
        assert!(output.status.success(), "a process failed");
        answered += String::from_utf8_lossy(&output.stdout).trim().parse::<u64>().expect("a count");
    }
    answered
}

/// One of the eight: calls the API for a while, and tells how often it was answered.
async fn work(worker: &str) {
    let mut parts = worker.lines();
    let (issuer, folder, seconds) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let session = open(issuer, folder.as_ref());
    let client = client_for(&session, issuer);
    let until = Instant::now() + Duration::from_secs(seconds.parse().expect("seconds"));
    let mut answered = 0;
    while Instant::now() < until {
        let now = calls_to(&client, &format!("{issuer}/api/echo"), 5).await;
        assert_eq!(now, 5, "a call failed");
        answered += now;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(session.drain(Duration::from_secs(10)).await);
    println!("{answered}");
}

/// The person at the other device: reads the code, and says yes.
#[derive(Debug)]
struct Person(Arc<AuthorizationServer>);

impl Interaction for Person {
    fn show(&self, prompt: &Prompt) {
        if let Prompt::DeviceCode(code) = prompt {
            println!("  open {} and type {}", code.verification_uri, code.user_code);
            self.0.approve(&code.user_code, "alice").expect("an approval");
            println!("  (alice does, and agrees)");
        }
    }
}

struct Counts<'a>(&'a AuthorizationServer);

impl Counts<'_> {
    /// Prints a count, and fails if it is not what the story says.
    fn since(&self, before: &Counters, what: &str, count: impl Fn(&Counters) -> (u64, u64)) {
        let (now, expected) = count(&self.0.counters());
        let counted = now - count(before).0;
        println!("  {counted:>5}  {what}");
        assert_eq!(counted, expected, "{what}");
    }
}

fn headline(number: u32, text: &str) {
    println!("\n{number}. {text}");
}
