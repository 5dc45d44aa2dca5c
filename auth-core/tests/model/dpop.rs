//! A DPoP login: its key must persist with the refresh token, and its signer outlive renewals.

use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicUsize, Ordering},
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use keyfob_auth_core::{
    AccessToken, Acquired, AuthError, Binding, CredentialProvider, ExposeSecret, Identity, Keep, Login,
    Presentation, RequestSigner, Session, TokenRequest, TokenStore, async_trait,
    store::{LoginKey, MemoryStore},
};

use super::*;

/// A service's login without a refresh token: it holds the key and nothing else.
#[derive(Debug, Default)]
struct Dpop {
    keys_made: AtomicUsize,
    tokens: AtomicUsize,
    /// One signer for each key, as long as somebody uses it.
    signer: Mutex<Weak<Signer>>,
}

#[derive(Debug)]
struct Signer {
    key: String,
    nonce: Mutex<Option<HeaderValue>>,
}

impl RequestSigner for Signer {
    fn sign(&self, _: &Method, _: &Uri) -> Result<HeaderMap, AuthError> {
        let mut headers = HeaderMap::new();
        let nonce = self.nonce.lock().unwrap().clone().unwrap_or(HeaderValue::from_static("none"));
        let proof = format!("signed-with {} nonce {}", self.key, nonce.to_str().unwrap());
        headers.insert("dpop", HeaderValue::from_str(&proof).unwrap());
        Ok(headers)
    }

    fn observe(&self, _: &Uri, _: StatusCode, headers: &HeaderMap) -> bool {
        *self.nonce.lock().unwrap() = headers.get("dpop-nonce").cloned();
        false
    }
}

#[async_trait]
impl CredentialProvider for Dpop {
    fn identity(&self) -> Identity {
        Identity::new("dpop")
    }

    async fn acquire(&self, _: &TokenRequest, login: Option<&Login>) -> Result<Acquired, AuthError> {
        let key = login
            .and_then(|login| login.binding_key.clone())
            .unwrap_or_else(|| format!("key-{}", self.keys_made.fetch_add(1, Ordering::SeqCst) + 1).into());
        let token = self.tokens.fetch_add(1, Ordering::SeqCst) + 1;
        let binding = Binding::Dpop(format!("thumbprint-of-{}", key.expose_secret()));
        let access = AccessToken::new(format!("token-{token}")).expires_in(600).with_binding(binding);
        Ok(Acquired::with_login(access, Login { binding_key: Some(key), ..Login::default() }))
    }

    fn present(&self, _: &AccessToken, login: Option<&Login>) -> Result<Presentation, AuthError> {
        let key = login
            .and_then(|l| l.binding_key.as_ref())
            .ok_or_else(|| AuthError::refused("the key is gone"))?;
        let mut known = self.signer.lock().unwrap();
        let signer =
            known.upgrade().filter(|signer| signer.key == key.expose_secret()).unwrap_or_else(|| {
                Arc::new(Signer { key: key.expose_secret().to_owned(), nonce: Mutex::default() })
            });
        *known = Arc::downgrade(&signer);
        Ok(Presentation::Signed(signer))
    }

    fn keeps(&self) -> Keep {
        Keep::Store
    }

    fn binds_logins(&self) -> bool {
        true
    }
}

fn proof(session: &Session) -> String {
    let token = session.cached().unwrap();
    let Presentation::Signed(signer) = token.presentation() else { panic!("not signed") };
    let headers = signer.sign(&Method::GET, &Uri::from_static("https://api.example/")).unwrap();
    headers["dpop"].to_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_key_persists_and_nonces_outlive_renewals() {
    let store = Arc::new(MemoryStore::new());
    let session = Session::new(Arc::new(Dpop::default()), Arc::clone(&store) as _, &process()).unwrap();
    session.token().await.unwrap();
    assert_eq!(proof(&session), "signed-with key-1 nonce none");
    let token = session.cached().unwrap();
    let Presentation::Signed(signer) = token.presentation() else { panic!("not signed") };
    let mut answer = HeaderMap::new();
    answer.insert("dpop-nonce", HeaderValue::from_static("n1"));
    signer.observe(&Uri::from_static("https://api.example/"), StatusCode::OK, &answer);
    session.refresh().await.unwrap();
    assert_eq!(
        proof(&session),
        "signed-with key-1 nonce n1",
        "the nonce learnt with one token serves the next"
    );
    assert!(session.authorization().await.is_err(), "a header alone would be a lie");
    assert!(session.cached_header().is_none());

    // Another process: the key comes from the store, with the access token that is bound to it.
    let restarted = Session::new(Arc::new(Dpop::default()), Arc::clone(&store) as _, &process()).unwrap();
    let token = restarted.token().await.unwrap();
    assert_eq!((token.secret(), token.binding()), ("token-2", &Binding::Dpop("thumbprint-of-key-1".into())));
    assert_eq!(proof(&restarted), "signed-with key-1 nonce none");
    let key = LoginKey::from(Identity::new("dpop"));
    let (record, _) = store.load(&key).await.unwrap().unwrap();
    assert!(record.login.unwrap().refresh_token.is_none());
}
