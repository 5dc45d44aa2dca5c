//! Servers that fail, refuse or hang.

use std::time::{Duration, Instant};

use keyfob_idp::server::Fault;
use tokio::{runtime::Runtime, task::JoinSet, time::sleep};

use super::{Asked, SERVER, Service, callers, errors, requests};
use crate::{
    Result,
    table::{Goal, Row},
    timing::{millis, quantile},
};

/// How long the callers go on.
const LONG: Duration = Duration::from_secs(5);

/// 1,000 callers with a token that is due, for 5 s.
pub(super) fn token_valid(runtime: &Runtime) -> Result<Vec<Row>> {
    let service = Service::due()?;
    service.meets(Some(Fault::unavailable(None)));
    let caller = |session: keyfob::Session| async move {
        let end = Instant::now() + LONG;
        let (mut errors, mut longest) = (0_usize, Duration::ZERO);
        while Instant::now() < end {
            let asked = Asked::of(session.token()).await;
            errors += usize::from(asked.outcome.is_err());
            longest = longest.max(asked.waited);
            sleep(Duration::from_millis(10)).await;
        }
        (errors, longest)
    };
    let ended = runtime.block_on(async {
        let tasks: JoinSet<_> = (0..1000).map(|_| caller(service.session.clone())).collect();
        tasks.join_all().await
    });
    let failed: usize = ended.iter().map(|(errors, _)| errors).sum();
    let longest = ended.iter().map(|(_, longest)| *longest).max().unwrap_or_default();
    let each_second = service.requests() / LONG.as_secs_f64();
    let others = "google-cloud-auth 0.2, huskarl 1,269, aws 11,433, hand-written 15,253";
    Ok(vec![
        requests("failing server, token valid, 1,000 callers: each second", Goal::AtMost(1.0), each_second)
            .note(others),
        Row::counted("failing server, token valid: errors", Goal::Exactly(0.0), failed as f64, "errors")
            .note(format!("longest call {:.1} ms", millis(longest))),
    ])
}

/// 100 callers without a token.
pub(super) fn no_token(runtime: &Runtime) -> Result<Vec<Row>> {
    let service = Service::expired()?;
    service.meets(Some(Fault::unavailable(None).delayed(SERVER)));
    let asked = runtime.block_on(callers(&service.session, 100));
    let last = asked.iter().map(|asked| asked.waited).max().unwrap_or_default();
    Ok(vec![
        requests("failing server, no token, 100 waiters", Goal::Exactly(1.0), service.requests())
            .note("google-cloud-auth 1; all others 100 in 10 s, or none in 30 s"),
        Row::counted("failing server, no token: errors", Goal::Exactly(100.0), errors(&asked), "errors"),
        Row::timed("failing server, no token: the last error", Goal::AtMost(110.0), millis(last), "ms"),
    ])
}

/// A client secret that holds no more, for 5 s, and then again.
pub(super) fn revoked_secret(runtime: &Runtime) -> Result<Vec<Row>> {
    let service = Service::expired()?;
    service.server.set_secret("service", "another")?;
    let ask_until = async |deadline: Instant| {
        while Instant::now() < deadline {
            if service.session.token().await.is_ok() {
                return true;
            }
            sleep(Duration::from_millis(10)).await;
        }
        false
    };
    let (asked, seen) = runtime.block_on(async {
        if ask_until(Instant::now() + LONG).await {
            return Err("a revoked secret was honoured".into());
        }
        let asked = service.requests();
        service.server.set_secret("service", "service-secret")?;
        let mended = Instant::now();
        ask_until(mended + 3 * LONG).await;
        Result::Ok((asked, mended.elapsed()))
    })?;
    Ok(vec![
        requests("revoked secret, 5 s", Goal::AtMost(3.0), asked),
        Row::timed("revoked secret: mended, and seen", Goal::AtMost(5.0), seen.as_secs_f64(), "s"),
    ])
}

/// 100 callers with deadlines of their own, and a server that never answers.
pub(super) fn hanging(runtime: &Runtime) -> Result<Vec<Row>> {
    let service = Service::expired()?;
    service.meets(Some(Fault::Delay(Duration::from_secs(3600))));
    let caller = |n: u64| {
        let (session, deadline) = (service.session.clone(), Duration::from_millis(50 + 5 * n));
        async move {
            let asked = Asked::of(session.token_within(deadline)).await;
            (asked.outcome.is_err(), asked.waited.saturating_sub(deadline))
        }
    };
    let ended = runtime.block_on(async {
        let tasks: JoinSet<_> = (0..100).map(caller).collect();
        tasks.join_all().await
    });
    let over: Vec<_> = ended.iter().map(|(_, over)| *over).collect();
    let errors = ended.iter().filter(|(failed, _)| *failed).count();
    Ok(vec![
        requests("hanging server, 100 callers with deadlines", Goal::Exactly(1.0), service.requests()),
        Row::counted("hanging server: errors", Goal::Exactly(100.0), errors as f64, "errors"),
        Row::timed(
            "hanging server: longest wait beyond the caller's deadline",
            Goal::AtMost(5.0),
            millis(quantile(&over, 1.0)),
            "ms",
        )
        .note(format!("half of them {:.1} ms; a timer's grain is 1 ms", millis(quantile(&over, 0.5)))),
    ])
}
