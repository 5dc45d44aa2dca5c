//! The tests of the workspace, and those against real servers.

use crate::ci::Gate;
use crate::invocation::Invocation;
use crate::report::{Counts, Outcome, Tally};

/// Every test run selects the same packages and features, so that nothing is built twice.
const SELECTION: &str = "test --workspace --features keyfob/full --no-fail-fast";

/// Tests against one kind of server, asked for by `KEYFOB_E2E`.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    targets: &'static [&'static str],
}

/// All of them.
pub(crate) const GROUPS: &[Group] = &[
    Group { name: "keycloak", targets: &["keycloak_harness", "e2e_keycloak"] },
    Group { name: "usnan", targets: &["e2e_usnan"] },
    Group { name: "cave", targets: &["e2e_cave"] },
    Group { name: "sfapi", targets: &["e2e_sfapi"] },
    Group { name: "nemo", targets: &["e2e_nemo"] },
];

/// Runs every test and doc test.
pub(crate) fn workspace() -> Outcome {
    counted(&Invocation::cargo(SELECTION))
}

/// Runs the protocol crate's own tests with no feature but TLS: all others are compiled in everywhere else. They are among the
/// workspace's, and not counted again.
pub(crate) fn bare_gate() -> Gate {
    let run = Invocation::cargo("test --package keyfob-provider-oidc --features rustls --lib");
    Gate::new("tests of oidc without its features", move || Outcome {
        counts: Counts::default(),
        ..counted(&run)
    })
}

/// Runs the groups one after the other. Without a server a test says that it is skipped; where `CI` is set, it fails.
pub(crate) fn e2e(groups: &[Group]) -> Outcome {
    let mut whole = Outcome::default();
    for group in groups {
        let targets: Vec<_> = group.targets.iter().map(|target| format!("--test {target}")).collect();
        let run = Invocation::cargo(&format!("{SELECTION} {}", targets.join(" ")));
        let outcome = counted(&run.with("KEYFOB_E2E", group.name));
        whole.counts.add(outcome.counts);
        whole.problem = whole.problem.or(outcome.problem);
    }
    whole
}

/// Checks the engine's threads by shuttle, in a target folder of its own: all is built for it once more.
pub(crate) fn model() -> Outcome {
    let tests =
        "--package keyfob-auth-core --features testing --lib --target-dir target/model session::model::";
    counted(
        &Invocation::cargo(&format!("test {tests}")).with("RUSTFLAGS", "--cfg keyfob_shuttle -D warnings"),
    )
}

/// The same as a gate. Its tests are none of the workspace's, and not counted with them.
pub(crate) fn model_gate() -> Gate {
    Gate::new("model check", || Outcome { counts: Counts::default(), ..model() })
}

fn counted(run: &Invocation) -> Outcome {
    let mut tally = Tally::default();
    let result = run.watch(|line| tally.add_line(line));
    let counts = tally.total();
    // A runner that succeeds and counts nothing has not run what it was asked for.
    let silent = counts == Counts::default();
    let problem = result.err().or_else(|| silent.then(|| format!("{run}: no tests were run")));
    Outcome { problem, counts }
}
