//! Running commands: each is echoed as it could be typed.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::process::{Command, ExitStatus, Stdio};

use crate::openssl;

/// A command, shown as it is run.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    program: &'static str,
    arguments: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
}

impl Invocation {
    /// `cargo` with arguments that are separated by spaces.
    pub(crate) fn cargo(arguments: &str) -> Self {
        Self::new("cargo", &openssl::complete(arguments))
    }

    /// `git` with arguments that are separated by spaces.
    pub(crate) fn git(arguments: &str) -> Self {
        Self::new("git", arguments)
    }

    fn new(program: &'static str, arguments: &str) -> Self {
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        Self { program, arguments, environment: Vec::new() }
    }

    /// Adds a variable to the command's environment.
    pub(crate) fn with(mut self, variable: &'static str, value: &'static str) -> Self {
        self.environment.push((variable, value));
        self
    }

    /// Runs it with this process's output.
    pub(crate) fn run(&self) -> Result<(), String> {
        self.echo();
        let status = self.command().status().map_err(|error| self.not_started(&error))?;
        self.judge(status)
    }

    /// Runs it and returns what it printed on its standard output.
    pub(crate) fn output(&self) -> Result<String, String> {
        self.echo();
        let output =
            self.command().stderr(Stdio::inherit()).output().map_err(|error| self.not_started(&error))?;
        self.judge(output.status)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it, passes its standard output on as it comes, and shows every line to `see`.
    pub(crate) fn watch(&self, mut see: impl FnMut(&str)) -> Result<(), String> {
        self.echo();
        let mut child =
            self.command().stdout(Stdio::piped()).spawn().map_err(|error| self.not_started(&error))?;
        if let Some(mut output) = child.stdout.take() {
            self.pass_on(&mut output, &mut see)?;
        }
        let status = child.wait().map_err(|error| format!("{self}: {error}"))?;
        self.judge(status)
    }

    fn pass_on(&self, output: &mut impl io::Read, see: &mut impl FnMut(&str)) -> Result<(), String> {
        let broken = |error: io::Error| format!("the output of {self}: {error}");
        let mut stdout = io::stdout().lock();
        let (mut chunk, mut line) = ([0; 4096], Vec::new());
        loop {
            let read = match output.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => &chunk[..read],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error)),
            };
            stdout.write_all(read).and_then(|()| stdout.flush()).map_err(broken)?;
            for byte in read {
                if *byte == b'\n' {
                    see(&String::from_utf8_lossy(&line));
                    line.clear();
                } else {
                    line.push(*byte);
                }
            }
        }
        see(&String::from_utf8_lossy(&line));
        Ok(())
    }

    /// On the standard error stream, where cargo's own messages go.
    fn echo(&self) {
        eprintln!("$ {self}");
    }

    fn command(&self) -> Command {
        // The very cargo that runs this, not another one on the path.
        let cargo = if self.program == "cargo" { env::var_os("CARGO") } else { None };
        let mut command = Command::new(cargo.unwrap_or_else(|| OsString::from(self.program)));
        command.args(&self.arguments).envs(self.environment.iter().copied());
        command
    }

    fn not_started(&self, error: &io::Error) -> String {
        format!("{} does not start: {error}", self.program)
    }

    fn judge(&self, status: ExitStatus) -> Result<(), String> {
        if status.success() { Ok(()) } else { Err(format!("{self}: {status}")) }
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (variable, value) in &self.environment {
            write!(formatter, "{variable}={value} ")?;
        }
        write!(formatter, "{}", self.program)?;
        self.arguments.iter().try_for_each(|argument| write!(formatter, " {argument}"))
    }
}
