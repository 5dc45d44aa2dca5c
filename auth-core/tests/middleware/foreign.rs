//! Clients that keyfob did not build.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, Uri};
use keyfob_auth_core::{
    AuthError, Binding, ErrorKind, RequestSigner,
    authorize::Origins,
    middleware::{AuthMiddleware, auth_error},
};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};

use crate::support::{Scripted, Server, reply, token};

fn foreign(provider: &Scripted, origins: &[&Server]) -> ClientWithMiddleware {
    let origins = Origins::parse(origins.iter().map(|server| &server.origin)).unwrap();
    let theirs = reqwest::ClientBuilder::new().no_proxy().build().unwrap();
    ClientBuilder::new(theirs)
        .with(AuthMiddleware::dangerously_for_foreign_client(provider.session(), origins))
        .build()
}

#[derive(Debug)]
struct Signer;

impl RequestSigner for Signer {
    fn sign(&self, _: &Method, _: &Uri) -> Result<HeaderMap, AuthError> {
        panic!("asked to sign for a foreign client")
    }

    fn observe(&self, _: &Uri, _: StatusCode, _: &HeaderMap) -> bool {
        false
    }
}

#[tokio::test]
async fn an_authorization_header_is_put_on_and_renewed() {
    let server = Server::accepting(&["t2"], "Bearer error=invalid_token").await;
    let provider = Scripted::counting();
    assert_eq!(foreign(&provider, &[&server]).get(server.url("/x")).send().await.unwrap().status(), 200);
    assert_eq!((server.tokens().len(), provider.count()), (2, 2));
}

#[tokio::test]
async fn anything_else_is_refused_and_nothing_sent() {
    let (server, other) = (Server::ok().await, Server::ok().await);
    let bound = Scripted::answering(|n, _| Ok(token(n).with_binding(Binding::Certificate("abc".into()))));
    for provider in [Scripted::in_header("x-api-key"), Scripted::signing(&Arc::new(Signer)), bound] {
        let client = foreign(&provider, &[&server]);
        let error = client.get(server.url("/x")).send().await.unwrap_err();
        assert_eq!(auth_error(&error).unwrap().kind(), ErrorKind::Configuration);
        assert_eq!(client.get(other.url("/x")).send().await.unwrap().status(), 200);
    }
    assert_eq!((server.seen().len(), other.seen().len()), (0, 3));
}

#[tokio::test]
async fn a_401_at_the_end_of_its_own_redirects_invalidates_nothing() {
    let second = Server::accepting(&[], "Bearer error=invalid_token").await;
    let first = Server::start({
        let to = second.url("/y");
        move |seen| if seen.path == "/x" { reply(302, &[("location", &to)]) } else { reply(200, &[]) }
    })
    .await;
    let provider = Scripted::counting();
    let client = foreign(&provider, &[&first, &second]);
    assert_eq!(client.get(first.url("/x")).send().await.unwrap().status(), 401);
    assert_eq!(second.tokens(), [None]);
    client.get(first.url("/ok")).send().await.unwrap();
    assert_eq!((first.tokens(), provider.count()), (vec![Some("t1".into()), Some("t1".into())], 1));
}
