//! Exchanges with a server that judges assertions: by key, audience, life, and each id once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{CLIENT, Nersc, pkcs1, private_jwk};
use keyfob_auth_core::{
    Context, CredentialProvider, ErrorKind, ExposeSecret, Presentation, SecretString, Session, TokenRequest,
    registry::SecretSource, store::MemoryStore, testing::FakeClock,
};
use keyfob_idp::server::{Algorithm, Client, Endpoint, Fault, Settings, SigningKey, VerificationKey};
use keyfob_provider_sfapi::Sfapi;
use serde_json::{Map, Value, json};

/// Header and claims of the assertion in a form.
fn assertion(form: Option<&str>) -> (Value, Map<String, Value>) {
    let parts: Vec<_> = form.unwrap().split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    (serde_json::from_slice(&parts[0]).unwrap(), serde_json::from_slice(&parts[1]).unwrap())
}

#[tokio::test]
async fn the_same_fields_as_the_real_clients_in_every_form_of_the_key() {
    let recorded: Value = serde_json::from_str(include_str!("data/wire.json")).unwrap();
    let nersc = Nersc::start().await;
    let jwk = private_jwk(&nersc.key);
    let mut named = jwk.clone();
    named["kid"] = json!("a-name");
    named["alg"] = json!("RS256");
    let json_file = |jwk: &Value| json!({"client_id": CLIENT, "secret": jwk}).to_string();
    let pem = format!("{CLIENT}\n{}", nersc.pem());
    for (name, file, content) in [
        ("sfapi-client", "a.pem", pem.clone()),
        ("sfapi-keyfile-pem", "b.pem", pem.replace('\n', "\r\n")),
        ("sfapi-keyfile-json", "c.json", json_file(&jwk)),
        ("sfapi-keyfile-jwk-with-kid", "d.json", json_file(&named)),
        // Refused by the real client, and clear enough.
        ("sfapi-keyfile-json", "e.json", json_file(&Value::String(jwk.to_string()))),
    ] {
        let recorded = &recorded[name];
        nersc.server.reset_counters();
        let provider = nersc.by_file(&nersc.file(file, &content)).build(&Context::new()).unwrap();
        let acquired = provider.acquire(&TokenRequest::default(), None).await.unwrap();
        assert!(acquired.login.is_none());

        let sent = nersc.server.requests();
        assert_eq!(sent.len(), 1, "{name}: one request, and nothing discovered");
        for field in ["grant_type", "client_assertion_type"] {
            assert_eq!(sent[0].parameter(field), recorded[field].as_str(), "{name}");
        }
        let fields: Vec<_> = recorded["form"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for field in ["client_id", "scope", "client_secret"] {
            assert_eq!(sent[0].parameter(field).is_some(), fields.contains(&field), "{name}: {field}");
        }
        let (header, claims) = assertion(sent[0].parameter("client_assertion"));
        assert_eq!(header, recorded["header"], "{name}: no kid, even where the JWK has one");
        let mut names: Vec<_> = claims.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(json!(names), recorded["claims"], "{name}");
        assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some(CLIENT), Some(CLIENT)));
        assert_eq!(claims["aud"].as_str(), Some(nersc.server.token_endpoint().as_str()));
        // Where theirs lives for an hour.
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 300);

        let Presentation::Header(header, value) = provider.present(&acquired.access, None).unwrap() else {
            panic!("a header")
        };
        let presented = format!(
            "{} {}",
            recorded["authorization"].as_str().unwrap(),
            acquired.access.secret().expose_secret()
        );
        assert_eq!((header.as_str(), value.to_str().unwrap()), ("authorization", presented.as_str()));
    }
}

#[tokio::test]
async fn the_hand_made_form_by_setting() {
    let recorded: Value = serde_json::from_str(include_str!("data/wire.json")).unwrap();
    let recorded = &recorded["nersc-curl-recipe"];
    let nersc = Nersc::with(|settings| Settings { assertion_jti_required: false, ..settings }).await;
    let provider =
        nersc.by_file(&nersc.key_file()).bare_assertions(true).scheme("").build(&Context::new()).unwrap();
    let acquired = provider.acquire(&TokenRequest::default(), None).await.unwrap();
    let sent = nersc.server.requests();
    let (header, claims) = assertion(sent[0].parameter("client_assertion"));
    // `typ` is ours: every reader passes over it that does not want it (RFC 7519 section 5.1).
    assert_eq!(header, json!({"alg": recorded["header"]["alg"], "typ": "JWT"}));
    let mut names: Vec<_> = claims.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(json!(names), recorded["claims"]);
    let Presentation::Header(_, value) = provider.present(&acquired.access, None).unwrap() else {
        panic!("a header")
    };
    assert_eq!(recorded["authorization"], "");
    assert_eq!(value.to_str().unwrap(), acquired.access.secret().expose_secret(), "the bare token");
}

