//! The figures of keyfob: each is measured, and held against its goal.
//!
//! `keyfob-bench` measures them all, or with `--counted` only those that are counted: instructions, allocations, requests,
//! crates. Only a counted figure can fail. Allocations are counted by `keyfob-bench-heap`, a program beside it.

pub mod allocations;
pub mod build;
pub mod cached;
pub mod command;
pub mod files;
pub mod idle;
pub mod instructions;
pub mod machine;
pub mod operations;
pub mod scenarios;
pub mod table;
pub mod timing;

use std::error::Error;

/// What any part of a benchmark comes to.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Says on the standard error what is being measured.
#[allow(clippy::print_stderr, reason = "a command's output is what it is for")]
pub fn progress(what: &str) {
    eprintln!("measuring {what}");
}
