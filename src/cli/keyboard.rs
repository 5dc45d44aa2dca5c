//! What a person types at the terminal while something else goes on.

use keyfob_auth_core::{AuthError, SecretString};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use zeroize::Zeroizing;

use self::terminal::Terminal;

/// Keys as they come, in memory that is wiped.
pub(super) type Keys = Zeroizing<Vec<u8>>;

/// The terminal, giving every key at once and showing none. Dropping it gives the terminal back as it was.
pub(super) struct Keyboard {
    keys: UnboundedReceiver<Keys>,
    _terminal: Terminal,
}

impl Keyboard {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Interaction required, if nobody can type here.
    pub(super) fn take(secret: bool) -> Result<Self, AuthError> {
        let (sender, keys) = unbounded_channel();
        Ok(Self { keys, _terminal: Terminal::take(secret, sender)? })
    }

    /// The next keys; `None` if there will be none. Dropping it loses none.
    pub(super) async fn next(&mut self) -> Option<Keys> {
        self.keys.recv().await
    }
}

/// What came of some keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    More,
    Done,
    /// Ctrl-D at the beginning of the line.
    GivenUp,
}

/// A line as it is typed or pasted. Terminals themselves cut lines short that are no longer than a redirect's URL can be.
#[derive(Default)]
pub(super) struct Line {
    text: Keys,
    /// Whether a function key's sequence is under way, and past its first characters.
    escape: Option<bool>,
}

impl Line {
    /// What is beyond is passed over.
    const LONGEST: usize = 64 * 1024;

    pub(super) fn new() -> Self {
        // It does not grow: what is left behind would not be wiped.
        Self { text: Zeroizing::new(Vec::with_capacity(Self::LONGEST)), escape: None }
    }

    pub(super) fn take(&mut self, keys: &[u8]) -> Typed {
        for key in keys {
            match (self.escape, *key) {
                (Some(false), b'[' | b'O') => self.escape = Some(true),
                // Within a sequence, parameters go before the letter or tilde that ends it.
                (Some(true), 0x20..=0x3f) => {}
                (Some(_), _) => self.escape = None,
                (None, 0x1b) => self.escape = Some(false),
                (None, b'\r' | b'\n') => return Typed::Done,
                (None, 0x04) if self.text.is_empty() => return Typed::GivenUp,
                (None, 0x08 | 0x7f) => self.erase(),
                (None, 0x15) => self.text.clear(),
                (None, 0x00..=0x1f) => {}
                (None, key) if self.text.len() < Self::LONGEST => self.text.push(key),
                _ => {}
            }
        }
        Typed::More
    }

    /// The last character goes.
    fn erase(&mut self) {
        while self.text.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
    }

    /// As much of its end as fits.
    pub(super) fn end(&self, columns: usize) -> String {
        let text = String::from_utf8_lossy(&self.text);
        let skipped = text.chars().count().saturating_sub(columns);
        text.chars().skip(skipped).collect()
    }

    pub(super) fn secret(&self) -> SecretString {
        String::from_utf8_lossy(&self.text).into_owned().into()
    }
}

