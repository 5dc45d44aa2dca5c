//! DPoP (RFC 9449), at the token endpoint and on the API calls of the plain middleware.
#![cfg(feature = "jose")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{Script, answer, build, elsewhen, jwt, last, literal, service};
use keyfob_auth_core::{
    AccessToken, AuthError, Binding, Context, CredentialProvider, ErrorKind, Login, LoginRequest, Session,
    Subject, TokenRequest, TokenStore,
    authorize::Origins,
    middleware::AuthClient,
    registry,
    store::{Capacity, MemoryStore},
    testing::FaultyStore,
};
use keyfob_idp::{
    person::Person,
    server::{
        Algorithm, AuthorizationServer, AutoApprove, Client, Dpop, RecordedRequest, Settings, SigningKey,
        TrustedIssuer, VerificationKey,
    },
};
use keyfob_provider_oidc::{Flow, Oidc, OidcBuilder};
use serde_json::{Value, json};

/// A server whose client `service` must send proofs.
async fn start(settings: Settings) -> AuthorizationServer {
    let mut client = Client::confidential("service", "service-secret");
    client.dpop = Dpop::Required;
    AuthorizationServer::start(settings.with_client(client)).await
}

fn bound(server: &AuthorizationServer) -> OidcBuilder {
    service(server).dpop(true)
}

/// Alice by her password, at the public client.
fn alice(server: &AuthorizationServer) -> OidcBuilder {
    Oidc::builder(server.issuer(), "cli")
        .flow(Flow::Password)
        .username("alice")
        .password(literal("alice-password"))
        .scopes(["read"])
        .dpop(true)
}

fn session(builder: OidcBuilder, context: &Context, store: &Arc<MemoryStore>) -> Session {
    let provider = builder.build(context).unwrap();
    Session::new(Arc::new(provider), Arc::clone(store) as _, context).unwrap()
}

fn one(builder: OidcBuilder) -> Session {
    session(builder, &Context::new(), &Arc::new(MemoryStore::new()))
}

fn client(session: &Session, server: &AuthorizationServer) -> AuthClient {
    let origins = Origins::new().with(server.issuer()).unwrap();
    AuthClient::builder(session.clone())
        .origins(origins)
        .http(reqwest::ClientBuilder::no_proxy)
        .build()
        .unwrap()
}

async fn acquire(provider: &Oidc, login: Option<&Login>) -> Result<keyfob_auth_core::Acquired, AuthError> {
    provider.acquire(&TokenRequest::default(), login).await
}

/// The header and the claims of a request's proof.
fn proof(request: &RecordedRequest) -> [Value; 2] {
    jwt(request.header("dpop").unwrap_or_else(|| panic!("no proof: {request:?}")))
}

fn requests_to(server: &AuthorizationServer, path: &str) -> Vec<RecordedRequest> {
    server.requests().into_iter().filter(|request| request.path == path).collect()
}

fn thumbprint(binding: &Binding) -> String {
    match binding {
        Binding::Dpop(thumbprint) => thumbprint.clone(),
        other => panic!("not bound to a key: {other:?}"),
    }
}

#[tokio::test]
async fn rfc9449_4_2_the_proof_at_the_token_endpoint() {
    let server = start(Settings::default()).await;
    let provider = build(bound(&server).token_endpoint(format!("{}?tenant=1", server.token_endpoint())));
    let acquired = acquire(&provider, None).await.unwrap();
    let [header, claims] = proof(&last(&server, "/token"));
    assert_eq!((&header["typ"], &header["alg"]), (&json!("dpop+jwt"), &json!("ES256")));
    let mut members: Vec<_> = header["jwk"].as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["crv", "kty", "x", "y"], "no private member");
    assert_eq!(
        (&claims["htm"], &claims["htu"]),
        (&json!("POST"), &json!(server.token_endpoint())),
        "no query"
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(claims["iat"].as_u64().unwrap()) < 30);
    assert!(URL_SAFE_NO_PAD.decode(claims["jti"].as_str().unwrap()).unwrap().len() >= 12, "96 bits at least");
    assert!(claims.get("ath").is_none() && claims.get("nonce").is_none());
    let members = ["crv", "kty", "x", "y"].map(|name| format!("{name:?}:{}", header["jwk"][name]));
    let hash = hmac_sha256::Hash::hash(format!("{{{}}}", members.join(",")).as_bytes());
    assert_eq!(thumbprint(acquired.access.binding()), URL_SAFE_NO_PAD.encode(hash), "RFC 7638");
}

