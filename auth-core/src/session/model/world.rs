//! A server that counts, and a session of it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use secrecy::ExposeSecret;
use shuttle::future::{block_on, yield_now};

use crate::{
    AccessToken, Acquired, AuthError, Context, CredentialProvider, Identity, Keep, Login, SecretString,
    Session, TokenRequest,
    store::{MemoryStore, TokenStore},
    testing::FakeClock,
};

pub(super) const LIFE: Duration = Duration::from_secs(600);

/// What the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grants {
    /// A new token every time, without a login.
    Plain,
    /// The same bytes every time.
    Same,
    /// By refresh tokens that rotate; one that comes twice ends the login.
    Rotating,
}

#[derive(Clone, Debug)]
pub(super) struct Provider(Arc<Server>);

#[derive(Debug)]
struct Server {
    grants: Grants,
    keep: Keep,
    exchanges: AtomicUsize,
    reuses: AtomicUsize,
    revocations: AtomicUsize,
    /// The number of the refresh token that is valid.
    refresh: Mutex<usize>,
}

impl Provider {
    pub(super) fn exchanges(&self) -> usize {
        self.0.exchanges.load(Ordering::SeqCst)
    }

    pub(super) fn reuses(&self) -> usize {
        self.0.reuses.load(Ordering::SeqCst)
    }

    /// A login that was made elsewhere; its tokens have this name.
    pub(super) fn login(&self, name: &str) -> Acquired {
        let mut refresh = self.0.refresh.lock().unwrap();
        *refresh += 1;
        let access = AccessToken::new(format!("access-{name}")).expires_in(LIFE.as_secs());
        Acquired::with_login(access, Login::with_refresh_token(format!("{name} {refresh}")))
    }
}

#[async_trait]
impl CredentialProvider for Provider {
    fn identity(&self) -> Identity {
        Identity::new("modelled").issuer("https://idp.example")
    }

    async fn acquire(&self, _: &TokenRequest, login: Option<&Login>) -> Result<Acquired, AuthError> {
        let sent = login.and_then(|login| login.refresh_token.as_ref());
        if self.0.grants == Grants::Rotating && sent.is_none() {
            return Err(AuthError::login_required("log in first"));
        }
        let number = self.0.exchanges.fetch_add(1, Ordering::SeqCst) + 1;
        yield_now().await;
        let (secret, login) = match (self.0.grants, sent) {
            (Grants::Plain, _) => (format!("access-{number}"), None),
            (Grants::Same, _) => ("access".to_owned(), None),
            (Grants::Rotating, sent) => {
                let (name, spent) = sent.and_then(|s| s.expose_secret().split_once(' ')).unwrap();
                let mut refresh = self.0.refresh.lock().unwrap();
                if *refresh != spent.parse::<usize>().unwrap() {
                    self.0.reuses.fetch_add(1, Ordering::SeqCst);
                    return Err(AuthError::login_rejected("spent already"));
                }
                *refresh += 1;
                let login = Login::with_refresh_token(format!("{name} {refresh}"));
                (format!("access-{name}-{number}"), Some(login))
            }
        };
        yield_now().await;
        Ok(Acquired { access: AccessToken::new(secret).expires_in(LIFE.as_secs()), login })
    }

    async fn revoke(&self, _: &Login, _: &[SecretString]) -> Result<(), AuthError> {
        self.0.revocations.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn keeps(&self) -> Keep {
        self.0.keep
    }
}

/// One process: a context and a session in it.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) provider: Provider,
    pub(super) store: MemoryStore,
    pub(super) clock: Arc<FakeClock>,
    pub(super) session: Session,
}

impl World {
    pub(super) fn new(grants: Grants, keep: Keep) -> Self {
        let provider = Provider(Arc::new(Server {
            grants,
            keep,
            exchanges: AtomicUsize::new(0),
            reuses: AtomicUsize::new(0),
            revocations: AtomicUsize::new(0),
            refresh: Mutex::new(0),
        }));
        Self::of(provider, MemoryStore::new(), FakeClock::new())
    }

    fn of(provider: Provider, store: MemoryStore, clock: Arc<FakeClock>) -> Self {
        let context = Context::builder().clock(clock.clock()).build();
        let shared: Arc<dyn TokenStore> = Arc::new(store.clone());
        let session = Session::new(Arc::new(provider.clone()), shared, &context).unwrap();
        Self { provider, store, clock, session }
    }

    /// Another process with the same store, server and clock.
    pub(super) fn neighbour(&self) -> Self {
        Self::of(self.provider.clone(), self.store.clone(), Arc::clone(&self.clock))
    }

    /// Asks for a token and waits for it.
    pub(super) fn token(&self) -> crate::Token {
        block_on(self.session.token()).unwrap()
    }

    /// The generation that is served at once; 0 if none.
    pub(super) fn generation(&self) -> u64 {
        self.session.cached().map_or(0, |token| token.generation())
    }

    /// Everything that is under way ends.
    pub(super) fn settle(&self) {
        block_on(async { while !self.session.drain(Duration::ZERO).await {} });
    }
}
