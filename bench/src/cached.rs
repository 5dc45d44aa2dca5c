//! Times of the cached header: against its rivals, and with two threads.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use keyfob::Session;

use crate::{
    Result,
    operations::{self as op, Repeated},
    progress,
    table::{Goal, Row},
    timing::{interleaved, nanos, ratio},
};

const ROUNDS: usize = 301;
/// Calls in a round of one side: some tens of microseconds, so that little else gets in between.
const CALLS: usize = 1000;

/// The rows.
///
/// # Errors
/// If a session gets no token.
pub fn rows() -> Result<Vec<Row>> {
    let mut rows = against_rivals()?;
    rows.extend(two_threads()?);
    Ok(rows)
}

fn against_rivals() -> Result<Vec<Row>> {
    progress("the cached header's time");
    let mut operations = Vec::new();
    for name in [op::CLONE, op::ARC_SWAP, op::HAND_WRITTEN, op::CACHED_1024, op::CACHED_200] {
        operations.push(op::named(name)?);
    }
    let Ok([clone, limit, written, cached, small]) = <[Repeated; 5]>::try_from(operations) else {
        return Err("not five operations".into());
    };
    let [mut clone, mut limit, mut written, mut cached, mut small] =
        [clone, limit, written, cached, small].map(|mut operation| move || operation(CALLS));
    let times = interleaved(ROUNDS, &mut [&mut clone, &mut limit, &mut written, &mut cached, &mut small]);
    let [clone, limit, written, cached, small] = &times;
    let each = |times: &[Duration]| format!("{:.1} ns each", nanos(times) / CALLS as f64);
    let others = "google-cloud-auth 15.4, huskarl 28, azure_identity 24, reqsign 50";
    let times_the_clone = Goal::AtMost(2.2);
    Ok(vec![
        Row::timed("cached header, 1,024 bytes, over a clone", times_the_clone, ratio(cached, clone), "×")
            .note(format!("{}; {others}", each(cached))),
        Row::timed("cached header, 200 bytes, over a clone", times_the_clone, ratio(small, clone), "×")
            .note(each(small)),
        Row::timed("· plain HeaderValue::clone", Goal::None, nanos(clone) / CALLS as f64, "ns"),
        Row::timed("· arc_swap, coarse clock, clone, over a clone", Goal::None, ratio(limit, clone), "×")
            .note(format!("{}; the limit: 1.4 to 1.8", each(limit))),
        Row::timed("· hand-written, over a clone", Goal::None, ratio(written, clone), "×")
            .note(format!("{}; 16", each(written))),
        Row::timed("hand-written, over the cached header", Goal::AtLeast(6.0), ratio(written, cached), "×"),
    ])
}

/// What two threads get done, over what one does in the same time.
fn two_threads() -> Result<Vec<Row>> {
    progress("two threads");
    let [shared, one, other] = [op::session_of(1024)?, op::session_of(1024)?, op::session_of(1024)?];
    let [mut ours, mut apart] = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS / 3 {
        let alone = on_threads(&[&shared])?;
        ours.push(2.0 * alone.as_secs_f64() / on_threads(&[&shared, &shared])?.as_secs_f64());
        let alone = on_threads(&[&one])?;
        apart.push(2.0 * alone.as_secs_f64() / on_threads(&[&one, &other])?.as_secs_f64());
    }
    let [ours, apart] = [ours, apart].map(crate::timing::median);
    Ok(vec![
        Row::timed("two threads, one session, over one thread", Goal::AtLeast(1.7), ours, "×")
            .note("a bare shared HeaderValue: about 0.5 to 1"),
        Row::timed("· two threads with a session each", Goal::None, apart, "×")
            .note("what the machine gives now"),
    ])
}

/// How long a thread for each session takes to make many calls, all at once.
fn on_threads(sessions: &[&Session]) -> Result<Duration> {
    const CALLS: usize = 50_000;
    let barrier = Barrier::new(sessions.len());
    let longest = thread::scope(|scope| {
        let start = |session: &Session| {
            let (session, barrier) = (session.clone(), &barrier);
            scope.spawn(move || {
                let mut operation = op::cached_header(session);
                operation(100);
                barrier.wait();
                let began = Instant::now();
                operation(CALLS);
                began.elapsed()
            })
        };
        let threads: Vec<_> = sessions.iter().map(|session| start(session)).collect();
        threads.into_iter().map(|thread| thread.join().ok()).collect::<Option<Vec<_>>>()
    });
    Ok(longest.ok_or("a thread panicked")?.into_iter().max().unwrap_or_default())
}
