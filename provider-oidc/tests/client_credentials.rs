//! Client credentials, client authentication, and what the token endpoint can answer.

mod common;

use std::{env, fs, time::Duration};

use common::{Script, answer, build, device, literal, service};
use keyfob_auth_core::{
    AuthError, Challenge, Context, CredentialProvider, ErrorKind, ExposeSecret, Lifetime, Login,
    LoginRequest, NoInteraction, Subject, TokenRequest, registry::SecretSource,
};
use keyfob_idp::server::{
    AuthorizationServer, Client, Endpoint, ExpiresInStyle, Fault, Settings, TokenEndpointAuthMethod,
    TokenTypeStyle,
};
use keyfob_provider_oidc::{ClientAuth, Oidc};

async fn acquire(provider: &Oidc) -> Result<keyfob_auth_core::Acquired, AuthError> {
    provider.acquire(&TokenRequest::default(), None).await
}

#[tokio::test]
async fn first_token_costs_one_request_with_known_endpoints() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(service(&server).token_endpoint(server.token_endpoint()));
    let acquired = acquire(&provider).await.unwrap();
    assert!(acquired.login.is_none());
    assert_eq!(acquired.access.lifetime(), Lifetime::In(Duration::from_secs(60)));
    let counters = server.counters();
    assert_eq!((counters.discovery, counters.token, server.requests().len()), (0, 1, 1));
}

#[tokio::test]
async fn first_token_costs_two_requests_with_discovery_and_the_next_one() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(service(&server));
    acquire(&provider).await.unwrap();
    assert_eq!((server.counters().discovery, server.counters().token, server.requests().len()), (1, 1, 2));
    acquire(&provider).await.unwrap();
    assert_eq!((server.counters().discovery, server.counters().token, server.requests().len()), (1, 2, 3));
}

#[tokio::test]
async fn a_login_is_not_used_and_login_gets_a_token() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(service(&server));
    let login = Login::with_refresh_token("of another flow");
    assert!(provider.acquire(&TokenRequest::default(), Some(&login)).await.unwrap().login.is_none());
    let ui = std::sync::Arc::new(NoInteraction);
    assert!(provider.login(&LoginRequest::default(), None, ui).await.unwrap().login.is_none());
    assert_eq!(server.counters().successes_of("client_credentials"), 2);
}

#[tokio::test]
async fn rfc6749_2_3_each_client_authentication_is_the_only_one_in_its_request() {
    // Everything that form encoding and base64 can get wrong.
    let (id, secret) = ("svc:a b", "p@ss:w%rd+ &=ü~\"");
    for (auth, method) in [
        (ClientAuth::ClientSecretBasic, TokenEndpointAuthMethod::ClientSecretBasic),
        (ClientAuth::ClientSecretPost, TokenEndpointAuthMethod::ClientSecretPost),
    ] {
        let client = Client::confidential(id, secret).only(method);
        let server = AuthorizationServer::start(Settings::default().with_client(client)).await;
        let builder = Oidc::builder(server.issuer(), id).client_secret(literal(secret)).client_auth(auth);
        acquire(&build(builder)).await.unwrap();
        let request = server.requests().pop().unwrap();
        let basic = auth == ClientAuth::ClientSecretBasic;
        assert_eq!(request.header("authorization").is_some(), basic);
        assert_eq!(request.parameter("client_secret").is_some(), !basic);
        assert_eq!(request.parameter("client_id").is_some(), !basic);
        assert!(request.query.is_empty(), "credentials never go into a URL");
    }
}

#[tokio::test]
async fn a_wrong_secret_is_refused_with_the_status_in_the_message() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(service(&server).client_secret(literal("marker-wrong")));
    let error = acquire(&provider).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!((error.status(), error.oauth_error()), (Some(401), Some("invalid_client")));
    assert_eq!((error.provider(), error.origin()), (Some("oidc"), Some(server.token_endpoint().as_str())));
    assert!(error.to_string().contains("(HTTP 401)"), "{error}");
    assert!(!format!("{error:?}").contains("marker"), "{error}");
    assert_eq!((server.counters().token, server.counters().invalid_client), (1, 1));
}

#[tokio::test]
async fn a_secret_is_read_when_it_is_needed() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let provider = build(service(&server).client_secret(SecretSource::File(file.clone())));
    assert_eq!(acquire(&provider).await.unwrap_err().kind(), ErrorKind::NotConfigured);
    assert_eq!(server.counters().token, 0, "nothing is asked without it");

    fs::write(&file, "service-secret\n").unwrap();
    let revision = provider.secret_revision();
    acquire(&provider).await.unwrap();

    server.set_secret("service", "another").unwrap();
    assert_eq!(acquire(&provider).await.unwrap_err().kind(), ErrorKind::Refused);
    fs::write(&file, "another").unwrap();
    assert_ne!(provider.secret_revision(), revision);
    acquire(&provider).await.unwrap();
}

