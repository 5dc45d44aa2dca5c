//! The slot alone, in every order.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use shuttle::thread;

use super::every_order;
use crate::{
    AccessToken, Presentation, TokenRequest,
    clock::Now,
    session::{
        engine::Engine,
        policy::Times,
        slot::{Joined, Report, Slot},
        token::{Published, Token},
    },
};

const NOW: Now = Now { wall: 1_000, mono: 1_000 };
const LATER: Now = Now { wall: 2_000, mono: 2_000 };

fn slot() -> Arc<Slot> {
    Arc::new(Slot::new(0, TokenRequest::default()))
}

fn publish(slot: &Slot, secret: &str, current: impl FnOnce() -> bool) -> Option<Token> {
    let token = AccessToken::new(secret);
    let digest = Engine::token_digest(&token);
    let times = Times { obtained: NOW, refresh_at: LATER, expires_at: LATER };
    let presentation = Presentation::bearer(&token).unwrap();
    slot.publish(true, NOW, current, Published::new(presentation, &token, digest, times)).ok()
}

fn served(slot: &Slot) -> Option<Token> {
    slot.serve(NOW, || {})
}

fn generation(slot: &Slot) -> u64 {
    served(slot).map_or(0, |token| token.generation())
}

#[test]
fn two_publications_are_two_generations_and_the_newer_stays() {
    every_order(|| {
        let slot = slot();
        let publisher = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || publish(&slot, "access-1", || true).unwrap().generation())
        };
        let mine = publish(&slot, "access-2", || true).unwrap().generation();
        let mut published = [mine, publisher.join().unwrap()];
        published.sort_unstable();
        assert_eq!(published, [1, 2]);
        assert_eq!(generation(&slot), 2, "the newer was lost");
    });
}

#[test]
fn an_older_token_is_not_served_after_a_newer_one() {
    every_order(|| {
        let slot = slot();
        let publisher = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                ["access-1", "access-2"].map(|secret| drop(publish(&slot, secret, || true)))
            })
        };
        let [first, second] = [generation(&slot), generation(&slot)];
        assert!(first <= second, "{first} after {second}");
        publisher.join().unwrap();
    });
}

#[test]
fn one_flight_at_a_time() {
    every_order(|| {
        let (slot, flying) = (slot(), Arc::new(AtomicUsize::new(0)));
        let callers = [(); 2].map(|()| {
            let (slot, flying) = (Arc::clone(&slot), Arc::clone(&flying));
            thread::spawn(move || match slot.join(None, NOW) {
                Joined::Begun(begun) => {
                    assert_eq!(flying.fetch_add(1, Ordering::SeqCst), 0, "two flights at once");
                    thread::yield_now();
                    flying.fetch_sub(1, Ordering::SeqCst);
                    slot.land();
                    drop(begun);
                }
                Joined::UnderWay(..) => {}
                Joined::TooEarly(_) => panic!("no demand was made"),
            })
        });
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert!(matches!(slot.join(None, NOW), Joined::Begun(..)), "landed for good");
    });
}

#[test]
fn what_was_reported_bad_is_not_served_and_its_successor_stays() {
    every_order(|| {
        let slot = slot();
        let bad = publish(&slot, "access-1", || true).unwrap();
        let renewer = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || publish(&slot, "access-2", || true).unwrap())
        };
        assert_ne!(slot.invalidate(&bad, NOW), Report::Disbelieved);
        assert_ne!(generation(&slot), 1, "served after its report");
        let renewed = renewer.join().unwrap();
        assert!(slot.is_alive(&renewed));
        assert_eq!(served(&slot).unwrap().generation(), renewed.generation(), "its successor was lost");
    });
}

#[test]
fn two_reports_of_one_token_count_once() {
    every_order(|| {
        let slot = slot();
        let bad = publish(&slot, "access-1", || true).unwrap();
        let reporters = [(); 2].map(|()| {
            let (slot, bad) = (Arc::clone(&slot), bad.clone());
            thread::spawn(move || {
                let report = slot.invalidate(&bad, NOW);
                assert!(served(&slot).is_none(), "served after its report");
                report
            })
        });
        let reports = reporters.map(|reporter| reporter.join().unwrap());
        assert!(reports.contains(&Report::Retired) && reports.contains(&Report::Past), "{reports:?}");
    });
}

#[test]
fn the_bytes_that_were_reported_bad_do_not_come_back() {
    every_order(|| {
        let slot = slot();
        let bad = publish(&slot, "access-1", || true).unwrap();
        let renewer = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || drop(publish(&slot, "access-1", || true)))
        };
        // Either its second publication is refused, or the report is of that one too.
        assert_eq!(slot.invalidate(&bad, NOW), Report::Retired);
        assert!(served(&slot).is_none());
        renewer.join().unwrap();
        assert!(served(&slot).is_none(), "the same bytes came back");
    });
}

#[test]
fn what_was_begun_before_a_login_is_not_published_after_it() {
    every_order(|| {
        let (slot, epoch) = (slot(), Arc::new(AtomicUsize::new(0)));
        let begun_before = {
            let (slot, epoch) = (Arc::clone(&slot), Arc::clone(&epoch));
            thread::spawn(move || drop(publish(&slot, "old", || epoch.load(Ordering::SeqCst) == 0)))
        };
        epoch.store(1, Ordering::SeqCst);
        slot.clear();
        assert!(served(&slot).is_none(), "served after the logout");
        let new = publish(&slot, "new", || epoch.load(Ordering::SeqCst) == 1).unwrap();
        begun_before.join().unwrap();
        assert_eq!(served(&slot).unwrap().generation(), new.generation(), "the old login's came back");
    });
}
