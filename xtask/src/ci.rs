//! Every gate in a fixed order. A stage is gone through whole; the first one with a failure is the last.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::invocation::Invocation;
use crate::report::{Counts, Outcome, spoken};
use crate::{bench, dependencies, lints, test_runs, text};

/// One check.
pub(crate) struct Gate {
    headline: String,
    check: Box<dyn FnOnce() -> Outcome>,
}

impl Gate {
    /// A check and what stands above its output.
    pub(crate) fn new(headline: impl Into<String>, check: impl FnOnce() -> Outcome + 'static) -> Self {
        Self { headline: headline.into(), check: Box::new(check) }
    }

    fn run(self) -> Done {
        println!("\n==> {}", self.headline);
        let began = Instant::now();
        let outcome = (self.check)();
        let done = Done { headline: self.headline, took: began.elapsed(), outcome };
        match &done.outcome.problem {
            None => println!("    ok, {}", spoken(done.took)),
            Some(problem) => println!("    FAILED, {}: {problem}", spoken(done.took)),
        }
        done
    }
}

struct Done {
    headline: String,
    took: Duration,
    outcome: Outcome,
}

/// Runs every gate, prints a table of them, and last a line that says it all.
pub(crate) fn run() -> ExitCode {
    let began = Instant::now();
    let stages = match stages() {
        Ok(stages) => stages,
        Err(problem) => {
            println!("ci: failed: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let planned = stages.iter().map(Vec::len).sum::<usize>();
    let mut done = Vec::new();
    for stage in stages {
        done.extend(stage.into_iter().map(Gate::run));
        if failures(&done).next().is_some() {
            break;
        }
    }
    // Tests against real servers pass in the run of all tests too, where nobody asks them to do anything.
    let runs = done.iter().map(|gate| gate.outcome.counts).filter(|counts| *counts != Counts::default());
    println!("\n{}\n", table(&done));
    if let Some(total) = runs.reduce(Counts::with_rerun) {
        println!("{total}");
    }
    println!("{}", verdict(&done, planned, began.elapsed()));
    if failures(&done).next().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn stages() -> Result<Vec<Vec<Gate>>, String> {
    let fmt = Gate::new("fmt", || Invocation::cargo("fmt --all --check").run().into());
    let docs = Invocation::cargo("doc --quiet --workspace --no-deps --features keyfob/full");
    let docs = docs.with("RUSTDOCFLAGS", "-Dwarnings");
    let mut first = vec![fmt];
    first.extend(text::gates());
    Ok(vec![
        first,
        dependencies::gates(),
        lints::gates()?,
        vec![Gate::new("docs", move || docs.run().into())],
        vec![
            Gate::new("tests", test_runs::workspace),
            test_runs::bare_gate(),
            Gate::new("demo", crate::demo),
        ],
        vec![test_runs::model_gate()],
        vec![bench::gate()],
        vec![Gate::new("tests against real servers", || test_runs::e2e(test_runs::GROUPS))],
    ])
}

fn failures(done: &[Done]) -> impl Iterator<Item = &Done> {
    done.iter().filter(|gate| gate.outcome.problem.is_some())
}

fn table(done: &[Done]) -> String {
    let width = done.iter().map(|gate| gate.headline.len()).max().unwrap_or_default();
    let row = |gate: &Done| {
        let word = if gate.outcome.problem.is_none() { "ok" } else { "FAILED" };
        format!("{word:6}  {:width$}  {:>12}", gate.headline, spoken(gate.took))
    };
    done.iter().map(row).collect::<Vec<_>>().join("\n")
}

fn verdict(done: &[Done], planned: usize, took: Duration) -> String {
    let failed: Vec<_> = failures(done).map(|gate| gate.headline.as_str()).collect();
    let took = spoken(took);
    if failed.is_empty() {
        return format!("ci: passed: all {planned} gates in {took}");
    }
    let left = planned - done.len();
    format!("ci: failed in {took}: {} ({left} gates not run)", failed.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(headline: &str, problem: Option<&str>) -> Done {
        let outcome = Outcome { problem: problem.map(str::to_owned), counts: Counts::default() };
        Done { headline: headline.to_owned(), took: Duration::from_secs(2), outcome }
    }

    #[test]
    fn one_line_says_it_all() {
        let took = Duration::from_secs(5);
        let good = [done("fmt", None), done("docs", None)];
        assert_eq!(verdict(&good, 2, took), "ci: passed: all 2 gates in 5.0 s");
        let mixed = [done("fmt", None), done("docs", Some("a")), done("tests", Some("b"))];
        assert_eq!(verdict(&mixed, 7, took), "ci: failed in 5.0 s: docs; tests (4 gates not run)");
    }

    #[test]
    fn the_table_is_aligned() {
        let rows = table(&[done("fmt", None), done("docs", Some("a"))]);
        assert_eq!(rows, "ok      fmt          2.0 s\nFAILED  docs         2.0 s");
    }
}
