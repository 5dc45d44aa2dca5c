//! What is warned of in the log, once: secrets that everybody can read, scopes that a login was not made for.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Shown, device, literal, service};
use keyfob_auth_core::{
    Context, CredentialProvider, Login, LoginRequest, Scopes, Session, TokenRequest, registry::SecretSource,
    store::MemoryStore,
};
use keyfob_idp::server::{AuthorizationServer, AutoApprove, Settings};
use keyfob_provider_oidc::{Flow, Oidc, asked_scopes};
use tracing_subscriber::fmt::MakeWriter;

/// What is logged on this thread until the guard goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn new() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("keyfob_provider_oidc::warnings=warn")
            .with_ansi(false)
            .with_writer(log.clone());
        (log, tracing::subscriber::set_default(subscriber.finish()))
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn file(folder: &Path, name: &str, content: &str, mode: u32) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

async fn acquire(provider: &Oidc, login: Option<&Login>) -> keyfob_auth_core::Acquired {
    provider.acquire(&TokenRequest::default(), login).await.unwrap()
}

#[tokio::test]
async fn a_secret_that_everybody_can_read_is_warned_of_once_in_a_context() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let folder = tempfile::tempdir().unwrap();
    for (mode, warned) in [(0o644, true), (0o604, true), (0o640, false), (0o600, false), (0o400, false)] {
        let (log, _guard) = Log::new();
        let path = file(folder.path(), &format!("secret-{mode:o}"), "service-secret\n", mode);
        let context = Context::new();
        let provider = || service(&server).client_secret(SecretSource::File(path.clone())).build(&context);
        // Another provider of the context, too: it is one file.
        for provider in [provider().unwrap(), provider().unwrap()] {
            acquire(&provider, None).await;
            acquire(&provider, None).await;
        }
        let lines = log.lines();
        assert_eq!(lines.len(), usize::from(warned), "{mode:o}: {lines:?}");
        let path = path.display();
        let said = format!("others can read the secret in '{path}' (mode 0{mode:o}): chmod 600 '{path}'");
        assert!(
            lines.iter().all(|line| line.contains(&said) && !line.contains("service-secret")),
            "{lines:?}"
        );
    }
}

#[tokio::test]
async fn each_secret_of_the_client_is_looked_at_and_nothing_that_is_for_everybody() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| SecretSource::File(file(folder.path(), name, "x", 0o644));
    let (log, _guard) = Log::new();
    let password = device(&server).flow(Flow::Password).username("alice").password(open("password"));
    let platforms = service(&server).flow(Flow::JwtBearer).assertion(open("projected"));
    for builder in [password, platforms.ca_file(open("authorities"))] {
        // What comes of it is another matter.
        let _ = builder.build(&Context::new()).unwrap().acquire(&TokenRequest::default(), None).await;
    }
    #[cfg(feature = "jose")]
    {
        let key =
            Oidc::builder(server.issuer(), "service").key(open("key")).key_passphrase(open("passphrase"));
        let _ = key.build(&Context::new()).unwrap().acquire(&TokenRequest::default(), None).await;
    }
    let lines = log.lines();
    let expected =
        if cfg!(feature = "jose") { &["password", "key", "passphrase"][..] } else { &["password"] };
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, name) in lines.iter().zip(expected) {
        assert!(line.ends_with(&format!("/{name}'")), "{line}");
    }
}

#[tokio::test]
async fn scopes_that_were_added_since_the_login_are_told() {
    let settings = Settings {
        auto_approve: Some(AutoApprove { user: "alice".into(), after_polls: 0 }),
        device_interval: Duration::from_millis(10),
        ..Settings::default()
    };
    let server = AuthorizationServer::start(settings).await;
    let (log, _guard) = Log::new();
    let context = Context::new();
    let with = |scopes: &[&str]| {
        let builder = device(&server).scopes(scopes.iter().copied()).label("work");
        builder.build(&context).unwrap()
    };
    let before = with(&["openid", "read"]);
    let login = before.login(&LoginRequest::default(), None, Shown::new()).await.unwrap().login.unwrap();
    assert_eq!(asked_scopes(&login), Some(Scopes::parse("openid read")));
    assert!(before.missing_scopes(&login).is_empty());
    let renewed = acquire(&before, Some(&login)).await.login.unwrap();
    assert!(log.lines().is_empty(), "{:?}", log.lines());

    let now = with(&["openid", "read", "write", "admin"]);
    assert_eq!(now.missing_scopes(&renewed).to_string(), "write admin", "a renewal keeps what was asked for");
    let renewed = acquire(&now, Some(&renewed)).await.login.unwrap();
    let renewed = acquire(&now, Some(&renewed)).await.login.unwrap();
    let lines = log.lines();
    let said = "the login of \"work\" was not asked for with write admin, which `scopes` has";
    assert!(lines.len() == 1 && lines[0].contains(said) && lines[0].contains("log in again"), "{lines:?}");

    // A session tells it without asking the server; a new login has them.
    let requests = server.requests().len();
    let session =
        Session::builder(Arc::new(now)).store(Arc::new(MemoryStore::new())).context(&context).build();
    let session = session.unwrap();
    let access = keyfob_auth_core::AccessToken::new("abc").expires_in(60);
    session.adopt(keyfob_auth_core::Acquired::with_login(access, renewed)).await.unwrap();
    assert_eq!(session.status().await.unwrap().missing_scopes.to_string(), "write admin");
    assert_eq!(server.requests().len(), requests);
    session.login(Shown::new()).await.unwrap();
    assert!(session.status().await.unwrap().missing_scopes.is_empty());

    // Nothing is known of a login that was made elsewhere, and nothing was added where nothing is said.
    assert!(with(&["write"]).missing_scopes(&Login::with_refresh_token("r")).is_empty());
    assert!(with(&["openid"]).missing_scopes(&login).is_empty());
    assert_eq!(literal("s").path(), None);
}
