//! The figures: `keyfob-bench` measures them, in release.

use crate::ci::Gate;
use crate::invocation::Invocation;
use crate::report::Outcome;

const BUILD: &str = "build --release --package keyfob-bench";
/// The command, as it is installed: of its own features, not with those that the benchmark needs besides.
const COMMAND: &str = "build --release --package keyfob --features full,vendored-openssl --bin keyfob";
const RUN: &str = "run --quiet --release --package keyfob-bench --bin keyfob-bench --";

/// Measures every figure.
pub(crate) fn all() -> Outcome {
    let steps = [BUILD, COMMAND, RUN];
    steps.iter().try_for_each(|step| Invocation::cargo(step).run()).into()
}

/// Measures those that are counted: the others depend on the machine.
pub(crate) fn counted() -> Outcome {
    let run = format!("{RUN} --counted");
    [BUILD, &run].iter().try_for_each(|step| Invocation::cargo(step).run()).into()
}

/// The counted figures as a gate. Without valgrind they are a visible skip; where `CI` is set, they fail.
pub(crate) fn gate() -> Gate {
    Gate::new("counted figures", counted)
}
