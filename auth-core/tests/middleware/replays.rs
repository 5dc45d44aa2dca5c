//! What a 401 brings about: one renewal, one replay, or nothing.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use keyfob_auth_core::{AccessToken, AuthError, ErrorKind, authorize::Origins, middleware::auth_error};

use crate::support::{Scripted, Server, reply, token};

const INVALID: &str = r#"Bearer realm="api", error="invalid_token""#;

fn some(tokens: &[&str]) -> Vec<Option<String>> {
    tokens.iter().map(|token| Some((*token).to_owned())).collect()
}

#[tokio::test]
async fn a_401_costs_one_renewal_and_one_replay() {
    for challenge in [INVALID, "Bearer", "Negotiate, Bearer realm=\"a, b\"", "Basic realm=x", "\"nonsense"] {
        let server = Server::accepting(&["t2"], challenge).await;
        let provider = Scripted::counting();
        let client = provider.client(&[&server]);
        let answer = client.post(server.url("/x")).body("body").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{challenge}");
        assert_eq!(server.tokens(), some(&["t1", "t2"]));
        assert!(server.seen().iter().all(|seen| seen.body == "body" && seen.method == "POST"));
        assert_eq!(provider.count(), 2);
        client.get(server.url("/x")).send().await.unwrap();
        assert_eq!((server.seen().len(), provider.count()), (3, 2));
    }
}

#[tokio::test]
async fn ten_401s_with_one_token_cost_one_renewal() {
    // Every request is held until all have come with the first token.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (barrier, requests) = (Arc::new(tokio::sync::Barrier::new(10)), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&requests);
    let handler = move |headers: http::HeaderMap| {
        let (barrier, requests) = (Arc::clone(&barrier), Arc::clone(&counter));
        async move {
            requests.fetch_add(1, Ordering::SeqCst);
            if headers["authorization"] != "Bearer t1" {
                return reply(200, &[]);
            }
            barrier.wait().await;
            reply(401, &[("www-authenticate", INVALID)])
        }
    };
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(handler)).await });
    let provider = Scripted::counting();
    let client = provider.builder(Origins::parse([&origin]).unwrap()).build().unwrap();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let request = client.get(&origin);
            tokio::spawn(async move { request.send().await.unwrap().status() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!((requests.load(Ordering::SeqCst), provider.count()), (20, 2));
}

#[tokio::test]
async fn a_second_401_is_delivered() {
    let server = Server::accepting(&[], INVALID).await;
    let provider = Scripted::counting();
    let client = provider.client(&[&server]);
    let answer = client.get(server.url("/x")).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.text().await.unwrap(), "answer");
    assert_eq!((server.tokens(), provider.count()), (some(&["t1", "t2"]), 2));
}

#[tokio::test]
async fn an_api_that_refuses_everything_does_not_become_a_renewal_per_request() {
    let server = Server::accepting(&[], INVALID).await;
    let provider = Scripted::counting();
    let client = provider.client(&[&server]);
    for _ in 0..20 {
        assert_eq!(client.get(server.url("/x")).send().await.unwrap().status(), 401);
    }
    assert!(provider.count() <= 3, "{} renewals", provider.count());
}

#[tokio::test]
async fn the_same_token_again_is_not_sent_again() {
    let server = Server::accepting(&[], INVALID).await;
    let provider = Scripted::answering(|_, _| Ok(AccessToken::new("literal").expires_in(3600)));
    let client = provider.client(&[&server]);
    let answer = client.get(server.url("/x")).send().await;
    // The API's own answer, unless the session says that it has nothing better in a way that takes a person.
    assert_eq!(answer.unwrap().status(), 401);
    assert_eq!(server.tokens(), some(&["literal"]));
}

#[tokio::test]
async fn a_401_from_an_unlisted_origin_invalidates_nothing() {
    let other = Server::accepting(&[], INVALID).await;
    let listed = Server::start({
        let to = other.url("/y");
        move |seen| if seen.path == "/x" { reply(302, &[("location", &to)]) } else { reply(200, &[]) }
    })
    .await;
    let provider = Scripted::counting();
    let client = provider.client(&[&listed]);
    for url in [listed.url("/x"), other.url("/z")] {
        assert_eq!(client.get(url).send().await.unwrap().status(), 401);
    }
    assert_eq!(client.get(listed.url("/ok")).send().await.unwrap().status(), 200);
    assert_eq!(other.tokens(), [None, None]);
    assert_eq!((listed.tokens(), provider.count()), (some(&["t1", "t1"]), 1));
}

