//! `cargo xtask bench`: measures every figure, prints them in one table, and fails if a counted one misses its goal.
//!
//! ```text
//! keyfob-bench                  every figure
//! keyfob-bench --counted        those that are counted, as a gate: it fails where one is worse than known
//! keyfob-bench count NAME N     repeats an operation N times, for callgrind
//! keyfob-bench idle N           makes N idle sessions and ends with them, for dhat
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's output is what it is for")]

use std::{env, process::ExitCode};

use keyfob_bench::{
    Result, allocations, build, cached, command, files,
    idle::{self, House},
    instructions, machine,
    operations::named,
    scenarios,
    table::Table,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => measure(false),
        ["--counted"] => measure(true),
        ["count", name, times] => repeat(name, times).map(|()| true),
        ["idle", sessions] => keep_idle(sessions).map(|()| true),
        _ => Err("keyfob-bench [--counted | count NAME N | idle N]".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("keyfob-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn repeat(name: &str, times: &str) -> Result<()> {
    named(name)?(times.parse()?);
    Ok(())
}

/// They are never dropped, so that a profiler sees what they hold.
fn keep_idle(sessions: &str) -> Result<()> {
    let (house, sessions) = House::full(sessions.parse()?)?;
    println!("{} sessions, {} tasks", sessions.len(), house.tasks_alive());
    std::process::exit(0)
}

/// Whether every counted figure meets its goal.
fn measure(counted: bool) -> Result<bool> {
    let machine = machine::describe();
    let mut table = Table::default();
    if !counted {
        table.add("the cached header's time", cached::rows());
    }
    table.add("instructions", instructions::rows());
    table.add("allocations and idle sessions", allocations::rows());
    table.add("what expires together", idle::rows());
    scenarios::add_to(&mut table)?;
    table.add("another process's renewal", files::counted());
    if counted {
        table.add("crates", build::crates());
        table.keep_counted();
    } else {
        table.add("the file store", files::timed());
        table.add("the command", command::rows());
        table.add("crates", build::crates());
        table.add("build times", build::time());
    }
    println!("{machine}\n\n{table}");
    Ok(verdict(&table, counted))
}

/// As a gate it fails where a figure is worse than known; else wherever one misses its goal.
fn verdict(table: &Table, gate: bool) -> bool {
    let tell = |what: &str, figures: &[&str]| {
        if !figures.is_empty() {
            println!("{what}: {}", figures.join("; "));
        }
    };
    tell("times short of their goals (not a failure)", &table.short());
    tell("skipped", &table.skipped());
    tell("counted figures that do not meet their goals yet", &table.not_yet());
    tell("counted figures that miss their goals", &table.missed());
    // A peer that is absent is a skip on a developer's machine and a failure in CI.
    let absent_in_ci = env::var_os("CI").is_some() && !table.skipped().is_empty();
    let good = table.missed().is_empty() && (gate || table.not_yet().is_empty()) && !absent_in_ci;
    println!("bench: {}", if good { "passed" } else { "failed" });
    good
}
