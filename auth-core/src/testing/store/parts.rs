//! What the requirements are made of: keys, records, and calls that must not fail.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::{
    Account, Binding, Identity, Login, RequestKey, Scopes, TokenStore,
    store::{
        Attempt, Lease, LoginKey, MAX_TOKENS, Outcome, Reach, Record, Saved, StoredToken, TryLease, Version,
    },
};

pub(super) const MARKER: &str = "marker-of-a-secret";

pub(super) fn key(label: &str) -> LoginKey {
    let random = fastrand::u128(..);
    Identity::new("conformance")
        .grant("refresh_token")
        .issuer("https://issuer.example")
        .client("client")
        .tenant("tenant")
        .label(format!("conformance-{random:032x}-{label}"))
        .into()
}

pub(super) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(super) fn token(scope: &str, secret: String) -> StoredToken {
    StoredToken {
        request: RequestKey { scopes: [scope.to_owned()].into(), ..RequestKey::default() },
        secret: secret.into(),
        obtained_at: at(1_900_000_000),
        expires_at: Some(at(1_900_000_600)),
        refresh_in: Some(300),
        scopes: Some(Scopes::parse(scope)),
        binding: Binding::None,
    }
}

/// A record with something in every part; the marker is in every secret.
pub(super) fn sample(marker: &str) -> Record {
    let mut login = Login::with_refresh_token(format!("refresh {marker}"));
    login.id_token = Some(format!("id \"{marker}\" \n \u{0} ü").into());
    login.account = Some(Account {
        issuer: Some("https://issuer.example".into()),
        subject: "subject".into(),
        name: Some("Älice".into()),
    });
    login.refresh_expires_at = Some(at(2_000_000_000));
    login.fields.insert("field".into(), format!("field {marker}").into());
    let mut record = Record::with_login(login);
    record.put_token(token("read", format!("read {marker}")));
    record.put_token(token("write", format!("write {marker}")));
    record.attempt = Some(Attempt {
        spent: Some("0123456789abcdef".into()),
        request: RequestKey::default(),
        at: at(1_900_000_000),
        outcome: Outcome::Pending,
        secret_revision: Some(7),
    });
    record
}

pub(super) fn bounds() -> Record {
    let mut record = sample("bounds");
    for number in 0..MAX_TOKENS {
        let letter = char::from(b'a' + u8::try_from(number % 26).unwrap_or_default());
        record.put_token(token(&number.to_string(), letter.to_string().repeat(8 * 1024)));
    }
    record
}

/// A record that carries a number, more than once.
pub(super) fn counted(number: usize) -> Record {
    sample(&format!("{number} {}", number.to_string().repeat(1 + number % 7 * 500)))
}

pub(super) fn count(record: &Record) -> usize {
    let login = record.login.as_ref().expect("a record without its login");
    let refresh = login.refresh_token.as_ref().expect("a login without its refresh token").expose_secret();
    refresh.split(' ').nth(1).expect("another's refresh token").parse().expect("another's refresh token")
}

/// The record as this store may keep it.
pub(super) fn kept(store: &dyn TokenStore, record: &Record) -> Zeroizing<Vec<u8>> {
    let keeps = store.describe().keeps;
    let mut record = record.clone();
    if !keeps.access_tokens {
        record.retain_tokens(|_| false);
    }
    if !keeps.attempts {
        record.attempt = None;
    }
    if let Some(login) = record.login.as_mut().filter(|_| !keeps.binding_key) {
        login.binding_key = None;
    }
    record.to_bytes().expect("a record cannot be written")
}

pub(super) fn assert_same(store: &dyn TokenStore, loaded: &Record, saved: &Record) {
    let (loaded_bytes, saved_bytes) = (kept(store, loaded), kept(store, saved));
    assert!(
        loaded_bytes == saved_bytes,
        "the loaded record is not the saved one:\n{}\nnot\n{}",
        String::from_utf8_lossy(&loaded_bytes),
        String::from_utf8_lossy(&saved_bytes)
    );
}

pub(super) async fn assert_holds(store: &dyn TokenStore, key: &LoginKey, record: &Record, version: &Version) {
    let (loaded, found) = load(store, key).await.expect("the record is gone");
    assert_same(store, &loaded, record);
    assert_eq!(found, *version, "the record has another version than its save told");
}

pub(super) fn assert_conflict(store: &dyn TokenStore, saved: Saved, there: Option<(&Record, &Version)>) {
    match (saved, there) {
        (Saved::Written(_), _) => panic!("a save was written over a version that it did not expect"),
        (Saved::Conflict(None), None) => {}
        (Saved::Conflict(Some((found, version))), Some((record, expected))) => {
            assert_same(store, &found, record);
            assert_eq!(version, *expected, "a conflict tells another version than there is");
        }
        (Saved::Conflict(found), _) => panic!("a conflict tells of something else than is there: {found:?}"),
    }
}

pub(super) async fn load(store: &dyn TokenStore, key: &LoginKey) -> Option<(Record, Version)> {
    store.load(key).await.unwrap_or_else(|error| panic!("a load failed: {error}"))
}

pub(super) async fn save(
    store: &dyn TokenStore,
    key: &LoginKey,
    record: Option<&Record>,
    expected: Option<&Version>,
) -> Saved {
    store.save(key, record, expected, None).await.unwrap_or_else(|error| panic!("a save failed: {error}"))
}

pub(super) fn written(saved: Saved) -> Version {
    match saved {
        Saved::Written(version) => version,
        Saved::Conflict(there) => panic!("a save over the right version is a conflict with {there:?}"),
    }
}

pub(super) async fn create(store: &dyn TokenStore, key: &LoginKey, record: &Record) -> Version {
    written(save(store, key, Some(record), None).await)
}

pub(super) async fn forget(store: &dyn TokenStore, key: &LoginKey) {
    if let Some((_, version)) = load(store, key).await {
        written(save(store, key, None, Some(&version)).await);
    }
}

pub(super) async fn held(store: &dyn TokenStore, key: &LoginKey) -> Box<dyn Lease> {
    match store.try_lease(key).await {
        Ok(TryLease::Held(lease)) => lease,
        Ok(TryLease::Busy { holder }) => panic!("a lease that nobody has is held by {holder:?}"),
        Err(error) => panic!("a lease cannot be asked for: {error}"),
    }
}

pub(super) async fn busy(store: &dyn TokenStore, key: &LoginKey) -> bool {
    match store.try_lease(key).await.unwrap_or_else(|error| panic!("a lease cannot be asked for: {error}")) {
        TryLease::Busy { .. } => true,
        TryLease::Held(lease) => {
            lease.release().await;
            false
        }
    }
}

pub(super) fn best_effort(reach: Reach, requirement: &str) -> bool {
    if reach == Reach::BestEffort {
        eprintln!("skipped: {requirement}: the store promises it to nobody");
    }
    reach == Reach::BestEffort
}
