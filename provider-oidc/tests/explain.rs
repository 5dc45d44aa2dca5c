//! What an observer is told, what errors say and what is logged: each exchange in the standards' words, and no secret.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use common::{Script, answer, device, literal, service};
use keyfob_auth_core::{
    AuthError, Context, CredentialProvider, ExposeSecret, Interaction, Login, LoginRequest, SecretString,
    Session, Subject, TokenRequest, store::MemoryStore,
};
use keyfob_idp::{
    person::Person,
    server::{
        Algorithm, AuthorizationServer, AutoApprove, Client, Endpoint, Fault, Settings, SigningKey,
        TrustedIssuer, User, VerificationKey,
    },
};
use keyfob_provider_oidc::{ClientAuth, Exchange, Flow, Observer, Oidc, OidcBuilder, explain};
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

/// Keeps what it is told, and what is logged.
#[derive(Clone, Default)]
struct Told {
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Observer for Told {
    fn exchanged(&self, exchange: &Exchange) {
        self.exchanges.lock().unwrap().push(exchange.clone());
    }
}

impl io::Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.log.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Told {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Told {
    /// A context that tells it, and what is logged on this thread until the guard goes.
    fn new() -> (Self, Context, tracing::subscriber::DefaultGuard) {
        let told = Self::default();
        let context = Context::new();
        explain(&context, Arc::new(told.clone())).unwrap();
        let log = tracing_subscriber::fmt().with_env_filter("keyfob=trace").with_ansi(false);
        let guard = tracing::subscriber::set_default(log.with_writer(told.clone()).finish());
        (told, context, guard)
    }

    fn whats(&self) -> Vec<String> {
        self.exchanges.lock().unwrap().iter().map(|exchange| exchange.what.clone()).collect()
    }

    /// All that was told and logged.
    fn everything(&self) -> String {
        let exchanges = self.exchanges.lock().unwrap();
        let told =
            exchanges.iter().fold(String::new(), |all, exchange| format!("{all}{exchange}{exchange:?}"));
        format!("{told}{}", String::from_utf8(self.log.lock().unwrap().clone()).unwrap())
    }

