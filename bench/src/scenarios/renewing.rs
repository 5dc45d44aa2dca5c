//! Renewals that succeed.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use keyfob_idp::server::Fault;
use tokio::{
    runtime::Runtime,
    task::{JoinSet, yield_now},
    time::sleep,
};

use super::{Asked, SERVER, Service, callers, errors, requests, waits};
use crate::{
    Result,
    table::{Goal, Row},
    timing::{millis, quantile},
};

/// 1,000 callers, the token expired.
pub(super) fn storm(runtime: &Runtime) -> Result<Vec<Row>> {
    let service = Service::expired()?;
    service.meets(Some(Fault::DelayAnswer(SERVER)));
    let asked = runtime.block_on(callers(&service.session, 1000));
    let waits = waits(&asked);
    Ok(vec![
        requests("refresh storm, 1,000 callers", Goal::Exactly(1.0), service.requests())
            .note("best peers: 1"),
        Row::counted("refresh storm: errors", Goal::Exactly(0.0), errors(&asked), "errors"),
        Row::timed("refresh storm: p99", Goal::AtMost(105.0), millis(quantile(&waits, 0.99)), "ms")
            .note(format!("longest {:.1} ms; best peer: 102.9 ms", millis(quantile(&waits, 1.0)))),
    ])
}

/// How often the look near expiry is repeated: whatever else the machine does is in some rounds, and what a call costs in all.
const ROUNDS: usize = 5;

/// 200 callers that ask again and again, while the token is renewed in its early window.
pub(super) fn near_expiry(runtime: &Runtime) -> Result<Vec<Row>> {
    let rounds: Vec<Round> = (0..ROUNDS).map(|_| near_expiry_once(runtime)).collect::<Result<_>>()?;
    // The one that differs, if any does.
    let renewals = rounds.iter().map(|round| round.requests).find(|requests| *requests != 1).unwrap_or(1);
    let longest: Vec<_> = rounds.iter().map(|round| millis(round.longest)).collect();
    let gaps: Vec<_> = rounds.iter().map(|round| millis(round.gap)).collect();
    let told = |times: &[f64]| times.iter().map(|time| format!("{time:.2}")).collect::<Vec<_>>().join(", ");
    Ok(vec![
        requests("near expiry, 200 callers looping", Goal::Exactly(1.0), renewals as f64)
            .note(format!("in each of {ROUNDS} rounds")),
        Row::counted(
            "near expiry: calls that waited",
            Goal::Exactly(0.0),
            rounds.iter().map(|round| round.waited).sum::<usize>() as f64,
            "calls",
        )
        .note(format!(
            "of {}; callers: google-cloud-auth 0, huskarl 1, all others all 200",
            rounds.iter().map(|round| round.calls).sum::<usize>()
        )),
        Row::timed(
            "near expiry: longest call",
            Goal::AtMost(1.0),
            longest.iter().copied().fold(f64::INFINITY, f64::min),
            "ms",
        )
        .note(format!(
            "the least disturbed of {ROUNDS} rounds: {} ms; threads that only read the clock before each were stopped for up to \
             {} ms",
            told(&longest),
            told(&gaps)
        )),
        Row::timed(
            "· by the thread's own processor time",
            Goal::AtMost(1.0),
            rounds.iter().map(|round| millis(round.worked)).fold(f64::INFINITY, f64::min),
            "ms",
        )
        .note("of the least disturbed round too: what a hypervisor does in a thread's time counts as its own"),
    ])
}

/// What one round saw.
struct Round {
    requests: u64,
    calls: usize,
    waited: usize,
    longest: Duration,
    worked: Duration,
    gap: Duration,
}

fn near_expiry_once(runtime: &Runtime) -> Result<Round> {
    let service = Service::due()?;
    service.meets(Some(Fault::DelayAnswer(SERVER)));
    let over = Arc::new(AtomicBool::new(false));
    let counter = || Arc::new(AtomicUsize::new(0));
    let (waited, calls) = (counter(), counter());
    let caller = || {
        let (session, over) = (service.session.clone(), Arc::clone(&over));
        let (waited, calls) = (Arc::clone(&waited), Arc::clone(&calls));
        async move {
            let mut longest = (Duration::ZERO, Duration::ZERO);
            while !over.load(Ordering::Relaxed) {
                let (began, worked) = (Instant::now(), processor_time());
                let mut asking = pin!(session.token());
                let at_once =
                    std::future::poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx).is_ready())).await;
                // It ended on the thread that it began on.
                longest.1 = longest.1.max(processor_time().saturating_sub(worked));
                if !at_once {
                    waited.fetch_add(1, Ordering::Relaxed);
                    drop(asking.await);
                }
                let took = began.elapsed();
                longest.0 = longest.0.max(took);
                calls.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
            longest
        }
    };
    let taken_away = longest_gap(SERVER * 4);
    let longest = runtime.block_on(async {
        let tasks: JoinSet<(Duration, Duration)> = (0..200).map(|_| caller()).collect();
        sleep(SERVER * 4).await;
        over.store(true, Ordering::Relaxed);
        tasks.join_all().await
    });
    let (took, worked): (Vec<_>, Vec<_>) = longest.into_iter().unzip();
    let [waited, calls] = [waited, calls].map(|counter| counter.load(Ordering::Relaxed));
    Ok(Round {
        requests: service.server.counters().token,
        calls,
        waited,
        longest: quantile(&took, 1.0),
        worked: quantile(&worked, 1.0),
        gap: taken_away,
    })
}

/// What this thread has worked.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The longest that two threads, which do nothing but read the clock, were kept from it: the control.
fn longest_gap(time: Duration) -> Duration {
    let watch = || {
        let (began, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
        while began.elapsed() < time {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        longest
    };
    thread::scope(|scope| {
        let threads = [scope.spawn(watch), scope.spawn(watch)];
        threads.into_iter().filter_map(|thread| thread.join().ok()).max().unwrap_or_default()
    })
}

/// A caller that is dropped halfway through its renewal, and the next.
pub(super) fn caller_dropped(runtime: &Runtime) -> Result<Vec<Row>> {
    let service = Service::expired()?;
    service.meets(Some(Fault::DelayAnswer(SERVER)));
    let next = runtime.block_on(async {
        let first = tokio::time::timeout(SERVER / 2, service.session.token()).await;
        if first.is_ok() {
            return Err("the first caller was not dropped in time");
        }
        Ok(Asked::of(service.session.token()).await)
    })?;
    Ok(vec![
        requests("caller dropped halfway through", Goal::Exactly(1.0), service.requests())
            .note("google-cloud-auth 1, all others 2"),
        Row::counted(
            "caller dropped: errors",
            Goal::Exactly(0.0),
            errors(std::slice::from_ref(&next)),
            "errors",
        ),
        Row::timed(
            "caller dropped: the next waits for the rest",
            Goal::AtMost(60.0),
            millis(next.waited),
            "ms",
        )
        .note("50 ms are left"),
    ])
}
