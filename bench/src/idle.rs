//! Many sessions that nobody uses, and what happens when their tokens expire together.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use keyfob::{
    AccessToken, Acquired, Context, Identity, Keep, Session, TokenStore,
    store::MemoryStore,
    testing::{FakeClock, ScriptedProvider, Step},
};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Result,
    operations::token_of,
    progress,
    table::{Goal, Row},
    timing::millis,
};

/// The length of the tokens of idle sessions.
pub const TOKEN: usize = 1024;
/// How long their tokens live.
const LIFE: Duration = Duration::from_secs(600);

/// One context, one store, one server.
#[derive(Debug)]
pub struct House {
    runtime: Runtime,
    context: Context,
    store: Arc<dyn TokenStore>,
    server: ScriptedProvider,
    clock: Arc<FakeClock>,
}

impl House {
    /// With nobody in it.
    ///
    /// # Errors
    /// If there are no threads.
    pub fn new(keep: Keep) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let clock = FakeClock::new();
        let context = Context::builder().executor(runtime.handle().clone()).clock(clock.clock()).build();
        let store = Arc::new(MemoryStore::new());
        Ok(Self { runtime, context, store, server: ScriptedProvider::unattended().keeping(keep), clock })
    }

    /// The provider of the `n`th identity.
    pub fn provider(&self, n: usize) -> Arc<ScriptedProvider> {
        let identity = Identity::new("scripted").issuer("https://idp.example").client(format!("client-{n}"));
        Arc::new(self.server.clone().with_identity(identity))
    }

    /// Its session.
    ///
    /// # Errors
    /// As [`SessionBuilder::build`](keyfob::SessionBuilder::build).
    pub fn session(&self, provider: Arc<ScriptedProvider>) -> Result<Session> {
        Ok(Session::new(provider, Arc::clone(&self.store), &self.context)?)
    }

    /// Their first tokens, of [`TOKEN`] bytes, some of them at once: the server takes a millisecond for each.
    ///
    /// # Errors
    /// If there is none.
    pub fn first_tokens(&self, sessions: &[Session]) -> Result<()> {
        const AT_ONCE: usize = 64;
        for some in sessions.chunks(AT_ONCE) {
            for _ in some {
                let token = AccessToken::new(token_of(TOKEN)).expires_in(LIFE.as_secs());
                self.server.push(Step::Answer(Box::new(Acquired::token(token))));
            }
            self.ask_all(some)?;
        }
        Ok(())
    }

    /// All of these are asked at once.
    fn ask_all(&self, sessions: &[Session]) -> Result<()> {
        self.runtime.block_on(async {
            let asking =
                sessions.iter().cloned().map(|session| async move { session.token().await.map(drop) });
            let outcomes = asking.collect::<JoinSet<_>>().join_all().await;
            Ok(outcomes.into_iter().collect::<std::result::Result<(), _>>()?)
        })
    }

    /// How many tasks its runtime has, once nothing is under way.
    pub fn tasks_alive(&self) -> usize {
        self.context.drain_blocking(Duration::from_secs(10));
        // Those that are over are gone a moment later.
        for _ in 0..1000 {
            if self.runtime.metrics().num_alive_tasks() == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.runtime.metrics().num_alive_tasks()
    }

    /// With so many sessions that have their first tokens.
    ///
    /// # Errors
    /// If one gets none.
    pub fn full(sessions: usize) -> Result<(Self, Vec<Session>)> {
        let house = Self::new(Keep::Memory)?;
        let all = (0..sessions).map(|n| house.session(house.provider(n))).collect::<Result<Vec<_>>>()?;
        house.first_tokens(&all)?;
        Ok((house, all))
    }
}

const SESSIONS: usize = 10_000;

/// The rows of what expires together.
///
/// # Errors
/// If a session gets no first token.
pub fn rows() -> Result<Vec<Row>> {
    let mut rows = expired_together()?;
    rows.extend(due_together()?);
    Ok(rows)
}

/// All tokens are over, and all sessions are asked at once.
fn expired_together() -> Result<Vec<Row>> {
    progress("10,000 sessions that expire together");
    let (house, sessions) = House::full(SESSIONS)?;
    let first = house.server.exchanges();
    house.server.set_delay(Duration::from_millis(1));
    house.clock.advance(LIFE);
    let began = Instant::now();
    house.ask_all(&sessions)?;
    let took = began.elapsed();
    let limit = house.context.limits().concurrent_exchanges as f64;
    let exchanges = (house.server.exchanges() - first) as f64;
    Ok(vec![
        Row::counted(
            "10,000 that expire together: requests",
            Goal::Exactly(SESSIONS as f64),
            exchanges,
            "requests",
        )
        .note(format!("in {:.0} ms, of a server that takes 1 ms", millis(took))),
        Row::counted(
            "10,000 that expire together: most at once",
            Goal::AtMost(limit),
            house.server.most_at_once() as f64,
            "requests",
        )
        .note("the context's limit"),
    ])
}

/// All tokens come into their early windows, and all sessions are asked every second.
fn due_together() -> Result<Vec<Row>> {
    progress("10,000 sessions that fall due together");
    let (house, sessions) = House::full(SESSIONS)?;
    let mut before = house.server.exchanges();
    let first = before;
    let mut most = 0;
    house.clock.advance(LIFE * 4 / 5);
    for _ in 0..LIFE.as_secs() / 5 {
        sessions.iter().for_each(|session| drop(session.cached_header()));
        house.context.drain_blocking(Duration::from_secs(60));
        let now = house.server.exchanges();
        most = most.max(now - before);
        before = now;
        if now - first >= SESSIONS {
            break;
        }
        house.clock.advance(Duration::from_secs(1));
    }
    let share = most as f64 / SESSIONS as f64 * 100.0;
    Ok(vec![
        Row::counted(
            "10,000 that fall due together: renewed early",
            Goal::Exactly(SESSIONS as f64),
            (before - first) as f64,
            "requests",
        ),
        Row::counted("10,000 that fall due together: most in one second", Goal::AtMost(10.0), share, "%")
            .note("the jitter spreads 30 s of a life of 600 s; without it 100 %"),
    ])
}
