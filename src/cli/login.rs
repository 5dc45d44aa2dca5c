//! `keyfob login`: shows a person what a login needs of them, and says how it ended.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use keyfob_auth_core::{
    AuthError, DeviceCode, Interaction, Prompt, Question, SecretString, async_trait, registry::Profile,
    store::Persistence,
};
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    time::{MissedTickBehavior, interval},
};

use super::{
    console::{Console, printable},
    exit::Failure,
    keyboard::{Keyboard, Keys, Line, Typed},
    status::{Report, in_words},
};

/// Logs in; what is `explained` meanwhile is told.
pub(super) async fn run(
    profile: &Profile,
    mut explained: UnboundedReceiver<String>,
    console: &mut Console,
) -> Result<(), Failure> {
    let (calls, mut called) = unbounded_channel();
    let mut screen = Screen::new(console);
    let mut login = pin!(profile.session.login(Arc::new(Person(calls))));
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let result = loop {
        tokio::select! {
            biased;
            Some(exchange) = explained.recv() => screen.explain(&exchange),
            Some(call) = called.recv() => screen.answer(call),
            keys = screen.keys() => screen.press(keys),
            result = &mut login => break result,
            _ = second.tick() => screen.tick(Instant::now()),
        }
    };
    while let Ok(exchange) = explained.try_recv() {
        screen.explain(&exchange);
    }
    let asked = screen.asked;
    screen.asking = None;
    match result {
        Ok(_) => {
            let report = Report::of(profile).await.map_err(|error| {
                let message = "the login was made, but its store does not work, so it ends with this command; mend that, and log \
                               in again";
                AuthError::store(message).with_source(error)
            })?;
            if report.status().unsaved {
                let store = printable(&report.status().store.to_string());
                let message = format!(
                    "the login was made, but could not be saved in {store}, so it ends with this command; mend that, and log in again"
                );
                return Err(AuthError::store(message).into());
            }
            console.say(&told(profile, &report, asked));
        }
        Err(error) => {
            // What cannot be told here is no second failure.
            let before = profile.session.status().await.ok();
            let kept = before.is_some_and(|status| status.account.is_some() || asked && status.refreshable);
            return Err(Failure::Login { error, kept });
        }
    }
    Ok(())
}

/// What happened, in a sentence.
fn told(profile: &Profile, report: &Report, asked: bool) -> String {
    let status = report.status();
    let (name, token) = (printable(&profile.name), report.validity(SystemTime::now()));
    if !asked && status.account.is_none() {
        return format!("profile {name} needs no login: it got a token by itself ({token})");
    }
    let account = status.account.as_ref();
    let account =
        account.map(|account| format!(" as {}", printable(account.display_name()))).unwrap_or_default();
    let kept = match status.store.persistence {
        Persistence::Process => "in memory only, so it ends with this command".into(),
        _ => format!("in: {}", printable(&status.store.to_string())),
    };
    format!("logged in{account} with profile {name} ({token}); kept {kept}")
}

/// Hands on what a login shows and asks, to where the console is.
#[derive(Debug)]
struct Person(UnboundedSender<Call>);

#[derive(Debug)]
enum Call {
    Show(Prompt),
    Ask(Question, Answer),
}

type Answer = oneshot::Sender<Result<SecretString, AuthError>>;

#[async_trait]
impl Interaction for Person {
    fn show(&self, prompt: &Prompt) {
        // The other end goes away with the login.
        let _ = self.0.send(Call::Show(prompt.clone()));
    }

    async fn ask(&self, question: &Question) -> Result<SecretString, AuthError> {
        let (answer, answered) = oneshot::channel();
        let _ = self.0.send(Call::Ask(question.clone(), answer));
        answered.await.unwrap_or_else(|_| Err(given_up()))
    }
}

/// What the person sees.
struct Screen<'a> {
    console: &'a mut Console,
    /// Until when the code is valid.
    until: Option<Instant>,
    /// Whether the person was asked to do something.
    asked: bool,
    asking: Option<Asking>,
}

/// A question that waits for its answer.
struct Asking {
    secret: bool,
    line: Line,
    keyboard: Keyboard,
    answer: Answer,
}

impl<'a> Screen<'a> {
    fn new(console: &'a mut Console) -> Self {
        Self { console, until: None, asked: false, asking: None }
    }

