//! The `keyfob` command, with the providers and stores that are compiled in.

use std::process::ExitCode;

fn main() -> ExitCode {
    keyfob::cli::run(keyfob::registry())
}
