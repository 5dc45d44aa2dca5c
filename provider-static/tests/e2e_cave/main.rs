//! CAVE's files and requests with CAVE's own client, caveclient 8.2.1; runs when `KEYFOB_E2E=cave` is set.
//!
//! No CAVE server is needed: files pass between the two, and what they send goes to a server on loopback.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]
#![allow(unreachable_pub, reason = "a module of this test only")]

mod python;

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, extract::Request, response::Response};
use keyfob_auth_core::{
    Context, CredentialProvider as _, ErrorKind, ExposeSecret as _, Session, TokenRequest,
    authorize::Origins,
    middleware::{AuthClient, auth_error},
};
use keyfob_provider_static::Cave;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::python::Python;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";
const GLOBAL: &str = "https://global.daf-apis.com";
const GLOBAL_FILE: &str = "global.daf-apis.com-cave-secret.json";
const GENERAL: &str = "cave-secret.json";
const DEPRECATED: &str = "chunkedgraph-secret.json";

/// A home folder, and where CAVE's files are in it.
struct Home {
    folder: TempDir,
    secrets: PathBuf,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { secrets: folder.path().join(".cloudvolume/secrets"), folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn cave(&self, server: &str) -> Cave {
        Cave::new(server).unwrap().secrets_folder(&self.secrets)
    }

    fn json(&self, file: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.secrets.join(file)).unwrap()).unwrap()
    }

    fn mode(&self, file: &str) -> u32 {
        fs::metadata(self.secrets.join(file)).unwrap().permissions().mode() & 0o777
    }
}

async fn text(cave: &Cave) -> Option<String> {
    let acquired = cave.acquire(&TokenRequest::default(), None).await.ok()?;
    Some(acquired.access.secret().expose_secret().to_owned())
}

#[tokio::test]
async fn what_keyfob_saves_caveclient_reads() {
    let Some(python) = Python::for_tests() else { return };
    let home = Home::new();
    let listed = "http://127.0.0.1:8099";
    let origins = Origins::parse([listed]).unwrap();
    home.cave(GLOBAL).save_token(TOKEN, "token", false).await.unwrap();
    home.cave(GLOBAL).save_token(OTHER, "second", false).await.unwrap();
    let other = home.cave(listed).general_token_for(&origins);
    other.save_token("listed-token", "listed", false).await.unwrap();
    home.cave("https://named.example").save_token("named-token", "token", false).await.unwrap();
    let read = python.run(
        home.path(),
        "say([AuthClient().token,
              AuthClient(token_key='second').token,
              AuthClient(server_address='https://without.a.file.example').token,
              AuthClient(server_address='http://127.0.0.1:8099', token_key='listed').token,
              AuthClient(token_key='listed', token_file='~/.cloudvolume/secrets/cave-secret.json').token,
              AuthClient(server_address='https://named.example').token,
              AuthClient(server_address='named.example').token,
              AuthClient().request_header])",
        &[] as &[&str],
    );
    let header = json!({"Authorization": format!("Bearer {TOKEN}")});
    let expected =
        json!([TOKEN, OTHER, TOKEN, "listed-token", "listed-token", "named-token", "named-token", header]);
    assert_eq!(read, expected);
}

