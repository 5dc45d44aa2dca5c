//! A service and its authorization server, over HTTP, in the situations of the issue: requests are counted, waits timed.

mod failing;
mod renewing;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use keyfob::{AuthError, Context, Session, Token, oidc::Oidc, registry::SecretSource, testing::FakeClock};
use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault, Settings};
use tokio::{runtime::Runtime, sync::Barrier, task::JoinSet};

use crate::{
    Result, progress,
    table::{Goal, Row, Table},
};

/// How long tokens live, by a clock that is moved.
const LIFE: Duration = Duration::from_secs(600);
/// How long the server takes.
const SERVER: Duration = Duration::from_millis(100);

/// Adds the rows of every situation.
///
/// # Errors
/// If there are no threads.
pub fn add_to(table: &mut Table) -> Result<()> {
    let callers = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut add = |what: &str, situation: fn(&Runtime) -> Result<Vec<Row>>| {
        progress(what);
        table.add(what, situation(&callers));
    };
    add("a refresh storm", renewing::storm);
    add("near expiry", renewing::near_expiry);
    add("a caller that is dropped", renewing::caller_dropped);
    add("a failing server, the token valid", failing::token_valid);
    add("a failing server, no token", failing::no_token);
    add("a revoked secret", failing::revoked_secret);
    add("a hanging server", failing::hanging);
    callers.shutdown_background();
    Ok(())
}

/// A service with a client secret, and its server, which has a thread of its own.
struct Service {
    server: AuthorizationServer,
    clock: Arc<FakeClock>,
    session: Session,
}

impl Service {
    /// It has had a token, so that a connection stands.
    fn started() -> Result<Self> {
        let settings = Settings { access_token_lifetime: LIFE, ..Settings::default() };
        let server = AuthorizationServer::start_on_own_thread(settings);
        let clock = FakeClock::new();
        let context = Context::builder().clock(clock.clock()).build();
        let provider = Oidc::builder(server.issuer(), "service")
            .client_secret(SecretSource::Literal("service-secret".into()))
            .token_endpoint(server.token_endpoint())
            .build(&context)?;
        let session = Session::builder(Arc::new(provider)).context(&context).build()?;
        session.token_blocking()?;
        server.reset_counters();
        Ok(Self { server, clock, session })
    }

    /// Its token is over.
    fn expired() -> Result<Self> {
        let service = Self::started()?;
        service.clock.advance(LIFE + Duration::from_secs(1));
        Ok(service)
    }

    /// Its token is in the early window, and valid for half a minute still.
    fn due() -> Result<Self> {
        let service = Self::started()?;
        service.clock.advance(LIFE - Duration::from_secs(30));
        Ok(service)
    }

    /// What every token request meets from now on.
    fn meets(&self, fault: Option<Fault>) {
        self.server.faults().set_always(Endpoint::Token, fault);
    }

    fn requests(&self) -> f64 {
        self.server.counters().token as f64
    }
}

/// What one caller got, and when it began and stopped waiting.
struct Asked {
    outcome: std::result::Result<Token, AuthError>,
    waited: Duration,
}

impl Asked {
    async fn of(asking: impl Future<Output = std::result::Result<Token, AuthError>>) -> Self {
        let began = Instant::now();
        Self { outcome: asking.await, waited: began.elapsed() }
    }
}

/// So many callers at once, each a task.
async fn callers(session: &Session, n: usize) -> Vec<Asked> {
    let barrier = Arc::new(Barrier::new(n));
    let caller = || {
        let (session, barrier) = (session.clone(), Arc::clone(&barrier));
        async move {
            barrier.wait().await;
            Asked::of(session.token()).await
        }
    };
    let tasks: JoinSet<Asked> = (0..n).map(|_| caller()).collect();
    tasks.join_all().await
}

fn errors(asked: &[Asked]) -> f64 {
    asked.iter().filter(|asked| asked.outcome.is_err()).count() as f64
}

fn waits(asked: &[Asked]) -> Vec<Duration> {
    asked.iter().map(|asked| asked.waited).collect()
}

/// A row of counted requests.
fn requests(figure: &str, goal: Goal, measured: f64) -> Row {
    Row::counted(figure, goal, measured, "requests")
}
