//! usnan's `tokens.json`: a refresh token and nothing else. No access token, no account, no attempt, no version.

use std::{
    any::Any,
    sync::{Arc, Mutex},
};

use keyfob_auth_core::{
    ErrorKind, ExposeSecret, Login, Session, TokenStore, async_trait,
    store::{Capacity, Lease, LoginKey, Reach, Record, Saved, StoreError, StoreInfo, TryLease, Version},
    testing::ScriptedProvider,
};

use super::*;

/// The file's text, shared with a client that knows nothing of us.
#[derive(Clone, Debug, Default)]
struct UsnanFile(Arc<Mutex<Option<String>>>);

impl UsnanFile {
    fn text(&self) -> Option<String> {
        self.0.lock().unwrap().clone()
    }
}

fn parse(text: &str) -> Record {
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    Record::with_login(Login::with_refresh_token(json["refresh_token"].as_str().unwrap()))
}

#[async_trait]
impl TokenStore for UsnanFile {
    async fn load(&self, _: &LoginKey) -> Result<Option<(Record, Version)>, StoreError> {
        // The content is the version: nothing else in the file could be one.
        Ok(self.text().map(|text| (parse(&text), Version::new(text))))
    }

    async fn save(
        &self,
        _: &LoginKey,
        record: Option<&Record>,
        expected: Option<&Version>,
        _: Option<&dyn Lease>,
    ) -> Result<Saved, StoreError> {
        let mut file = self.0.lock().unwrap();
        if file.as_deref() != expected.map(Version::as_str) {
            return Ok(Saved::Conflict(
                file.clone().map(|text| (Box::new(parse(&text)), Version::new(text))),
            ));
        }
        let refresh = record.and_then(|r| r.login.as_ref()).and_then(|l| l.refresh_token.as_ref());
        *file = refresh.map(|token| format!("{{\"refresh_token\": {:?}}}", token.expose_secret()));
        Ok(Saved::Written(Version::new(file.clone().unwrap_or_default())))
    }

    async fn try_lease(&self, _: &LoginKey) -> Result<TryLease, StoreError> {
        Ok(TryLease::Held(Box::new(NoLease)))
    }

    fn describe(&self) -> StoreInfo {
        let mut info = StoreInfo::new("usnan");
        let mut keeps = Capacity::default();
        (keeps.access_tokens, keeps.attempts, keeps.binding_key) = (false, false, false);
        (info.keeps, info.lease) = (keeps, Reach::BestEffort);
        info
    }
}

#[derive(Debug)]
struct NoLease;

#[async_trait]
impl Lease for NoLease {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_is_restored_from_a_refresh_token_alone_and_rotates_in_the_file() {
    let (provider, file) = (ScriptedProvider::attended(), UsnanFile::default());
    let first = Session::new(Arc::new(provider.clone()), Arc::new(file.clone()), &process()).unwrap();
    first.adopt(provider.issue()).await.unwrap();
    assert_eq!(file.text().unwrap(), r#"{"refresh_token": "refresh-1"}"#);
    let restored = Session::new(Arc::new(provider.clone()), Arc::new(file.clone()), &process()).unwrap();
    assert_eq!(restored.token().await.unwrap().secret(), "access-2");
    assert_eq!(file.text().unwrap(), r#"{"refresh_token": "refresh-2"}"#);
    assert_eq!((provider.exchanges(), provider.reuses()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_rotates_without_a_lock_is_followed() {
    let (provider, file) = (ScriptedProvider::attended(), UsnanFile::default());
    let session = Session::new(Arc::new(provider.clone()), Arc::new(file.clone()), &process()).unwrap();
    session.adopt(provider.issue()).await.unwrap();
    let strangers = provider.issue().login.unwrap().refresh_token.unwrap();
    *file.0.lock().unwrap() = Some(format!("{{\"refresh_token\": {:?}}}", strangers.expose_secret()));
    assert_eq!(session.refresh().await.unwrap().secret(), "access-3");
    assert_eq!(provider.reuses(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_file_goes_only_with_the_very_version_that_was_refused() {
    let (provider, file) = (ScriptedProvider::attended(), UsnanFile::default());
    let session = Session::new(Arc::new(provider.clone()), Arc::new(file.clone()), &process()).unwrap();
    session.adopt(provider.issue()).await.unwrap();
    provider.fail_always(Some(keyfob_auth_core::AuthError::transient("down").with_status(503)));
    assert!(session.refresh().await.is_err());
    assert!(file.text().is_some(), "a 503 deletes nothing");
    provider.fail_always(None);
    provider.log_out_at_server();
    tokio::time::sleep(s(2)).await;
    assert_eq!(session.refresh().await.unwrap_err().kind(), ErrorKind::LoginRequired);
    assert_eq!(file.text(), None);
}
