//! The USNAN SDK's token file: read and written as the SDK does, and shared with it.
#![cfg(unix)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and skips visibly"
)]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use keyfob_auth_core::{
    AuthError, Context, ErrorKind, ExposeSecret, Identity, Login, Session, TokenStore, async_trait,
    registry::{Settings, Value},
    store::{Lease, LoginKey, Record, Saved, StoreError, StoreErrorKind, StoreInfo, TryLease, Version},
    testing::{self, FakeClock, ScriptedProvider},
};
use keyfob_provider_keycloak::usnan::{CLIENT_ID, ISSUER, UsnanStore};
use tokio::runtime::Handle;

/// As the real SDK wrote it.
const RECORDED: &str = include_str!("data/usnan-tokens.json");

fn identity() -> Identity {
    Identity::new("keycloak").issuer(ISSUER).client(CLIENT_ID).label("usnan")
}

fn key() -> LoginKey {
    identity().into()
}

fn place() -> (tempfile::TempDir, PathBuf, UsnanStore) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("usnan/tokens.json");
    let store = UsnanStore::open(&path).unwrap();
    (folder, path, store)
}

/// As the SDK writes: in place, and without a lock.
fn sdk_writes(path: &Path, token: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{{\"refresh_token\": \"{token}\"}}")).unwrap();
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

async fn load(store: &UsnanStore) -> Option<(Record, Version)> {
    store.load(&key()).await.unwrap()
}

async fn save(store: &UsnanStore, record: Option<&Record>, expected: Option<&Version>) -> Version {
    match store.save(&key(), record, expected, None).await.unwrap() {
        Saved::Written(version) => version,
        Saved::Conflict(there) => panic!("{there:?} is there"),
    }
}

fn refresh_token(record: &Record) -> Option<&str> {
    Some(record.login.as_ref()?.refresh_token.as_ref()?.expose_secret())
}

/// A file of its own for every key, so that the suite's free keys have a place.
#[derive(Debug)]
struct PerKey(PathBuf);

impl PerKey {
    fn of(&self, key: &LoginKey) -> UsnanStore {
        let path = self.0.join(key.fingerprint()).join("tokens.json");
        UsnanStore::open(path).unwrap().of(key.issuer(), key.client())
    }
}

#[async_trait]
impl TokenStore for PerKey {
    async fn load(&self, key: &LoginKey) -> Result<Option<(Record, Version)>, StoreError> {
        self.of(key).load(key).await
    }

    async fn save(
        &self,
        key: &LoginKey,
        record: Option<&Record>,
        expected: Option<&Version>,
        lease: Option<&dyn Lease>,
    ) -> Result<Saved, StoreError> {
        self.of(key).save(key, record, expected, lease).await
    }

    async fn try_lease(&self, key: &LoginKey) -> Result<TryLease, StoreError> {
        self.of(key).try_lease(key).await
    }

    fn describe(&self) -> StoreInfo {
        UsnanStore::open(self.0.join("tokens.json")).unwrap().describe()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_sdks_file_conforms() {
    let folder = tempfile::tempdir().unwrap();
    testing::store::all(Arc::new(PerKey(folder.path().to_path_buf()))).await;
}

#[tokio::test]
async fn the_recorded_file_is_read_and_written_as_the_sdk_does() {
    let (_folder, path, store) = place();
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, RECORDED).unwrap();
    let (mut record, version) = load(&store).await.unwrap();
    assert_eq!(refresh_token(&record), Some("fake-usnan-refresh-1"));
    let login = record.login.as_mut().unwrap();
    login.refresh_token = Some("fake-usnan-refresh-2".to_owned().into());
    let version = save(&store, Some(&record), Some(&version)).await;
    assert_eq!(text(&path).unwrap(), RECORDED.replace("refresh-1", "refresh-2"));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "the SDK's own mode");
    assert_eq!(save(&store, None, Some(&version)).await.as_str(), "none");
    assert_eq!(text(&path), None);
    // Made anew, it is the SDK's file byte for byte.
    save(&store, Some(&Record::with_login(Login::with_refresh_token("fake-usnan-refresh-1"))), None).await;
    assert_eq!(text(&path).unwrap(), RECORDED);
}

#[tokio::test]
async fn unknown_members_stay_even_when_the_login_goes() {
    let (_folder, path, store) = place();
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, r#"{"version": 2, "refresh_token": "r1", "more": {"a":1}}"#).unwrap();
    let (mut record, version) = load(&store).await.unwrap();
    record.login.as_mut().unwrap().refresh_token = Some("r2".to_owned().into());
    let version = save(&store, Some(&record), Some(&version)).await;
    assert_eq!(text(&path).unwrap(), r#"{"version": 2, "refresh_token": "r2", "more": {"a":1}}"#);
    save(&store, None, Some(&version)).await;
    assert_eq!(text(&path).unwrap(), r#"{"version": 2, "more": {"a":1}}"#);
    assert!(load(&store).await.is_none());
}

#[tokio::test]
async fn what_makes_no_sense_is_told_and_left_alone() {
    for content in ["", "marker", "[]", "{\"refresh_token\": 5}", "{\"refresh_token\": \"marker", "\0\0\0"] {
        let (_folder, path, store) = place();
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(60);
        fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        let record = Record::with_login(Login::with_refresh_token("r"));
        for error in [
            store.load(&key()).await.unwrap_err(),
            store.save(&key(), Some(&record), None, None).await.unwrap_err(),
            store.save(&key(), None, None, None).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{content}");
            let message = error.to_string();
            for part in [&*path.to_string_lossy(), "the token file of the USNAN SDK", "move it away"] {
                assert!(message.contains(part), "{message}");
            }
            assert!(!format!("{error:?}").contains("marker"), "{error:?}");
        }
        assert_eq!(text(&path).unwrap(), content);
    }
}

#[tokio::test]
async fn another_clients_login_is_refused_wherever_it_is_asked_for() {
    let (_folder, path, store) = place();
    sdk_writes(&path, "r1");
    for other in [
        identity().issuer("https://evil.example/realms/nmrhub"),
        identity().client("other"),
        identity().issuer(""),
        Identity::new("keycloak"),
    ] {
        let key = LoginKey::from(other);
        let record = Record::with_login(Login::with_refresh_token("r2"));
        for error in [
            store.load(&key).await.unwrap_err(),
            store.save(&key, Some(&record), None, None).await.unwrap_err(),
            store.try_lease(&key).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), StoreErrorKind::Unsupported);
            assert!(error.to_string().contains(ISSUER), "{error}");
        }
    }
    assert!(store.load(&identity().issuer(format!("{ISSUER}/")).into()).await.unwrap().is_some());
    let here = store.of("https://kc.example/realms/r", "c");
    assert_eq!(here.load(&key()).await.unwrap_err().kind(), StoreErrorKind::Unsupported);
    let own = identity().issuer("https://kc.example/realms/r").client("c");
    assert!(here.load(&own.into()).await.unwrap().is_some());
}

#[test]
fn settings_name_the_file_and_whose_it_is() {
    let text = |text: &str| Value::String(text.into());
    let settings = Settings::new("profile.a.store")
        .with("path", text("/somewhere/tokens.json"), None)
        .with("issuer", text("https://kc.example/realms/r"), None)
        .with("client_id", text("c"), None);
    let store = UsnanStore::from_settings(&settings, &Context::new()).unwrap();
    settings.finish().unwrap();
    let info = store.describe();
    assert_eq!((info.kind.as_str(), info.location.as_deref()), ("usnan", Some("/somewhere/tokens.json")));
    assert!(format!("{store:?}").contains("kc.example"));
    let default = UsnanStore::from_settings(&Settings::new("profile.a.store"), &Context::new()).unwrap();
    assert!(default.describe().location.unwrap().ends_with("usnan/tokens.json"));
    assert!(UsnanStore::open("").is_err());
}

/// A process of its own: another context, on the test's paused time.
fn session(provider: &ScriptedProvider, path: &Path) -> Session {
    let context = Context::builder().executor(Handle::current()).clock(FakeClock::new().clock()).build();
    let provider = provider.clone().with_identity(identity());
    Session::new(Arc::new(provider), Arc::new(UsnanStore::open(path).unwrap()), &context).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_login_of_the_sdk_is_restored_and_rotates_in_its_file() {
    let (_folder, path, _) = place();
    let provider = ScriptedProvider::attended();
    let token = provider.issue().login.unwrap().refresh_token.unwrap();
    sdk_writes(&path, token.expose_secret());
    let first = session(&provider, &path).token().await.unwrap();
    assert_eq!(text(&path).unwrap(), r#"{"refresh_token": "refresh-2"}"#);
    // A second process has no need to rotate it again.
    let second = session(&provider, &path).token().await.unwrap();
    assert_eq!(first.secret(), second.secret());
    assert_eq!((provider.exchanges(), provider.reuses()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_login_of_ours_is_the_sdks() {
    let (_folder, path, _) = place();
    let provider = ScriptedProvider::attended();
    let session = session(&provider, &path);
    session.adopt(provider.issue()).await.unwrap();
    assert_eq!(text(&path).unwrap(), r#"{"refresh_token": "refresh-1"}"#);
    session.refresh().await.unwrap();
    assert_eq!(text(&path).unwrap(), r#"{"refresh_token": "refresh-2"}"#);
    session.logout().await.unwrap();
    assert_eq!((text(&path), provider.revocations()), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn the_sdks_rotation_without_a_lock_is_followed() {
    let (_folder, path, _) = place();
    let provider = ScriptedProvider::attended();
    let session = session(&provider, &path);
    session.adopt(provider.issue()).await.unwrap();
    let theirs = provider.issue().login.unwrap().refresh_token.unwrap();
    sdk_writes(&path, theirs.expose_secret());
    assert_eq!(session.refresh().await.unwrap().secret(), "access-3");
    assert_eq!(text(&path).unwrap(), r#"{"refresh_token": "refresh-3"}"#);
    assert_eq!((provider.exchanges(), provider.reuses()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_file_goes_only_with_the_very_token_that_was_refused() {
    let (_folder, path, _) = place();
    let provider = ScriptedProvider::attended();
    let session = session(&provider, &path);
    session.adopt(provider.issue()).await.unwrap();
    provider.fail_always(Some(AuthError::transient("down").with_status(503)));
    assert!(session.refresh().await.is_err());
    assert!(text(&path).is_some(), "a 503 deletes nothing");
    provider.fail_always(None);
    provider.log_out_at_server();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(session.refresh().await.unwrap_err().kind(), ErrorKind::LoginRequired);
    assert_eq!(text(&path), None);
    // The verdict is beside it, for the next process; a login of the SDK's ends it.
    let asked = provider.exchanges();
    let other = crate::session(&provider, &path);
    let error = other.refresh().await.unwrap_err();
    assert_eq!((error.kind(), provider.exchanges()), (ErrorKind::LoginRequired, asked));
    assert!(error.to_string().contains("the server refused its refresh token"), "{error}");
    sdk_writes(&path, provider.issue().login.unwrap().refresh_token.unwrap().expose_secret());
    assert!(crate::session(&provider, &path).token().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_the_sdk_wrote_during_our_exchange_is_not_overwritten() {
    let (_folder, path, _) = place();
    let provider = ScriptedProvider::attended();
    let session = session(&provider, &path);
    session.adopt(provider.issue()).await.unwrap();
    provider.close_gate();
    let renewal = tokio::spawn({
        let session = session.clone();
        async move { session.refresh().await }
    });
    // The exchange is under way once its attempt is on record.
    let beside = path.with_file_name("tokens.json.keyfob.json");
    while !text(&beside).is_some_and(|text| text.contains("pending")) {
        tokio::task::yield_now().await;
    }
    let theirs = provider.issue().login.unwrap().refresh_token.unwrap();
    sdk_writes(&path, theirs.expose_secret());
    provider.open_gate();
    let _ = renewal.await.unwrap();
    assert_eq!(text(&path).unwrap(), format!("{{\"refresh_token\": \"{}\"}}", theirs.expose_secret()));
}

#[tokio::test]
async fn a_file_that_the_sdk_left_open_to_others_is_used_and_closed() {
    let (_folder, path, store) = place();
    sdk_writes(&path, "r1");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let (mut record, version) = load(&store).await.unwrap();
    record.login.as_mut().unwrap().refresh_token = Some("r2".to_owned().into());
    save(&store, Some(&record), Some(&version)).await;
    for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
}
