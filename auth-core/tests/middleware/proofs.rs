//! Signed requests (DPoP, RFC 9449): a proof for every request, nonces learnt from every answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use http::{HeaderMap, Method, StatusCode, Uri};
use keyfob_auth_core::{AuthError, RequestSigner};

use crate::support::{Scripted, Server, reply};

/// Writes into the proof what a real one would sign.
#[derive(Debug, Default)]
struct FakeSigner {
    nonces: Mutex<HashMap<String, String>>,
    observed: Mutex<Vec<u16>>,
}

impl RequestSigner for FakeSigner {
    fn sign(&self, method: &Method, uri: &Uri) -> Result<HeaderMap, AuthError> {
        let nonces = self.nonces.lock().unwrap();
        let nonce = nonces.get(uri.authority().unwrap().as_str()).map_or("-", String::as_str);
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "DPoP token".parse().unwrap());
        headers.insert("dpop", format!("{method} {} {nonce}", uri.path()).parse().unwrap());
        Ok(headers)
    }

    fn observe(&self, uri: &Uri, status: StatusCode, headers: &HeaderMap) -> bool {
        self.observed.lock().unwrap().push(status.as_u16());
        let Some(nonce) = headers.get("dpop-nonce") else { return false };
        let authority = uri.authority().unwrap().to_string();
        self.nonces.lock().unwrap().insert(authority, nonce.to_str().unwrap().to_owned());
        headers
            .get("www-authenticate")
            .is_some_and(|value| value.to_str().unwrap().contains("use_dpop_nonce"))
    }
}

const NONCE: (&str, &str) = ("www-authenticate", r#"Bearer, DPoP error="use_dpop_nonce", algs="ES256""#);

/// Takes only proofs with this nonce.
async fn demanding(nonce: &'static str) -> Server {
    Server::start(move |seen| match seen.header("dpop") {
        Some(proof) if proof.ends_with(nonce) => reply(200, &[("dpop-nonce", nonce)]),
        _ => reply(401, &[NONCE, ("dpop-nonce", nonce)]),
    })
    .await
}

fn proofs(server: &Server) -> Vec<String> {
    server.seen().iter().map(|seen| seen.header("dpop").unwrap_or("none").to_owned()).collect()
}

#[tokio::test]
async fn rfc9449_9_a_nonce_costs_one_replay_and_no_token() {
    let server = demanding("n1").await;
    let signer = Arc::new(FakeSigner::default());
    let provider = Scripted::signing(&signer);
    let client = provider.client(&[&server]);
    assert_eq!(client.post(server.url("/x")).body("body").send().await.unwrap().status(), 200);
    assert_eq!(proofs(&server), ["POST /x -", "POST /x n1"]);
    assert_eq!(server.seen()[1].body, "body");
    assert_eq!(client.get(server.url("/y?q")).send().await.unwrap().status(), 200);
    assert_eq!(proofs(&server)[2], "GET /y n1");
    assert_eq!((server.seen().len(), provider.count()), (3, 1));
    assert_eq!(*signer.observed.lock().unwrap(), [401, 200, 200], "every answer is seen");
}

#[tokio::test]
async fn rfc9449_9_nonces_without_end_cost_one_replay_and_no_token() {
    let server = Server::start(|_| reply(401, &[NONCE, ("dpop-nonce", "another")])).await;
    let provider = Scripted::signing(&Arc::new(FakeSigner::default()));
    let client = provider.client(&[&server]);
    assert_eq!(client.get(server.url("/x")).send().await.unwrap().status(), 401);
    assert_eq!((server.seen().len(), provider.count()), (2, 1));
    assert_eq!(client.get(server.url("/x")).send().await.unwrap().status(), 401);
    assert_eq!((server.seen().len(), provider.count()), (4, 1), "the token was not retired");
}

#[tokio::test]
async fn a_stream_is_not_sent_again_for_a_nonce() {
    let server = demanding("n1").await;
    let provider = Scripted::signing(&Arc::new(FakeSigner::default()));
    let client = provider.client(&[&server]);
    let stream = reqwest::Body::from(reqwest::Response::from(http::Response::new("stream")));
    assert_eq!(client.post(server.url("/x")).body(stream).send().await.unwrap().status(), 401);
    assert_eq!(client.get(server.url("/x")).send().await.unwrap().status(), 200);
    assert_eq!((proofs(&server), provider.count()), (vec!["POST /x -".into(), "GET /x n1".into()], 1));
}

#[tokio::test]
async fn a_nonce_and_then_a_renewal_are_one_replay_each() {
    let server = Server::start(|seen| match seen.header("dpop") {
        Some(proof) if proof.ends_with("n1") => {
            reply(401, &[("www-authenticate", r#"DPoP error="invalid_token""#)])
        }
        _ => reply(401, &[NONCE, ("dpop-nonce", "n1")]),
    })
    .await;
    let provider = Scripted::signing(&Arc::new(FakeSigner::default()));
    assert_eq!(provider.client(&[&server]).get(server.url("/x")).send().await.unwrap().status(), 401);
    assert_eq!((proofs(&server).len(), provider.count()), (3, 2));
}

#[tokio::test]
async fn rfc9449_7_1_every_hop_is_signed_anew_and_none_that_is_unlisted() {
    let (unlisted, listed) = (Server::ok().await, demanding("n2").await);
    let first = Server::start({
        let (unlisted, listed) = (unlisted.url("/u"), listed.url("/l"));
        move |seen| match (&*seen.path, seen.header("dpop").unwrap().ends_with("n1")) {
            (_, false) => reply(401, &[NONCE, ("dpop-nonce", "n1")]),
            ("/to-listed", _) => reply(307, &[("location", &listed)]),
            _ => reply(307, &[("location", &unlisted)]),
        }
    })
    .await;
    let provider = Scripted::signing(&Arc::new(FakeSigner::default()));
    let client = provider.client(&[&first, &listed]);
    assert_eq!(client.get(first.url("/to-listed")).send().await.unwrap().status(), 200);
    assert_eq!(proofs(&first), ["GET /to-listed -", "GET /to-listed n1"]);
    assert_eq!(proofs(&listed), ["GET /l -", "GET /l n2"], "a nonce for each origin");
    assert_eq!(client.get(first.url("/away")).send().await.unwrap().status(), 200);
    assert_eq!((proofs(&unlisted), unlisted.tokens()), (vec!["none".to_owned()], vec![None]));
    assert_eq!(provider.count(), 1);
}
