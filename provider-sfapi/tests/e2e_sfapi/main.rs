//! Key files and requests with NERSC's own client, sfapi_client 0.6.0; runs when `KEYFOB_E2E=sfapi` is set.
//!
//! NERSC is not asked: both speak to the embedded server, which judges assertions and takes each id once.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Barrier, OnceLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{CLIENT, Nersc, at_will, made_now, pkcs1, private_jwk};
use keyfob_auth_core::{
    AuthError, Context, CredentialProvider as _, ErrorKind, Session, TokenRequest, authorize::Origins,
    middleware::AuthClient, store::MemoryStore,
};
use keyfob_idp::{
    python::{Environment, say},
    server::{Algorithm, Client, Endpoint, Fault, RecordedRequest, Settings, SigningKey, VerificationKey},
};
use keyfob_provider_sfapi::{Sfapi, SfapiBuilder};
use openssl::{pkey::PKey, symm::Cipher};
use serde_json::{Map, Value, json};

const GROUP: &str = "sfapi";
const PACKAGE: &str = "sfapi_client==0.6.0";
/// How many threads ask at once.
const THREADS: usize = 10;

/// What every script begins with. Its arguments are the token URL, the API's URL, and its own.
const PRELUDE: &str = "\
import json, os, sys, threading
from sfapi_client import Client
say = lambda value: print(json.dumps(value))
def client(**how):
    return Client(token_url=sys.argv[1], api_base_url=sys.argv[2], **how)
def outcome(**how):
    try:
        return client(**how).get('echo').json()['client_id']
    except Exception as error:
        return type(error).__name__
";

/// NERSC, and its own client.
struct Peer {
    nersc: Nersc,
    environment: Environment,
}

impl Peer {
    async fn start() -> Option<Self> {
        static ENVIRONMENT: OnceLock<Option<Environment>> = OnceLock::new();
        let make = || Environment::for_tests(GROUP, PACKAGE, env!("CARGO_TARGET_TMPDIR"));
        let environment = ENVIRONMENT.get_or_init(make).clone()?;
        let change = |settings: Settings| Settings {
            access_token_lifetime: Duration::from_secs(600),
            // Their assertions live for an hour.
            assertion_longest_lifetime: Duration::from_secs(3600),
            ..settings
        };
        Some(Self { nersc: Nersc::with(change).await, environment })
    }

    fn api(&self, path: &str) -> String {
        format!("{}/api{path}", self.nersc.server.issuer())
    }

    /// What a script says, as JSON.
    async fn run(&self, script: &str, arguments: &[&str]) -> Value {
        let mut command = self.environment.python();
        command.args([
            "-c",
            &format!("{PRELUDE}\n{script}"),
            &self.nersc.server.token_endpoint(),
            &self.api(""),
        ]);
        command.args(arguments).env("HOME", self.nersc.folder.path()).env("NO_PROXY", "127.0.0.1");
        // Off the runtime, which has to serve.
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}\n{err}");
        serde_json::from_str(out.trim()).unwrap_or_else(|error| panic!("{error}: {out:?}\n{err}"))
    }

    /// What becomes of a call with this key file in their client: the client's id, or the name of the error.
    async fn theirs(&self, key: &Path) -> String {
        let outcome = self.run("say(outcome(key=sys.argv[3]))", &[key.to_str().unwrap()]).await;
        outcome.as_str().unwrap().to_owned()
    }

    /// Likewise in ours.
    async fn ours(&self, key: &Path) -> Result<String, AuthError> {
        let provider = self.nersc.by_file(key).build(&Context::new()).unwrap();
        // The error as it is, past the HTTP client.
        provider.acquire(&TokenRequest::default(), None).await?;
        self.nersc.server.reset_counters();
        Ok(self.call(self.nersc.by_file(key), "/echo").await["client_id"].as_str().unwrap().to_owned())
    }

    /// An API call by ours, with a token if there is one.
    async fn call(&self, provider: SfapiBuilder, path: &str) -> Value {
        let context = Context::new();
        let provider = Arc::new(provider.build(&context).unwrap());
        let session = Session::new(provider, Arc::new(MemoryStore::new()), &context).unwrap();
        let origins = Origins::new().if_logged_in(self.nersc.server.issuer()).unwrap();
        let client = AuthClient::builder(session).origins(origins).http(reqwest::ClientBuilder::no_proxy);
        let request = client.build().unwrap().get(self.api(path)).header("accept", "application/json");
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
    }

    fn requests(&self) -> Vec<RecordedRequest> {
        self.nersc.server.requests()
    }
}

