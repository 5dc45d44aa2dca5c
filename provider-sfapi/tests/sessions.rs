//! What sessions make of the provider: ten-minute tokens, overloads, requests without a key.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use common::{CLIENT, Nersc, at_will, made_now, pkcs1};
use keyfob_auth_core::{
    Context, CredentialProvider, ErrorKind, Session,
    authorize::Origins,
    middleware::{AuthClient, auth_error},
    store::MemoryStore,
};
use keyfob_idp::server::{Algorithm, Endpoint, Fault, Settings, SigningKey};
use keyfob_provider_sfapi::{API_ORIGIN, API_URL, Sfapi};

fn session(provider: impl CredentialProvider + 'static, context: &Context) -> Session {
    Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), context).unwrap()
}

/// The tokens that so many callers get who ask at once.
async fn asked_by(callers: usize, session: &Session) -> BTreeSet<String> {
    let ask = |session: Session| async move { session.token().await.unwrap().secret().to_owned() };
    let tasks: Vec<_> = (0..callers).map(|_| tokio::spawn(ask(session.clone()))).collect();
    let mut tokens = BTreeSet::new();
    for task in tasks {
        tokens.insert(task.await.unwrap());
    }
    tokens
}

#[tokio::test]
async fn a_ten_minute_token_is_renewed_before_its_end_once_for_everybody() {
    let life = Duration::from_secs(600);
    let nersc = Nersc::with(|settings| Settings { access_token_lifetime: life, ..settings }).await;
    let (clock, context) = at_will();
    let provider = made_now(nersc.by_file(&nersc.key_file()), &context).build(&context).unwrap();
    let session = session(provider, &context);
    let slowly = || {
        let fault = Fault::Delay(Duration::from_millis(100));
        nersc.server.faults().push(Endpoint::Token, fault);
    };
    slowly();
    let first = asked_by(50, &session).await;
    assert_eq!((first.len(), nersc.server.counters().token), (1, 1));

    clock.advance(Duration::from_secs(500));
    assert_eq!(asked_by(50, &session).await, first);
    assert!(context.drain(Duration::from_secs(10)).await, "nothing is under way");
    assert_eq!(nersc.server.counters().token, 1, "good for long enough");

    // In the last minute: nobody waits, and the next token comes beside.
    clock.advance(Duration::from_secs(45));
    slowly();
    assert_eq!(asked_by(50, &session).await, first);
    assert!(context.drain(Duration::from_secs(10)).await);
    let second = asked_by(50, &session).await;
    assert!(second.len() == 1 && second != first);
    assert_eq!(nersc.server.counters().token, 2);

    // Nobody asked in time: all wait for one exchange.
    clock.advance(life);
    slowly();
    let third = asked_by(50, &session).await;
    assert!(third.len() == 1 && third != second);
    let counters = nersc.server.counters();
    assert_eq!((counters.token, counters.invalid_client, counters.replays), (3, 0, 0));
}

#[tokio::test]
async fn an_overloaded_server_is_asked_again_after_a_pause() {
    let nersc = Nersc::start().await;
    for (fault, pauses) in [
        (Fault::status(429), [1, 2]),
        (Fault::status(502), [1, 2]),
        (Fault::status(503), [1, 2]),
        (Fault::status(504), [1, 2]),
        (Fault::too_many_requests(Some(20)), [20, 20]),
    ] {
        nersc.server.reset_counters();
        let (clock, context) = at_will();
        let provider = made_now(nersc.by_file(&nersc.key_file()), &context).build(&context).unwrap();
        let session = session(provider, &context);
        nersc.server.faults().push_times(Endpoint::Token, &fault, 2);
        for (asked, pause) in (1..).zip(pauses) {
            assert_eq!(session.token().await.unwrap_err().kind(), ErrorKind::Transient);
            let pause = Duration::from_secs(pause);
            clock.advance(pause / 5);
            let error = session.token().await.unwrap_err();
            assert_eq!(
                (error.kind(), nersc.server.counters().token),
                (ErrorKind::Transient, asked),
                "{fault:?}"
            );
            // The pauses have a quarter more by chance.
            clock.advance(pause * 21 / 20);
        }
        session.token().await.unwrap();
        assert_eq!(nersc.server.counters().token, 3, "{fault:?}");
    }
}