#[tokio::test]
async fn lifetime_and_claims_can_be_changed() {
    let nersc = Nersc::start().await;
    let mut more = Map::new();
    more.insert("purpose".into(), json!("test"));
    let provider = nersc
        .by_file(&nersc.key_file())
        .assertion_lifetime(Duration::from_secs(60))
        .assertion_claims(more)
        .scopes(["read"])
        .build(&Context::new())
        .unwrap();
    provider.acquire(&TokenRequest::default(), None).await.unwrap();
    let sent = nersc.server.requests();
    assert_eq!(sent[0].parameter("scope"), Some("read"));
    let (_, claims) = assertion(sent[0].parameter("client_assertion"));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
    assert_eq!(claims["purpose"], "test");
}

#[tokio::test]
async fn every_assertion_has_an_id_of_its_own_and_none_is_a_replay() {
    let nersc = Nersc::start().await;
    let provider = nersc.provider();
    for _ in 0..5 {
        provider.acquire(&TokenRequest::default(), None).await.unwrap();
    }
    assert_eq!((nersc.server.counters().token, nersc.server.counters().replays), (5, 0));
    let sent = nersc.server.requests();
    let ids: std::collections::BTreeSet<_> =
        sent.iter().map(|sent| assertion(sent.parameter("client_assertion")).1["jti"].to_string()).collect();
    assert_eq!(ids.len(), 5);
}

#[tokio::test]
async fn one_exchange_for_all_callers() {
    let nersc = Nersc::start().await;
    nersc.server.faults().push(Endpoint::Token, Fault::Delay(Duration::from_millis(100)));
    let session =
        Session::new(Arc::new(nersc.provider()), Arc::new(MemoryStore::new()), &Context::new()).unwrap();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let session = session.clone();
            tokio::spawn(async move { session.token().await.unwrap().secret().to_owned() })
        })
        .collect();
    let mut tokens = std::collections::BTreeSet::new();
    for task in tasks {
        tokens.insert(task.await.unwrap());
    }
    assert_eq!((tokens.len(), nersc.server.counters().token), (1, 1));
}