#[tokio::test]
async fn what_caveclient_saves_keyfob_reads() {
    let Some(python) = Python::for_tests() else { return };
    let home = Home::new();
    // Both files for the global server; then a loopback server's own, where there is a general one.
    python.run(
        home.path(),
        "client = AuthClient()
client.save_token(sys.argv[1])
client.save_token(sys.argv[2], token_key='second')
AuthClient(server_address='http://127.0.0.1:8099').save_token('loopback', token_key='mine', overwrite=True)
say(None)",
        &[TOKEN, OTHER],
    );
    let loopback = home.cave("http://127.0.0.1:8099");
    for (cave, expected) in [
        (home.cave(GLOBAL), Some(TOKEN)),
        (home.cave(GLOBAL).token_key("second"), Some(OTHER)),
        (loopback.clone().token_key("mine"), Some("loopback")),
        (loopback, None),
        (home.cave("https://without.a.file.example"), None),
    ] {
        assert_eq!(text(&cave).await.as_deref(), expected, "{cave:?}");
    }
    assert_eq!(home.mode(GENERAL), 0o644, "it makes files that everybody can read");
    // Without being told where to look, as an application: in a process of its own with this home folder.
    assert_eq!(token_of_another_process(home.path(), None), TOKEN);
    // The neighbours' folder goes before it, and lacks nothing but the token.
    let named = home.path().join("named");
    fs::create_dir_all(named.join("secrets")).unwrap();
    assert_eq!(token_of_another_process(home.path(), Some(&named)), TOKEN);
    fs::write(named.join("secrets").join(GENERAL), r#"{"token": "of-the-neighbours"}"#).unwrap();
    fs::remove_file(home.secrets.join(GLOBAL_FILE)).unwrap();
    assert_eq!(token_of_another_process(home.path(), Some(&named)), "of-the-neighbours");
}

#[tokio::test]
async fn both_change_the_same_files_and_lose_nothing_of_each_other() {
    let Some(python) = Python::for_tests() else { return };
    let home = Home::new();
    let save = "AuthClient().save_token(sys.argv[1], token_key=sys.argv[2], overwrite=True); say(None)";
    home.cave(GLOBAL).save_token(TOKEN, "token", false).await.unwrap();
    python.run(home.path(), save, &["theirs", "second"]);
    home.cave(GLOBAL).save_token("ours", "third", false).await.unwrap();
    python.run(home.path(), save, &[OTHER, "token"]);
    home.cave(GLOBAL).save_token("ours again", "second", true).await.unwrap();
    // Once there is a server's own file, their client saves in no other: the general one has the old token still.
    let own = json!({"token": OTHER, "second": "ours again", "third": "ours"});
    assert_eq!(home.json(GLOBAL_FILE), own);
    assert_eq!(home.json(GENERAL), json!({"token": TOKEN, "third": "ours", "second": "ours again"}));
    let refused = home.cave(GLOBAL).save_token(OTHER, "token", false).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Refused && refused.origin().unwrap().ends_with("/cave-secret.json"));
    home.cave(GLOBAL).save_token(OTHER, "token", true).await.unwrap();
    // The same token once more is no error.
    home.cave(GLOBAL).save_token(OTHER, "token", false).await.unwrap();
    assert_eq!((home.json(GLOBAL_FILE), home.json(GENERAL)), (own.clone(), own));
    assert_eq!((home.mode(GLOBAL_FILE), home.mode(GENERAL)), (0o600, 0o600), "who made them says their mode");
    let read = python.run(home.path(), "say(AuthClient(token_key='second').token)", &[] as &[&str]);
    assert_eq!(read, "ours again");
}

