//! What each command does.

use std::{cell::OnceCell, env, path::Path, time::SystemTime};

use keyfob_auth_core::{
    AuthError, Context, ErrorKind, Presentation, Token,
    registry::{Profile, Registry},
};

use super::{
    arguments::{Arguments, Command, TokenArguments},
    console::{Console, printable},
    exit::{Exit, Failure, Hints},
    explain, jwt, login,
    status::Report,
};
use crate::Config;

/// One run of the command.
#[derive(Debug)]
pub(super) struct Commands<'a> {
    arguments: &'a Arguments,
    registry: &'a Registry,
    context: &'a Context,
    /// The profile in use, once it is known.
    profile: OnceCell<Profile>,
}

impl<'a> Commands<'a> {
    pub(super) fn new(arguments: &'a Arguments, registry: &'a Registry, context: &'a Context) -> Self {
        Self { arguments, registry, context, profile: OnceCell::new() }
    }

    /// Prints a stored token that is valid and not due, if that is all there is to do. It needs no runtime and starts
    /// nothing that an interrupt could cut off.
    pub(super) fn run_at_once(&self, console: &mut Console) -> Result<Option<Exit>, Failure> {
        let Command::Token(how) = &self.arguments.command else { return Ok(None) };
        if how.refresh {
            return Ok(None);
        }
        let Some(token) = self.profile()?.session.stored() else { return Ok(None) };
        print(&token, how, console)?;
        Ok(Some(Exit::Done))
    }

    pub(super) async fn run(&self, console: &mut Console) -> Result<Exit, Failure> {
        match &self.arguments.command {
            Command::Login(how) => {
                let profile = self.profile()?;
                login::run(profile, explain::exchanges(self.context, how.explain)?, console).await?;
            }
            Command::Token(how) => token(self.profile()?, how, console).await?,
            Command::Status(how) => {
                let report = Report::of(self.profile()?).await?;
                if how.json {
                    console.print(&report.json())?;
                } else {
                    console.print(&report.lines(SystemTime::now()))?;
                    if let Some(login) = self.hints().login.filter(|_| report.wants_login()) {
                        console.say(&format!("log in: {login}"));
                    }
                }
            }
            Command::Refresh => refresh(self.profile()?, console).await?,
            Command::Logout => logout(self.profile()?, console).await?,
            Command::Profiles => profiles(&self.config()?, console)?,
        }
        Ok(Exit::Done)
    }

    /// What a message can tell to do next.
    pub(super) fn hints(&self) -> Hints {
        let login = match (&self.arguments.command, self.profile.get()) {
            (Command::Login(_), _) | (_, None) => None,
            (_, Some(profile)) => {
                let config = self.arguments.config.as_deref().map(Path::to_string_lossy);
                let config = config.map(|path| format!(" --config {}", word(&path))).unwrap_or_default();
                Some(format!("{} login --profile {}{config}", program(), word(&profile.name)))
            }
        };
        Hints { login }
    }

    fn config(&self) -> Result<Config, Failure> {
        let config = match &self.arguments.config {
            Some(path) => Config::load(path),
            None => Config::from_default_place(),
        };
        config.map_err(|error| match error.kind() {
            ErrorKind::NotConfigured => Failure::NoFile(error),
            _ => Failure::Auth(error),
        })
    }

    fn profile(&self) -> Result<&Profile, Failure> {
        if let Some(profile) = self.profile.get() {
            return Ok(profile);
        }
        let profile =
            self.config()?.profile(self.arguments.profile.as_deref(), self.registry, self.context)?;
        Ok(self.profile.get_or_init(|| profile))
    }
}

async fn token(profile: &Profile, how: &TokenArguments, console: &mut Console) -> Result<(), Failure> {
    let session = &profile.session;
    let token = if how.refresh { session.refresh().await } else { session.token().await }?;
    print(&token, how, console)
}

fn print(token: &Token, how: &TokenArguments, console: &mut Console) -> Result<(), Failure> {
    if how.decode {
        console.print(&jwt::decode(token.secret())?)?;
        console.say("(nothing of it is verified)");
    } else if how.header {
        console.print(&header(token)?)?;
    } else {
        console.print(token.secret())?;
    }
    Ok(())
}

/// The header as it would be sent.
fn header(token: &Token) -> Result<String, AuthError> {
    let Presentation::Header(name, value) = token.presentation() else {
        return Err(AuthError::refused(
            "the token is bound to a key: its headers are signed anew for each request, so none can be printed",
        ));
    };
    let value = value.to_str().map_err(|_| AuthError::refused("the header is no text"))?;
    let name = if name == "authorization" { "Authorization" } else { name.as_str() };
    Ok(format!("{name}: {value}"))
}

async fn refresh(profile: &Profile, console: &mut Console) -> Result<(), Failure> {
    profile.session.refresh().await?;
    let report = Report::of(profile).await?;
    console.say(&format!("renewed: {}", report.validity(SystemTime::now())));
    Ok(())
}

async fn logout(profile: &Profile, console: &mut Console) -> Result<(), Failure> {
    let report = profile.session.logout().await?;
    let name = printable(&profile.name);
    if !report.was_logged_in {
        console.say(&format!("profile {name} was not logged in"));
    } else if report.revoked {
        console.say(&format!("logged out of profile {name}: revoked at the server, and forgotten here"));
    } else if report.problems.is_empty() {
        console
            .say(&format!("logged out of profile {name}: forgotten here; nothing was revoked at the server"));
    } else {
        console
            .say(&format!("logged out of profile {name}: forgotten here, but not all of it at the server"));
    }
    for problem in &report.problems {
        console.say("what was not revoked stays valid until it expires there:");
        console.say_error(problem);
    }
    Ok(())
}

fn profiles(config: &Config, console: &mut Console) -> Result<(), Failure> {
    let provider =
        |name| config.settings(Some(name)).and_then(|settings| settings.require_string("provider"));
    let width = config.profiles().map(|name| name.chars().count()).max().unwrap_or_default();
    let lines: Vec<String> = config
        .profiles()
        .map(|name| {
            let provider = provider(name).unwrap_or_else(|_| "?".into());
            let default = if config.default_profile() == Some(name) { "  (default)" } else { "" };
            format!("{name:width$}  {}{default}", printable(&provider))
        })
        .collect();
    if lines.is_empty() {
        console.say(&format!("there are no profiles in {}", config.path().display()));
    } else {
        console.print(&lines.join("\n"))?;
    }
    Ok(())
}

/// The name under which this program was called.
fn program() -> String {
    let name = env::args_os()
        .next()
        .and_then(|path| Some(Path::new(&path).file_stem()?.to_string_lossy().into_owned()));
    name.filter(|name| !name.is_empty()).map_or_else(|| "keyfob".into(), |name| word(&name))
}

/// The text as one word of a shell's command line.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", printable(text).replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_where_a_shell_needs_it() {
        assert_eq!(word("work"), "work");
        assert_eq!(word("my work"), "'my work'");
        assert_eq!(word("it's; rm"), r"'it'\''s; rm'");
    }
}
