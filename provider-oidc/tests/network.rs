//! Networks as they are: repeated requests, bounds, proxies, HTTP/2, IPv6, and redirects that are not followed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::time::{Duration, Instant};

use common::{Script, answer, build, literal, service};
use keyfob_auth_core::{Acquired, AuthError, CredentialProvider, ErrorKind, TokenRequest};
use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault, Settings};
use keyfob_provider_oidc::{Flow, Oidc};

async fn acquire(provider: &Oidc) -> Result<Acquired, AuthError> {
    provider.acquire(&TokenRequest::default(), None).await
}

#[tokio::test]
async fn what_only_reads_is_asked_for_again_and_never_before_the_server_said() {
    let server = AuthorizationServer::start(Settings::default()).await;
    for (faults, at_least) in [
        (vec![Fault::unavailable(None)], Duration::from_millis(150)),
        (vec![Fault::DropBefore, Fault::Truncated], Duration::from_millis(1150)),
        (vec![Fault::too_many_requests(Some(1))], Duration::from_secs(1)),
        (vec![Fault::Html(502), Fault::unavailable(Some(0))], Duration::from_millis(150)),
    ] {
        server.reset_counters();
        let requests = faults.len() as u64 + 1;
        for fault in &faults {
            server.faults().push(Endpoint::Discovery, fault.clone());
        }
        let began = Instant::now();
        acquire(&build(service(&server))).await.unwrap();
        assert!(began.elapsed() >= at_least, "{faults:?}: {:?}", began.elapsed());
        assert_eq!((server.counters().discovery, server.counters().token), (requests, 1), "{faults:?}");
    }
}