/// Header and claims of the assertion in a token request.
fn assertion(request: &RecordedRequest) -> (Value, Map<String, Value>) {
    let text = request.parameter("client_assertion").unwrap();
    let part = |index| URL_SAFE_NO_PAD.decode(text.split('.').nth(index).unwrap()).unwrap();
    (serde_json::from_slice(&part(0)).unwrap(), serde_json::from_slice(&part(1)).unwrap())
}

fn assert_the_same_token_request(theirs: &RecordedRequest, ours: &RecordedRequest) {
    let names = |request: &RecordedRequest| -> BTreeSet<String> {
        request.form.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(ours), names(theirs));
    for name in ["grant_type", "client_assertion_type"] {
        assert_eq!(ours.parameter(name), theirs.parameter(name));
    }
    let media_type = |request: &RecordedRequest| {
        request.header("content-type").and_then(|text| text.split(';').next().map(str::to_owned))
    };
    assert_eq!(media_type(ours), media_type(theirs));
    for name in ["accept", "authorization"] {
        assert_eq!(ours.header(name), theirs.header(name));
    }
    assert_eq!((&ours.method, &ours.path), (&theirs.method, &theirs.path));

    let ((their_header, theirs), (our_header, ours)) = (assertion(theirs), assertion(ours));
    assert_eq!(our_header, their_header);
    assert_eq!(ours.keys().collect::<BTreeSet<_>>(), theirs.keys().collect::<BTreeSet<_>>());
    for claim in ["iss", "sub", "aud"] {
        assert_eq!(ours[claim], theirs[claim]);
    }
    assert_ne!(ours["jti"], theirs["jti"]);
    let life =
        |claims: &Map<String, Value>| claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!((life(&theirs), life(&ours)), (3600, 300), "the one thing that is meant to differ");
}

fn assert_the_same_call(theirs: &RecordedRequest, ours: &RecordedRequest) {
    assert_eq!((&ours.method, &ours.path), (&theirs.method, &theirs.path));
    assert_eq!(ours.header("accept"), theirs.header("accept"));
    let scheme = |request: &RecordedRequest| {
        request.header("authorization").map(|value| value.split_once(' ').unwrap().0.to_owned())
    };
    assert_eq!(scheme(ours), scheme(theirs));
}

#[tokio::test]
async fn both_read_the_same_key_files_and_send_the_same() {
    let Some(peer) = Peer::start().await else { return };
    let nersc = &peer.nersc;
    let (pem, pkcs8, jwk) = (nersc.pem(), nersc.key.pkcs8_pem(), private_jwk(&nersc.key));
    let mut named = jwk.clone();
    for (member, value) in [("kid", "a-name"), ("use", "sig"), ("alg", "RS256")] {
        named[member] = json!(value);
    }
    let json_file = |secret: Value| json!({"client_id": CLIENT, "secret": secret}).to_string();
    for (name, content) in [
        ("pkcs1.pem", format!("{CLIENT}\n{pem}")),
        ("pkcs8.pem", format!("{CLIENT}\n{pkcs8}")),
        ("crlf.pem", format!("{CLIENT}\n{pem}").replace('\n', "\r\n")),
        ("spaces.pem", format!("  {CLIENT}  \n\n{pem}\n")),
        ("no-extension", format!("{CLIENT}\n{pem}")),
        ("jwk.json", json_file(jwk)),
        ("named-jwk.json", json_file(named)),
        ("pem.json", json_file(pem.clone().into())),
    ] {
        let file = nersc.file(name, &content);
        nersc.server.reset_counters();
        assert_eq!(peer.theirs(&file).await, CLIENT, "{name}");
        let theirs = peer.requests();
        assert_eq!(peer.ours(&file).await.unwrap(), CLIENT, "{name}");
        let ours = peer.requests();
        assert_eq!((theirs.len(), ours.len()), (2, 2), "{name}: a token request and a call");
        assert_the_same_token_request(&theirs[0], &ours[0]);
        assert_the_same_call(&theirs[1], &ours[1]);
        assert_eq!(ours[1].header("authorization").unwrap().split(' ').next(), Some("Bearer"));
        let counters = nersc.server.counters();
        assert_eq!((counters.replays, counters.invalid_client), (0, 0));
    }
}