    fn shown(&self) -> String {
        self.exchanges.lock().unwrap().iter().map(ToString::to_string).collect()
    }
}

/// Everything secret that went over the wire: what a server got, and the tokens that it gave.
fn secrets_of(server: &AuthorizationServer) -> Vec<String> {
    const SECRET: [&str; 15] = [
        "client_secret",
        "password",
        "refresh_token",
        "code",
        "code_verifier",
        "device_code",
        "assertion",
        "client_assertion",
        "subject_token",
        "actor_token",
        "token",
        "state",
        "nonce",
        "request_uri",
        "id_token_hint",
    ];
    let mut secrets = Vec::new();
    for request in server.requests() {
        let sent =
            request.form.iter().chain(&request.query).filter(|(name, _)| SECRET.contains(&name.as_str()));
        secrets.extend(sent.map(|(_, value)| value.clone()));
        for header in ["authorization", "dpop"] {
            let value = request.header(header).map(|value| value.rsplit(' ').next().unwrap().to_owned());
            secrets.extend(value);
        }
    }
    // Of a JWT, the signature: without it the rest is of no use.
    let parts =
        secrets.iter().filter_map(|secret| Some(secret.rsplit_once('.')?.1.to_owned())).collect::<Vec<_>>();
    secrets.extend(parts);
    secrets.retain(|secret| secret.len() > 7);
    secrets
}

fn assert_secret(server: &AuthorizationServer, told: &Told, more: &[&str]) {
    let everything = told.everything();
    let secrets = secrets_of(server);
    for secret in secrets.iter().map(String::as_str).chain(more.iter().copied()).chain(["marker"]) {
        assert!(!everything.contains(secret), "{secret} is in:\n{everything}");
    }
}

fn tokens(login: Option<&Login>) -> Vec<String> {
    let Some(login) = login else { return Vec::new() };
    let kept = [&login.refresh_token, &login.id_token, &login.binding_key];
    kept.into_iter().flatten().map(|token| token.expose_secret().to_owned()).collect()
}

/// Gets a token, and returns it with what came with it.
async fn acquire(provider: &Oidc, login: Option<&Login>) -> (Vec<String>, Option<Login>) {
    let acquired = provider.acquire(&TokenRequest::default(), login).await.unwrap();
    let mut secrets = tokens(acquired.login.as_ref());
    secrets.push(acquired.access.secret().expose_secret().to_owned());
    (secrets, acquired.login)
}

fn strs(secrets: &[String]) -> Vec<&str> {
    secrets.iter().map(String::as_str).collect()
}

fn settings() -> Settings {
    let mut alice = User::new("alice");
    alice.password = "marker-password".into();
    Settings {
        auto_approve: Some(AutoApprove { user: "alice".into(), after_polls: 1 }),
        device_interval: Duration::from_millis(10),
        ..Settings::default()
    }
    .with_user(alice)
    .with_client(Client::confidential("service", "marker-secret"))
}

const KEYS: &str = "Keys of the issuer (RFC 7517 section 5)";
const DISCOVERY: &str = "Discovery (OpenID Connect Discovery section 4)";

/// With `jose` the signature of the first ID token takes the issuer's keys.
fn with_keys(mut whats: Vec<&str>) -> Vec<&str> {
    if cfg!(feature = "jose") {
        whats.push(KEYS);
    }
    whats
}

fn marked(server: &AuthorizationServer) -> OidcBuilder {
    service(server).client_secret(literal("marker-secret"))
}

#[tokio::test]
async fn client_credentials_by_each_secret() {
    let server = AuthorizationServer::start(settings()).await;
    for (auth, shown) in [
        (ClientAuth::ClientSecretBasic, "Authorization: Basic ("),
        (ClientAuth::ClientSecretPost, "client_secret: (13 bytes, not shown)"),
    ] {
        let (told, context, _guard) = Told::new();
        let provider = marked(&server).client_auth(auth).scopes(["read"]).build(&context).unwrap();
        let (secrets, _) = acquire(&provider, None).await;
        let token = "Token request, grant client_credentials (RFC 6749 section 4.4.2)";
        assert_eq!(told.whats(), [DISCOVERY, token]);
        let text = told.shown();
        let post = format!("  > POST {}", server.token_endpoint());
        for part in
            [shown, &post, "  >   scope: read", "  < HTTP 200 after ", "token_type: Bearer", "expires_in: 60"]
        {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert_secret(&server, &told, &strs(&secrets));
    }
}

#[tokio::test]
async fn of_a_discovery_document_only_what_is_used_is_told() {
    let mut settings = settings();
    for n in 0..30 {
        settings.metadata.insert(format!("never_heard_of_{n}"), json!("x"));
    }
    settings.metadata.insert("response_modes_supported".into(), json!(["query", "form_post"]));
    settings.metadata.insert("mtls_endpoint_aliases".into(), json!({}));
    let server = AuthorizationServer::start(settings).await;
    let (told, context, _guard) = Told::new();
    acquire(&marked(&server).build(&context).unwrap(), None).await;
    let exchanges = told.exchanges.lock().unwrap().clone();
    let received = &exchanges[0].received;
    let names: Vec<&str> = received.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["issuer", "token_endpoint", "jwks_uri", "response_modes_supported", "mtls_endpoint_aliases"]
    {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(!names.iter().any(|name| name.starts_with("never_") || *name == "scopes_supported"), "{names:?}");
    let (last, besides) = received.last().unwrap();
    let number: usize = besides.split(' ').next().unwrap().parse().unwrap();
    assert!(last == "(besides)" && number >= 30 && besides.ends_with("does not use"), "{besides}");
    assert!(names.len() <= 17, "{names:?}");
    // Of the token's answer, all.
    assert!(!exchanges[1].received.iter().any(|(name, _)| name == "(besides)"));
    assert_secret(&server, &told, &[]);
}

#[tokio::test]
async fn a_persons_flows() {
    let server = AuthorizationServer::start(settings()).await;
    // Device login, its polls, a refresh and a revocation.
    let (told, context, guard) = Told::new();
    let provider = device(&server).build(&context).unwrap();
    let request = LoginRequest::default();
    let acquired = provider.login(&request, None, common::Shown::new()).await.unwrap();
    let login = acquired.login.unwrap();
    let mut secrets = tokens(Some(&login));
    secrets.push(acquired.access.secret().expose_secret().to_owned());
    let (renewed, login) = acquire(&provider, Some(&login)).await;
    secrets.extend(renewed);
    provider.revoke(&login.unwrap(), &[]).await.unwrap();
    let poll = "Token request, grant urn:ietf:params:oauth:grant-type:device_code (RFC 8628 section 3.4)";
    let refresh = "Token request, grant refresh_token (RFC 6749 section 6)";
    let begun = vec![DISCOVERY, "Device authorization request (RFC 8628 section 3.1)", poll, poll];
    let mut whats = with_keys(begun);
    whats.extend([refresh, "Revocation request (RFC 7009 section 2.1)"]);
    assert_eq!(told.whats(), whats);
    let text = told.shown();
    for part in [
        "error: authorization_pending",
        "refresh_token: (",
        "id_token: JWT {\"alg\":\"ES256\"",
        "\"iss\":\"http:",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert_secret(&server, &told, &strs(&secrets));
    drop(guard);

    // A password.
    let (told, context, _guard) = Told::new();
    let builder = device(&server).flow(Flow::Password).username("alice").password(literal("marker-password"));
    let provider = builder.build(&context).unwrap();
    let (secrets, _) = acquire(&provider, None).await;
    let grant = "Token request, grant password (RFC 6749 section 4.3.2)";
    assert_eq!(told.whats(), with_keys(vec![DISCOVERY, grant]));
    assert!(told.shown().contains("password: (15 bytes, not shown)"));
    assert_secret(&server, &told, &strs(&secrets));
}

/// A person whose browser does what it is told.
#[derive(Debug)]
struct Browsing;

impl Interaction for Browsing {
    fn show(&self, prompt: &keyfob_auth_core::Prompt) {
        if let keyfob_auth_core::Prompt::OpenUrl { url } = prompt {
            let url = url.clone();
            tokio::spawn(async move { Person::new("alice").visit(&url).await.unwrap() });
        }
    }
}

#[tokio::test]
async fn a_login_with_a_browser_pushed_or_not() {
    for pushed in [true, false] {
        let server = AuthorizationServer::start(settings()).await;
        let (told, context, _guard) = Told::new();
        let builder =
            device(&server).flow(Flow::Browser).open_browser(false).login_hint("alice@example.test");
        let provider = builder.pushed_authorization_requests(pushed).build(&context).unwrap();
        let acquired = provider.login(&LoginRequest::default(), None, Arc::new(Browsing)).await.unwrap();
        let mut secrets = tokens(acquired.login.as_ref());
        secrets.push(acquired.access.secret().expose_secret().to_owned());
        let mut whats = vec![DISCOVERY];
        if pushed {
            whats.push("Pushed authorization request (RFC 9126 section 2.1)");
        }
        whats.push("Authorization request (RFC 6749 section 4.1.1), by the person's browser");
        whats.push("Authorization response, by the person's browser (RFC 6749 section 4.1.2)");
        whats.push("Token request, grant authorization_code (RFC 6749 section 4.1.3)");
        assert_eq!(told.whats(), with_keys(whats));
        let text = told.shown();
        let code = "  <   code: (";
        for part in [
            "code_challenge_method: S256",
            "state: (",
            "nonce: (",
            code,
            "  >   code_verifier: (",
            "iss: http",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert_secret(&server, &told, &strs(&secrets));
    }
}

#[tokio::test]
async fn assertions_and_exchanged_tokens() {
    let issuer = SigningKey::generate(Algorithm::Es256);
    let name = "https://issuer.example";
    let trusted = TrustedIssuer::new(name, vec![VerificationKey::jwk(issuer.jwk())]);
    let settings = Settings { trusted_issuers: vec![trusted], ..settings() };
    let settings = settings.with_client(Client::federated("workload", name, "pod-1"));
    let server = AuthorizationServer::start(settings).await;
    let assertion = |subject: &str| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"iss": name, "sub": subject, "aud": server.issuer(), "exp": now + 60, "jti": "marker-jti"});
        issuer.sign("JWT", &claims)
    };
    let (told, context, _guard) = Told::new();
    let bearer = marked(&server).flow(Flow::JwtBearer).assertion(literal(&assertion("alice")));
    let (mut secrets, _) = acquire(&bearer.build(&context).unwrap(), None).await;
    let federated = Oidc::builder(server.issuer(), "workload").client_assertion(literal(&assertion("pod-1")));
    secrets.extend(acquire(&federated.build(&context).unwrap(), None).await.0);

    let store = Arc::new(MemoryStore::new());
    let session = Session::new(Arc::new(marked(&server).build(&context).unwrap()), store, &context).unwrap();
    let mut subject = Subject::access_token(assertion("bob"));
    subject.token_type = "urn:ietf:params:oauth:token-type:jwt".into();
    secrets.push(session.for_subject(subject).token().await.unwrap().secret().to_owned());
    assert_eq!(
        told.whats(),
        [
            DISCOVERY,
            "Token request, grant urn:ietf:params:oauth:grant-type:jwt-bearer (RFC 7523 section 2.1)",
            "Token request, grant client_credentials (RFC 6749 section 4.4.2)",
            "Token request, grant urn:ietf:params:oauth:grant-type:token-exchange (RFC 8693 section 2.1)",
        ]
    );
    let text = told.shown();
    for part in
        ["client_assertion: JWT {\"alg\":\"ES256\"", "\"sub\":\"pod-1\"", "subject_token: (", "assertion: ("]
    {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert_secret(&server, &told, &strs(&secrets));
}

#[cfg(feature = "jose")]
#[tokio::test]
async fn proofs_and_signed_assertions() {
    let key = SigningKey::generate(Algorithm::Es256);
    let client = Client::with_keys("app", vec![VerificationKey::jwk(key.jwk())]);
    let settings = Settings { dpop_nonce_uses: Some(100), ..settings() };
    let server = AuthorizationServer::start(settings.with_client(client)).await;
    let (told, context, _guard) = Told::new();
    let pem = key.pkcs8_pem();
    let builder = Oidc::builder(server.issuer(), "app").key(literal(&pem)).dpop(true);
    let (secrets, _) = acquire(&builder.build(&context).unwrap(), None).await;
    let text = told.shown();
    for part in [
        "DPoP: JWT {\"alg\":\"ES256\",\"typ\":\"dpop+jwt\"}",
        "\"htm\":\"POST\"",
        "error: use_dpop_nonce",
        "DPoP-Nonce: (a nonce for the next proof)",
        "client_assertion: JWT",
        "\"iss\":\"app\"",
        "token_type: DPoP",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let line = pem.lines().nth(1).unwrap();
    assert_secret(&server, &told, &strs(&secrets));
    assert!(!told.everything().contains(line));
    let nonce = common::jwt(server.requests().last().unwrap().header("dpop").unwrap())[1]["nonce"].clone();
    assert!(!told.everything().contains(nonce.as_str().unwrap()), "the nonce");
}

#[tokio::test]
async fn introspection_user_info_and_what_was_no_answer() {
    let server = AuthorizationServer::start(settings()).await;
    let (told, context, _guard) = Told::new();
    let provider = marked(&server).build(&context).unwrap();
    provider.introspect(&SecretString::from("marker-token")).await.unwrap();
    provider.user_info(&SecretString::from("marker-token"), None).await.unwrap_err();
    server.faults().push(Endpoint::Token, Fault::DropBefore);
    provider.acquire(&TokenRequest::default(), None).await.unwrap_err();
    server.faults().push(Endpoint::Token, Fault::Html(502));
    provider.acquire(&TokenRequest::default(), None).await.unwrap_err();
    let whats = told.whats();
    assert_eq!(
        whats[1..3],
        [
            "Introspection request (RFC 7662 section 2.1)",
            "UserInfo request (OpenID Connect Core section 5.3)"
        ]
    );
    let text = told.shown();
    for part in [
        "active: false",
        "Authorization: Bearer (12 bytes, not shown)",
        "< no answer after",
        "that are no JSON object",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert_secret(&server, &told, &[]);
}

#[tokio::test]
async fn a_server_that_answers_with_secrets_and_escapes_is_shown_without_either() {
    let body = concat!(
        r#"{"error":"invalid_grant","error_description":"no\u001b[31m\nat all","error_uri":"https://idp.example/e","#,
        r#""access_token":"marker","x\u001b[31m":"marker","list":["marker"],"object":{"marker":"marker"}}"#
    );
    let script = Script::start([answer("400 Bad Request", body)]).await;
    let (told, context, _guard) = Told::new();
    let builder = Oidc::builder(&script.url, "app").client_secret(literal("marker-secret"));
    let builder = builder.token_endpoint(format!("{}/token?key=marker", script.url));
    let provider = builder.extra_parameter("tenant", "marker").build(&context).unwrap();
    let error = provider.acquire(&TokenRequest::default(), None).await.unwrap_err();
    assert!(!text_of(&error).contains("marker"), "{error:?}");
    let text = told.everything();
    assert!(!text.contains("marker") && !told.shown().contains('\u{1b}'), "{text}");
    assert!(told.shown().contains("error_description: no [31m at all"), "{text}");
    assert!(told.shown().contains("tenant: (6 bytes, not shown)"), "{text}");
}

#[tokio::test]
async fn errors_and_debug_show_no_secret() {
    let server = AuthorizationServer::start(settings()).await;
    let script = Script::start([answer("200 OK", r#"{"access_token":{"marker":1}}"#)]).await;
    let marked = |builder: OidcBuilder| {
        builder
            .client_secret(literal("marker-secret"))
            .username("alice")
            .password(literal("marker-wrong"))
            .assertion(literal("marker-assertion"))
            .subject_token(literal("marker-subject"))
            .actor_token(literal("marker-actor"))
            .extra_parameter("tenant", "marker")
            .proxy("http://user:marker@127.0.0.1:1")
    };
    for flow in [Flow::ClientCredentials, Flow::Password, Flow::JwtBearer, Flow::TokenExchange] {
        for base in [service(&server), Oidc::builder(&script.url, "service").token_endpoint(&script.url)] {
            let builder = marked(base.flow(flow));
            assert!(!format!("{builder:?}").contains("marker"), "{builder:?}");
            let (told, context, _guard) = Told::new();
            let provider = builder.build(&context).unwrap();
            assert!(!format!("{provider:?}{provider:#?}").contains("marker"), "{provider:?}");
            if let Err(error) = provider.acquire(&TokenRequest::default(), None).await {
                assert!(!text_of(&error).contains("marker"), "{}", text_of(&error));
            }
            assert!(!told.everything().contains("marker"));
        }
    }
}

/// All that an error says, its causes included.
fn text_of(error: &AuthError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text += &format!(" {next} {next:?}");
        cause = next.source();
    }
    text
}