#[tokio::test]
async fn rfc9449_7_1_api_calls_carry_a_proof_of_their_own_by_the_plain_middleware() {
    let server = start(Settings::default()).await;
    let session = one(bound(&server));
    let http = client(&session, &server);
    let url = server.api_url();
    for _ in 0..2 {
        assert_eq!(http.get(format!("{url}?q=1#top")).send().await.unwrap().status(), 200);
        assert_eq!(http.post(format!("{url}/below")).body("text").send().await.unwrap().status(), 200);
    }
    let token = session.token().await.unwrap();
    let requests: Vec<_> =
        server.requests().into_iter().filter(|request| request.path.starts_with("/api")).collect();
    assert_eq!(requests.len(), 4, "no request was needed twice");
    let ath = URL_SAFE_NO_PAD.encode(hmac_sha256::Hash::hash(token.secret().as_bytes()));
    let mut ids = Vec::new();
    for request in &requests {
        assert_eq!(request.header("authorization"), Some(format!("DPoP {}", token.secret()).as_str()));
        let [header, claims] = proof(request);
        assert_eq!(header["jwk"], proof(&last(&server, "/token"))[0]["jwk"]);
        assert_eq!(claims["htm"], request.method);
        assert_eq!(claims["htu"], server.url(&request.path));
        assert_eq!(claims["ath"], ath);
        ids.push(claims["jti"].to_string());
    }
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), server.counters().replays), (4, 0));
}

#[tokio::test]
async fn one_line_of_configuration_binds_tokens() {
    let server = start(Settings::default()).await;
    let text = |value: &str| registry::Value::String(value.into());
    let settings = registry::Settings::new("profile.work")
        .with("issuer", text(server.issuer()), Some(1))
        .with("client_id", text("service"), Some(2))
        .with("client_secret", text("service-secret"), Some(3))
        .with("dpop", registry::Value::Bool(true), Some(4));
    let context = Context::new();
    let provider = Oidc::from_settings(&settings, &context).unwrap();
    let session = Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap();
    assert_eq!(client(&session, &server).get(server.api_url()).send().await.unwrap().status(), 200);
    thumbprint(session.token().await.unwrap().binding());
}

#[tokio::test]
async fn rfc9449_8_a_demanded_nonce_costs_one_request_and_is_used_on() {
    let server = start(Settings { dpop_nonce_uses: Some(1000), ..Settings::default() }).await;
    let provider = build(bound(&server));
    for tokens in [2, 3, 4] {
        acquire(&provider, None).await.unwrap();
        assert_eq!(server.counters().token, tokens, "once more for the first, and never again");
    }
    let requests = requests_to(&server, "/token");
    let [_, first] = proof(&requests[0]);
    let [_, second] = proof(&requests[1]);
    assert!(first.get("nonce").is_none() && second["nonce"].is_string());
    assert_ne!(first["jti"], second["jti"], "a proof for each request");
    assert_eq!(server.counters().dpop_nonce_challenges, 1);
}

#[tokio::test]
async fn rfc9449_5_1_a_proof_is_signed_by_what_the_server_takes_or_nothing_is_sent() {
    for (taken, known, requests) in [
        (json!(["RS256", "ES256"]), false, 1),
        (json!([]), false, 1),
        (json!(null), false, 1),
        (json!(["PS256", "EdDSA"]), false, 0),
        // Who knows the endpoint may have no metadata.
        (json!(["PS256", "EdDSA"]), true, 1),
    ] {
        let mut settings = Settings::default();
        settings.metadata.insert("dpop_signing_alg_values_supported".into(), taken.clone());
        let server = start(settings).await;
        let builder = bound(&server);
        let builder = if known { builder.token_endpoint(server.token_endpoint()) } else { builder };
        let outcome = acquire(&build(builder), None).await;
        assert_eq!(outcome.is_ok(), requests == 1, "{taken}");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.message().contains("ES256, but by PS256, EdDSA"), "{error}");
        }
        assert_eq!((server.counters().discovery, server.counters().token), (u64::from(!known), requests));
    }
}

