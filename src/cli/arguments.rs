//! What the command line says.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Access tokens that are always fresh, for people and programs.
///
/// Profiles come from a TOML file: --config FILE, else the one that KEYFOB_CONFIG names, else keyfob/config.toml in the
/// platform's configuration folder.
///
/// Exit codes: 0 done, 1 refused or failed, 2 wrong use or configuration, 3 log in first, 4 try again later,
/// 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "keyfob", version, disable_help_subcommand = true, subcommand_required = true)]
pub(super) struct Arguments {
    /// The profile; without it, the file's `default_profile` or its only one
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) profile: Option<String>,

    /// The configuration file
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Tell what happens, on the standard error
    #[arg(long, short, global = true)]
    pub(super) verbose: bool,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Log in; a failed login leaves an earlier one as it was
    Login(LoginArguments),
    /// Print an access token that is valid now, and nothing else
    Token(TokenArguments),
    /// Say what is known of the login and its token, without asking the server
    Status(StatusArguments),
    /// Renew the access token now
    Refresh,
    /// Forget the login, and revoke it at the server where that can be done
    Logout,
    /// List the profiles: name, provider, which is the default
    Profiles,
}

#[derive(Args, Debug)]
pub(super) struct LoginArguments {
    /// Tell of each request to the provider and its answer as it happens, secrets left out
    #[arg(long)]
    pub(super) explain: bool,
}

#[derive(Args, Debug)]
pub(super) struct TokenArguments {
    /// Print the header as it would be sent: `Authorization: …`
    #[arg(long, conflicts_with = "decode")]
    pub(super) header: bool,

    /// Print the token's header and claims as JSON, if it is a JWT. Nothing is verified
    #[arg(long)]
    pub(super) decode: bool,

    /// Renew it first
    #[arg(long)]
    pub(super) refresh: bool,
}

#[derive(Args, Debug)]
pub(super) struct StatusArguments {
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_profile_may_come_before_or_after_the_command() {
        for line in [["keyfob", "--profile", "a", "token"], ["keyfob", "token", "--profile", "a"]] {
            assert_eq!(Arguments::try_parse_from(line).unwrap().profile.as_deref(), Some("a"));
        }
        assert!(Arguments::try_parse_from(["keyfob", "token", "--header", "--decode"]).is_err());
        assert!(Arguments::try_parse_from(["keyfob", "token", "--header", "--refresh"]).is_ok());
    }
}