    fn explain(&mut self, exchange: &str) {
        for line in exchange.lines() {
            self.console.say(&printable(line));
        }
        self.echo();
    }

    fn answer(&mut self, call: Call) {
        match call {
            Call::Show(prompt) => self.show(&prompt),
            Call::Ask(question, answer) => self.ask(&question, answer),
        }
        self.echo();
    }

    fn ask(&mut self, question: &Question, answer: Answer) {
        // Another question's keyboard would take this one's keys.
        self.asking = None;
        let keyboard = if self.console.is_terminal() {
            Keyboard::take(question.secret)
        } else {
            Err(AuthError::interaction_required(
                "nobody can be asked here: there is no terminal; run it at one",
            ))
        };
        match keyboard {
            Ok(keyboard) => {
                self.asked = true;
                self.say(&format!("{}:", question.text));
                self.asking = Some(Asking { secret: question.secret, line: Line::new(), keyboard, answer });
            }
            Err(error) => {
                // The question may have been withdrawn.
                let _ = answer.send(Err(error));
            }
        }
    }

    /// What is typed; `None` if the question is withdrawn, or nothing more can come. Dropping it loses nothing.
    async fn keys(&mut self) -> Option<Keys> {
        match &mut self.asking {
            None => std::future::pending().await,
            Some(asking) => tokio::select! {
                () = asking.answer.closed() => None,
                keys = asking.keyboard.next() => keys,
            },
        }
    }

    fn press(&mut self, keys: Option<Keys>) {
        let Some(mut asking) = self.asking.take() else { return };
        let typed = keys.map_or(Typed::GivenUp, |keys| asking.line.take(&keys));
        let answer = match typed {
            Typed::More => {
                self.asking = Some(asking);
                return self.echo();
            }
            Typed::Done => Ok(asking.line.secret()),
            Typed::GivenUp => Err(given_up()),
        };
        let _ = asking.answer.send(answer);
    }

    /// The line as it is so far, unless it is secret.
    fn echo(&mut self) {
        if let Some(asking) = &self.asking {
            let room = self.console.size().0.saturating_sub(4);
            let text = if asking.secret { String::new() } else { asking.line.end(room) };
            self.console.say_in_passing(&format!("> {}", printable(&text)));
        }
    }

    fn show(&mut self, prompt: &Prompt) {
        match prompt {
            Prompt::DeviceCode(code) => {
                self.asked = true;
                self.until = Instant::now().checked_add(code.expires_in);
                if self.console.is_terminal() { self.code(code) } else { self.plain_code(code) }
            }
            Prompt::OpenUrl { url } | Prompt::AnotherUrl { url } => {
                self.asked = true;
                self.say(match prompt {
                    Prompt::AnotherUrl { .. } => {
                        "The address has expired, unless you have opened it already. Another one, for the same login:"
                    }
                    _ => "To log in, open this address in a browser:",
                });
                if self.console.is_terminal() {
                    self.console.say(&format!("\n{}\n", printable(url)));
                } else {
                    self.say(url);
                }
            }
            Prompt::Progress(text) => self.say(text),
            _ => {}
        }
    }

    /// How long the code is still valid.
    fn tick(&mut self, now: Instant) {
        if let Some(until) = self.until {
            let left = until.saturating_duration_since(now).as_secs();
            self.console.say_in_passing(&format!("Waiting for you: {}:{:02} left", left / 60, left % 60));
        }
    }

    fn code(&mut self, code: &DeviceCode) {
        let (uri, user_code) = (printable(&code.verification_uri), printable(&code.user_code));
        let direct = code.verification_uri_complete.as_ref().unwrap_or(&code.verification_uri);
        // Below the picture: what has to be read stays in sight.
        if let Some(picture) = qr(direct, self.console.size()) {
            self.console.say(&picture);
        }
        self.console.say(&format!("\n  Open   {uri}\n  Enter  {user_code}\n"));
    }

    /// For programs and logs: the address and the code each alone on their line.
    fn plain_code(&mut self, code: &DeviceCode) {
        self.say("To log in, open this address in a browser:");
        self.say(&code.verification_uri);
        self.say("and enter this code there:");
        self.say(&code.user_code);
        if let Some(direct) = &code.verification_uri_complete {
            self.say("or open this address, which has the code in it:");
            self.say(direct);
        }
        self.say(&format!("The code is valid for {}.", in_words(code.expires_in)));
    }