#[tokio::test]
async fn rfc9449_10_the_code_is_bound_to_the_key_by_dpop_jkt() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let browser = |bound: bool, pushed: bool| {
        let builder = Oidc::builder(server.issuer(), "cli").flow(Flow::Browser).dpop(bound);
        build(builder.scopes(["read"]).pushed_authorization_requests(pushed))
    };
    for pushed in [false, true] {
        let provider = browser(true, pushed);
        let (url, pending) = provider.start(&LoginRequest::default(), None).await.unwrap();
        let jkt = if pushed {
            last(&server, "/par").parameter("dpop_jkt").unwrap().to_owned()
        } else {
            let url = url::Url::parse(&url).unwrap();
            url.query_pairs().find(|(name, _)| name == "dpop_jkt").unwrap().1.into_owned()
        };
        let callback = Person::new("alice").answer(&url).await.unwrap();
        let acquired = provider.finish(pending, callback.url.as_str()).await.unwrap();
        assert_eq!(thumbprint(acquired.access.binding()), jkt);
        assert!(acquired.login.unwrap().binding_key.is_some());
    }
    assert_eq!(server.counters().requests_of("authorization_code"), 2);
    let (url, _) = browser(false, false).start(&LoginRequest::default(), None).await.unwrap();
    assert!(!url.contains("dpop_jkt"), "{url}");
}

#[tokio::test]
async fn rfc9449_8_2_the_newest_nonce_of_any_answer_is_used() {
    let server = start(Settings { dpop_nonce_uses: Some(1), ..Settings::default() }).await;
    let provider = build(bound(&server));
    for _ in 0..4 {
        acquire(&provider, None).await.unwrap();
    }
    // Each success brings the next one.
    assert_eq!((server.counters().token, server.counters().dpop_nonce_challenges), (5, 1));
    server.rotate_dpop_nonces();
    acquire(&provider, None).await.unwrap();
    assert_eq!((server.counters().token, server.counters().dpop_nonce_challenges), (7, 2));
}

#[tokio::test]
async fn rfc9449_8_exactly_one_retry() {
    let demand = |nonce: &str| {
        let body = r#"{"error":"use_dpop_nonce"}"#;
        answer("400 Bad Request", body).replace("\r\n\r\n", &format!("\r\ndpop-nonce: {nonce}\r\n\r\n"))
    };
    let script = Script::start([demand("one"), demand("two"), demand("three")]).await;
    let builder = Oidc::builder(&script.url, "svc").client_secret(literal("s")).token_endpoint(&script.url);
    let provider = build(builder.dpop(true));
    let error = acquire(&provider, None).await.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("use_dpop_nonce")));
    assert_eq!(script.requests().len(), 2);
    // One that demands what it was given is not asked again either.
    let again = Script::start([demand("same"), demand("same"), demand("same")]).await;
    let builder = Oidc::builder(&again.url, "svc").client_secret(literal("s")).token_endpoint(&again.url);
    acquire(&build(builder.dpop(true)), None).await.unwrap_err();
    assert_eq!(again.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9449_8_many_that_are_told_of_the_same_nonce_all_use_it() {
    let settings = Settings {
        dpop_nonce_uses: Some(1_000_000),
        dpop_api_nonce_uses: Some(1_000_000),
        // Long enough for all to be under way before the first is answered.
        response_delay: Duration::from_millis(100),
        ..Settings::default()
    };
    let server = start(settings).await;
    let provider = build(bound(&server).token_endpoint(server.token_endpoint()));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let provider = provider.clone();
        tasks.spawn(async move { acquire(&provider, None).await.map(drop) });
    }
    for outcome in tasks.join_all().await {
        outcome.unwrap();
    }
    let session = one(bound(&server));
    let http = client(&session, &server);
    session.token().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let request = http.get(server.api_url());
        tasks.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    assert_eq!(tasks.join_all().await, [200; 8]);
    assert!(server.counters().api <= 16, "one retry each at most");
}