#[tokio::test]
async fn a_key_that_is_replaced_after_a_refusal_is_tried_at_once() {
    let nersc = Nersc::start().await;
    let deleted = SigningKey::generate(Algorithm::Rs256);
    let file = nersc.file("key.pem", &format!("{CLIENT}\n{}", pkcs1(&deleted)));
    let (_, context) = at_will();
    let session = session(nersc.by_file(&file).build(&context).unwrap(), &context);
    for _ in 0..3 {
        let error = session.token().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Refused && error.message().contains("Iris"), "{error}");
    }
    assert_eq!(nersc.server.counters().token, 1, "the refusal is remembered");
    nersc.key_file();
    session.token().await.unwrap();
    assert_eq!(nersc.server.counters().token, 2);
}

#[tokio::test]
async fn a_good_token_is_served_through_an_overload() {
    let life = Duration::from_secs(600);
    let nersc = Nersc::with(|settings| Settings { access_token_lifetime: life, ..settings }).await;
    let (clock, context) = at_will();
    let provider = made_now(nersc.by_file(&nersc.key_file()), &context).build(&context).unwrap();
    let session = session(provider, &context);
    let first = asked_by(1, &session).await;
    nersc.server.faults().set_always(Endpoint::Token, Some(Fault::status(503)));
    clock.advance(Duration::from_secs(560));
    assert_eq!(asked_by(20, &session).await, first);
    assert!(context.drain(Duration::from_secs(10)).await);
    assert_eq!(asked_by(20, &session).await, first);
    assert_eq!(nersc.server.counters().token, 2);
}

/// A client for the server's API, whose public part needs no token.
fn client(provider: Sfapi, nersc: &Nersc) -> AuthClient {
    let origins = Origins::new().if_logged_in(nersc.server.issuer()).unwrap();
    let session = session(provider, &Context::new());
    AuthClient::builder(session).origins(origins).http(reqwest::ClientBuilder::no_proxy).build().unwrap()
}

#[tokio::test]
async fn public_endpoints_need_no_key() {
    let nersc = Nersc::start().await;
    let url = |path: &str| format!("{}{path}", nersc.server.issuer());
    let context = Context::new();
    let absent = nersc.folder.path().join("absent.pem");
    // The environment of tests has no key of NERSC's.
    for builder in [Sfapi::from_key_file(absent.to_str().unwrap()), Sfapi::from_env()] {
        let client =
            client(builder.token_url(nersc.server.token_endpoint()).build(&context).unwrap(), &nersc);
        let answer = client.get(url("/api/public")).send().await.unwrap().text().await.unwrap();
        assert!(answer.contains(r#""authorization":false"#), "{answer}");
        assert_eq!(client.get(url("/api/echo")).send().await.unwrap().status(), 401);
    }
    // A key that cannot be used does not turn its owner into nobody.
    for (name, content) in
        [("empty.pem", ""), ("cut.pem", "fakeclientid1\n-----BEGIN RSA PRIVATE KEY-----\n")]
    {
        let client = client(nersc.by_file(&nersc.file(name, content)).build(&context).unwrap(), &nersc);
        let error = client.get(url("/api/public")).send().await.unwrap_err();
        assert_eq!(auth_error(&error).unwrap().kind(), ErrorKind::Configuration, "{name}: {error:?}");
    }
    assert_eq!(nersc.server.counters().token, 0);

    let client = client(nersc.provider(), &nersc);
    let answer = client.get(url("/api/public")).send().await.unwrap().text().await.unwrap();
    assert!(answer.contains(r#""authorization":true"#), "{answer}");
    assert_eq!(client.get(url("/api/echo")).send().await.unwrap().status(), 200);
    assert_eq!(nersc.server.counters().token, 1);
}

#[test]
fn the_origin_is_the_apis() {
    let origins = Origins::parse([API_ORIGIN]).unwrap();
    assert!(origins.covers(&format!("{API_URL}/meta/config").parse::<reqwest::Url>().unwrap()).is_some());
}
