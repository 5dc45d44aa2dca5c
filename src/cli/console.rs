//! Where the command writes.

use std::{
    env,
    error::Error,
    fmt,
    io::{self, IsTerminal as _, Write},
};

use super::exit;

/// The two streams that the command writes to: results, and what is said to a person.
pub(super) struct Console {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    terminal: bool,
    /// Whether all is to be told.
    verbose: bool,
    /// Columns and lines of the terminal, else of the smallest that is usual.
    size: (usize, usize),
    /// Whether the cursor stands behind a line that the next one replaces.
    passing: bool,
}

impl Console {
    /// This process's streams.
    pub(super) fn standard(verbose: bool) -> Self {
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = io::stderr().is_terminal() && !dumb;
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            terminal,
            verbose,
            size: size().unwrap_or((80, 24)),
            passing: false,
        }
    }

    /// How many columns and lines a person sees.
    pub(super) fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Whether a person sees what is said, on a terminal that can go back in its line.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes a result, and a line's end.
    pub(super) fn print(&mut self, text: &str) -> io::Result<()> {
        self.clear();
        self.out.write_all(text.as_bytes())?;
        self.out.write_all(b"\n")?;
        self.out.flush()
    }

    /// Says something to whoever watches. Nobody is left to tell if that fails.
    pub(super) fn say(&mut self, text: &str) {
        self.clear();
        let _ = writeln!(self.err, "{text}");
    }

    /// Says what went wrong, with all its causes.
    pub(super) fn say_error(&mut self, error: &(dyn Error + 'static)) {
        for (n, text) in exit::chain(error, self.verbose).iter().enumerate() {
            self.say(&format!("{} {}", if n == 0 { "error:" } else { "  caused by:" }, printable(text)));
        }
    }

    /// Says something that the next line replaces. Only terminals show it.
    pub(super) fn say_in_passing(&mut self, text: &str) {
        if self.terminal {
            let _ = write!(self.err, "\r{ERASE_LINE}{text}");
            let _ = self.err.flush();
            self.passing = true;
        }
    }

    fn clear(&mut self) {
        if self.passing {
            self.passing = false;
            let _ = write!(self.err, "\r{ERASE_LINE}");
        }
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}

#[cfg(unix)]
fn size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok()?;
    Some((size.ws_col.into(), size.ws_row.into())).filter(|size| *size != (0, 0))
}

#[cfg(not(unix))]
fn size() -> Option<(usize, usize)> {
    None
}

const ERASE_LINE: &str = "\x1b[K";

/// The text without control characters: what comes from a server must not command a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod capture {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was written to a [captured](Console::captured) console.
    #[derive(Clone, Default)]
    pub(in crate::cli) struct Written {
        out: Buffer,
        err: Buffer,
    }

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Console {
        pub(in crate::cli) fn captured(terminal: bool) -> (Self, Written) {
            let written = Written::default();
            let (out, err) = (Box::new(written.out.clone()), Box::new(written.err.clone()));
            let size = (80, 50);
            (Self { out, err, terminal, verbose: false, size, passing: false }, written)
        }

        pub(in crate::cli) fn with_size(mut self, columns: usize, lines: usize) -> Self {
            self.size = (columns, lines);
            self
        }
    }

    impl Written {
        pub(in crate::cli) fn out(&self) -> String {
            self.out.text()
        }

        pub(in crate::cli) fn err(&self) -> String {
            self.err.text()
        }
    }

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_in_passing_is_replaced_and_seen_on_terminals_only() {
        let (mut console, written) = Console::captured(true);
        console.say_in_passing("0:02");
        console.say_in_passing("0:01");
        console.say("done");
        assert_eq!(written.err(), "\r\x1b[K0:02\r\x1b[K0:01\r\x1b[Kdone\n");
        let (mut console, written) = Console::captured(false);
        console.say_in_passing("0:02");
        console.say("done");
        assert_eq!(written.err(), "done\n");
    }

    #[test]
    fn a_servers_text_commands_no_terminal() {
        let (mut console, written) = Console::captured(true);
        console.say_error(&io::Error::other("\x1b]0;owned\x07 \u{9b}31m"));
        assert!(!written.err().contains(['\x1b', '\x07', '\u{9b}']), "{:?}", written.err());
    }
}