#[tokio::test]
async fn ours_reads_some_files_more_and_none_less() {
    let Some(peer) = Peer::start().await else { return };
    let nersc = &peer.nersc;
    let pem = nersc.pem();
    let good = format!("{CLIENT}\n{pem}");
    let jwk = private_jwk(&nersc.key);
    let quoted = json!({"client_id": CLIENT, "secret": jwk.to_string()}).to_string();
    let stranger = format!("{CLIENT}\n{}", pkcs1(&SigningKey::generate(Algorithm::Rs256)));
    let parsed = PKey::private_key_from_pem(pem.as_bytes()).unwrap();
    let encrypted = parsed.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"passphrase").unwrap();
    let encrypted = format!("{CLIENT}\n{}", String::from_utf8(encrypted).unwrap());
    let cut: String = good.chars().take(good.len() / 2).collect();
    for (name, mode, content, theirs, ours) in [
        ("good.pem", 0o600, good.clone(), CLIENT, None),
        // What is clear enough.
        ("strict.pem", 0o400, good.clone(), "ClientKeyError", None),
        ("tab.pem", 0o600, format!("{CLIENT}\t\n{pem}"), "ClientKeyError", None),
        ("first-line.pem", 0o600, format!("\n{good}"), "ClientKeyError", None),
        ("quoted.json", 0o600, quoted, "", None),
        // What neither takes.
        ("group.pem", 0o640, good.clone(), "ClientKeyError", Some("chmod 600")),
        ("all.pem", 0o644, good.clone(), "ClientKeyError", Some("chmod 600")),
        ("executable.pem", 0o700, good.clone(), "ClientKeyError", Some("chmod 600")),
        ("empty.pem", 0o600, String::new(), "ClientKeyError", Some("empty")),
        ("no-id.pem", 0o600, pem.clone(), "ClientKeyError", Some("which client")),
        ("cut.pem", 0o600, cut, "", Some("END")),
        ("cut.json", 0o600, "{\"client_id\":".into(), "JSONDecodeError", Some("whole")),
        ("encrypted.pem", 0o600, encrypted, "", Some("passphrase")),
        ("stranger.pem", 0o600, stranger, "OAuthError", Some("Iris")),
    ] {
        let file = nersc.file(name, &content);
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let outcome = peer.theirs(&file).await;
        assert!(outcome == theirs || theirs.is_empty() && outcome != CLIENT, "{name}: theirs: {outcome}");
        match (peer.ours(&file).await, ours) {
            (Ok(client), None) => assert_eq!(client, CLIENT, "{name}"),
            (Err(error), Some(said)) => assert!(error.to_string().contains(said), "{name}: {error}"),
            (outcome, _) => panic!("{name}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn an_id_of_another_length_is_an_error_of_theirs_alone() {
    let Some(Peer { environment, .. }) = Peer::start().await else { return };
    let key = SigningKey::generate(Algorithm::Rs256);
    let client = Client::with_keys("short", vec![VerificationKey::jwk(key.jwk())]);
    let nersc = Nersc::with(|settings| settings.with_client(client)).await;
    let file = nersc.file("short.pem", &format!("short\n{}", pkcs1(&key)));
    let peer = Peer { nersc, environment };
    assert_eq!(peer.theirs(&file).await, "ClientKeyError");
    assert_eq!(peer.ours(&file).await.unwrap(), "short");
}

#[tokio::test]
async fn neither_sends_a_token_without_a_key() {
    let Some(peer) = Peer::start().await else { return };
    assert_eq!(peer.run("say(client().get('public').json()['authorization'])", &[]).await, false);
    let absent = Sfapi::from_key_file(peer.nersc.folder.path().join("absent").to_str().unwrap());
    assert_eq!(peer.call(absent, "/public").await["authorization"], false);
    let requests = peer.requests();
    assert_eq!(requests.len(), 2, "and no token request");
    assert_the_same_call(&requests[0], &requests[1]);
}

#[tokio::test]
async fn threads_at_expiry_cause_several_exchanges_of_theirs_and_one_of_ours() {
    let Some(peer) = Peer::start().await else { return };
    let nersc = &peer.nersc;
    let file = nersc.key_file();
    nersc.server.faults().set_always(Endpoint::Token, Some(Fault::Delay(Duration::from_millis(300))));
    let script = "
nersc = client(key=sys.argv[3])
nersc.token
nersc._Client__http_client.token['expires_at'] = 0
barrier = threading.Barrier(int(sys.argv[4]))
def ask():
    barrier.wait()
    nersc.token
threads = [threading.Thread(target=ask) for _ in range(barrier.parties)]
for thread in threads: thread.start()
for thread in threads: thread.join()
say(None)";
    peer.run(script, &[file.to_str().unwrap(), &THREADS.to_string()]).await;
    let theirs = nersc.server.counters().token - 1;

    nersc.server.reset_counters();
    let (clock, context) = at_will();
    let provider = made_now(nersc.by_file(&file), &context).build(&context).unwrap();
    let session = Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap();
    session.token().await.unwrap();
    clock.advance(Duration::from_secs(600));
    let ask = move || {
        let barrier = Barrier::new(THREADS);
        let one = || {
            barrier.wait();
            session.token_blocking().unwrap().secret().to_owned()
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<BTreeSet<_>>()
        })
    };
    let tokens = tokio::task::spawn_blocking(ask).await.unwrap();
    let ours = nersc.server.counters().token - 1;
    say(GROUP, &format!("exchanges of {THREADS} threads at expiry: theirs {theirs}, ours {ours}"));
    assert!(theirs > 1, "theirs: {theirs}");
    assert_eq!((ours, tokens.len()), (1, 1));
    assert_eq!(nersc.server.counters().replays, 0);
}

#[tokio::test]
async fn neither_asks_twice_where_the_key_is_refused() {
    let Some(peer) = Peer::start().await else { return };
    let stranger = SigningKey::generate(Algorithm::Rs256);
    let file = peer.nersc.file("stranger.pem", &format!("{CLIENT}\n{}", pkcs1(&stranger)));
    assert_eq!(peer.theirs(&file).await, "OAuthError");
    let error = peer.ours(&file).await.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("invalid_client")));
    let requests = peer.requests();
    assert_eq!(requests.len(), 2);
    assert_the_same_token_request(&requests[0], &requests[1]);
}