#[tokio::test]
async fn rfc9449_9_nonces_of_the_authorization_server_and_of_resources_are_kept_apart() {
    let settings = Settings { dpop_nonce_uses: Some(1), dpop_api_nonce_uses: Some(1), ..Settings::default() };
    let server = start(settings).await;
    let session = one(bound(&server));
    let http = client(&session, &server);
    for _ in 0..3 {
        assert_eq!(http.get(server.api_url()).send().await.unwrap().status(), 200);
        session.refresh().await.unwrap();
    }
    // The same host is both, and each demanded a nonce once.
    let counters = server.counters();
    assert_eq!((counters.dpop_nonce_challenges, counters.token, counters.api), (2, 5, 4));
    let nonces = |path: &str| -> Vec<String> {
        let claims =
            requests_to(&server, path).iter().map(|request| proof(request)[1].clone()).collect::<Vec<_>>();
        claims.iter().filter_map(|claims| claims["nonce"].as_str().map(str::to_owned)).collect()
    };
    let (of_server, of_api) = (nonces("/token"), nonces("/api/echo"));
    assert!(!of_api.iter().any(|nonce| of_server.contains(nonce)), "{of_server:?} {of_api:?}");
}

#[tokio::test]
async fn rfc9449_9_each_origin_has_nonces_of_its_own() {
    let demand = |nonce: &str| {
        format!(
            "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: DPoP error=\"use_dpop_nonce\"\r\ndpop-nonce: {nonce}\r\n\
             content-length: 0\r\n\r\n"
        )
    };
    let good = answer("200 OK", "{}");
    let one = Script::start([demand("of-one"), good.clone(), good.clone()]).await;
    let other = Script::start([demand("of-other"), good]).await;
    let server = start(Settings::default()).await;
    let origins = Origins::parse([&one.url, &other.url]).unwrap();
    let http = AuthClient::builder(self::one(bound(&server)))
        .origins(origins)
        .http(reqwest::ClientBuilder::no_proxy)
        .build()
        .unwrap();
    for url in [&one.url, &other.url, &one.url] {
        assert_eq!(http.get(url).send().await.unwrap().status(), 200);
    }
    let nonces = |script: &Script| -> Vec<Option<String>> {
        let proofs = script.requests().into_iter().map(|request| {
            jwt(request.lines().find_map(|line| line.strip_prefix("dpop: ")).unwrap())[1].clone()
        });
        proofs.map(|claims| claims["nonce"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(nonces(&one), [None, Some("of-one".into()), Some("of-one".into())]);
    assert_eq!(nonces(&other), [None, Some("of-other".into())]);
    assert_eq!(server.counters().token, 1, "a nonce costs no token");
}

#[tokio::test]
async fn rfc9449_5_a_server_that_does_not_bind_is_refused() {
    let mut client = Client::confidential("service", "service-secret");
    client.dpop = Dpop::Ignored;
    let server = AuthorizationServer::start(Settings::default().with_client(client)).await;
    let error = acquire(&build(bound(&server)), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("DPoP") && error.to_string().contains("`dpop = false`"), "{error}");
    // And a server that binds where nobody asked for it.
    let body = r#"{"access_token":"at","token_type":"DPoP","expires_in":60}"#;
    let script = Script::start([answer("200 OK", body)]).await;
    let builder = Oidc::builder(&script.url, "svc").client_secret(literal("s")).token_endpoint(&script.url);
    assert_eq!(acquire(&build(builder), None).await.unwrap_err().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn rfc9449_5_a_refresh_in_a_new_process_uses_the_logins_key() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let store = Arc::new(MemoryStore::new());
    let first = session(alice(&server), &Context::new(), &store).token().await.unwrap();
    let later = session(alice(&server), &Context::new(), &store);
    let renewed = later.refresh().await.unwrap();
    assert_eq!(server.counters().successes_of("refresh_token"), 1);
    assert_eq!(thumbprint(renewed.binding()), thumbprint(first.binding()));
    assert_eq!(client(&later, &server).get(server.api_url()).send().await.unwrap().status(), 200);
    // The setting may be gone by then: the refresh token stays bound.
    let forgetful = session(alice(&server).dpop(false), &Context::new(), &store);
    let renewed = forgetful.refresh().await.unwrap();
    assert_eq!(thumbprint(renewed.binding()), thumbprint(first.binding()));
    assert_eq!(server.counters().requests_of("password"), 1);

    // The server would not have taken another key.
    let (record, _) = store.load(&later.identity().into()).await.unwrap().unwrap();
    let provider = build(alice(&server));
    let other = acquire(&provider, None).await.unwrap().login.unwrap();
    let stolen = Login { binding_key: other.binding_key, ..record.login.unwrap() };
    let error = acquire(&provider, Some(&stolen)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRejected);
}

#[tokio::test]
async fn client_credentials_keep_their_key_in_the_login() {
    let server = start(Settings::default()).await;
    let store = Arc::new(MemoryStore::new());
    let keys = || async {
        let session = session(bound(&server), &Context::new(), &store);
        let first = thumbprint(session.token().await.unwrap().binding());
        [first, thumbprint(session.refresh().await.unwrap().binding())]
    };
    let [a, b] = keys().await;
    let [c, d] = keys().await;
    assert_eq!((&a, &a, &a), (&b, &c, &d));
    assert_eq!(server.counters().successes_of("client_credentials"), 3, "the stored token served once");
    let (record, _) = store.load(&service_identity(&server)).await.unwrap().unwrap();
    let login = record.login.unwrap();
    assert!(login.binding_key.is_some() && login.refresh_token.is_none());
}

fn service_identity(server: &AuthorizationServer) -> keyfob_auth_core::store::LoginKey {
    build(bound(server)).identity().into()
}

#[tokio::test]
async fn a_store_that_drops_keys_is_refused_when_the_session_is_built() {
    let server = start(Settings::default()).await;
    let context = Context::new();
    let mut keeps = Capacity::default();
    keeps.binding_key = false;
    let build = |dpop| {
        let store = FaultyStore::new(Arc::new(MemoryStore::new())).keeping(keeps);
        let provider = service(&server).dpop(dpop).build(&context).unwrap();
        Session::new(Arc::new(provider), Arc::new(store), &context)
    };
    let error = build(true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("bound to a key"), "{error}");
    build(false).unwrap();
}

#[tokio::test]
async fn rfc9449_5_every_grant_binds_its_tokens() {
    let issuer = SigningKey::generate(Algorithm::Es256);
    let trusted = TrustedIssuer::new("https://issuer.example", vec![VerificationKey::jwk(issuer.jwk())]);
    let settings = Settings {
        trusted_issuers: vec![trusted],
        auto_approve: Some(AutoApprove { user: "alice".into(), after_polls: 0 }),
        device_interval: Duration::from_millis(10),
        ..Settings::default()
    };
    let server = start(settings).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims =
        json!({"iss": "https://issuer.example", "sub": "alice", "aud": server.issuer(), "exp": now + 60});
    let assertion = issuer.sign("JWT", &claims);
    let token_type = "urn:ietf:params:oauth:token-type:jwt";
    for flow in [Flow::ClientCredentials, Flow::Password, Flow::JwtBearer, Flow::TokenExchange, Flow::Device]
    {
        let builder = bound(&server)
            .flow(flow)
            .username("alice")
            .password(literal("alice-password"))
            .assertion(literal(&assertion))
            .subject_token(literal(&assertion))
            .subject_token_type(token_type);
        let session = one(builder);
        let ui = common::Shown::new();
        let token = if flow == Flow::Device { session.login(ui).await } else { session.token().await };
        let token = token.unwrap_or_else(|error| panic!("{flow:?}: {error}"));
        thumbprint(token.binding());
        let answer = client(&session, &server).get(server.api_url()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{flow:?}");
    }
    // For a caller: bound too, and kept in memory only.
    let session = one(bound(&server));
    let mut subject = Subject::access_token(assertion.as_str());
    subject.token_type = token_type.into();
    let caller = session.for_subject(subject);
    assert_eq!(client(&caller, &server).get(server.api_url()).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn rfc9449_7_1_a_redirect_to_another_origin_carries_no_proof_and_one_at_home_a_new_one() {
    let (server, other) =
        (start(Settings::default()).await, AuthorizationServer::start(Settings::default()).await);
    let session = one(bound(&server));
    let http = client(&session, &server);
    for status in [302, 307] {
        http.get(server.redirect_url(&other.public_url(), status)).send().await.unwrap();
        let request = last(&other, "/api/public");
        assert!(request.header("dpop").is_none() && request.header("authorization").is_none(), "{request:?}");
        let home = http.get(server.redirect_url(&server.api_url(), status)).send().await.unwrap();
        assert_eq!(home.status(), 200);
    }
    let [_, hop] = proof(&last(&server, "/api/redirect"));
    let [_, end] = proof(&last(&server, "/api/echo"));
    assert_eq!((&hop["htu"], &end["htu"]), (&json!(server.url("/api/redirect")), &json!(server.api_url())));
    assert_ne!(hop["jti"], end["jti"]);
}

#[tokio::test]
async fn rfc9449_11_1_proofs_are_timely_by_the_servers_clock() {
    let server = start(Settings::default()).await;
    let (_, context) = elsewhen();
    // Nothing is known of the server's clock at first: the refusal shows it, and the request is sent once more.
    let builder = bound(&server).token_endpoint(server.token_endpoint());
    let session = session(builder, &context, &Arc::new(MemoryStore::new()));
    session.token().await.unwrap();
    assert_eq!(server.counters().token, 2);
    let http = client(&session, &server);
    assert_eq!(http.get(server.api_url()).send().await.unwrap().status(), 200);
    assert_eq!(server.counters().api, 1, "the API is at the same host");
    // An API elsewhere has a clock of its own, which nobody has seen yet: its refusal shows it.
    let date = httpdate::fmt_http_date(SystemTime::now());
    let refusal = format!(
        "HTTP/1.1 401 Unauthorized\r\ndate: {date}\r\nwww-authenticate: DPoP error=\"invalid_dpop_proof\"\r\n\
         content-length: 0\r\n\r\n"
    );
    let api = Script::start([refusal.clone(), answer("200 OK", "{}"), refusal.clone(), refusal]).await;
    let origins = Origins::new().with(&api.url).unwrap();
    let http =
        AuthClient::builder(session).origins(origins).http(reqwest::ClientBuilder::no_proxy).build().unwrap();
    assert_eq!(http.get(&api.url).send().await.unwrap().status(), 200);
    let issued = api.requests().into_iter().map(|request| {
        let proof = request.lines().find_map(|line| line.strip_prefix("dpop: ")).unwrap();
        jwt(proof)[1]["iat"].as_u64().unwrap()
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let off: Vec<_> = issued.map(|issued| issued.abs_diff(now) > 60).collect();
    assert_eq!(off, [true, false]);
}

#[tokio::test]
async fn rfc9449_4_2_a_renewal_after_a_401_signs_anew() {
    let server = start(Settings::default()).await;
    let session = one(bound(&server));
    let http = client(&session, &server);
    assert_eq!(http.get(server.api_url()).send().await.unwrap().status(), 200);
    server.revoke_all_access_tokens();
    assert_eq!(http.get(server.api_url()).send().await.unwrap().status(), 200);
    assert_eq!((server.counters().token, server.counters().api, server.counters().replays), (2, 3, 0));
    let requests = requests_to(&server, "/api/echo");
    let [refused, replayed] = [&requests[1], &requests[2]].map(|request| proof(request)[1].clone());
    assert_ne!((&refused["jti"], &refused["ath"]), (&replayed["jti"], &replayed["ath"]));
}

#[tokio::test]
async fn rfc9449_5_a_token_from_before_it_was_asked_for_is_not_sent_unbound() {
    let provider = Oidc::builder("https://idp.example", "app").flow(Flow::Device).dpop(true);
    let provider = provider.build(&Context::new()).unwrap();
    let error = provider.present(&AccessToken::new("from-before"), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "the engine renews what cannot be presented");
}