#[tokio::test]
async fn a_replaced_key_file_is_used_without_a_restart_even_of_another_client() {
    let other = SigningKey::generate(Algorithm::Rs256);
    let jwk = other.jwk();
    let nersc = Nersc::with(|settings| {
        settings.with_client(Client::with_keys("otherclient01", vec![VerificationKey::jwk(jwk)]))
    })
    .await;
    let provider = nersc.provider();
    let revision = provider.secret_revision();
    provider.acquire(&TokenRequest::default(), None).await.unwrap();
    nersc.file("key.pem", &format!("otherclient01\n{}\n", pkcs1(&other)));
    assert_ne!(provider.secret_revision(), revision, "a refusal is tried again at once");
    provider.acquire(&TokenRequest::default(), None).await.unwrap();
    let clients: Vec<_> = nersc
        .server
        .requests()
        .iter()
        .map(|sent| assertion(sent.parameter("client_assertion")).1["iss"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(clients, [CLIENT, "otherclient01"]);
}

#[tokio::test]
async fn refusals_speak_of_iris_and_overloads_are_transient() {
    let nersc = Nersc::start().await;
    let stranger = SigningKey::generate(Algorithm::Rs256);
    let file = nersc.file("stranger.pem", &format!("{CLIENT}\n{}", pkcs1(&stranger)));
    let provider = nersc.by_file(&file).build(&Context::new()).unwrap();
    let error = provider.acquire(&TokenRequest::default(), None).await.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("invalid_client")));
    assert!(error.message().contains("Iris") && error.message().contains(CLIENT), "{error}");
    assert_eq!(error.provider(), Some("sfapi"));
    let file = nersc.file("wrong-id.pem", &format!("wrongclientid\n{}", nersc.pem()));
    let error =
        nersc.by_file(&file).build(&Context::new()).unwrap().acquire(&TokenRequest::default(), None).await;
    let error = error.unwrap_err();
    assert!(error.message().contains("the key of client wrongclientid"), "{error}");

    let provider = nersc.provider();
    for status in [429, 502, 503, 504] {
        nersc.server.faults().push(Endpoint::Token, Fault::status(status));
        let error = provider.acquire(&TokenRequest::default(), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{status}: the session asks again, with backoff");
    }
}

#[tokio::test]
async fn another_algorithm_by_setting() {
    for (algorithm, key) in [("PS256", Algorithm::Ps256), ("ES256", Algorithm::Es256)]
        .map(|(name, of)| (name, SigningKey::generate(of)))
    {
        let keys = vec![VerificationKey::jwk(key.jwk())];
        let client = Client::with_keys("otherclient01", keys);
        let nersc = Nersc::with(|settings| settings.with_client(client)).await;
        let file = nersc.file("key.pem", &format!("otherclient01\n{}", key.pkcs8_pem()));
        let provider = nersc.by_file(&file).signing_alg(algorithm).build(&Context::new()).unwrap();
        provider.acquire(&TokenRequest::default(), None).await.unwrap();
        let (header, _) = assertion(nersc.server.requests()[0].parameter("client_assertion"));
        assert_eq!(header, json!({"alg": algorithm, "typ": "JWT"}));
    }
    let nersc = Nersc::start().await;
    let provider = nersc.by_file(&nersc.key_file()).signing_alg("RS257").build(&Context::new()).unwrap();
    let error = provider.acquire(&TokenRequest::default(), None).await.unwrap_err();
    assert!(error.to_string().contains("signing_alg"), "{error}");
}

#[tokio::test]
async fn a_clock_that_is_off_is_allowed_for_and_told_of() {
    let nersc = Nersc::start().await;
    let clock = FakeClock::new();
    let context = Context::builder().clock(clock.clock()).build();
    let now = || context.clock().wall();
    clock.set_back(now().duration_since(std::time::SystemTime::now()).unwrap() + Duration::from_secs(1000));
    let provider = nersc.by_file(&nersc.key_file()).build(&context).unwrap();
    provider.acquire(&TokenRequest::default(), None).await.unwrap();
    assert_eq!(nersc.server.counters().token, 2, "the first answer told the time");
    provider.acquire(&TokenRequest::default(), None).await.unwrap();
    assert_eq!(nersc.server.counters().token, 3);

    let stranger = SigningKey::generate(Algorithm::Rs256);
    let file = nersc.file("stranger.pem", &format!("{CLIENT}\n{}", pkcs1(&stranger)));
    let stranger = nersc.by_file(&file).build(&context).unwrap();
    let shown = stranger.acquire(&TokenRequest::default(), None).await.unwrap_err().to_string();
    // `Date` has no fractions.
    let told = [999, 1000, 1001].map(|off| format!("it is {off} s behind NERSC's"));
    assert!(told.iter().any(|told| shown.contains(told)), "{shown}");
    clock.set_forward(Duration::from_secs(2000));
    stranger.acquire(&TokenRequest::default(), None).await.unwrap_err();
    let shown = stranger.acquire(&TokenRequest::default(), None).await.unwrap_err().to_string();
    assert!(shown.contains("s ahead of NERSC's"), "{shown}");
}

#[tokio::test]
async fn keys_from_elsewhere_and_none_at_all() {
    let nersc = Nersc::start().await;
    let url = nersc.server.token_endpoint();
    let context = Context::new();
    let literal = |text: String| SecretSource::Literal(SecretString::from(text));
    for key in [nersc.pem(), private_jwk(&nersc.key).to_string()] {
        let provider = Sfapi::new(CLIENT, literal(key)).token_url(&url).build(&context).unwrap();
        provider.acquire(&TokenRequest::default(), None).await.unwrap();
    }
    assert_eq!(nersc.server.counters().token, 2);
    let provider = Sfapi::from_key_file("/nowhere/at/all").token_url(&url).build(&context).unwrap();
    let error = provider.acquire(&TokenRequest::default(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured, "public endpoints are for everybody: {error}");
    let error = Sfapi::from_env().token_url("http://api.example/token").build(&context).unwrap_err();
    assert!(error.to_string().contains("the token URL must be an https URL"), "{error}");
}