#[cfg(unix)]
mod terminal {
    use std::{
        io::{self, IsTerminal as _},
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering::Relaxed},
        },
        thread::{self, JoinHandle},
    };

    use keyfob_auth_core::AuthError;
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        process::getpgrp,
        termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr},
    };
    use tokio::sync::mpsc::UnboundedSender;

    use super::{Keys, Zeroizing};

    /// How often the reading thread sees whether it is still wanted.
    const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

    pub(super) struct Terminal {
        before: Termios,
        stop: Arc<AtomicBool>,
        reader: Option<JoinHandle<()>>,
    }

    impl Terminal {
        pub(super) fn take(_: bool, keys: UnboundedSender<Keys>) -> Result<Self, AuthError> {
            let nobody = |why: &str| {
                AuthError::interaction_required(format!(
                    "nobody can be asked here: {why}; run it at a terminal"
                ))
            };
            let input = io::stdin();
            if !input.is_terminal() {
                return Err(nobody("the standard input is no terminal"));
            }
            // Who asks in the background is stopped by the system.
            if tcgetpgrp(&input).is_ok_and(|foreground| foreground != getpgrp()) {
                return Err(nobody("the command runs in the background"));
            }
            let failed = |error| nobody("the terminal cannot be set up").with_source(io::Error::from(error));
            let before = tcgetattr(&input).map_err(failed)?;
            let mut mode = before.clone();
            mode.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            tcsetattr(&input, OptionalActions::Drain, &mode).map_err(failed)?;
            let stop = Arc::new(AtomicBool::new(false));
            let mut terminal = Self { before, stop: Arc::clone(&stop), reader: None };
            let reader = thread::Builder::new().name("keyboard".into()).spawn(move || read(&stop, &keys));
            terminal.reader =
                Some(reader.map_err(|error| nobody("no thread can be had").with_source(error))?);
            Ok(terminal)
        }
    }

    impl Drop for Terminal {
        fn drop(&mut self) {
            // What else was pasted is not for the shell.
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
            self.stop.store(true, Relaxed);
            if let Some(reader) = self.reader.take() {
                let _ = reader.join();
            }
        }
    }

    fn read(stop: &AtomicBool, keys: &UnboundedSender<Keys>) {
        let input = io::stdin();
        while !stop.load(Relaxed) {
            match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&PAUSE)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
                Ok(_) => {
                    let mut read: Keys = Zeroizing::new(vec![0; 4096]);
                    match rustix::io::read(&input, &mut **read) {
                        Ok(0) => return,
                        Ok(length) => read.truncate(length),
                        Err(rustix::io::Errno::INTR) => continue,
                        Err(_) => return,
                    }
                    if keys.send(read).is_err() {
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(not(unix))]
mod terminal {
    use std::io::{self, IsTerminal as _};

    use keyfob_auth_core::AuthError;
    use tokio::sync::mpsc::UnboundedSender;

    use super::{Keys, Zeroizing};

    pub(super) struct Terminal;

    impl Terminal {
        /// The system's own line, which it shows.
        pub(super) fn take(secret: bool, keys: UnboundedSender<Keys>) -> Result<Self, AuthError> {
            if secret || !io::stdin().is_terminal() {
                let why = "nobody can be asked here for what must not be seen, or without a terminal";
                return Err(AuthError::interaction_required(why));
            }
            let read = move || {
                let mut line = String::new();
                if io::stdin().read_line(&mut line).is_ok() {
                    let _ = keys.send(Zeroizing::new(line.into_bytes()));
                }
            };
            // It ends with the line, or with the process.
            std::thread::Builder::new().name("keyboard".into()).spawn(read).map_err(|error| {
                AuthError::interaction_required("nobody can be asked here").with_source(error)
            })?;
            Ok(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use keyfob_auth_core::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_line_is_edited_as_at_any_terminal() {
        for (keys, typed, text) in [
            ("abc", Typed::More, "abc"),
            ("abc\rrest", Typed::Done, "abc"),
            ("abc\n", Typed::Done, "abc"),
            ("abx\x7fc\n", Typed::Done, "abc"),
            ("aä\x08b\n", Typed::Done, "ab"),
            ("\x7f\x7fa\n", Typed::Done, "a"),
            ("wrong\x15right\n", Typed::Done, "right"),
            ("\x1b[200~pasted\x1b[201~\n", Typed::Done, "pasted"),
            ("a\x1b[D\x1bOP\x1b[1;5Cb\n", Typed::Done, "ab"),
            ("\x04", Typed::GivenUp, ""),
            ("a\x04b\t\x00\n", Typed::Done, "ab"),
        ] {
            let mut whole = Line::new();
            assert_eq!(whole.take(keys.as_bytes()), typed, "{keys:?}");
            assert_eq!(whole.secret().expose_secret(), text, "{keys:?}");
            let mut slowly = Line::new();
            let last = keys.bytes().map(|key| slowly.take(&[key])).find(|typed| *typed != Typed::More);
            assert_eq!(last.unwrap_or(Typed::More), typed, "{keys:?}");
            assert_eq!(slowly.secret().expose_secret(), text, "{keys:?}");
        }
    }

    #[test]
    fn a_long_line_is_whole_and_shown_by_its_end() {
        let mut line = Line::new();
        let capacity = line.text.capacity();
        line.take("x".repeat(20_000).as_bytes());
        line.take("the end".as_bytes());
        assert_eq!(line.secret().expose_secret().len(), 20_007);
        assert_eq!(line.end(7), "the end");
        assert_eq!(Line::new().end(7), "");
        line.take("x".repeat(100_000).as_bytes());
        assert_eq!((line.text.len(), line.text.capacity()), (Line::LONGEST, capacity));
    }
}