/// Every set of files that there can be: the two find the same token in it, or none.
#[tokio::test]
async fn both_look_in_the_same_order() {
    let Some(python) = Python::for_tests() else { return };
    const FILES: [&str; 3] = [GLOBAL_FILE, GENERAL, DEPRECATED];
    /// No file, one with the key, one with another key only, one with `null` there.
    const STATES: usize = 4;
    let homes: Vec<Home> = (0..STATES.pow(3)).map(|_| Home::new()).collect();
    for (n, home) in homes.iter().enumerate() {
        fs::create_dir_all(&home.secrets).unwrap();
        for (f, file) in FILES.iter().enumerate() {
            let content = match n / STATES.pow(u32::try_from(f).unwrap()) % STATES {
                0 => continue,
                1 => format!(r#"{{"token": "of-{file}"}}"#),
                2 => r#"{"another": "x"}"#.to_owned(),
                _ => r#"{"token": null}"#.to_owned(),
            };
            fs::write(home.secrets.join(file), content).unwrap();
        }
    }
    let paths: Vec<&Path> = homes.iter().map(Home::path).collect();
    let script = "
def look(home):
    os.environ['HOME'] = home
    return AuthClient().token
say([look(home) for home in sys.argv[1:]])";
    let theirs = python.run(homes[0].path(), script, &paths);
    let mut found = 0;
    for (n, home) in homes.iter().enumerate() {
        let ours = text(&home.cave(GLOBAL)).await;
        assert_eq!(json!(ours), theirs[n], "case {n}: {:?}", fs::read_dir(&home.secrets).unwrap().count());
        found += usize::from(ours.is_some());
    }
    assert_eq!(found, 31);
}

#[tokio::test]
async fn both_send_the_same_and_take_a_login_page_for_a_refusal() {
    let Some(python) = Python::for_tests() else { return };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let handler = move |request: Request| {
        let authorization =
            request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let (status, location, body) = match (request.uri().path(), authorization.as_deref()) {
            ("/login", _) => (200, None, "<html>login</html>"),
            (_, Some("Bearer good-token")) => (200, None, "[]"),
            _ => (302, Some("/login"), ""),
        };
        log.lock().unwrap().push((request.method().to_string(), request.uri().to_string(), authorization));
        let answer = Response::builder().status(status).header("content-type", "application/json");
        let answer = location.into_iter().fold(answer, |answer, to| answer.header("location", to));
        std::future::ready(answer.body(Body::from(body)).unwrap())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await });

    let home = Home::new();
    let script = "
auth = AuthClient(server_address=sys.argv[1])
try:
    say(auth.get_user_information([1, 2]))
except AuthException:
    say('no valid token')";
    let theirs = async || {
        let (python, home, origin) = (python.clone(), home.path().to_owned(), origin.clone());
        // Off the runtime, which has to serve.
        tokio::task::spawn_blocking(move || python.run(&home, script, &[origin])).await.unwrap()
    };
    let cave = home.cave(&origin);
    let origins = Origins::parse([&origin]).unwrap();
    let session = Session::builder(Arc::new(cave.clone())).context(&Context::new()).build().unwrap();
    let client = AuthClient::builder(session).origins(origins).http(reqwest::ClientBuilder::no_proxy);
    let client = client.build().unwrap();
    // As their client writes it.
    let user = format!("{origin}/auth/api/v1/user?id=1%2C2");

    cave.save_token("ended-token", "token", false).await.unwrap();
    assert_eq!(theirs().await, "no valid token");
    let error = client.get(&user).send().await.unwrap_err();
    assert_eq!(auth_error(&error).unwrap().kind(), ErrorKind::Refused);
    let at_login = ("GET".to_owned(), "/login".to_owned());
    let requests = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert_eq!(requests[0], requests[2], "theirs and ours");
    assert_eq!((requests[1].0.clone(), requests[1].1.clone()), at_login, "theirs went on to the login page");

    cave.save_token("good-token", "token", true).await.unwrap();
    assert_eq!(theirs().await, json!([]));
    assert_eq!(client.get(&user).send().await.unwrap().text().await.unwrap(), "[]");
    let requests = seen.lock().unwrap();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert_eq!(requests[0], requests[1], "theirs and ours");
    assert_eq!(requests[0].2.as_deref(), Some("Bearer good-token"));
}

/// Says which process is the one that prints the token.
const ROLE: &str = "KEYFOB_E2E_CAVE_PRINTS_TOKEN";

/// The global server's token as a process finds it that has this home folder, and perhaps a `CLOUD_VOLUME_DIR`.
fn token_of_another_process(home: &Path, cloud_volume_dir: Option<&Path>) -> String {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "prints_the_token", "--nocapture"]).env(ROLE, "1").env("HOME", home);
    match cloud_volume_dir {
        Some(folder) => child.env("CLOUD_VOLUME_DIR", folder),
        None => child.env_remove("CLOUD_VOLUME_DIR"),
    };
    let output = child.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let found = printed.lines().find_map(|line| line.split_once("TOKEN=")).map(|(_, token)| token.to_owned());
    found.unwrap_or_else(|| panic!("{printed}{}", String::from_utf8_lossy(&output.stderr)))
}

/// A part for the other process, and no test.
#[tokio::test]
async fn prints_the_token() {
    if env::var_os(ROLE).is_some() {
        println!("TOKEN={}", text(&Cave::new(GLOBAL).unwrap()).await.unwrap());
    }
}
