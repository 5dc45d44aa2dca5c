//! `keyfob login` with a browser: which one is opened, what is said, and what is asked at a terminal.
#![cfg(all(feature = "browser", feature = "cli", feature = "oidc", feature = "store-file", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use keyfob_idp::{
    person::Person,
    server::{AuthorizationServer, Settings},
};
use rustix::{
    fs::OFlags,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use support::{Home, Ran, assert_fails, signal};

/// More than a login takes.
const PATIENCE: Duration = Duration::from_secs(30);
const SSH: (&str, &str) = ("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22");

/// A server, with device login or without.
fn server(device: bool) -> AuthorizationServer {
    let mut settings = Settings { access_token_lifetime: Duration::from_secs(600), ..Settings::default() };
    if !device {
        settings.metadata.insert("device_authorization_endpoint".into(), serde_json::Value::Null);
    }
    AuthorizationServer::start_on_own_thread(settings)
}

fn home(server: &AuthorizationServer, more: &str) -> Home {
    Home::new(&format!(
        "[profile.work]\nprovider = \"oidc\"\nissuer = \"{}\"\nclient_id = \"cli\"\n\
         pushed_authorization_requests = false\n{more}\n",
        server.issuer()
    ))
}

/// `keyfob login`, where nothing is known of where it runs but this.
fn login(home: &Home, variables: &[(&str, &str)]) -> Command {
    let mut command = home.command("login");
    let unset = ["BROWSER", "CI", "DISPLAY", "WAYLAND_DISPLAY", "SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY"];
    for name in unset.iter().chain(&["KUBERNETES_SERVICE_HOST", "WSL_DISTRO_NAME", "WSL_INTEROP"]) {
        command.env_remove(name);
    }
    command.env("TERM", "xterm").envs(variables.iter().copied());
    command
}

/// A program for `BROWSER`: writes its arguments to a file, and ends with this status.
fn program(folder: &Path, status: u8) -> (PathBuf, PathBuf) {
    let (program, got) = (folder.join("a browser"), folder.join("got"));
    let script = format!(
        "#!/bin/sh\necho noise; echo noise >&2\nprintf '%s\\n' \"$#\" \"$@\" >'{0}.part'\nmv '{0}.part' '{0}'\nexit {status}\n",
        got.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    (program, got)
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what} does not come");
        thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8252_8_12_a_named_browser_is_used_whatever_is_detected() {
    let server = server(true);
    for flow in ["browser", "auto"] {
        server.reset_counters();
        let home = home(&server, &format!("flow = \"{flow}\""));
        let folder = tempfile::tempdir().unwrap();
        let (browser, got) = program(folder.path(), 0);
        let browser = browser.to_str().unwrap();
        let child = login(&home, &[SSH, ("CI", "true"), ("BROWSER", browser)]).spawn().unwrap();
        let got = wait_for("the URL", || fs::read_to_string(&got).ok());
        let [count, url] = got.lines().collect::<Vec<_>>()[..] else { panic!("{got}") };
        assert_eq!(count, "1");
        Person::new("alice").visit(url).await.unwrap();
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
        assert!(ran.err.contains("logged in as alice") && !ran.err.contains("noise"), "{}", ran.err);
        let lines: Vec<&str> = ran.err.lines().collect();
        assert_eq!(lines[1], url, "it is shown too, alone on its line");
        let counters = server.counters();
        assert_eq!((counters.authorization, counters.token, counters.device_authorization), (1, 1, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_fails_ends_nothing() {
    let server = server(true);
    let home = home(&server, "flow = \"browser\"");
    let folder = tempfile::tempdir().unwrap();
    let failing = program(folder.path(), 3).0;
    for (browser, said) in [
        (Some(failing.to_str().unwrap()), "a browser\" of `BROWSER` failed (exit status: 3)"),
        (Some("/nonexistent/browser"), "\"/nonexistent/browser\" of `BROWSER` does not start"),
        (None, "no browser is opened: this is a session over SSH"),
    ] {
        let browser: Vec<_> = browser.map(|browser| ("BROWSER", browser)).into_iter().chain([SSH]).collect();
        let mut child = login(&home, &browser).spawn().unwrap();
        let told = Told::new(child.stderr.take().unwrap());
        wait_for("what went wrong", || told.text().contains(said).then_some(()));
        assert!(told.text().contains("; open the address above yourself"), "{}", told.text());
        Person::new("alice").visit(&told.url(&server)).await.unwrap();
        assert!(child.wait().unwrap().success());
        assert!(told.end().contains("logged in as alice"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_ssh_a_code_is_shown_where_the_server_gives_one() {
    let server = server(true);
    let home = home(&server, "flow = \"auto\"");
    let mut child = login(&home, &[SSH, ("DISPLAY", ":0")]).spawn().unwrap();
    let told = Told::new(child.stderr.take().unwrap());
    let code = wait_for("a code", || server.pending_user_codes().pop());
    wait_for("the code on a line of its own", || told.text().contains(&format!("\n{code}\n")).then_some(()));
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(server.counters().authorization, 0);
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let server = server(false);
    let home = home(&server, "flow = \"auto\"");
    let ran: Ran = login(&home, &[SSH]).output().unwrap().into();
    assert_fails(&ran, 1, &["over SSH", "no device login", "`BROWSER`", "caused by", "no terminal"]);
    assert_eq!(server.counters().token, 0);
}

/// What is written to a stream so far.
struct Told {
    text: Arc<Mutex<String>>,
    reader: thread::JoinHandle<()>,
}

impl Told {
    fn new(mut stream: impl std::io::Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut some = [0; 1024];
            // A terminal whose other end is closed gives an error.
            while let Ok(read @ 1..) = stream.read(&mut some) {
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&some[..read]));
            }
        });
        Self { text, reader }
    }

    /// All of it, once the other end is closed.
    fn end(self) -> String {
        self.reader.join().unwrap();
        self.text.lock().unwrap().clone()
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// The URL on a line of its own.
    fn url(&self, server: &AuthorizationServer) -> String {
        let start = server.url("/authorize?");
        wait_for("the URL", || {
            let text = self.text();
            let line =
                text.split_inclusive('\n').find(|line| line.starts_with(&start) && line.ends_with('\n'));
            line.map(|line| line.trim_end().to_owned())
        })
    }
}

/// A terminal that the command runs at.
struct Terminal {
    master: File,
    told: Told,
    child: Child,
}

impl Terminal {
    fn run(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, Winsize { ws_row: 40, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let mut options = File::options();
        options.read(true).write(true).custom_flags(OFlags::NOCTTY.bits().cast_signed());
        let slave = || options.open(&path).unwrap();
        let child = command.stdin(slave()).stderr(slave()).spawn().unwrap();
        let master = File::from(master);
        let told = Told::new(master.try_clone().unwrap());
        Self { master, told, child }
    }

    fn is_silent(&self) -> bool {
        !tcgetattr(&self.master).unwrap().local_modes.intersects(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// Waits until it is asked so many times.
    fn wait_for_question(&self, count: usize) {
        wait_for("a question", || {
            let asked = self.told.text().matches("paste the address").count();
            (asked == count && self.is_silent()).then_some(())
        });
    }

    fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// How the command ended; the terminal is as it was.
    fn end(mut self) -> (Option<i32>, String) {
        let code = wait_for("its end", || self.child.try_wait().unwrap()).code();
        let modes = tcgetattr(&self.master).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ECHO | LocalModes::ICANON), "{modes:?}");
        (code, self.told.end())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_is_pasted_at_a_terminal() {
    let server = server(false);
    let home = home(&server, "flow = \"auto\"");
    let mut terminal = Terminal::run(login(&home, &[SSH]));
    let url = terminal.told.url(&server);
    terminal.wait_for_question(1);
    terminal.type_in("nonsense\r");
    wait_for("another try", || terminal.told.text().contains("Try again.").then_some(()));
    terminal.wait_for_question(2);
    // Longer than a line that a terminal takes by itself.
    let address = Person::new("alice").answer(&url).await.unwrap().url.to_string();
    let padding = "x".repeat(6000);
    terminal.type_in(&format!("{address}&session_state={padding}\r"));
    let (code, told) = terminal.end();
    assert!(code == Some(0) && told.contains("logged in as alice"), "{told}");
    assert_eq!(server.counters().successes_of("authorization_code"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_comes_back_ends_the_question() {
    let server = server(true);
    let home = home(&server, "flow = \"browser\"");
    let terminal = Terminal::run(login(&home, &[SSH]));
    let url = terminal.told.url(&server);
    terminal.wait_for_question(1);
    Person::new("alice").visit(&url).await.unwrap();
    let (code, told) = terminal.end();
    assert!(code == Some(0) && told.contains("logged in as alice"), "{told}");
}

#[test]
fn giving_up_and_interrupting_give_the_terminal_back() {
    let server = server(false);
    let home = home(&server, "flow = \"auto\"");
    let mut terminal = Terminal::run(login(&home, &[SSH]));
    terminal.wait_for_question(1);
    terminal.type_in("\u{4}");
    let (code, told) = terminal.end();
    assert!(code == Some(1) && told.contains("the question was not answered"), "{told}");

    let terminal = Terminal::run(login(&home, &[SSH]));
    terminal.wait_for_question(1);
    signal(&terminal.child, "-INT");
    assert_eq!(terminal.end().0, Some(130));
    assert_eq!(server.counters().token, 0);
}