#[tokio::test]
async fn an_unset_variable_is_not_configured_here() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let name = "KEYFOB_TEST_NO_SUCH_SECRET";
    assert!(env::var(name).is_err());
    let error =
        acquire(&build(service(&server).client_secret(SecretSource::Env(name.into())))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert!(error.to_string().contains(name), "{error}");
}

#[tokio::test]
async fn scopes_audiences_and_resources_of_the_request_come_before_the_configured() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let builder = service(&server).scopes(["read", "write"]).audience("api").extra_parameter("tenant", "t 1");
    let provider = build(builder);
    let values = |name: &str| {
        let request = server.requests().pop().unwrap();
        let found = request.form.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone());
        found.collect::<Vec<_>>()
    };
    let acquired = acquire(&provider).await.unwrap();
    assert_eq!(acquired.access.scopes().unwrap().to_string(), "read write");
    assert_eq!(values("scope"), ["read write"]);
    assert_eq!(values("audience"), ["api"]);
    assert_eq!(values("tenant"), ["t 1"]);

    let request = TokenRequest::scopes(["admin"])
        .with_audience("one")
        .with_audience("two")
        .with_resource("https://r.example");
    let acquired = provider.acquire(&request, None).await.unwrap();
    assert_eq!(acquired.access.scopes().unwrap().to_string(), "admin");
    assert_eq!(values("scope"), ["admin"]);
    assert_eq!(values("audience"), ["one", "two"]);
    assert_eq!(values("resource"), ["https://r.example"]);
}

#[tokio::test]
async fn a_challenge_asks_for_its_claims_and_scope() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let mut challenge = Challenge::default();
    challenge.claims = Some("{\"access_token\":{}}".into());
    challenge.scope = Some(["admin"].into_iter().collect());
    let request = TokenRequest::default().with_challenge(challenge);
    build(service(&server).scopes(["read"])).acquire(&request, None).await.unwrap();
    let sent = server.requests().pop().unwrap();
    assert_eq!(sent.parameter("claims"), Some("{\"access_token\":{}}"));
    assert_eq!(sent.parameter("scope"), Some("read admin"));
}

#[tokio::test]
async fn a_token_for_a_subject_is_never_answered_with_ones_own() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let request = TokenRequest::default().with_subject(Subject::access_token("marker"));
    // A client that can prove who it is exchanges the subject's token; this one the server does not know.
    let error = build(service(&server)).acquire(&request, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let sent = server.requests();
    let sent = sent.iter().find(|request| request.path == "/token").unwrap();
    assert_eq!(sent.parameter("grant_type"), Some("urn:ietf:params:oauth:grant-type:token-exchange"));
    assert_eq!(sent.parameter("subject_token"), Some("marker"));
    // A person's login is nobody else's.
    server.reset_counters();
    let error = build(device(&server)).acquire(&request, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn rfc6749_5_1_answers_are_read_as_real_servers_send_them() {
    for (kind, expires_in, lifetime) in [
        (TokenTypeStyle::LowerCase, ExpiresInStyle::Text, Lifetime::In(Duration::from_secs(60))),
        (TokenTypeStyle::Missing, ExpiresInStyle::Missing, Lifetime::Unknown),
    ] {
        let settings =
            Settings { token_type_style: kind, expires_in_style: expires_in, ..Settings::default() };
        let server = AuthorizationServer::start(settings).await;
        assert_eq!(acquire(&build(service(&server))).await.unwrap().access.lifetime(), lifetime);
    }
}

#[tokio::test]
async fn faults_are_transient_and_cost_one_request_each() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(service(&server).token_endpoint(server.token_endpoint()));
    for (fault, retry_after) in [
        (Fault::DropBefore, None),
        (Fault::DropAfter, None),
        (Fault::Truncated, None),
        (Fault::Malformed, None),
        (Fault::EmptyBody, None),
        (Fault::Oversized((1 << 20) + 1), None),
        (Fault::Html(502), None),
        (Fault::status(500), None),
        (Fault::unavailable(Some(7)), Some(7)),
        (Fault::too_many_requests(Some(100_000)), Some(3600)),
        (Fault::TooManyRequests { retry_after: Some("Sun, 06 Nov 1994 08:49:37 GMT".into()) }, Some(0)),
        (Fault::oauth_error("temporarily_unavailable"), None),
    ] {
        server.reset_counters();
        server.faults().push(Endpoint::Token, fault.clone());
        let error = acquire(&provider).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{fault:?}: {error}");
        assert_eq!(error.retry_after().map(|after| after.as_secs()), retry_after, "{fault:?}");
        assert_eq!(error.origin(), Some(server.token_endpoint().as_str()));
        assert_eq!((server.counters().token, server.requests().len()), (1, 1), "{fault:?}");
    }
    acquire(&provider).await.unwrap();
    server.set_down(true);
    assert_eq!(acquire(&provider).await.unwrap_err().kind(), ErrorKind::Transient);
}

#[tokio::test]
async fn an_answer_just_below_the_bound_is_read() {
    let server = AuthorizationServer::start(Settings::default()).await;
    server.faults().push(Endpoint::Token, Fault::Oversized((1 << 20) - 100));
    acquire(&build(service(&server))).await.unwrap();
}

#[tokio::test]
async fn rfc6749_5_2_refusals_carry_the_code_and_the_status() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(service(&server).token_endpoint(server.token_endpoint()));
    for (status, code) in [
        (400, "invalid_grant"),
        (400, "invalid_scope"),
        (401, "unauthorized_client"),
        (200, "invalid_request"),
        (418, "whatever"),
    ] {
        let fault = Fault::OAuthError { status, error: code.into(), description: Some("because".into()) };
        server.faults().push(Endpoint::Token, fault);
        let error = acquire(&provider).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Refused, Some(status)));
        assert_eq!((error.oauth_error(), error.oauth_description()), (Some(code), Some("because")));
        let said = error.to_string();
        assert!(
            said.contains(code) && said.contains("because") && said.contains(&status.to_string()),
            "{said}"
        );
    }
    server.faults().push(Endpoint::Token, Fault::status(403));
    let error = acquire(&provider).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("(HTTP 403)"), "{error}");
}

