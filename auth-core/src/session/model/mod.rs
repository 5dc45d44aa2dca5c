//! The slot, the flight and invalidation under shuttle: the code itself, with another order of its threads in every round.
//!
//! `cargo xtask model` runs it. A failure prints the schedule that led to it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine;
mod login;
mod slot;
mod world;

use shuttle::{
    Config, Runner,
    rand::{Rng as _, thread_rng},
    scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler},
    thread::yield_now,
};

/// Every order of a few operations.
fn every_order(test: impl Fn() + Send + Sync + 'static) {
    check(DfsScheduler::new(None, false), test);
}

/// Thousands of orders of many operations: as they fall, and with few changes at bad moments.
fn many_orders(test: impl Fn() + Clone + Send + Sync + 'static) {
    const ROUNDS: usize = 1000;
    check(RandomScheduler::new(ROUNDS), test.clone());
    check(PctScheduler::new(3, ROUNDS), test);
}

/// Some moments pass: few or many.
fn some_time() {
    let moments = thread_rng().gen_range(0..60);
    (0..moments).for_each(|_| yield_now());
}

fn check(scheduler: impl Scheduler + 'static, test: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    // An exchange is a deep future in a build without optimisation.
    config.stack_size = 512 * 1024;
    Runner::new(scheduler, config).run(test);
}
