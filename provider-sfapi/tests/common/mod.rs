//! What the tests share.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "it is part of tests")]

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use keyfob_auth_core::{Context, testing::FakeClock};
use keyfob_idp::server::{
    Algorithm, AssertionAudience, AuthorizationServer, Client, Settings, SigningKey, VerificationKey,
};
use keyfob_provider_sfapi::{Sfapi, SfapiBuilder};
use openssl::pkey::PKey;
use serde_json::{Map, Value};
use tempfile::TempDir;

pub(crate) const CLIENT: &str = "fakeclientid1";

/// A server that knows one client by its key, and files with that key.
pub(crate) struct Nersc {
    pub(crate) server: AuthorizationServer,
    pub(crate) key: SigningKey,
    pub(crate) folder: TempDir,
}

impl Nersc {
    pub(crate) async fn start() -> Self {
        Self::with(|settings| settings).await
    }

    pub(crate) async fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let key = SigningKey::generate(Algorithm::Rs256);
        let client = Client::with_keys(CLIENT, vec![VerificationKey::jwk(key.jwk())]);
        let settings =
            Settings { assertion_audience: AssertionAudience::TokenEndpoint, ..Settings::default() };
        let server = AuthorizationServer::start(change(settings.with_client(client))).await;
        Self { server, key, folder: tempfile::tempdir().unwrap() }
    }

    /// The key as PKCS#1, as Iris gives it.
    pub(crate) fn pem(&self) -> String {
        pkcs1(&self.key)
    }

    /// A file of this content, private to its owner.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, content).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        path
    }

    /// The file that Iris gives.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.file("key.pem", &format!("{CLIENT}\n{}", self.pem()))
    }

    pub(crate) fn by_file(&self, path: &std::path::Path) -> SfapiBuilder {
        Sfapi::from_key_file(path.to_str().unwrap()).token_url(self.server.token_endpoint())
    }

    pub(crate) fn provider(&self) -> Sfapi {
        self.by_file(&self.key_file()).build(&Context::new()).unwrap()
    }
}

/// The key as PKCS#1.
pub(crate) fn pkcs1(key: &SigningKey) -> String {
    let key = PKey::private_key_from_pem(key.pkcs8_pem().as_bytes()).unwrap();
    String::from_utf8(key.rsa().unwrap().private_key_to_pem().unwrap()).unwrap()
}

/// The private key as a JWK, with this in it besides.
pub(crate) fn private_jwk(key: &SigningKey) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    let rsa = PKey::private_key_from_pem(key.pkcs8_pem().as_bytes()).unwrap().rsa().unwrap();
    let number = |number: &openssl::bn::BigNumRef| URL_SAFE_NO_PAD.encode(number.to_vec());
    serde_json::json!({
        "kty": "RSA", "n": number(rsa.n()), "e": number(rsa.e()), "d": number(rsa.d()),
        "p": number(rsa.p().unwrap()), "q": number(rsa.q().unwrap()), "dp": number(rsa.dmp1().unwrap()),
        "dq": number(rsa.dmq1().unwrap()), "qi": number(rsa.iqmp().unwrap()),
    })
}

/// A context whose time the test moves, from now on.
pub(crate) fn at_will() -> (Arc<FakeClock>, Context) {
    let clock = FakeClock::new();
    let context = Context::builder().clock(clock.clock()).build();
    let ahead = context.clock().wall().duration_since(SystemTime::now()).unwrap();
    clock.set_back(ahead);
    (clock, context)
}

/// The server's own clock is not moved: assertions say that they were made when the test began.
pub(crate) fn made_now(builder: SfapiBuilder, context: &Context) -> SfapiBuilder {
    let now = context.clock().wall().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = [("iat".to_owned(), now.into()), ("exp".to_owned(), (now + 300).into())];
    builder.assertion_claims(claims.into_iter().collect::<Map<String, Value>>())
}
