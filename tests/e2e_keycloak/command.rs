//! The `keyfob` command, as a process of its own, with its configuration in a file.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Child, ChildStderr},
    time::{Duration, SystemTime},
};

use keyfob::{Config, Context, ExposeSecret as _, Session};
use keyfob_idp::keycloak::{API_AUDIENCE, Keycloak, client_secret};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    LIFETIME, Turn,
    app::{SCOPES, is_active, record, refresh_by_hand},
    events::refreshes,
    set_lifetime,
    support::{Home, Ran, assert_fails},
};

/// A person's configuration, with two profiles.
pub(crate) struct Desk {
    home: Home,
    folder: TempDir,
}

impl Desk {
    pub(crate) fn new(keycloak: &Keycloak) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (issuer, path) = (keycloak.issuer(), store(&folder));
        let home = Home::new(&format!(
            "default_profile = \"work\"\n\
             [profile.work]\nprovider = \"oidc\"\nissuer = \"{issuer}\"\nclient_id = \"native\"\n\
             scopes = {SCOPES:?}\nstore = {{ kind = \"file\", path = {path:?} }}\n\
             [profile.service]\nprovider = \"oidc\"\nissuer = \"{issuer}\"\nclient_id = \"svc-basic\"\n\
             client_secret = {{ env = \"SERVICE_SECRET\" }}\nstore = {{ kind = \"file\", path = {path:?} }}\n"
        ));
        Self { home, folder }
    }

    pub(crate) fn run(&self, arguments: &str) -> Ran {
        self.run_with(arguments, &client_secret("svc-basic").unwrap())
    }

    fn run_with(&self, arguments: &str, secret: &str) -> Ran {
        self.home.command(arguments).env("SERVICE_SECRET", secret).output().unwrap().into()
    }

    /// What a command prints that succeeds.
    #[track_caller]
    pub(crate) fn print(&self, arguments: &str) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments}: {}", ran.err);
        ran.out
    }

    /// `keyfob login`, with somebody at the browser.
    async fn log_in(&self, keycloak: &Keycloak, user: &str, deny: bool) -> Ran {
        let login = Login::begin(self, keycloak);
        keycloak.sign_in_at_device(&login.code, user, deny).await.unwrap();
        login.end()
    }

    /// A session of the library with this configuration.
    pub(crate) fn session(&self) -> Session {
        let config = Config::load(self.home.file()).unwrap();
        config.profile(None, &keyfob::registry(), &Context::new()).unwrap().session
    }
}

/// The folder that both profiles keep their logins in.
fn store(folder: &TempDir) -> PathBuf {
    folder.path().join("logins")
}

/// A device login that waits for its person.
struct Login {
    child: Child,
    rest: BufReader<ChildStderr>,
    said: String,
    code: String,
}

impl Login {
    /// Starts one, and reads on until address and code have been shown, each on a line of its own.
    fn begin(desk: &Desk, keycloak: &Keycloak) -> Self {
        let mut child = desk.home.command("login").spawn().unwrap();
        let mut rest = BufReader::new(child.stderr.take().unwrap());
        let (mut said, mut address, mut code) = (String::new(), false, None);
        while !address || code.is_none() {
            let mut line = String::new();
            assert_ne!(rest.read_line(&mut line).unwrap(), 0, "it ended: {said}");
            address |= line.trim_end() == format!("{}/device", keycloak.issuer());
            code = code.or_else(|| is_code(line.trim_end()).then(|| line.trim_end().to_owned()));
            said += &line;
        }
        Self { child, rest, said, code: code.unwrap() }
    }

    fn end(mut self) -> Ran {
        self.rest.read_to_string(&mut self.said).unwrap();
        let ran = Ran::from(self.child.wait_with_output().unwrap());
        Ran { err: self.said, ..ran }
    }
}

/// `WDJB-MJHT`.
fn is_code(line: &str) -> bool {
    line.len() == 9
        && line.bytes().enumerate().all(|(i, b)| if i == 4 { b == b'-' } else { b.is_ascii_uppercase() })
}

