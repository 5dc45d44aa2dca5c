//! How the command ends: its exit code, and what it says of a failure.

use std::{error::Error, io, process::ExitCode};

use keyfob_auth_core::{AuthError, ErrorKind, store::StoreError};

use super::console::Console;

/// How the command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Done = 0,
    Failed = 1,
    /// Wrong use or configuration.
    Usage = 2,
    LoginFirst = 3,
    TryLater = 4,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NotConfigured | ErrorKind::Configuration => Self::Usage,
            ErrorKind::LoginRequired | ErrorKind::InteractionRequired => Self::LoginFirst,
            ErrorKind::Transient => Self::TryLater,
            // Refused, a login that was rejected, the store, and kinds to come.
            _ => Self::Failed,
        }
    }
}

/// Why the command did not do what it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    Auth(AuthError),
    /// A login was not made.
    Login {
        error: AuthError,
        /// Whether there is an earlier one, as it was.
        kept: bool,
    },
    /// There is no configuration file.
    NoFile(AuthError),
    /// The standard output took nothing more.
    Output(io::Error),
}

/// What a failure's message can tell to do next.
#[derive(Debug)]
pub(super) struct Hints {
    /// The command line that logs in; none if that is what failed.
    pub(super) login: Option<String>,
}

impl Failure {
    /// Says what happened, its causes and what to do next, and how the command ends.
    pub(super) fn report(self, console: &mut Console, hints: Option<&Hints>) -> Exit {
        match self {
            Self::Login { error, kept } => {
                let exit = Self::Auth(error).report(console, hints);
                if kept {
                    console.say("the earlier login is kept as it was");
                }
                exit
            }
            Self::Auth(error) => {
                console.say_error(&error);
                let exit = Exit::from(error.kind());
                let login = hints.and_then(|hints| hints.login.as_ref());
                match (exit, login) {
                    (Exit::LoginFirst, Some(login)) => console.say(&format!("log in: {login}")),
                    // Logging in is what was tried.
                    (Exit::LoginFirst, None) => return Exit::Failed,
                    _ => {}
                }
                exit
            }
            Self::NoFile(error) => {
                console.say_error(&error);
                console.say(EXAMPLE);
                Exit::Usage
            }
            // Who read it has had enough, as `head` has.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Output(error) => {
                console.say(&format!("error: cannot write to the standard output: {error}"));
                Exit::Failed
            }
        }
    }
}

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        Self::Auth(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The error and its causes, each once. Of those that are others' (an HTTP client's, say), only the innermost says what
/// happened: the rest only if everything is to be told.
pub(super) fn chain(error: &(dyn Error + 'static), all: bool) -> Vec<String> {
    /// No chain of causes is that long, unless it bites its own tail.
    const LONGEST: usize = 16;
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    for _ in 0..LONGEST {
        let Some(cause) = next else { break };
        let text = cause.to_string();
        next = cause.source();
        let is_shown =
            all || texts.is_empty() || next.is_none() || cause.is::<AuthError>() || cause.is::<StoreError>();
        if is_shown && texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
    }
    texts
}

const EXAMPLE: &str = "
Write one. A profile looks like this:

  [profile.work]
  provider = \"oidc\"
  issuer = \"https://login.example.com\"
  client_id = \"my-client\"
  scopes = [\"openid\", \"offline_access\"]
  origins = [\"https://api.example.com\"]
";

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[test]
    fn every_kind_of_error_has_its_exit_code() {
        for (kind, code) in [
            (ErrorKind::Refused, 1),
            (ErrorKind::LoginRejected, 1),
            (ErrorKind::Store, 1),
            (ErrorKind::NotConfigured, 2),
            (ErrorKind::Configuration, 2),
            (ErrorKind::LoginRequired, 3),
            (ErrorKind::InteractionRequired, 3),
            (ErrorKind::Transient, 4),
        ] {
            assert_eq!(Exit::from(kind) as u8, code, "{kind:?}");
        }
        assert_eq!(Exit::Interrupted as u8, 130);
    }

    #[test]
    fn the_whole_chain_is_told_each_cause_once() {
        let (mut console, written) = Console::captured(false);
        let cause =
            AuthError::transient("the connection was refused").with_source(io::Error::other("os error 111"));
        let same =
            AuthError::store("disk full").with_source(AuthError::store("disk full").with_source(cause));
        let exit = Failure::from(same).report(&mut console, None);
        assert_eq!(exit, Exit::Failed);
        assert_eq!(
            written.err(),
            "error: disk full\n  caused by: the connection was refused\n  caused by: os error 111\n"
        );
    }

    #[test]
    fn of_others_causes_only_the_innermost_is_told_unless_all_are_asked_for() {
        let error = || {
            let inner = io::Error::other(io::Error::other("connection refused"));
            AuthError::transient("no answer")
                .with_source(Outer("error sending request", Outer("connect", inner)))
        };
        let innermost = ["no answer", "connection refused"];
        assert_eq!(chain(&error(), false), innermost);
        assert_eq!(
            chain(&error(), true),
            ["no answer", "error sending request", "connect", "connection refused"]
        );
        let told = AuthError::transient("no answer: connection refused")
            .with_source(io::Error::other("connection refused"));
        assert_eq!(chain(&told, true), ["no answer: connection refused"]);
    }

    #[derive(Debug)]
    struct Outer<E>(&'static str, E);

    impl<E> fmt::Display for Outer<E> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl<E: Error + 'static> Error for Outer<E> {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.1)
        }
    }

    #[test]
    fn a_failed_login_is_told_before_what_is_left() {
        let (mut console, written) = Console::captured(false);
        let failure = Failure::Login { error: AuthError::refused("denied"), kept: true };
        assert_eq!(failure.report(&mut console, None), Exit::Failed);
        assert_eq!(written.err(), "error: denied\nthe earlier login is kept as it was\n");
    }

    #[test]
    fn log_in_first_names_the_command() {
        let (mut console, written) = Console::captured(false);
        let hints = Hints { login: Some("keyfob login --profile work".into()) };
        let exit =
            Failure::from(AuthError::login_required("there is no login")).report(&mut console, Some(&hints));
        assert_eq!(exit, Exit::LoginFirst);
        assert!(written.err().ends_with("\nlog in: keyfob login --profile work\n"), "{}", written.err());
        let failed_login = Failure::from(AuthError::login_required("still none"));
        assert_eq!(failed_login.report(&mut console, Some(&Hints { login: None })), Exit::Failed);
    }

    #[test]
    fn a_reader_who_went_away_is_no_failure() {
        let (mut console, written) = Console::captured(false);
        let gone = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(gone.report(&mut console, None), Exit::Done);
        assert_eq!(written.err(), "");
        let full = Failure::from(io::Error::other("no space left"));
        assert_eq!(full.report(&mut console, None), Exit::Failed);
    }
}
