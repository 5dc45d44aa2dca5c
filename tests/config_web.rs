//! The web application of the guide: one provider from a profile, a session for each person.
#![cfg(all(feature = "config", feature = "oidc", feature = "store-file"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::sync::Arc;

use keyfob::{
    AuthError, Config, Context, LoginRequest, Session, TokenStore,
    authorize::Origins,
    oidc::{Oidc, browser::Pending},
};

use keyfob::{ErrorKind, authorize::Policy, store::MemoryStore, store_file::FileStore};
use keyfob_idp::{
    person::Person,
    server::{AuthorizationServer, Client, Settings, User},
};

/// What the application makes once, when it starts.
struct SignIn {
    context: Context,
    provider: Arc<Oidc>,
    store: Arc<dyn TokenStore>,
    /// Where its users' tokens may go: for `AuthClient::builder(session).origins(…)`.
    origins: Origins,
}

impl SignIn {
    fn from_profile(config: &Config, name: &str, store: Arc<dyn TokenStore>) -> Result<Self, AuthError> {
        let context = Context::new();
        // No label of the provider's own: each person's session brings one.
        let settings = config.settings(Some(name))?.labelled("");
        let provider = Arc::new(Oidc::from_settings(&settings, &context)?);
        let origins = Origins::parse(settings.strings("origins")?.unwrap_or_default())?;
        settings.has("provider");
        settings.finish()?; // a key that nobody knows is an error
        Ok(Self { context, provider, store, origins })
    }

    /// The session of one person. Make it for each request, or keep it: those of one person are one while any of them lives.
    fn session(&self, person: &str) -> Result<Session, AuthError> {
        let session = Session::builder(self.provider.clone()).store(self.store.clone());
        session.context(&self.context).label(person).build()
    }

    /// `GET /sign-in`: where to redirect to, and what to keep for this browser until it comes back. It is secret, belongs
    /// into the browser's session at the server, and is used once.
    async fn start(&self) -> Result<(String, String), AuthError> {
        let (url, pending) = self.provider.start(&LoginRequest::default(), None).await?;
        let kept = serde_json::to_string(&pending);
        Ok((url, kept.map_err(|_| AuthError::refused("the login cannot be kept"))?))
    }

    /// `GET /signed-in?QUERY`: who that is. The application keeps it in the browser's session.
    async fn finish(&self, kept: &str, query: &str) -> Result<String, AuthError> {
        let pending: Pending = serde_json::from_str(kept).map_err(|_| AuthError::refused("sign in again"))?;
        let acquired = self.provider.finish(pending, query).await?;
        let account = acquired.login.as_ref().and_then(|login| login.account.clone());
        let person =
            account.ok_or_else(|| AuthError::refused("nobody says who that is: ask for openid"))?.subject;
        self.session(&person)?.adopt(acquired).await?;
        Ok(person)
    }
}

const GUIDE: &str = include_str!("../docs/web-application.md");
const HOME: &str = "https://app.example.com/signed-in";

/// The guide's profile, at this server.
fn config(server: &AuthorizationServer) -> Config {
    let profile = GUIDE.split("```toml\n").nth(2).unwrap().split("```").next().unwrap();
    let profile = profile.replace("https://login.example.com", server.issuer());
    Config::parse(&profile.replace("{ env = \"WEB_CLIENT_SECRET\" }", "\"web-secret\""), "web.toml").unwrap()
}

async fn server() -> AuthorizationServer {
    let web = Client::confidential("my-web-application", "web-secret").with_redirect_uris(&[HOME]);
    AuthorizationServer::start(Settings::default().with_client(web).with_user(User::new("bob"))).await
}

async fn signed_in(application: &SignIn, name: &str) -> String {
    let (url, kept) = application.start().await.unwrap();
    let callback = Person::new(name).answer(&url).await.unwrap();
    application.finish(&kept, callback.url.query().unwrap()).await.unwrap()
}

#[test]
fn the_guide_has_the_code_that_is_tested() {
    let code = GUIDE.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    let (imports, code) = code.split_at(code.find("/// What the application").unwrap());
    let tested = include_str!("config_web.rs");
    assert!(
        tested.contains(imports.trim()) && tested.contains(code.trim()),
        "the guide and this file differ"
    );
}

#[tokio::test]
async fn one_provider_serves_many_people_each_with_a_session() {
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    let store = || Arc::new(FileStore::open(folder.path().join("tokens")).unwrap());
    let application = SignIn::from_profile(&config(&server), "web", store()).unwrap();
    let api = "https://api.example.com/me".parse::<url::Url>().unwrap();
    assert_eq!(application.origins.covers(&api), Some(Policy::Required));

    let (alice, bob) = (signed_in(&application, "alice").await, signed_in(&application, "bob").await);
    assert_ne!(alice, bob);
    assert_eq!(server.counters().discovery, 1, "it is one provider");
    assert_eq!(server.counters().requests_of("authorization_code"), 2);
    let token = |person: &str| {
        let session = application.session(person).unwrap();
        async move { session.token().await.map(|token| token.secret().to_owned()) }
    };
    let (hers, his) = (token(&alice).await.unwrap(), token(&bob).await.unwrap());
    assert_ne!(hers, his);
    assert_eq!((token(&alice).await.unwrap(), token(&bob).await.unwrap()), (hers.clone(), his.clone()));
    for (person, name) in [(&alice, "alice"), (&bob, "bob")] {
        let status = application.session(person).unwrap().status().await.unwrap();
        assert_eq!(status.account.unwrap().name.as_deref(), Some(name));
    }
    assert_eq!(token("stranger").await.unwrap_err().kind(), ErrorKind::LoginRequired);

    // A restart: the store has both; a logout is one person's.
    let restarted = SignIn::from_profile(&config(&server), "web", store()).unwrap();
    assert_eq!(restarted.session(&alice).unwrap().token().await.unwrap().secret(), hers);
    restarted.session(&alice).unwrap().logout().await.unwrap();
    let gone = restarted.session(&alice).unwrap().token().await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::LoginRequired);
    assert_eq!(restarted.session(&bob).unwrap().token().await.unwrap().secret(), his);
    assert_eq!(server.counters().requests_of("authorization_code"), 2, "nobody was asked again");
}

#[tokio::test]
async fn what_is_wrong_in_its_profile_is_told() {
    let server = server().await;
    let text = format!(
        "[profile.web]\nprovider = \"oidc\"\nissuer = \"{}\"\nclient_id = \"web\"\nclient_secret = \"s\"\nredirect_uri = \"{HOME}\"\n",
        server.issuer()
    );
    let said = |text: &str| {
        let config = Config::parse(text, "web.toml").unwrap();
        let made = SignIn::from_profile(&config, "web", Arc::new(MemoryStore::new()));
        made.err().expect("it is wrong").to_string()
    };
    // Without `flow` it would be a service, whose tokens are nobody's.
    let service = said(&text);
    assert!(service.contains("`redirect_uri` has no use with the flow \"client_credentials\""), "{service}");
    let misspelt = said(&format!("{text}flow = \"browser\"\nscope = []\n"));
    assert!(misspelt.contains("unknown key `scope`; did you mean `scopes`?"), "{misspelt}");
    assert_eq!(server.requests().len(), 0);
}