#[tokio::test]
async fn rfc9700_no_secret_follows_a_redirect_of_the_token_endpoint() {
    let elsewhere = Script::start([answer("200 OK", r#"{"access_token":"stolen"}"#)]).await;
    for status in ["302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let url = &elsewhere.url;
        let script = Script::start([format!(
            "HTTP/1.1 {status}\r\nlocation: {url}/token\r\ncontent-length: 0\r\n\r\n"
        )])
        .await;
        let builder =
            Oidc::builder(&script.url, "id").client_secret(literal("marker")).token_endpoint(&script.url);
        let error = acquire(&build(builder)).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Refused && error.message().contains("redirects"), "{error}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    // No length announced, and more than 1 MiB of it.
    let body = format!("HTTP/1.1 200 OK\r\n\r\n{{\"access_token\":\"{}", "a".repeat(2 << 20));
    let script = Script::start([body]).await;
    let builder = Oidc::builder(&script.url, "id").client_secret(literal("s")).token_endpoint(&script.url);
    let error = acquire(&build(builder)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Transient && error.message().contains("1 MiB"), "{error}");
}

#[tokio::test]
async fn rfc6749_3_2_an_endpoint_keeps_its_query_and_errors_do_not_show_it() {
    let script =
        Script::start([answer("200 OK", r#"{"access_token":"at"}"#), answer("403 Forbidden", "")]).await;
    let builder = Oidc::builder(&script.url, "id")
        .client_secret(literal("s"))
        .token_endpoint(format!("{}/token?key=marker", script.url));
    let provider = build(builder);
    assert_eq!(acquire(&provider).await.unwrap().access.secret().expose_secret(), "at");
    assert!(script.requests()[0].starts_with("POST /token?key=marker HTTP/1.1\r\n"));
    let error = acquire(&provider).await.unwrap_err();
    assert_eq!(error.origin(), Some(format!("{}/token", script.url).as_str()));
    drop(script);
    for error in [error, acquire(&provider).await.unwrap_err()] {
        let source = std::error::Error::source(&error).map(|source| format!("{source} {source:?}"));
        assert!(!format!("{error:?} {source:?}").contains("marker"), "{error:?} {source:?}");
    }
}

#[tokio::test]
async fn providers_of_one_context_share_what_was_discovered() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let context = Context::new();
    for _ in 0..3 {
        let provider = service(&server).build(&context).unwrap();
        acquire(&provider).await.unwrap();
    }
    assert_eq!((server.counters().discovery, server.counters().token), (1, 3));
}