#[tokio::test]
async fn one_replay_over_all_hops() {
    let second = Server::accepting(&[], INVALID).await;
    let first = Server::start({
        let to = second.url("/y");
        move |seen| match seen.token() {
            Some("t1") => reply(401, &[("www-authenticate", INVALID)]),
            _ => reply(307, &[("location", &to)]),
        }
    })
    .await;
    let provider = Scripted::counting();
    let client = provider.client(&[&first, &second]);
    let answer = client.post(first.url("/x")).body("body").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.url().as_str()), (401, second.url("/y").as_str()));
    assert_eq!((first.tokens(), second.tokens()), (some(&["t1", "t2"]), some(&["t2"])));
    assert_eq!(second.seen()[0].body, "body");
    assert_eq!(provider.count(), 2);
}

#[tokio::test]
async fn a_stream_is_not_replayed_but_its_token_is_retired() {
    let server = Server::accepting(&["t2"], INVALID).await;
    let provider = Scripted::counting();
    let client = provider.client(&[&server]);
    let stream = reqwest::Body::from(reqwest::Response::from(http::Response::new("stream")));
    let answer = client.post(server.url("/x")).body(stream).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), server.seen().len(), provider.count()), (401, 1, 1));
    assert_eq!(client.get(server.url("/x")).send().await.unwrap().status(), 200);
    assert_eq!((server.tokens(), provider.count()), (some(&["t1", "t2"]), 2));
}

#[tokio::test]
async fn replays_can_be_turned_off() {
    let server = Server::accepting(&["t2"], INVALID).await;
    for redirects in [0, 10] {
        let before = server.seen().len();
        let provider = Scripted::counting();
        let origins = Origins::parse([&server.origin]).unwrap();
        let client = provider.builder(origins).replay(false).redirects(redirects).build().unwrap();
        assert_eq!(client.get(server.url("/x")).send().await.unwrap().status(), 401);
        assert_eq!((server.seen().len() - before, provider.count()), (1, 1));
        assert_eq!(client.get(server.url("/x")).send().await.unwrap().status(), 200);
        assert_eq!((server.seen().len() - before, provider.count()), (2, 2));
    }
}

