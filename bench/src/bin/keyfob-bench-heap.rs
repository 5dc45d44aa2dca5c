//! Counts allocations: `keyfob-bench` runs it and reads what it prints, a name and a number on each line.

#![allow(clippy::print_stdout, reason = "a command's output is what it is for")]

use std::alloc::System;

use keyfob::{Keep, Session};
use keyfob_bench::{
    Result,
    allocations::idle_name,
    idle::{House, TOKEN},
    operations::{NAMES, named},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> Result<()> {
    for name in NAMES {
        println!("{name} {}", allocations_per_call(name)?);
    }
    for sessions in [10_000, 100_000] {
        for (part, value) in idle(sessions, Keep::Memory)?.parts() {
            println!("{} {value}", idle_name(sessions, part));
        }
        println!("{} {}", idle_name(sessions, "stored"), idle(sessions, Keep::Store)?.whole);
    }
    Ok(())
}

/// The least of some runs: another thread's allocation may fall into one.
fn allocations_per_call(name: &str) -> Result<f64> {
    const CALLS: usize = 1000;
    let mut operation = named(name)?;
    let mut counted = |times| {
        let before = count();
        operation(times);
        count() - before
    };
    counted(1);
    let runs = (0..5).map(|_| counted(2 * CALLS) - counted(CALLS));
    Ok(runs.min().unwrap_or_default() as f64 / CALLS as f64)
}

fn count() -> i64 {
    let Stats { allocations, reallocations, .. } = ALLOCATOR.stats();
    (allocations + reallocations) as i64
}

fn bytes() -> i64 {
    let Stats { bytes_allocated, bytes_deallocated, .. } = ALLOCATOR.stats();
    bytes_allocated as i64 - bytes_deallocated as i64
}

/// Bytes of one idle session of many.
struct Idle {
    whole: f64,
    provider: f64,
    session: f64,
    published: f64,
    allocations: f64,
    tasks: usize,
}

impl Idle {
    fn parts(&self) -> [(&'static str, f64); 6] {
        [
            ("whole", self.whole),
            ("provider", self.provider),
            ("session", self.session),
            ("published", self.published),
            ("allocations", self.allocations),
            ("tasks", self.tasks as f64),
        ]
    }
}

/// The handles, one machine word or two each, are the caller's and not counted; the maps of the context and the store are.
fn idle(sessions: usize, keep: Keep) -> Result<Idle> {
    let house = House::new(keep)?;
    // What is made once is made now.
    let first = (0..64).map(|n| house.session(house.provider(sessions + n))).collect::<Result<Vec<_>>>()?;
    house.first_tokens(&first)?;
    house.tasks_alive();

    let mut all: Vec<Session> = Vec::with_capacity(sessions);
    let mut providers = Vec::with_capacity(sessions);
    let began = (bytes(), count_alive());
    providers.extend((0..sessions).map(|n| house.provider(n)));
    let provided = bytes();
    for provider in providers.drain(..) {
        all.push(house.session(provider)?);
    }
    let built = bytes();
    house.first_tokens(&all)?;
    let tasks = house.tasks_alive();
    let ended = (bytes(), count_alive());
    let each = |bytes: i64| bytes as f64 / sessions as f64;
    Ok(Idle {
        whole: each(ended.0 - began.0) - TOKEN as f64,
        provider: each(provided - began.0),
        session: each(built - provided),
        published: each(ended.0 - built) - TOKEN as f64,
        allocations: each(ended.1 - began.1).round(),
        tasks,
    })
}

fn count_alive() -> i64 {
    let Stats { allocations, deallocations, .. } = ALLOCATOR.stats();
    allocations as i64 - deallocations as i64
}
