//! MSAL's cache: one file, all accounts and clients in it, entries of kinds that we do not know.

use std::{
    any::Any,
    sync::{Arc, Mutex},
};

use keyfob_auth_core::{
    ExposeSecret, Identity, Login, Session, TokenStore, async_trait,
    store::{Capacity, Lease, LoginKey, Record, Saved, StoreError, StoreInfo, TryLease, Version},
    testing::ScriptedProvider,
};
use serde_json::{Value, json};

use super::*;

#[derive(Clone, Debug)]
struct MsalFile {
    json: Arc<Mutex<Value>>,
    locked: Arc<Mutex<()>>,
}

/// MSAL's key of a refresh token: the account part comes from the file, for the identity has none.
fn entry<'a>(file: &'a Value, key: &LoginKey) -> Option<(&'a String, &'a Value)> {
    let host = key.issuer().trim_start_matches("https://").split('/').next()?;
    file["RefreshToken"]
        .as_object()?
        .iter()
        .find(|(_, entry)| entry["client_id"] == key.client() && entry["environment"] == host)
}

fn record(entry: &Value) -> (Record, Version) {
    let secret = entry["secret"].as_str().unwrap().to_owned();
    // One file, many records: the version must be the entry's, or every neighbour's write would be a conflict.
    let version = Version::new(secret.clone());
    (Record::with_login(Login { reusable: true, ..Login::with_refresh_token(secret) }), version)
}

#[async_trait]
impl TokenStore for MsalFile {
    async fn load(&self, key: &LoginKey) -> Result<Option<(Record, Version)>, StoreError> {
        Ok(entry(&self.json.lock().unwrap(), key).map(|(_, entry)| record(entry)))
    }

    async fn save(
        &self,
        key: &LoginKey,
        new: Option<&Record>,
        expected: Option<&Version>,
        _: Option<&dyn Lease>,
    ) -> Result<Saved, StoreError> {
        let mut json = self.json.lock().unwrap();
        let found = entry(&json, key).map(|(name, entry)| (name.clone(), record(entry)));
        if found.as_ref().map(|(_, (_, version))| version) != expected {
            return Ok(Saved::Conflict(found.map(|(_, (record, version))| (Box::new(record), version))));
        }
        let name = found
            .map_or_else(|| format!("uid.utid-{}-refreshtoken-{}--", key.issuer(), key.client()), |f| f.0);
        let tokens = json["RefreshToken"].as_object_mut().unwrap();
        let refresh = new.and_then(|r| r.login.as_ref()).and_then(|l| l.refresh_token.as_ref());
        let Some(refresh) = refresh else {
            tokens.remove(&name);
            return Ok(Saved::Written(Version::new("")));
        };
        tokens[&name]["secret"] = json!(refresh.expose_secret());
        Ok(Saved::Written(Version::new(refresh.expose_secret())))
    }

    async fn try_lease(&self, _: &LoginKey) -> Result<TryLease, StoreError> {
        // One lock for the whole file, whatever the key: coarser than asked for, which is allowed.
        let _ = &self.locked;
        Ok(TryLease::Held(Box::new(FileLock)))
    }

    fn describe(&self) -> StoreInfo {
        let mut keeps = Capacity::default();
        keeps.attempts = false;
        keeps.access_tokens = false;
        let mut info = StoreInfo::new("msal");
        info.keeps = keeps;
        info
    }
}

#[derive(Debug)]
struct FileLock;

#[async_trait]
impl Lease for FileLock {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[tokio::test(start_paused = true)]
async fn one_file_serves_many_accounts_and_keeps_what_it_does_not_know() {
    let token = |client: &str, secret: &str| json!({ "secret": secret, "client_id": client, "environment": "login.example", "future_field": 7 });
    let (alice, bob) = (ScriptedProvider::attended().reusable(), ScriptedProvider::attended().reusable());
    let alices = alice.issue().login.unwrap().refresh_token.unwrap();
    let bobs = bob.issue().login.unwrap().refresh_token.unwrap();
    let file = MsalFile {
        json: Arc::new(Mutex::new(json!({
            "RefreshToken": {
                "a-login.example-refreshtoken-client-a--": token("client-a", alices.expose_secret()),
                "b-login.example-refreshtoken-client-b--": token("client-b", bobs.expose_secret()),
            },
            "AppMetadata": { "x": 1 },
            "FutureKind": { "y": 2 },
        }))),
        locked: Arc::default(),
    };
    let context = process();
    let session = |provider: &ScriptedProvider, client: &str| {
        let identity = Identity::new("azure").issuer("https://login.example/tenant").client(client);
        let provider = provider.clone().with_identity(identity);
        Session::new(Arc::new(provider), Arc::new(file.clone()), &context).unwrap()
    };
    let (a, b) = (session(&alice, "client-a"), session(&bob, "client-b"));
    let (one, other) = tokio::join!(a.token(), b.token());
    assert!(one.is_ok() && other.is_ok());
    assert!(b.logout().await.unwrap().was_logged_in);
    let json = file.json.lock().unwrap();
    assert_eq!(json["RefreshToken"].as_object().unwrap().len(), 1);
    assert_eq!(json["RefreshToken"]["a-login.example-refreshtoken-client-a--"]["future_field"], 7);
    assert_eq!((&json["AppMetadata"]["x"], &json["FutureKind"]["y"]), (&json!(1), &json!(2)));
}
