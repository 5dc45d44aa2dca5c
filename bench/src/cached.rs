//! Times of the cached header: against its rivals, and with two threads.

use std::{
    hint,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use keyfob::Session;

use crate::{
    Result,
    operations::{self as op, Repeated},
    progress,
    table::{Goal, Row},
    timing::{interleaved, median, nanos, ratio},
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
    let (one, other) = (op::session_of(1024)?, op::session_of(1024)?);
    let value = op::header_of(1024)?;
    let ours = |session: &Session| op::cached_header(session.clone());
    let [mut same, mut apart, mut bare] = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS / 3 {
        let alone = on_threads([ours(&one)])?.as_secs_f64();
        same.push(2.0 * alone / on_threads([ours(&one), ours(&one)])?.as_secs_f64());
        apart.push(2.0 * alone / on_threads([ours(&one), ours(&other)])?.as_secs_f64());
        let alone = on_threads([op::clone(&value)])?.as_secs_f64();
        bare.push(2.0 * alone / on_threads([op::clone(&value), op::clone(&value)])?.as_secs_f64());
    }
    let [same, apart, bare] = [same, apart, bare].map(median);
    let threads = "two threads over one";
    Ok(vec![
        Row::timed(format!("{threads}, one session"), Goal::AtLeast(1.7), same, "×"),
        Row::timed(format!("· {threads}, a session each"), Goal::None, apart, "×")
            .note("what the machine gives now"),
        Row::timed(format!("· {threads}, one bare HeaderValue"), Goal::None, bare, "×")
            .note("its count is shared"),
    ])
}

/// How long a thread for each of these takes to do it many times, all at once: from the first one's start to the last
/// one's end.
fn on_threads<const N: usize>(operations: [Repeated; N]) -> Result<Duration> {
    const CALLS: usize = 100_000;
    let ready = AtomicUsize::new(0);
    let ended: Option<Vec<_>> = thread::scope(|scope| {
        let threads = operations.map(|mut operation| {
            let ready = &ready;
            scope.spawn(move || {
                operation(100);
                // Not asleep: to be woken takes as long as some hundred calls.
                ready.fetch_add(1, Ordering::SeqCst);
                while ready.load(Ordering::SeqCst) < N {
                    hint::spin_loop();
                }
                let began = Instant::now();
                operation(CALLS);
                (began, Instant::now())
            })
        });
        threads.into_iter().map(|thread| thread.join().ok()).collect()
    });
    let ended = ended.ok_or("a thread panicked")?;
    let began = ended.iter().map(|(began, _)| *began).min();
    let ended = ended.iter().map(|(_, ended)| *ended).max();
    Ok(began.zip(ended).map(|(began, ended)| ended - began).unwrap_or_default())
}