#[tokio::test]
async fn rfc6750_3_1_insufficient_scope_and_invalid_request_are_delivered_without_a_renewal() {
    for (status, error) in [
        (403, "insufficient_scope"),
        (401, "insufficient_scope"),
        (401, "invalid_request"),
        (400, "invalid_request"),
        (403, "invalid_token"),
    ] {
        let server = Server::start(move |_| {
            reply(status, &[("www-authenticate", &format!(r#"Bearer error="{error}", scope="more""#))])
        })
        .await;
        let provider = Scripted::counting();
        let client = provider.client(&[&server]);
        for _ in 0..2 {
            assert_eq!(client.get(server.url("/x")).send().await.unwrap().status().as_u16(), status);
        }
        assert_eq!((server.tokens(), provider.count()), (some(&["t1", "t1"]), 1), "{status} {error}");
    }
}

#[tokio::test]
async fn a_renewal_that_fails_is_the_callers_error_unless_it_was_refused() {
    for (kind, delivered) in [
        (ErrorKind::LoginRequired, false),
        (ErrorKind::InteractionRequired, false),
        (ErrorKind::Transient, false),
        (ErrorKind::Refused, true),
    ] {
        let server = Server::accepting(&[], INVALID).await;
        let provider =
            Scripted::answering(
                move |n, _| if n == 1 { Ok(token(1)) } else { Err(AuthError::new(kind, "no other")) },
            );
        match provider.client(&[&server]).get(server.url("/x")).send().await {
            Ok(answer) => assert!(delivered && answer.status() == 401, "{kind:?}"),
            Err(error) => {
                assert!(!delivered && auth_error(&error).unwrap().kind() == kind, "{kind:?}: {error}");
            }
        }
        assert_eq!((server.seen().len(), provider.count()), (1, 2), "{kind:?}");
    }
}

#[tokio::test]
async fn where_a_login_is_optional_a_lost_one_is_done_without() {
    let server = Server::start(|seen| match seen.token() {
        None => reply(200, &[]),
        Some(_) => reply(401, &[("www-authenticate", INVALID)]),
    })
    .await;
    let provider =
        Scripted::answering(
            |n, _| if n == 1 { Ok(token(1)) } else { Err(AuthError::login_required("gone")) },
        );
    let client = provider.builder(Origins::new().if_logged_in(&server.origin).unwrap()).build().unwrap();
    assert_eq!(client.get(server.url("/x")).send().await.unwrap().status(), 200);
    assert_eq!(server.tokens(), [Some("t1".into()), None]);
}

#[tokio::test]
async fn rfc9728_5_1_a_challenge_that_names_resource_metadata_is_a_401_like_any_other_and_nothing_is_fetched()
{
    let elsewhere = Server::ok().await;
    let metadata = elsewhere.url("/.well-known/oauth-protected-resource");
    let challenge: &'static str =
        format!(r#"Bearer error="invalid_token", resource_metadata="{metadata}""#).leak();
    let server = Server::accepting(&["t2"], challenge).await;
    let provider = Scripted::counting();
    assert_eq!(provider.client(&[&server]).get(server.url("/x")).send().await.unwrap().status(), 200);
    assert_eq!((server.tokens(), provider.count()), (some(&["t1", "t2"]), 2));
    assert_eq!(elsewhere.seen().len(), 0, "who refuses a token does not say where the next comes from");
}

#[tokio::test]
async fn a_claims_challenge_is_handed_to_the_provider_once() {
    const CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;
    let challenge: &'static str =
        format!(r#"Bearer realm="", error="insufficient_claims", claims="{}""#, STANDARD.encode(CLAIMS))
            .leak();
    for (accepted, status) in [(&["t2"][..], 200), (&[], 401)] {
        let server = Server::accepting(accepted, challenge).await;
        let provider = Scripted::counting();
        let answer = provider.client(&[&server]).get(server.url("/x")).send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!((server.tokens(), provider.count()), (some(&["t1", "t2"]), 2));
        let challenges = provider.challenges();
        assert_eq!(challenges.len(), 1);
        assert_eq!(challenges[0].claims.as_deref(), Some(CLAIMS));
        assert_eq!(challenges[0].error.as_deref(), Some("insufficient_claims"));
    }
}

#[tokio::test]
async fn a_challenge_that_brings_the_same_token_again_is_not_worth_a_replay() {
    let server =
        Server::accepting(&[], r#"Bearer error="insufficient_user_authentication", max_age=5"#).await;
    let provider = Scripted::answering(|_, _| Ok(AccessToken::new("literal").expires_in(3600)));
    assert_eq!(provider.client(&[&server]).get(server.url("/x")).send().await.unwrap().status(), 401);
    assert_eq!((server.tokens(), provider.count()), (some(&["literal"]), 2));
}

#[tokio::test]
async fn rfc9470_3_a_step_up_is_the_callers_error_with_the_challenge_and_sent_once() {
    const STEP_UP: &str = r#"Bearer error="insufficient_user_authentication", error_description="more, please", acr_values="gold", max_age=5"#;
    let server = Server::accepting(&["t2"], STEP_UP).await;
    let provider = Scripted::answering(|count, request| match &request.challenge {
        None => Ok(token(count)),
        Some(challenge) => {
            Err(AuthError::interaction_required("sign in again").with_challenge(challenge.clone()))
        }
    });
    let client = provider.client(&[&server]);
    let error = client.get(server.url("/x")).send().await.unwrap_err();
    let error = auth_error(&error).unwrap();
    assert_eq!(error.kind(), ErrorKind::InteractionRequired);
    let challenge = error.challenge().unwrap();
    assert_eq!(challenge.acr_values.as_deref(), Some("gold"));
    assert_eq!(challenge.max_age.unwrap().as_secs(), 5);
    assert_eq!((server.seen().len(), provider.count()), (1, 2));
}
