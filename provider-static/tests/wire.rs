//! What goes to a CAVE server, beside what its own client was recorded to send; and what its answers mean.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::{
    fs,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, extract::Request, response::Response};
use keyfob_auth_core::{
    Context, ErrorKind, Session,
    authorize::Origins,
    middleware::{AuthClient, auth_error},
};
use keyfob_provider_static::{Cave, StaticToken};
use serde_json::Value;
use tempfile::TempDir;

/// A recorded flow.
fn recorded(name: &str) -> Value {
    let path = format!("{}/tests/data/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

struct Server {
    origin: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// Method, path with query, and the two headers that can carry a token.
type Seen = (String, String, Option<String>, Option<String>);

impl Server {
    async fn start(answer: impl Fn(&str, Option<&str>) -> Response + Clone + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let handler = move |request: Request| {
            let path = request.uri().path_and_query().unwrap().to_string();
            let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            let authorization = header("authorization");
            let response = answer(&path, authorization.as_deref());
            let method = request.method().to_string();
            log.lock().unwrap().push((method, path, authorization, header("x-api-key")));
            std::future::ready(response)
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await });
        Self { origin, seen }
    }

    fn paths(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(_, path, ..)| path.clone()).collect()
    }
}

fn reply(status: u16, location: Option<&str>) -> Response {
    let response = Response::builder().status(status);
    let response = location.into_iter().fold(response, |response, to| response.header("location", to));
    response.body(Body::from("<html>login</html>")).unwrap()
}

fn client(session: Session, server: &Server) -> AuthClient {
    let origins = Origins::parse([&server.origin]).unwrap();
    AuthClient::builder(session).origins(origins).http(reqwest::ClientBuilder::no_proxy).build().unwrap()
}

fn cave(server: &Server, token: &str) -> (TempDir, Cave, AuthClient) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cave-secret.json"), format!(r#"{{"token": "{token}"}}"#)).unwrap();
    let origins = Origins::parse([&server.origin]).unwrap();
    let cave = Cave::new(&server.origin).unwrap().secrets_folder(folder.path()).general_token_for(&origins);
    let session = Session::builder(Arc::new(cave.clone())).context(&Context::new()).build().unwrap();
    let client = client(session, server);
    (folder, cave, client)
}

/// A server with a login page that takes one token.
async fn gate(taken: &'static str) -> Server {
    Server::start(move |path, authorization| match authorization {
        _ if path == "/login" => reply(200, None),
        Some(token) if token == format!("Bearer {taken}") => reply(200, None),
        _ => reply(302, Some("/login")),
    })
    .await
}

#[tokio::test]
async fn requests_carry_what_the_real_client_sends() {
    let server = Server::start(|_, _| reply(200, None)).await;
    let mut compared = 0;
    for name in ["cave-user-info", "cave-list-tokens", "cave-full-client"] {
        let flow = recorded(name);
        let single = vec![flow.clone()];
        for exchange in flow["exchanges"].as_array().unwrap_or(&single) {
            let theirs = &exchange["request"];
            let authorization = theirs["headers"]["Authorization"].as_str().unwrap();
            let token = authorization.strip_prefix("Bearer ").unwrap();
            let (_folder, _, client) = cave(&server, token);
            let query = theirs["query"].as_object();
            let query: Vec<_> = query.into_iter().flatten().map(|(k, v)| (k, v.as_str().unwrap())).collect();
            let url = reqwest::Url::parse(&format!("{}{}", server.origin, theirs["path"].as_str().unwrap()));
            let mut url = url.unwrap();
            if !query.is_empty() {
                url.query_pairs_mut().extend_pairs(query);
            }
            assert_eq!(client.get(url.clone()).send().await.unwrap().status(), 200);
            let seen = server.seen.lock().unwrap().pop().unwrap();
            let path = url.as_str().strip_prefix(&server.origin).unwrap().to_owned();
            assert_eq!(seen, ("GET".into(), path, Some(authorization.into()), None), "{name}");
            compared += 1;
        }
    }
    assert_eq!((compared, server.seen.lock().unwrap().len()), (4, 0));
}

#[tokio::test]
async fn the_recorded_redirect_is_an_error_that_says_what_to_do() {
    let flow = recorded("cave-no-token-redirect");
    let answer = &flow["exchanges"][0]["scripted_response"];
    assert_eq!(answer["status"], 302);
    assert!(answer["headers"]["Location"].as_str().unwrap().ends_with("/login"));
    let server = gate("another").await;
    let (folder, _, client) = cave(&server, "ended-token");
    let path = flow["request"]["path"].as_str().unwrap();
    let error = client.get(format!("{}{path}", server.origin)).send().await.unwrap_err();
    let error = auth_error(&error).unwrap();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Refused, Some(302)));
    let said = error.to_string();
    for part in [
        "cave: the server sent the request to a login page",
        &format!("make a new one at {}/auth/api/v1/create_token", server.origin),
        &format!("[{}]", folder.path().join("cave-secret.json").display()),
    ] {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
    assert!(!said.contains("ended-token"), "{said}");
    assert_eq!(server.paths(), [path], "neither the login page nor the same token once more");
}

#[tokio::test]
async fn a_token_that_was_saved_meanwhile_is_used_at_once() {
    let server = gate("new-token").await;
    let (_folder, cave, client) = cave(&server, "ended-token");
    let url = format!("{}/info", server.origin);
    client.get(&url).send().await.unwrap_err();
    cave.save_token("new-token", "token", true).await.unwrap();
    assert_eq!(client.get(&url).send().await.unwrap().url().path(), "/info");
    assert_eq!(server.paths(), ["/info", "/info"]);
}

#[tokio::test]
async fn a_slash_that_is_added_is_followed() {
    let server = Server::start(|path, _| match path {
        "/info" => reply(308, Some("/info/")),
        _ => reply(200, None),
    })
    .await;
    let (_folder, _, client) = cave(&server, "token");
    let answer = client.get(format!("{}/info", server.origin)).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.url().path()), (200, "/info/"));
    let seen = server.seen.lock().unwrap();
    assert!(seen.len() == 2 && seen.iter().all(|(.., token, _)| token.as_deref() == Some("Bearer token")));
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let server = Server::start(|_, _| reply(200, None)).await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cave-secret.json"), r#"{"token": "general"}"#).unwrap();
    // It was merely named: the general token is not for it.
    let cave = Cave::new(&server.origin).unwrap().secrets_folder(folder.path());
    let session = Session::builder(Arc::new(cave)).context(&Context::new()).build().unwrap();
    let error = client(session, &server).get(&server.origin).send().await.unwrap_err();
    assert_eq!(auth_error(&error).unwrap().kind(), ErrorKind::LoginRequired);
    assert!(server.paths().is_empty());
}

#[tokio::test]
async fn an_api_key_goes_into_its_own_header() {
    let server = Server::start(|_, _| reply(200, None)).await;
    let key = StaticToken::literal("abc").header("X-Api-Key").unwrap();
    let session = Session::builder(Arc::new(key)).context(&Context::new()).build().unwrap();
    client(session, &server).get(format!("{}/x", server.origin)).send().await.unwrap();
    let seen = server.seen.lock().unwrap();
    assert_eq!(*seen, [("GET".into(), "/x".into(), None, Some("abc".into()))]);
}
