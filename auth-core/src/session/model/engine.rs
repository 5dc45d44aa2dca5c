//! Renewals of a session: one for all who ask, and never of what was reported bad.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use shuttle::{future::block_on, thread};

use super::{
    many_orders, some_time,
    world::{Grants, LIFE, World},
};
use crate::Keep;

/// So many threads do this; what they come to.
fn on_threads<T: Send + 'static>(
    number: usize,
    world: &World,
    work: fn(&World) -> T,
) -> impl Iterator<Item = T> {
    let threads: Vec<_> = (0..number)
        .map(|_| {
            let world = world.clone();
            thread::spawn(move || work(&world))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap())
}

#[test]
fn one_exchange_a_generation_however_many_ask() {
    for keep in [Keep::Memory, Keep::Store] {
        many_orders(move || {
            let world = World::new(Grants::Plain, keep);
            for generation in 1..=2 {
                for token in on_threads(3, &world, World::token) {
                    assert_eq!(token.generation(), generation);
                }
                assert_eq!(world.provider.exchanges() as u64, generation);
                world.clock.advance(LIFE);
            }
        });
    }
}

#[test]
fn a_renewal_beside_is_one_and_nobody_waits_for_it() {
    many_orders(|| {
        let world = World::new(Grants::Plain, Keep::Memory);
        world.token();
        world.clock.advance(LIFE - Duration::from_secs(1));
        let ask = |world: &World| {
            some_time();
            let first = world.generation();
            assert!(first > 0, "not served to its end");
            let second = world.token().generation();
            assert!(first <= second, "an older one came back");
        };
        on_threads(3, &world, ask).for_each(drop);
        world.settle();
        assert_eq!((world.provider.exchanges(), world.generation()), (2, 2));
    });
}

#[test]
fn reports_of_one_bad_token_cost_one_exchange_also_beside_a_renewal() {
    for due in [false, true] {
        many_orders(move || {
            let world = World::new(Grants::Plain, Keep::Store);
            let bad = world.token();
            if due {
                world.clock.advance(LIFE - Duration::from_secs(1));
            }
            let reported = Arc::new(AtomicBool::new(false));
            let reporters = [(); 2].map(|()| {
                let (world, bad, reported) = (world.clone(), bad.clone(), Arc::clone(&reported));
                thread::spawn(move || {
                    some_time();
                    assert!(world.session.invalidate(&bad));
                    reported.store(true, Ordering::SeqCst);
                    assert_ne!(world.token().secret(), bad.secret());
                })
            });
            for _ in 0..2 {
                let before = reported.load(Ordering::SeqCst);
                let token = world.session.cached();
                assert!(!before || token.is_none_or(|token| token.secret() != bad.secret()), "served again");
            }
            reporters.into_iter().for_each(|reporter| reporter.join().unwrap());
            world.settle();
            assert_eq!((world.provider.exchanges(), world.generation()), (2, 2));
        });
    }
}

#[test]
fn a_renewal_begun_before_a_report_does_not_bring_the_same_bytes_back() {
    for keep in [Keep::Memory, Keep::Store] {
        many_orders(move || {
            let world = World::new(Grants::Same, keep);
            let bad = world.token();
            let renewing = {
                let world = world.clone();
                thread::spawn(move || drop(block_on(world.session.refresh())))
            };
            some_time();
            // If it was renewed before, the report is of the renewed one too: they are the same bytes.
            assert!(world.session.invalidate(&bad));
            assert_eq!(world.generation(), 0);
            renewing.join().unwrap();
            world.settle();
            assert_eq!(world.generation(), 0, "served again");
        });
    }
}

#[test]
fn a_caller_that_goes_away_ends_no_exchange() {
    many_orders(|| {
        let world = World::new(Grants::Plain, Keep::Memory);
        let leaving = {
            let world = world.clone();
            thread::spawn(move || {
                block_on(async {
                    let mut asking = pin!(world.session.token());
                    // Once, and never again.
                    poll_fn(|context| Poll::Ready(asking.as_mut().poll(context).is_ready())).await
                });
            })
        };
        some_time();
        let stays = world.clone();
        let staying = thread::spawn(move || stays.token().generation());
        leaving.join().unwrap();
        assert_eq!(staying.join().unwrap(), 1);
        world.settle();
        assert_eq!((world.provider.exchanges(), world.generation()), (1, 1));
    });
}

#[test]
fn whoever_refreshes_gets_a_token_obtained_since() {
    many_orders(|| {
        let world = World::new(Grants::Plain, Keep::Memory);
        world.token();
        let refresh = |world: &World| {
            some_time();
            let before = world.generation();
            let token = block_on(world.session.refresh()).unwrap();
            assert!(token.generation() > before, "{} after {before}", token.generation());
            assert!(world.generation() >= token.generation(), "an older one came back");
        };
        on_threads(2, &world, refresh).for_each(drop);
        world.settle();
        assert_eq!(world.generation(), world.provider.exchanges() as u64);
    });
}