    fn say(&mut self, text: &str) {
        self.console.say(&printable(text));
    }
}

fn given_up() -> AuthError {
    AuthError::interaction_required("the question was not answered")
}

/// The text as a QR code in half blocks, black on white whatever the terminal's colours; `None` if a terminal of that many
/// columns and lines does not show all of it and what is below.
fn qr(text: &str, (columns, lines): (usize, usize)) -> Option<String> {
    /// Address, code, what surrounds them, and the countdown.
    const BELOW: usize = 5;
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok().filter(|code| {
        // With its quiet zone; two rows of it are one line.
        let width = code.width() + 8;
        width < columns && width.div_ceil(2) + BELOW <= lines
    })?;
    let picture = code.render::<Dense1x2>().build();
    let lines: Vec<String> =
        picture.lines().map(|line| format!("\x1b[38;5;16;48;5;231m{line}\x1b[0m")).collect();
    Some(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Prompt {
        Prompt::DeviceCode(DeviceCode {
            verification_uri: "https://idp.example/device".into(),
            verification_uri_complete: Some("https://idp.example/device?user_code=ABCD-EFGH".into()),
            user_code: "ABCD-EFGH".into(),
            expires_in: Duration::from_secs(600),
        })
    }

    #[test]
    fn without_a_terminal_address_and_code_are_alone_on_their_lines() {
        let (mut console, written) = Console::captured(false);
        let mut screen = Screen::new(&mut console);
        screen.show(&device());
        screen.tick(Instant::now());
        let text = written.err();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"https://idp.example/device") && lines.contains(&"ABCD-EFGH"), "{text}");
        assert!(lines.contains(&"https://idp.example/device?user_code=ABCD-EFGH"), "{text}");
        assert!(!text.contains('\x1b') && !text.contains("Waiting") && written.out().is_empty(), "{text}");
    }

    #[test]
    fn on_a_terminal_there_is_a_picture_and_a_countdown() {
        let (mut console, written) = Console::captured(true);
        let mut screen = Screen::new(&mut console);
        screen.show(&device());
        screen.tick(Instant::now());
        screen.tick(Instant::now() + Duration::from_secs(3600));
        let text = written.err();
        assert!(
            text.contains("Open   https://idp.example/device\n") && text.contains("Enter  ABCD-EFGH\n"),
            "{text}"
        );
        assert!(text.contains('▀') && text.contains(" left") && text.ends_with("0:00 left"), "{text}");
    }

    #[test]
    fn what_the_server_says_commands_no_terminal() {
        let (mut console, written) = Console::captured(false);
        let mut screen = Screen::new(&mut console);
        screen.show(&Prompt::OpenUrl { url: "https://idp.example/\x1b[2J\r\x07".into() });
        screen.show(&Prompt::Progress("\x1b]0;owned\x07".into()));
        assert!(!written.err().contains(['\x1b', '\x07', '\r']), "{:?}", written.err());
    }

    #[test]
    fn an_address_that_is_too_long_has_no_picture() {
        let (long, short) = ("x".repeat(10_000), "https://idp.example/device");
        assert!(qr(&long, (80, 50)).is_none());
        let picture = qr(short, (80, 50)).unwrap();
        // As many columns as rows, two rows in a line.
        let lines = picture.lines().count();
        assert!(qr(short, (lines * 2 + 1, lines + 5)).is_some());
        assert!(qr(short, (lines * 2 - 2, lines + 5)).is_none() && qr(short, (80, lines + 4)).is_none());
    }

    #[test]
    fn rfc8628_3_3_1_the_code_is_below_the_picture_and_alone_in_a_small_window() {
        let (mut console, written) = Console::captured(true);
        Screen::new(&mut console).show(&device());
        let text = written.err();
        assert!(text.rfind('▀') < text.find("Open   "), "{text}");
        let (console, written) = Console::captured(true);
        Screen::new(&mut console.with_size(80, 20)).show(&device());
        assert!(!written.err().contains('▀') && written.err().contains("Open   "), "{}", written.err());
    }
}