#[tokio::test]
async fn a_person_logs_in_works_and_logs_out() {
    let Some(keycloak) = Turn::wait("the command: login to logout").await else { return };
    let desk = Desk::new(&keycloak);
    assert_fails(&desk.run("token"), 3, &["keyfob login --profile work"]);

    let login = desk.log_in(&keycloak, "alice", false).await;
    assert_eq!((login.code, login.out.as_str()), (0, ""), "{}", login.err);
    assert!(login.err.contains("logged in as alice"), "{}", login.err);

    let token = desk.print("token");
    assert!(is_active(&keycloak, token.trim_end()).await);
    assert_eq!(desk.print("token --header"), format!("Authorization: Bearer {token}"));
    let decoded: Value = serde_json::from_str(&desk.print("token --decode")).unwrap();
    let claims = &decoded["claims"];
    assert_eq!((&claims["iss"], &claims["azp"]), (&keycloak.issuer().into(), &"native".into()));
    assert!(claims["aud"].as_array().unwrap().contains(&API_AUDIENCE.into()), "{decoded}");

    let status: Value = serde_json::from_str(&desk.print("status --json")).unwrap();
    for (key, value) in
        [("profile", "work"), ("provider", "oidc"), ("account", "alice"), ("freshness", "fresh")]
    {
        assert_eq!(status[key], value, "{status:#}");
    }
    assert_eq!((&status["issuer"], &status["refreshable"]), (&keycloak.issuer().into(), &true.into()));
    assert!(SCOPES.iter().all(|scope| status["scopes"].as_array().unwrap().contains(&(*scope).into())));
    assert!(status["expires_at"].is_string() && status["last_renewal"].is_string(), "{status:#}");
    assert!(
        status["store"].as_str().unwrap().contains(&*store(&desk.folder).to_string_lossy()),
        "{status:#}"
    );
    assert_eq!(status["last_error"], Value::Null);
    assert_eq!(refreshes(&keycloak).await.each_once(), 0);

    assert_eq!(desk.print("refresh"), "");
    let renewed = desk.print("token");
    assert_ne!(renewed, token);
    assert_ne!(desk.print("token --refresh"), renewed);
    assert_eq!(refreshes(&keycloak).await.each_once(), 2);

    // What the command has, an application has.
    let session = desk.session();
    let access = session.token().await.unwrap();
    assert_eq!(format!("{}\n", access.secret()), desk.print("token"));
    let login = record(&session, &store(&desk.folder)).await.unwrap().login.unwrap();

    let logout = desk.run("logout");
    assert_eq!((logout.code, logout.out.as_str()), (0, ""), "{}", logout.err);
    assert!(logout.err.contains("revoked at the server"), "{}", logout.err);
    let refresh_token = login.refresh_token.unwrap().expose_secret().to_owned();
    assert_eq!(refresh_by_hand(&keycloak, &refresh_token).await.error(), "invalid_grant");
    assert!(!is_active(&keycloak, access.secret()).await);
    assert_fails(&desk.run("token"), 3, &["keyfob login --profile work"]);
    let again = desk.run("logout");
    assert_eq!((again.code, again.out.as_str()), (0, ""), "{}", again.err);
}

#[tokio::test]
async fn a_denied_login_exits_with_1_and_keeps_the_earlier_one() {
    let Some(keycloak) = Turn::wait("the command: a denied login, and one that an operator ends").await
    else {
        return;
    };
    let desk = Desk::new(&keycloak);
    assert_fails(&desk.log_in(&keycloak, "alice", true).await, 1, &["denied", "HTTP 400"]);
    assert_fails(&desk.run("token"), 3, &["keyfob login --profile work"]);

    assert_eq!(desk.log_in(&keycloak, "alice", false).await.code, 0);
    let token = desk.print("token");
    assert_fails(&desk.log_in(&keycloak, "bob", true).await, 1, &["denied", "the earlier login is kept"]);
    assert_eq!(desk.print("token"), token);

    keycloak.log_out_user("alice").await.unwrap();
    let said = ["log in again", "invalid_grant", "HTTP 400", "keyfob login --profile work"];
    assert_fails(&desk.run("refresh"), 3, &said);
}

#[tokio::test]
async fn eight_commands_at_an_expired_token_renew_once() {
    const COMMANDS: usize = 8;

    let Some(keycloak) = Turn::wait("the command: eight at once at an expired token").await else { return };
    let desk = Desk::new(&keycloak);
    set_lifetime(&keycloak, 1).await;
    let login = desk.log_in(&keycloak, "alice", false).await;
    assert_eq!(login.code, 0, "{}", login.err);
    set_lifetime(&keycloak, LIFETIME).await;
    let status = desk.session().status().await.unwrap();
    let left = status.expires_at.unwrap().duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left + Duration::from_millis(100)).await;

    let start = || desk.home.command("token").spawn().unwrap();
    let commands: Vec<Child> = (0..COMMANDS).map(|_| start()).collect();
    let ran: Vec<Ran> = commands.into_iter().map(|c| c.wait_with_output().unwrap().into()).collect();
    for one in &ran {
        assert_eq!((one.code, &one.out, one.err.as_str()), (0, &ran[0].out, ""));
    }
    assert!(is_active(&keycloak, ran[0].out.trim_end()).await);
    assert_eq!(refreshes(&keycloak).await.each_once(), 1);
    assert_eq!(keycloak.session_count("alice").await.unwrap(), 1);
    assert_eq!(desk.run("refresh").code, 0);
}

#[tokio::test]
async fn a_service_needs_no_login() {
    let Some(keycloak) = Turn::wait("the command: client credentials, and a wrong secret").await else {
        return;
    };
    let desk = Desk::new(&keycloak);
    let token = desk.print("token --profile service");
    let seen = keycloak.introspect(token.trim_end()).await.unwrap();
    assert_eq!((&seen["active"], &seen["client_id"]), (&true.into(), &"svc-basic".into()), "{seen}");
    assert_eq!(desk.print("token --profile service"), token);
    assert_ne!(desk.print("token --profile service --refresh"), token);

    let wrong = desk.run_with("token --profile service --refresh", "wrong-marker");
    assert_fails(&wrong, 1, &["HTTP 401"]);
    assert!(!wrong.err.contains("marker"), "{}", wrong.err);
}
