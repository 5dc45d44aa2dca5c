//! An application of the library, and the person who signs in at it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use keyfob::{
    AuthError, Context, DeviceCode, ExposeSecret as _, Interaction, Prompt, Session, Token, async_trait,
    oidc::{Flow, Oidc},
    store::{LoginKey, Record, TokenStore as _},
    store_file::FileStore,
};
use keyfob_idp::keycloak::{Keycloak, Reply};
use tempfile::TempDir;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

/// What a person grants at a login.
pub(crate) const SCOPES: [&str; 3] = ["openid", "api:read", "api:write"];

/// More than anything takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// An application for people, with a store of its own.
pub(crate) struct App {
    issuer: String,
    home: TempDir,
}

impl App {
    pub(crate) fn new(keycloak: &Keycloak) -> Self {
        Self { issuer: keycloak.issuer(), home: tempfile::tempdir().unwrap() }
    }

    /// Where the store is: made by it, and for its owner only.
    pub(crate) fn folder(&self) -> PathBuf {
        self.home.path().join("logins")
    }

    /// A session that shares nothing but the store with any other, as one of another process.
    pub(crate) fn session(&self) -> Session {
        session(&self.issuer, &self.folder())
    }

    /// A session that alice is logged in with.
    pub(crate) async fn of_alice(&self, keycloak: &Keycloak) -> Session {
        let session = self.session();
        sign_in(&session, keycloak, "alice", false).await.unwrap();
        session
    }

    pub(crate) async fn record(&self) -> Option<Record> {
        record(&self.session(), &self.folder()).await
    }

    /// The refresh token in the store.
    pub(crate) async fn refresh_token(&self) -> String {
        let login = self.record().await.expect("a record").login.expect("a login");
        login.refresh_token.expect("a refresh token").expose_secret().to_owned()
    }
}

/// A session with the device flow on a store in this folder.
pub(crate) fn session(issuer: &str, folder: &Path) -> Session {
    let context = Context::new();
    let provider = Oidc::builder(issuer, "native").flow(Flow::Device).scopes(SCOPES).build(&context).unwrap();
    let store = FileStore::open(folder).unwrap();
    Session::new(Arc::new(provider), Arc::new(store), &context).unwrap()
}

/// What a store in this folder keeps for the session.
pub(crate) async fn record(session: &Session, folder: &Path) -> Option<Record> {
    let store = FileStore::open(folder).unwrap();
    let found = store.load(&LoginKey::from(session.identity())).await.unwrap();
    found.map(|(record, _)| record)
}

/// Logs in, with somebody who approves or denies in the browser.
pub(crate) async fn sign_in(
    session: &Session,
    keycloak: &Keycloak,
    user: &str,
    deny: bool,
) -> Result<Token, AuthError> {
    let (prompts, shown) = unbounded_channel();
    let login = session.login(Arc::new(Screen(prompts)));
    let both = async { tokio::join!(login, at_browser(shown, keycloak, user, deny)) };
    let (outcome, code) = timeout(PATIENCE, both).await.expect("the login ends");
    if let Some(code) = code {
        assert!(code.verification_uri.starts_with(&keycloak.issuer()), "{code:?}");
        assert!((590..=600).contains(&code.expires_in.as_secs()), "{code:?}");
    }
    outcome
}

async fn at_browser(
    mut shown: UnboundedReceiver<Prompt>,
    keycloak: &Keycloak,
    user: &str,
    deny: bool,
) -> Option<DeviceCode> {
    while let Some(prompt) = shown.recv().await {
        if let Prompt::DeviceCode(code) = prompt {
            let address = code.verification_uri_complete.as_ref().unwrap_or(&code.user_code);
            keycloak.sign_in_at_device(address, user, deny).await.unwrap();
            return Some(code);
        }
    }
    None
}

/// Shows what a login says to whoever is at the browser.
#[derive(Debug)]
struct Screen(UnboundedSender<Prompt>);

#[async_trait]
impl Interaction for Screen {
    fn show(&self, prompt: &Prompt) {
        // Nobody is there any more once the code is typed.
        let _ = self.0.send(prompt.clone());
    }
}

/// Fails what hangs.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it ends in time")
}

/// A refresh by hand, past the library.
pub(crate) async fn refresh_by_hand(keycloak: &Keycloak, refresh_token: &str) -> Reply {
    let form = [("grant_type", "refresh_token"), ("client_id", "native"), ("refresh_token", refresh_token)];
    keycloak.post("token", &form).await.unwrap()
}

/// Whether Keycloak says that the token is good.
pub(crate) async fn is_active(keycloak: &Keycloak, token: &str) -> bool {
    keycloak.introspect(token).await.unwrap()["active"] == true
}