/// The key that the other process is to use.
const ROLE: &str = "KEYFOB_E2E_SFAPI_KEY";
const URL: &str = "KEYFOB_E2E_SFAPI_URL";

#[tokio::test]
async fn both_find_the_same_file_by_a_nickname() {
    let Some(peer) = Peer::start().await else { return };
    let nersc = &peer.nersc;
    let folder: PathBuf = nersc.folder.path().join(".superfacility");
    fs::create_dir(&folder).unwrap();
    for name in ["prod.pem", "test-a.pem", "test-b"] {
        fs::rename(nersc.key_file(), folder.join(name)).unwrap();
    }
    for (key, found) in [
        ("prod", true),
        ("pro", true),
        ("prod.pem", true),
        ("test-b", true),
        ("~/.superfacility/prod.pem", true),
        ("test", false),
        ("live", false),
    ] {
        assert_eq!(peer.theirs(Path::new(key)).await, if found { CLIENT } else { "ClientKeyError" }, "{key}");
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "gets_a_token"]).env(ROLE, key).env(URL, nersc.server.token_endpoint());
        child.env("HOME", nersc.folder.path());
        let status = tokio::task::spawn_blocking(move || child.output().unwrap().status).await.unwrap();
        assert_eq!(status.success(), found, "{key}");
    }
}

/// A part for the other process, and no test.
#[tokio::test]
async fn gets_a_token() {
    let (Ok(key), Ok(url)) = (env::var(ROLE), env::var(URL)) else { return };
    let provider = Sfapi::from_key_file(key).token_url(url).build(&Context::new()).unwrap();
    provider.acquire(&TokenRequest::default(), None).await.unwrap();
}
