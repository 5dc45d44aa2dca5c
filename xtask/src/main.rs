//! The developer commands: `cargo xtask demo|test|model|bench|e2e|ci|help`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's output is what it is for")]

mod bench;
mod ci;
mod dependencies;
mod invocation;
mod lints;
mod manifest;
mod openssl;
mod report;
mod standards;
mod test_runs;
mod text;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::invocation::Invocation;
use crate::report::Outcome;

const HELP: &str = "\
cargo xtask COMMAND

  demo               tells keyfob's story in a minute, with an authorization server of its own
  test               runs the tests of the whole workspace, doc tests included
  model              checks the order of the engine's threads by shuttle: thousands of orders of each scene, a minute
  bench [--counted]  measures every figure against its goal, or only those that are counted; --counted is CI's gate, and fails where one is worse than known
  e2e [GROUP]        runs the tests against real servers: all groups, or one (keycloak, usnan, cave, sfapi, nemo)
  ci                 runs every gate, as CI does
  help               prints this
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Err(problem) = go_to_root() {
        eprintln!("xtask: {problem}");
        return ExitCode::FAILURE;
    }
    match arguments[..] {
        ["demo"] => finish(&demo()),
        ["test"] => finish_counted(&test_runs::workspace()),
        ["model"] => finish_counted(&test_runs::model()),
        ["bench"] => finish(&bench::all()),
        ["bench", "--counted"] => finish(&bench::counted()),
        ["e2e"] => finish_counted(&test_runs::e2e(test_runs::GROUPS)),
        ["e2e", name] => match test_runs::GROUPS.iter().position(|group| group.name == name) {
            Some(at) => finish_counted(&test_runs::e2e(&test_runs::GROUPS[at..=at])),
            None => {
                let known: Vec<_> = test_runs::GROUPS.iter().map(|group| group.name).collect();
                wrong_use(&format!("e2e has no group `{name}`; there are: {}", known.join(", ")))
            }
        },
        ["ci"] => ci::run(),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        [] => wrong_use("which command?"),
        _ => wrong_use(&format!("unknown: {}", arguments.join(" "))),
    }
}

/// Builds the command too: the demo starts it as the processes that share a login.
pub(crate) fn demo() -> Outcome {
    let build = "build --package keyfob --features full --bin keyfob --example demo";
    let run = "run --quiet --package keyfob --features full --example demo";
    Invocation::cargo(build).run().and_then(|()| Invocation::cargo(run).run()).into()
}

fn finish(outcome: &Outcome) -> ExitCode {
    match &outcome.problem {
        None => ExitCode::SUCCESS,
        Some(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// The total of all tests comes last on the standard output, alone on its line.
fn finish_counted(outcome: &Outcome) -> ExitCode {
    let code = finish(outcome);
    println!("{}", outcome.counts);
    code
}

fn wrong_use(problem: &str) -> ExitCode {
    eprintln!("xtask: {problem}\n\n{HELP}");
    ExitCode::from(2)
}

/// Cargo says where this package is; every command runs one folder above, at the workspace's root.
fn go_to_root() -> Result<(), String> {
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let root = package.as_deref().and_then(|package| package.parent()).ok_or("run it as `cargo xtask`")?;
    env::set_current_dir(root).map_err(|error| format!("{}: {error}", root.display()))
}
