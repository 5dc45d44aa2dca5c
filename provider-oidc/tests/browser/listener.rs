//! Where and how long the listener listens.

use std::time::Duration;

use keyfob_auth_core::ErrorKind;
use keyfob_idp::{
    person::Person,
    server::{AuthorizationServer, Client, Settings},
};
use keyfob_provider_oidc::OidcBuilder;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    common::build,
    support::{Login, client, exchanges, is_closed, refused, server},
};

#[tokio::test]
async fn rfc8252_7_3_the_listener_closes_at_the_deadline() {
    let server = server().await;
    let builder = client(&server).pushed_authorization_requests(false);
    let login = Login::begin(&build(builder.login_timeout(Duration::from_millis(300)))).await;
    let port = login.port();
    assert_eq!(login.get("state=wrong").await.status, 400);
    let error = login.end().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("nobody signed in within 0.3 s"), "{error}");
    assert!(is_closed(port).await);
    // The longest that can be said is no overflow.
    let endless = client(&server).login_timeout(Duration::MAX);
    let login = Login::begin(&build(endless)).await;
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
}

#[tokio::test]
async fn rfc8252_7_3_a_login_that_is_dropped_closes_its_port_and_connections() {
    let server = server().await;
    let login = Login::begin(&build(client(&server).pushed_authorization_requests(false))).await;
    let port = login.port();
    let mut waiting = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    waiting.write_all(b"GET /callback").await.unwrap();
    login.task.abort();
    assert!(is_closed(port).await);
    let mut rest = Vec::new();
    // Reset or ended, but not left waiting.
    let _ = timeout(Duration::from_secs(5), waiting.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
}

/// A port that somebody else listens at.
async fn taken(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind(format!("{address}:0")).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A server whose client may redirect to these addresses only, and that client.
async fn registered(uris: &[&str]) -> (AuthorizationServer, OidcBuilder) {
    let cli = Client::public("cli").with_redirect_uris(uris);
    let server = AuthorizationServer::start(Settings::default().with_client(cli)).await;
    let builder = client(&server).pushed_authorization_requests(false);
    let builder = uris.iter().fold(builder, |builder, uri| builder.redirect_uri(*uri));
    (server, builder)
}

#[tokio::test]
async fn the_first_registered_port_that_is_free_is_taken() {
    let (_first, first) = taken("127.0.0.1").await;
    let (second_listener, second) = taken("127.0.0.1").await;
    let uris = [first, second].map(|port| format!("http://127.0.0.1:{port}/cb"));
    let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
    let (server, builder) = registered(&uris).await;
    let provider = build(builder);

    let error = refused(&provider).await;
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    assert!(uris.iter().all(|uri| error.message().contains(uri)), "{error}");
    assert_eq!(server.counters().authorization, 0);

    drop(second_listener);
    let login = Login::begin(&provider).await;
    assert_eq!(login.redirect_uri().as_str(), uris[1]);
    // A second login at once finds no port, and does not disturb the first.
    assert_eq!(refused(&provider).await.kind(), ErrorKind::Transient);
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
    // The port is free again at once.
    let login = Login::begin(&provider).await;
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
}

#[tokio::test]
async fn rfc8252_8_3_localhost_is_listened_at_in_both_families() {
    if TcpListener::bind("[::1]:0").await.is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let (_server, builder) = registered(&["http://localhost/callback"]).await;
    let login = Login::begin(&build(builder)).await;
    assert_eq!(login.redirect_uri().host_str(), Some("localhost"));
    let port = login.port();
    for address in ["127.0.0.1", "::1"] {
        let mut stream = TcpStream::connect((address, port)).await.unwrap();
        let request = format!("GET /callback?state=wrong HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{address}: {answer}");
    }
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();

    // A port that a stranger has in the other family is none of ours.
    let (_stranger, port) = taken("[::1]").await;
    let fixed = format!("http://localhost:{port}/callback");
    let (_server, builder) = registered(&[&fixed]).await;
    let error = refused(&build(builder)).await;
    assert!(error.kind() == ErrorKind::Transient && error.message().contains(&fixed), "{error}");
}

#[tokio::test]
async fn rfc8252_7_3_ipv6_is_listened_at_where_it_is_registered() {
    if TcpListener::bind("[::1]:0").await.is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let (server, builder) = registered(&["http://[::1]/callback"]).await;
    let login = Login::begin(&build(builder)).await;
    let port = login.port();
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "that address and no other");
    Person::new("alice").visit(login.url.as_str()).await.unwrap();
    login.end().await.unwrap();
    assert_eq!(exchanges(&server), 1);
}
