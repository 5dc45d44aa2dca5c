//! Opening the person's browser, beside the URL that was shown.

use tokio::sync::oneshot;

use super::surroundings::Surroundings;

/// Opens the URL in a browser, in a thread of its own: some browsers keep who starts them waiting. Tells what went wrong, if
/// anything does while the login waits; the browser stays open whatever becomes of the login.
pub(super) fn open(url: &str, surroundings: &Surroundings) -> oneshot::Receiver<String> {
    let (tell, problem) = oneshot::channel();
    if !surroundings.can_open() {
        let why = surroundings.browser().err().map(|why| why.to_string()).unwrap_or_default();
        let _ = tell.send(format!("no browser is opened: {why}"));
        return problem;
    }
    let (url, program) = (url.to_owned(), surroundings.program.clone());
    let run = move || {
        let opened = match program {
            Some(program) => named::open(&program, &url),
            None => webbrowser::open(&url).map_err(|error| format!("no browser could be opened ({error})")),
        };
        if let Err(what) = opened {
            // Nobody is left to tell if the login has ended.
            let _ = tell.send(what);
        }
    };
    // Without a thread there is no browser; the URL has been shown.
    if let Err(error) = std::thread::Builder::new().name("browser".into()).spawn(run) {
        tracing::warn!(%error, "no browser is opened");
    }
    problem
}

/// The program that `BROWSER` names.
mod named {
    use std::{
        ffi::{OsStr, OsString},
        io,
        path::Path,
        process::{Command, ExitStatus, Stdio},
    };

    /// What separates several programs, the best first.
    const SEPARATOR: char = if cfg!(windows) { ';' } else { ':' };

    /// Gives the URL to the first program that starts, and waits for its end.
    pub(super) fn open(programs: &OsStr, url: &str) -> Result<(), String> {
        let mut last = None;
        for command in commands(programs, url, |program| program.is_file()) {
            let name = &command[0];
            match run(&command) {
                Ok(status) if status.success() => return Ok(()),
                Ok(status) => return Err(format!("the browser {name:?} of `BROWSER` failed ({status})")),
                Err(error) => {
                    last = Some(format!("the browser {name:?} of `BROWSER` does not start: {error}"));
                }
            }
        }
        Err(last.unwrap_or_else(|| "`BROWSER` names no program".to_owned()))
    }

    fn run(command: &[OsString]) -> io::Result<ExitStatus> {
        let mut process = Command::new(&command[0]);
        process.args(&command[1..]);
        // What it prints is nothing to the person who waits at a terminal, and what is typed there is not for it.
        process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C ends the login, not the browser.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut process, 0);
        process.spawn()?.wait()
    }

    /// The command lines: the whole value, if it is a program's path; else as others read it, with arguments, `%s` for the URL,
    /// and several of them.
    fn commands(programs: &OsStr, url: &str, is_program: impl Fn(&Path) -> bool) -> Vec<Vec<OsString>> {
        let whole = || vec![vec![programs.to_owned(), url.into()]];
        if is_program(Path::new(programs)) {
            return whole();
        }
        let Some(text) = programs.to_str() else { return whole() };
        let line = |line: &str| -> Vec<OsString> {
            let mut words: Vec<String> =
                line.split_whitespace().map(|word| word.replace("%s", url)).collect();
            if !line.contains("%s") {
                words.push(url.to_owned());
            }
            words.into_iter().map(OsString::from).collect()
        };
        text.split(SEPARATOR).filter(|text| !text.trim().is_empty()).map(line).collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn browser_is_a_path_or_a_list_of_command_lines() {
            let url = "https://idp.example/?a=%73";
            let separator = SEPARATOR.to_string();
            for (value, lines) in [
                ("firefox".to_owned(), vec![vec!["firefox", url]]),
                ("a program".to_owned(), vec![vec!["a program", url]]),
                ("firefox --new-window".to_owned(), vec![vec!["firefox", "--new-window", url]]),
                ("open --url=%s -b".to_owned(), vec![vec!["open", "--url=https://idp.example/?a=%73", "-b"]]),
                (
                    ["first", "second -x"].join(&separator),
                    vec![vec!["first", url], vec!["second", "-x", url]],
                ),
                (separator.clone(), vec![]),
                (" ".to_owned(), vec![]),
            ] {
                let commands = commands(OsStr::new(&value), url, |path| path == Path::new("a program"));
                assert_eq!(commands, lines, "{value}");
            }
        }

        #[cfg(unix)]
        #[test]
        fn what_goes_wrong_is_told() {
            let url = "https://idp.example/";
            assert_eq!(open(OsStr::new("/bin/true"), url), Ok(()));
            assert_eq!(open(OsStr::new("/nonexistent/browser:true"), url), Ok(()), "the next one is tried");
            let failed = open(OsStr::new("false"), url).unwrap_err();
            assert!(failed.contains("\"false\"") && failed.contains("exit status"), "{failed}");
            let absent = open(OsStr::new("/nonexistent/browser"), url).unwrap_err();
            assert!(absent.contains("/nonexistent/browser") && absent.contains("does not start"), "{absent}");
            assert!(open(OsStr::new(":"), url).unwrap_err().contains("no program"));
        }
    }
}
