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

/// 200 callers that ask again and again, while the token is renewed in its early window.
pub(super) fn near_expiry(runtime: &Runtime) -> Result<Vec<Row>> {
    let service = Service::due()?;
    service.meets(Some(Fault::DelayAnswer(SERVER)));
    let over = Arc::new(AtomicBool::new(false));
    let counter = || Arc::new(AtomicUsize::new(0));
    let (waited, calls, slow) = (counter(), counter(), counter());
    let caller = || {
        let (session, over) = (service.session.clone(), Arc::clone(&over));
        let (waited, calls, slow) = (Arc::clone(&waited), Arc::clone(&calls), Arc::clone(&slow));
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
                slow.fetch_add(usize::from(took > Duration::from_millis(1)), Ordering::Relaxed);
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
    let [waited, calls, slow] = [waited, calls, slow].map(|counter| counter.load(Ordering::Relaxed));
    Ok(vec![
        requests("near expiry, 200 callers looping", Goal::Exactly(1.0), service.requests()),
        Row::counted("near expiry: calls that waited", Goal::Exactly(0.0), waited as f64, "calls")
            .note("callers: google-cloud-auth 0, huskarl 1, all others all 200"),
        Row::timed("near expiry: longest call", Goal::AtMost(1.0), millis(quantile(&took, 1.0)), "ms").note(
            format!(
                "{slow} of {calls} calls took longer than 1 ms, and none of them waited; a thread that only read the clock \
                 just before was stopped for up to {:.2} ms",
                millis(taken_away)
            ),
        ),
        Row::timed(
            "· by the thread's own processor time",
            Goal::AtMost(1.0),
            millis(quantile(&worked, 1.0)),
            "ms",
        )
        .note("what the machine took the thread away for is not in it"),
    ])
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
