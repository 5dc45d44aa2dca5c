//! A redirect to a login page, where the provider knows it for one, is a refusal and no success.

use keyfob_auth_core::{ErrorKind, middleware::auth_error};

use crate::support::{Scripted, Seen, Server, reply, token};

/// Sends everybody to the login page whose token is not this one.
async fn gate(taken: Option<&'static str>) -> Server {
    Server::start(move |seen: &Seen| match seen.token() {
        _ if seen.path == "/login" => reply(200, &[]),
        token if token.is_some() && token == taken => reply(200, &[]),
        _ => reply(302, &[("location", "/login")]),
    })
    .await
}

fn paths(server: &Server) -> Vec<String> {
    server.seen().iter().map(|seen| format!("{} {}", seen.path, seen.token().unwrap_or_default())).collect()
}

#[tokio::test]
async fn it_costs_one_renewal_and_one_replay() {
    let server = gate(Some("t2")).await;
    let provider = Scripted::counting();
    let answer = provider.client(&[&server]).post(server.url("/x")).body("body").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.url().path()), (200, "/x"));
    assert_eq!((paths(&server), provider.count()), (vec!["/x t1".into(), "/x t2".into()], 2));
    assert!(server.seen().iter().all(|seen| seen.method == "POST" && seen.body == "body"));
}

#[tokio::test]
async fn without_a_better_token_it_is_the_providers_error() {
    let server = gate(None).await;
    // A new token that is refused too, and none but the same.
    for (provider, expected) in [
        (Scripted::counting(), vec!["/x t1", "/x t2"]),
        (Scripted::answering(|_, _| Ok(token(1))), vec!["/x t1"]),
    ] {
        let before = server.seen().len();
        let error = provider.client(&[&server]).get(server.url("/x")).send().await.unwrap_err();
        let error = auth_error(&error).unwrap();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(error.to_string(), "scripted: sent to the login page from /x");
        assert_eq!(paths(&server)[before..], expected, "the login page is not asked for");
        assert_eq!(provider.count(), 2);
    }
}

#[tokio::test]
async fn what_cannot_be_sent_again_is_an_error_at_once() {
    let server = gate(Some("t2")).await;
    let provider = Scripted::counting();
    let client = provider.client(&[&server]);
    let stream = reqwest::Body::from(reqwest::Response::from(http::Response::new("stream")));
    let error = client.post(server.url("/x")).body(stream).send().await.unwrap_err();
    assert_eq!(auth_error(&error).unwrap().kind(), ErrorKind::Refused);
    // The token is retired all the same.
    assert_eq!(client.get(server.url("/x")).send().await.unwrap().status(), 200);
    assert_eq!(paths(&server), ["/x t1", "/x t2"]);
}

#[tokio::test]
async fn requests_without_a_token_and_other_redirects_are_none_of_its_business() {
    let server = gate(None).await;
    let client = Scripted::counting().client(&[&server]);
    let own = client.get(server.url("/x")).header("authorization", "own").send().await.unwrap();
    assert_eq!((own.status().as_u16(), own.url().path()), (200, "/login"));
    let elsewhere = Server::redirecting(302, server.url("/login")).await;
    let answer = Scripted::counting().client(&[&elsewhere]).get(elsewhere.url("/x")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}
