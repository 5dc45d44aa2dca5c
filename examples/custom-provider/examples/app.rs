//! An application with a provider of its own, and with the whole `keyfob` command for it.
//!
//! ```toml
//! [profile.work]
//! provider = "agent"
//! folder = "/run/agent"
//! service = "billing"
//! ```
//!
//! `cargo run -p keyfob-example-custom-provider --example app -- --config FILE token`

use std::process::ExitCode;

use keyfob_example_custom_provider::AgentFolder;

fn main() -> ExitCode {
    keyfob::cli::run(keyfob::registry().provider("agent", AgentFolder::from_settings))
}
