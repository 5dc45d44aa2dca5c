//! The `keyfob` command.
//!
//! An application with providers of its own gets the whole command in one line:
//!
//! ```no_run
//! # fn registry() -> keyfob::registry::Registry { keyfob::registry() }
//! fn main() -> std::process::ExitCode {
//!     keyfob::cli::run(registry()) // keyfob::registry().provider("ours", Ours::from_settings)
//! }
//! ```

mod arguments;
mod commands;
mod console;
mod exit;
mod explain;
mod interrupt;
mod jwt;
mod keyboard;
mod login;
mod status;

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use keyfob_auth_core::{AuthError, Context, registry::Registry};
use tracing_subscriber::EnvFilter;

use self::{
    arguments::Arguments,
    commands::Commands,
    console::Console,
    exit::{Exit, Failure},
    interrupt::Interrupts,
};

/// How long an interrupted command waits for an exchange that the server may have honoured already.
const INTERRUPTED_DRAIN: Duration = Duration::from_secs(10);

/// Runs the `keyfob` command with this process's arguments, and says how it exits: 0 done, 1 refused or failed, 2 wrong use
/// or configuration, 3 log in first, 4 try again later, 130 interrupted.
///
/// Only tokens and what else was asked for go to the standard output, all else to the standard error.
#[allow(clippy::needless_pass_by_value, reason = "an application has nothing more to do with it")]
pub fn run(registry: Registry) -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to tell if it cannot be printed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    log(arguments.verbose);
    let mut console = Console::standard(arguments.verbose);
    let context = Context::new();
    let commands = Commands::new(&arguments, &registry, &context);
    let exit = match commands.run_at_once(&mut console) {
        Ok(Some(exit)) => exit,
        Ok(None) => run_supervised(&commands, &context, &mut console),
        Err(failure) => failure.report(&mut console, Some(&commands.hints())),
    };
    exit.into()
}

/// Sessions run on the context's executor: the runtime made here is for signals and the countdown, on this thread.
fn run_supervised(commands: &Commands<'_>, context: &Context, console: &mut Console) -> Exit {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(supervise(commands, context, console)),
        Err(error) => {
            let error = AuthError::refused("the command cannot start").with_source(error);
            Failure::from(error).report(console, None)
        }
    }
}

/// Runs the command until it ends or is interrupted, and then lets end what is under way.
async fn supervise(commands: &Commands<'_>, context: &Context, console: &mut Console) -> Exit {
    let mut interrupts = Interrupts::new();
    let done = tokio::select! {
        result = commands.run(console) => Some(result),
        () = interrupts.next() => None,
    };
    let (exit, patience) = match done {
        Some(Ok(exit)) => (exit, context.limits().exchange + context.limits().store),
        Some(Err(failure)) => {
            let exit = failure.report(console, Some(&commands.hints()));
            (exit, context.limits().exchange + context.limits().store)
        }
        None => {
            console.say("interrupted");
            if !context.drain(Duration::from_millis(100)).await {
                console.say("a renewal is under way, and is let end (once more to leave at once)");
            }
            (Exit::Interrupted, INTERRUPTED_DRAIN)
        }
    };
    // A renewal that is cut off here may have spent the refresh token: that would be a logout.
    tokio::select! {
        _ = context.drain(patience) => exit,
        () = interrupts.next() => Exit::Interrupted,
    }
}

/// Sends the log to the standard error, unless the application has one of its own.
fn log(verbose: bool) {
    // `keyfob` stands for all of its crates. Not for others: what they write at that level may hold secrets. Without
    // `--verbose`, the command tells itself what failed.
    let filter = if verbose {
        "warn,keyfob=debug"
    } else {
        "error,keyfob::config=warn,keyfob_provider_oidc::warnings=warn,keyfob_provider_static=warn,keyfob_store_file=warn"
    };
    let format = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(verbose);
    let _ = if verbose { format.try_init() } else { format.without_time().try_init() };
}