#[tokio::test]
async fn it_is_asked_for_three_times_at_most_and_not_where_the_server_wants_a_longer_wait() {
    let server = AuthorizationServer::start(Settings::default()).await;
    for (fault, requests) in [
        (Fault::unavailable(Some(0)), 3),
        (Fault::DropBefore, 3),
        (Fault::unavailable(Some(60)), 1),
        // An answer, if a bad one: the next would be no better.
        (Fault::status(500), 1),
        (Fault::Oversized((1 << 20) + 1), 1),
        // A page that answers for every path: once at each of the two places where a document may be.
        (Fault::Malformed, 2),
    ] {
        server.reset_counters();
        server.faults().clear();
        for _ in 0..8 {
            server.faults().push(Endpoint::Discovery, fault.clone());
        }
        let error = acquire(&build(service(&server))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{fault:?}: {error}");
        assert_eq!((server.counters().discovery, server.counters().token), (requests, 0), "{fault:?}");
        assert_eq!(
            error.retry_after().map_or(0, |after| after.as_secs()) == 60,
            fault == Fault::unavailable(Some(60))
        );
    }
}

#[tokio::test]
async fn what_may_have_acted_is_never_sent_twice() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(service(&server).token_endpoint(server.token_endpoint()));
    for fault in [
        Fault::unavailable(Some(0)),
        Fault::too_many_requests(Some(0)),
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::Truncated,
        Fault::Html(502),
    ] {
        server.reset_counters();
        server.faults().push(Endpoint::Token, fault.clone());
        let error = acquire(&provider).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{fault:?}");
        assert_eq!((server.counters().token, server.requests().len()), (1, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn a_request_takes_no_longer_than_its_time_out() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let patience = Duration::from_millis(200);
    for (endpoint, known, requests) in [(Endpoint::Token, true, 1), (Endpoint::Discovery, false, 3)] {
        server.reset_counters();
        server.faults().clear();
        for _ in 0..3 {
            server.faults().push(endpoint, Fault::DelayAnswer(Duration::from_secs(60)));
        }
        let builder = service(&server).timeout(patience);
        let builder = if known { builder.token_endpoint(server.token_endpoint()) } else { builder };
        let began = Instant::now();
        let error = acquire(&build(builder)).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Transient && error.to_string().contains("in time"), "{error}");
        assert!(error.is_answer_lost(), "the server may have acted");
        assert!(began.elapsed() >= patience && began.elapsed() < Duration::from_secs(10));
        assert_eq!(server.requests().len(), requests, "{endpoint:?}");
    }
    // A body that never ends counts too.
    let script = Script::start(["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{"]).await;
    let builder = Oidc::builder(&script.url, "id").client_secret(literal("s")).token_endpoint(&script.url);
    assert_eq!(acquire(&build(builder.timeout(patience))).await.unwrap_err().kind(), ErrorKind::Transient);
}

#[tokio::test]
async fn oidc_discovery_4_redirects_are_not_followed() {
    let document = r#"{"issuer":"x","token_endpoint":"https://evil.example/token"}"#;
    let elsewhere = Script::start(vec![answer("200 OK", document); 4]).await;
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let redirect =
            format!("HTTP/1.1 {status}\r\nlocation: {}/x\r\ncontent-length: 0\r\n\r\n", elsewhere.url);
        let script = Script::start(vec![redirect; 2]).await;
        let error =
            acquire(&build(Oidc::builder(&script.url, "id").client_secret(literal("s")))).await.unwrap_err();
        assert!(error.to_string().contains("redirect"), "{status}: {error}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_server_on_the_ipv6_loopback_is_reached_over_plain_http() {
    let token = answer("200 OK", r#"{"access_token":"at","token_type":"Bearer"}"#);
    let script = Script::start_at("[::1]:0", [token]).await;
    let (issuer, token_endpoint) = (&script.url, format!("{}/token", script.url));
    assert!(issuer.starts_with("http://[::1]:"));
    acquire(&build(Oidc::builder(issuer, "id").client_secret(literal("s")).token_endpoint(token_endpoint)))
        .await
        .unwrap();
    let request = &script.requests()[0];
    assert!(request.contains(&format!("host: {}\r\n", &issuer["http://".len()..])), "{request}");
}

#[tokio::test]
async fn plain_http_on_loopback_goes_through_no_proxy_whatever_is_configured() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let proxy = Script::start([answer("200 OK", "{}")]).await;
    acquire(&build(service(&server).proxy(&proxy.url))).await.unwrap();
    assert!(proxy.requests().is_empty(), "it would have seen the secret");
}

#[cfg(feature = "rustls")]
mod over_tls {
    use std::{
        env,
        process::Command,
        sync::{Arc, Mutex},
    };

    use keyfob_idp::server::Tls;
    use keyfob_provider_oidc::OidcBuilder;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
        net::{TcpListener, TcpStream},
        task::JoinHandle,
    };

    use super::*;

    async fn start() -> AuthorizationServer {
        AuthorizationServer::start(Settings { tls: Tls::Issuer, ..Settings::default() }).await
    }

    fn trusting(server: &AuthorizationServer) -> OidcBuilder {
        service(server).ca_file(literal(&server.ca_pem()))
    }

    /// A proxy that tunnels (RFC 9110 section 9.3.6), and keeps what it was asked.
    struct Proxy {
        address: String,
        asked: Arc<Mutex<Vec<String>>>,
        task: JoinHandle<()>,
    }

    impl Proxy {
        async fn start(status: &'static str) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let asked = Arc::<Mutex<Vec<String>>>::default();
            let kept = Arc::clone(&asked);
            let task = tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(tunnel(stream, Arc::clone(&kept), status));
                }
            });
            Self { address, asked, task }
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }
    }

    impl Drop for Proxy {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    async fn tunnel(mut stream: TcpStream, asked: Arc<Mutex<Vec<String>>>, status: &str) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        asked.lock().unwrap().push(head.clone());
        stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
        if status.starts_with("200") {
            let target = head.split(' ').nth(1).unwrap();
            let mut server = TcpStream::connect(target).await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut server).await;
        }
    }

    #[tokio::test]
    async fn http2_is_spoken_where_the_server_offers_it() {
        let server = start().await;
        let provider = build(trusting(&server));
        for _ in 0..3 {
            acquire(&provider).await.unwrap();
        }
        let versions: Vec<_> = server.requests().into_iter().map(|request| request.version).collect();
        assert_eq!(versions, ["HTTP/2.0"; 4]);
        let plain = AuthorizationServer::start(Settings::default()).await;
        acquire(&build(service(&plain))).await.unwrap();
        assert_eq!(plain.requests()[0].version, "HTTP/1.1", "there is no handshake to choose it in");
    }

    #[tokio::test]
    async fn a_configured_proxy_tunnels_and_sees_no_secret() {
        let server = start().await;
        let proxy = Proxy::start("200 Connection established").await;
        let builder = trusting(&server).proxy(format!("http://user:proxy-password@{}", proxy.address));
        acquire(&build(builder)).await.unwrap();
        assert_eq!((server.counters().discovery, server.counters().token), (1, 1));
        let asked = proxy.asked();
        assert_eq!(asked.len(), 1, "one connection for both: {asked:?}");
        let authority = server.issuer().strip_prefix("https://").unwrap();
        assert!(asked[0].starts_with(&format!("CONNECT {authority} HTTP/1.1\r\n")), "{asked:?}");
        // user:proxy-password
        assert!(asked[0].to_lowercase().contains("proxy-authorization: basic"), "{asked:?}");
        assert!(asked[0].contains("dXNlcjpwcm94eS1wYXNzd29yZA=="), "{asked:?}");
        assert!(!asked[0].contains("service"), "{asked:?}");
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_is_named_without_its_password_and_not_passed_by() {
        let server = start().await;
        let proxy = Proxy::start("407 Proxy Authentication Required").await;
        let url = format!("http://user:marker@{}", proxy.address);
        let builder = trusting(&server).proxy(&url).token_endpoint(server.token_endpoint());
        let error = acquire(&build(builder)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient);
        let mut said = format!("{error} {error:?}");
        let mut cause = std::error::Error::source(&error);
        while let Some(next) = cause {
            said += &format!(" {next} {next:?}");
            cause = next.source();
        }
        assert!(!said.contains("marker"), "{said}");
        assert_eq!((proxy.asked().len(), server.requests().len()), (1, 0));
    }

    /// Names what the child of the next test is to do.
    const CHILD: &str = "KEYFOB_TEST_NETWORK_CHILD";

    #[tokio::test]
    async fn the_environments_proxy_is_used_unless_it_is_none() {
        if let Ok(told) = env::var(CHILD) {
            return as_child(&told).await;
        }
        let server = start().await;
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, server.ca_pem()).unwrap();
        for (proxy, tunnels) in [("", 1), ("none", 0)] {
            server.reset_counters();
            let tunnel = Proxy::start("200 Connection established").await;
            let mut child = Command::new(env::current_exe().unwrap());
            child
                .args(["--exact", "over_tls::the_environments_proxy_is_used_unless_it_is_none"])
                .env(CHILD, format!("{} {} {proxy}", server.issuer(), ca.display()))
                .env("HTTPS_PROXY", format!("http://{}", tunnel.address));
            for name in ["NO_PROXY", "no_proxy", "https_proxy", "ALL_PROXY", "all_proxy"] {
                child.env_remove(name);
            }
            let ran = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
            assert_eq!((tunnel.asked().len(), server.counters().token), (tunnels, 1), "{proxy:?}");
        }
    }

    async fn as_child(told: &str) {
        let mut words = told.split(' ');
        let (issuer, ca, proxy) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let builder = Oidc::builder(issuer, "service").client_secret(literal("service-secret"));
        let builder = builder.ca_file(keyfob_auth_core::registry::SecretSource::File(ca.into()));
        let builder = if proxy.is_empty() { builder } else { builder.proxy(proxy) };
        acquire(&build(builder)).await.unwrap();
    }

    #[tokio::test]
    async fn a_refresh_token_that_may_have_been_spent_is_not_sent_again_over_http2() {
        let server = start().await;
        let builder = Oidc::builder(server.issuer(), "cli").ca_file(literal(&server.ca_pem()));
        let builder = builder.flow(Flow::Password).username("alice").password(literal("alice-password"));
        let provider = build(builder.scopes(["read"]));
        let login = acquire(&provider).await.unwrap().login.unwrap();
        server.reset_counters();
        server.faults().push(Endpoint::Token, Fault::DropAfter);
        let error = provider.acquire(&TokenRequest::default(), Some(&login)).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Transient && error.is_answer_lost(), "{error:?}");
        assert_eq!((server.counters().token, server.counters().reuse), (1, 0));
    }
}
