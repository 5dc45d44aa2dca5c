//! Copies of a header for threads that contend for it.
//!
//! Cloning a header counts its users, and a count that two threads change in turn halves what both get done. Threads that
//! come often enough to feel it get a copy each; sessions that are used now and then pay for none.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::clock::Now;

/// How many copies a contended header has. More threads than that share them.
const COPIES: usize = 8;
/// Every so many of its calls, a thread looks who was here before it.
const SAMPLE: u32 = 64;
/// That it was another thread counts if it was this recently.
const RECENT: u64 = 20_000_000;
/// So many meetings in a row are contention.
const MEETINGS: u64 = 8;

#[derive(Debug, Default)]
pub(crate) struct Copies {
    copies: OnceLock<Box<[HeaderValue]>>,
    /// Who looked last, and when on the monotonic clock.
    last: AtomicUsize,
    last_at: AtomicU64,
    meetings: AtomicU64,
}

thread_local! {
    /// This thread's number; 0 before it has one.
    static NUMBER: Cell<usize> = const { Cell::new(0) };
    /// How many calls are left until this thread looks.
    static CALLS: Cell<u32> = const { Cell::new(SAMPLE) };
}

/// Numbers threads. It tells them apart and means nothing else.
static THREADS: AtomicUsize = AtomicUsize::new(1);

impl Copies {
    /// The header, or this thread's copy of it.
    #[inline]
    pub(crate) fn of<'a>(&'a self, header: &'a HeaderValue, now: Now) -> &'a HeaderValue {
        if let Some(copies) = self.copies.get() {
            return copies.get(number() % COPIES).unwrap_or(header);
        }
        CALLS.set(CALLS.get().wrapping_sub(1));
        if CALLS.get() == 0 {
            self.look(header, now);
        }
        header
    }

    #[cold]
    fn look(&self, header: &HeaderValue, now: Now) {
        CALLS.set(SAMPLE);
        let before = self.last.swap(number(), Ordering::Relaxed);
        let at = self.last_at.swap(now.mono, Ordering::Relaxed);
        if now.mono.saturating_sub(at) > RECENT {
            self.meetings.store(0, Ordering::Relaxed);
        } else if before != number() && self.meetings.fetch_add(1, Ordering::Relaxed) + 1 >= MEETINGS {
            self.copies.get_or_init(|| (0..COPIES).map(|_| copy(header)).collect());
        }
    }
}

#[inline]
fn number() -> usize {
    match NUMBER.get() {
        0 => number_this_thread(),
        number => number,
    }
}

#[cold]
fn number_this_thread() -> usize {
    let number = THREADS.fetch_add(1, Ordering::Relaxed);
    NUMBER.set(number);
    number
}

/// The same value with bytes, and a count of users, of its own.
fn copy(header: &HeaderValue) -> HeaderValue {
    /// Alone on its cache lines, or the counts of two copies would contend as one did.
    #[repr(align(128))]
    struct Apart(Zeroizing<Vec<u8>>);

    impl AsRef<[u8]> for Apart {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    let bytes = Apart(Zeroizing::new(header.as_bytes().to_vec()));
    match HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)) {
        Ok(mut copy) => {
            copy.set_sensitive(header.is_sensitive());
            copy
        }
        // What is a header's value is one again.
        Err(_) => header.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    const NOW: Now = Now { wall: 1, mono: 1 };

    fn header() -> HeaderValue {
        let mut header = HeaderValue::from_static("Bearer abc");
        header.set_sensitive(true);
        header
    }

    /// So many calls of two threads, which look in turn.
    fn in_turn(copies: &Copies, now: impl Fn(u64) -> Now + Sync) {
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            for me in 0..2 {
                let (barrier, now) = (&barrier, &now);
                scope.spawn(move || {
                    for round in 0..40 {
                        barrier.wait();
                        if round % 2 == me {
                            for _ in 0..SAMPLE {
                                assert_eq!(copies.of(&header(), now(round)), header());
                            }
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn threads_that_meet_often_get_a_copy_each() {
        let copies = Copies::default();
        in_turn(&copies, |_| NOW);
        let made = copies.copies.get().expect("copies");
        assert_eq!(made.len(), COPIES);
        assert!(made.iter().all(|copy| *copy == header() && copy.is_sensitive()));
        let places: std::collections::BTreeSet<_> =
            made.iter().map(|copy| copy.as_bytes().as_ptr()).collect();
        assert_eq!(places.len(), COPIES);
    }

    #[test]
    fn one_thread_and_threads_that_meet_now_and_then_get_none() {
        let alone = Copies::default();
        (0..100 * SAMPLE).for_each(|_| assert_eq!(alone.of(&header(), NOW), header()));
        assert!(alone.copies.get().is_none());
        let seldom = Copies::default();
        in_turn(&seldom, |round| Now { wall: 1, mono: round * 2 * RECENT });
        assert!(seldom.copies.get().is_none());
    }
}
