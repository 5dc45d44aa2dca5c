//! Client authentication (RFC 6749 section 2.3, RFC 7521, RFC 7523) against a server that checks it.
//!
//! Certificates are in `mtls.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use common::{build, elsewhen, jwt, last, literal};
use keyfob_auth_core::{
    Acquired, AuthError, Context, CredentialProvider, ErrorKind, SecretString, TokenRequest,
    registry::SecretSource,
};
use keyfob_idp::server::{
    Algorithm, AssertionAudience as Accepted, AuthorizationServer, Client, Endpoint, Fault, Settings,
    SigningKey, TokenEndpointAuthMethod, TrustedIssuer, VerificationKey,
};
use keyfob_provider_oidc::{AssertionAudience, ClientAuth, Flow, Oidc, OidcBuilder, Signer};
use serde_json::json;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

async fn acquire(provider: &Oidc) -> Result<Acquired, AuthError> {
    provider.acquire(&TokenRequest::default(), None).await
}

/// A key that is elsewhere: the embedded server's own implementation signs.
#[derive(Debug)]
struct Elsewhere {
    key: SigningKey,
    uses: AtomicUsize,
}

impl Elsewhere {
    fn new() -> Arc<Self> {
        Arc::new(Self { key: SigningKey::generate(Algorithm::Es256), uses: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Signer for Elsewhere {
    fn algorithm(&self) -> &str {
        "ES256"
    }

    fn key_id(&self) -> Option<&str> {
        Some(self.key.key_id())
    }

    async fn sign(&self, input: &[u8]) -> Result<Vec<u8>, AuthError> {
        self.uses.fetch_add(1, SeqCst);
        let input = std::str::from_utf8(input).unwrap();
        let [header, claims] = jwt(input);
        let signed = self.key.sign_with_header(&header, &claims);
        let (same, signature) = signed.rsplit_once('.').unwrap();
        assert_eq!(same, input, "the bytes to sign are those that are sent");
        Ok(URL_SAFE_NO_PAD.decode(signature).unwrap())
    }
}

/// A server that knows the client `app` by this signer's key.
async fn server_of(signer: &Elsewhere, settings: Settings) -> AuthorizationServer {
    let client = Client::with_keys("app", vec![VerificationKey::jwk(signer.key.jwk())]);
    AuthorizationServer::start(settings.with_client(client)).await
}

fn app(server: &AuthorizationServer, signer: &Arc<Elsewhere>) -> OidcBuilder {
    Oidc::builder(server.issuer(), "app").signer(Arc::clone(signer) as _)
}

#[tokio::test]
async fn rfc6749_2_3_1_basic_encodes_and_raw_basic_does_not() {
    let (id, secret) = ("svc:a b", "p@ss:w%rd+ &=ü~\"");
    let client = Client::confidential(id, secret).only(TokenEndpointAuthMethod::ClientSecretBasic);
    let server = AuthorizationServer::start(Settings::default().with_client(client)).await;
    let builder = |auth| Oidc::builder(server.issuer(), id).client_secret(literal(secret)).client_auth(auth);
    acquire(&build(builder(ClientAuth::ClientSecretBasic))).await.unwrap();
    let header = last(&server, "/token").header("authorization").unwrap().to_owned();
    let pair = STANDARD.decode(header.strip_prefix("Basic ").unwrap()).unwrap();
    assert_eq!(pair, b"svc%3Aa+b:p%40ss%3Aw%25rd%2B+%26%3D%C3%BC%7E%22");

    // A colon in the id cannot be sent raw.
    let error = acquire(&build(builder(ClientAuth::ClientSecretBasicRaw))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);

    // Nothing in it means anything to a server that decodes, so both take it.
    let client =
        Client::confidential("svc", "plain-secret_1").only(TokenEndpointAuthMethod::ClientSecretBasic);
    let server = AuthorizationServer::start(Settings::default().with_client(client)).await;
    let builder = Oidc::builder(server.issuer(), "svc").client_secret(literal("plain-secret_1"));
    acquire(&build(builder.client_auth(ClientAuth::ClientSecretBasicRaw))).await.unwrap();
    let header = last(&server, "/token").header("authorization").unwrap().to_owned();
    assert_eq!(STANDARD.decode(header.strip_prefix("Basic ").unwrap()).unwrap(), b"svc:plain-secret_1");
}

#[tokio::test]
async fn rfc6749_2_3_exactly_one_method_in_a_request() {
    let signer = Elsewhere::new();
    let server = server_of(&signer, Settings::default()).await;
    let secret = |auth| {
        let builder = Oidc::builder(server.issuer(), "service");
        builder.client_secret(literal("service-secret")).client_auth(auth)
    };
    for (builder, basic, post, assertion) in [
        (secret(ClientAuth::ClientSecretBasic), true, false, false),
        (secret(ClientAuth::ClientSecretPost), false, true, false),
        (app(&server, &signer), false, false, true),
    ] {
        acquire(&build(builder)).await.unwrap();
        let request = last(&server, "/token");
        assert_eq!(request.header("authorization").is_some(), basic);
        assert_eq!(request.parameter("client_secret").is_some(), post);
        assert_eq!(request.parameter("client_assertion").is_some(), assertion);
        assert!(request.query.is_empty(), "credentials never go into a URL");
    }
}

#[tokio::test]
async fn rfc7523_3_the_assertion_names_the_client_the_audience_and_its_time() {
    let signer = Elsewhere::new();
    let server = server_of(&signer, Settings::default()).await;
    let token_endpoint = server.token_endpoint();
    for (audience, aud) in [
        (None, server.issuer()),
        (Some(AssertionAudience::Issuer), server.issuer()),
        (Some(AssertionAudience::TokenEndpoint), token_endpoint.as_str()),
    ] {
        let builder = app(&server, &signer);
        let builder = match audience {
            Some(audience) => builder.assertion_audience(audience),
            None => builder,
        };
        acquire(&build(builder)).await.unwrap();
        let request = last(&server, "/token");
        assert_eq!(request.parameter("client_assertion_type"), Some(ASSERTION_TYPE));
        assert_eq!(request.parameter("client_id"), Some("app"));
        let [header, claims] = jwt(request.parameter("client_assertion").unwrap());
        assert_eq!(header, json!({"alg": "ES256", "kid": signer.key.key_id(), "typ": "JWT"}));
        assert_eq!(
            (&claims["iss"], &claims["sub"], &claims["aud"]),
            (&json!("app"), &json!("app"), &json!(aud))
        );
        let seconds = |name: &str| claims[name].as_u64().unwrap();
        assert_eq!(seconds("exp") - seconds("iat"), 300, "five minutes at most");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(seconds("iat")) < 30);
    }
}

#[tokio::test]
async fn rfc7523_2_2_the_assertion_goes_under_its_type_and_with_no_secret() {
    let signer = Elsewhere::new();
    let server = server_of(&signer, Settings::default()).await;
    let device = app(&server, &signer).flow(Flow::Device);
    for builder in [app(&server, &signer), device.token_endpoint(server.token_endpoint())] {
        let provider = build(builder);
        provider.introspect(&"token".into()).await.unwrap();
        provider.revoke_access_token(&"token".into()).await.unwrap();
    }
    acquire(&build(app(&server, &signer))).await.unwrap();
    let posted: Vec<_> = server.requests().into_iter().filter(|request| request.method == "POST").collect();
    assert_eq!(posted.len(), 5);
    for request in posted {
        assert_eq!(request.parameter("client_assertion_type"), Some(ASSERTION_TYPE), "{}", request.path);
        assert!(request.parameter("client_assertion").is_some());
        assert!(request.parameter("client_secret").is_none() && request.header("authorization").is_none());
    }
    assert_eq!(server.counters().replays, 0);
}

#[tokio::test]
async fn rfc7523_3_a_server_takes_only_the_audience_that_it_wants() {
    let signer = Elsewhere::new();
    for (accepted, audience, good) in [
        (Accepted::Issuer, AssertionAudience::Issuer, true),
        (Accepted::Issuer, AssertionAudience::TokenEndpoint, false),
        (Accepted::TokenEndpoint, AssertionAudience::TokenEndpoint, true),
        (Accepted::TokenEndpoint, AssertionAudience::Issuer, false),
        (Accepted::Issuer, AssertionAudience::Other("https://elsewhere.example".into()), false),
    ] {
        let settings = Settings { assertion_audience: accepted, ..Settings::default() };
        let server = server_of(&signer, settings).await;
        let outcome = acquire(&build(app(&server, &signer).assertion_audience(audience.clone()))).await;
        match outcome {
            Ok(_) => assert!(good, "{accepted:?} {audience:?}"),
            Err(error) => {
                assert!(!good && error.oauth_error() == Some("invalid_client"), "{audience:?}: {error}");
            }
        }
        assert_eq!(server.counters().token, 1);
    }
}

#[tokio::test]
async fn rfc7523_3_lifetimes_are_the_configured_ones() {
    let signer = Elsewhere::new();
    let settings = Settings { assertion_longest_lifetime: Duration::from_secs(60), ..Settings::default() };
    let server = server_of(&signer, settings).await;
    let error = acquire(&build(app(&server, &signer))).await.unwrap_err();
    assert!(error.oauth_description().unwrap().contains("exp is "), "{error}");
    acquire(&build(app(&server, &signer).assertion_lifetime(Duration::from_secs(60)))).await.unwrap();
    let [_, claims] = jwt(last(&server, "/token").parameter("client_assertion").unwrap());
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
}

#[tokio::test]
async fn rfc7523_3_every_attempt_has_an_assertion_of_its_own() {
    let signer = Elsewhere::new();
    let server = server_of(&signer, Settings::default()).await;
    let provider = build(app(&server, &signer));
    for fault in [None, Some(Fault::status(503)), Some(Fault::DropAfter), None] {
        if let Some(fault) = fault {
            server.faults().push(Endpoint::Token, fault);
        }
        let _ = acquire(&provider).await;
    }
    let requests = server.requests();
    let sent = requests.iter().filter_map(|request| request.parameter("client_assertion"));
    let mut ids: Vec<_> = sent.map(|sent| jwt(sent)[1]["jti"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| URL_SAFE_NO_PAD.decode(id).unwrap().len() >= 12), "96 bits at least");
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), server.counters().replays), (4, 0));

    // And the server would have noticed.
    let replayed = last(&server, "/token").parameter("client_assertion").unwrap().to_owned();
    let error = acquire(&build(Oidc::builder(server.issuer(), "app").client_assertion(literal(&replayed))))
        .await
        .unwrap_err();
    assert!(error.oauth_description().unwrap().contains("jti"), "{error}");
    assert_eq!(server.counters().replays, 1);
}

#[tokio::test]
async fn rfc7523_3_an_assertion_is_valid_by_the_servers_clock() {
    let signer = Elsewhere::new();
    let server = server_of(&signer, Settings::default()).await;
    let (clock, context) = elsewhen();
    // Years ahead of the server: discovery has shown it, so the first assertion is right.
    let provider = app(&server, &signer).build(&context).unwrap();
    acquire(&provider).await.unwrap();
    assert_eq!((server.counters().discovery, server.counters().token), (1, 1));
    // Somebody sets the clock: the refusal tells, and the request is sent once more.
    clock.set_back(Duration::from_secs(20 * 365 * 86400));
    acquire(&provider).await.unwrap();
    assert_eq!(server.counters().token, 3);
}

#[tokio::test]
async fn rfc7523_3_what_the_refusal_shows_of_the_clock_is_used_at_once() {
    let signer = Elsewhere::new();
    let server = server_of(&signer, Settings::default()).await;
    let (_, context) = elsewhen();
    // Nothing was discovered, so nothing is known of the server's clock.
    let provider = app(&server, &signer).token_endpoint(server.token_endpoint()).build(&context).unwrap();
    acquire(&provider).await.unwrap();
    assert_eq!((server.counters().discovery, server.counters().token), (0, 2), "once more, with its time");
    acquire(&provider).await.unwrap();
    assert_eq!((server.counters().token, server.counters().replays), (3, 0));
    // A refusal that has nothing to do with the clock is not repeated.
    server.faults().push(Endpoint::Token, Fault::oauth_error("invalid_client"));
    acquire(&provider).await.unwrap_err();
    assert_eq!(server.counters().token, 4);
}

#[tokio::test]
async fn a_signer_elsewhere_signs_and_its_failure_is_the_errors_source() {
    #[derive(Debug)]
    struct Broken;

    #[async_trait]
    impl Signer for Broken {
        fn algorithm(&self) -> &str {
            "ES256"
        }

        async fn sign(&self, _: &[u8]) -> Result<Vec<u8>, AuthError> {
            Err(AuthError::transient("the key service cannot be reached"))
        }
    }

    let signer = Elsewhere::new();
    let server = server_of(&signer, Settings::default()).await;
    acquire(&build(app(&server, &signer))).await.unwrap();
    assert_eq!(signer.uses.load(SeqCst), 1);
    let error =
        acquire(&build(Oidc::builder(server.issuer(), "app").signer(Arc::new(Broken)))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.to_string().contains("key service"), "{error}");
    assert_eq!(server.counters().token, 1, "nothing is sent without a signature");
}

#[tokio::test]
async fn rfc7521_4_2_nameless_assertions_name_the_client_themselves() {
    let signer = Elsewhere::new();
    let server = server_of(&signer, Settings { assertion_jti_required: false, ..Settings::default() }).await;
    acquire(&build(app(&server, &signer).nameless_assertions().bare_assertions())).await.unwrap();
    let request = last(&server, "/token");
    assert_eq!(request.parameter("client_id"), None);
    let [_, claims] = jwt(request.parameter("client_assertion").unwrap());
    let mut names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["aud", "exp", "iss", "sub"]);
}

#[tokio::test]
async fn a_federated_assertion_is_read_at_each_use() {
    let platform = SigningKey::generate(Algorithm::Es256);
    let issuer = "https://platform.example";
    let trusted = TrustedIssuer::new(issuer, vec![VerificationKey::jwk(platform.jwk())]);
    let settings = Settings { trusted_issuers: vec![trusted], ..Settings::default() }
        .with_client(Client::federated("workload", issuer, "pod-1"));
    let server = AuthorizationServer::start(settings).await;
    let token = |life: i64| {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let claims = json!({"iss": issuer, "sub": "pod-1", "aud": server.issuer(), "exp": now + life});
        platform.sign("JWT", &claims)
    };

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let provider =
        build(Oidc::builder(server.issuer(), "workload").client_assertion(SecretSource::File(file.clone())));
    assert_eq!(acquire(&provider).await.unwrap_err().kind(), ErrorKind::NotConfigured);
    fs::write(&file, token(-60)).unwrap();
    let revision = provider.secret_revision();
    assert_eq!(acquire(&provider).await.unwrap_err().oauth_error(), Some("invalid_client"));
    // The platform writes the next one.
    fs::write(&file, format!("{}\n", token(3600))).unwrap();
    assert_ne!(provider.secret_revision(), revision, "a refusal is tried again at once");
    acquire(&provider).await.unwrap();
    let request = last(&server, "/token");
    assert_eq!(request.parameter("client_id"), Some("workload"));
    assert_eq!(request.parameter("client_assertion_type"), Some(ASSERTION_TYPE));

    let tokens = Arc::new(Mutex::new(vec![token(600), token(300)]));
    let given = Arc::clone(&tokens);
    let provider = build(Oidc::builder(server.issuer(), "workload").client_assertion_from(move || {
        let next =
            given.lock().unwrap().pop().ok_or_else(|| AuthError::transient("the platform has no token now"));
        async move { next.map(SecretString::from) }
    }));
    for _ in 0..2 {
        acquire(&provider).await.unwrap();
    }
    let error = acquire(&provider).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Transient && error.to_string().contains("no token now"), "{error}");
}

#[cfg(feature = "jose")]
mod signed_here {
    use keyfob_auth_core::ExposeSecret;
    use keyfob_provider_oidc::jose::{KeyOptions, SigningKey as OwnKey};
    use serde_json::Value;

    use super::*;

    #[tokio::test]
    async fn rfc7523_2_2_private_key_jwt_by_every_algorithm_from_a_pem() {
        let keys: Vec<_> = Algorithm::ALL.into_iter().map(SigningKey::generate).collect();
        let client = |key: &SigningKey| {
            let mut client = Client::with_keys(key.algorithm().name(), vec![VerificationKey::jwk(key.jwk())]);
            client.assertion_algorithm = Some(key.algorithm().name().into());
            client
        };
        let settings = keys.iter().fold(Settings::default(), |all, key| all.with_client(client(key)));
        let server = AuthorizationServer::start(settings).await;
        for key in &keys {
            let name = key.algorithm().name();
            let builder =
                Oidc::builder(server.issuer(), name).key(literal(&key.pkcs8_pem())).signing_alg(name);
            let outcome = acquire(&build(builder)).await;
            outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
            let [header, _] = jwt(last(&server, "/token").parameter("client_assertion").unwrap());
            assert_eq!(header["alg"], name);
        }
        assert_eq!(server.counters().successes_of("client_credentials"), 10);
    }

    #[tokio::test]
    async fn rfc7523_2_2_private_key_jwt_from_a_jwk_and_from_the_named_key_of_a_set() {
        let (first, second) =
            (SigningKey::generate(Algorithm::Es256), SigningKey::generate(Algorithm::Es384));
        let mut public = second.jwk();
        public["kid"] = json!("mine");
        let client = Client::with_keys("app", vec![VerificationKey::jwk(public)]);
        let server = AuthorizationServer::start(Settings::default().with_client(client)).await;
        let private = |key: &SigningKey| {
            let mut options = KeyOptions::default();
            options.key_id = Some(key.key_id().into());
            let own = OwnKey::from_text(&key.pkcs8_pem().into(), &options).unwrap();
            serde_json::from_str::<Value>(own.to_jwk_secret().unwrap().expose_secret()).unwrap()
        };
        let mut jwk = private(&second);
        jwk["kid"] = json!("mine");
        acquire(&build(Oidc::builder(server.issuer(), "app").key(literal(&jwk.to_string())))).await.unwrap();
        let [header, _] = jwt(last(&server, "/token").parameter("client_assertion").unwrap());
        assert_eq!((&header["alg"], &header["kid"]), (&json!("ES384"), &json!("mine")));

        let set = json!({ "keys": [private(&first), jwk] }).to_string();
        let of_set = |id: &str| build(Oidc::builder(server.issuer(), "app").key(literal(&set)).key_id(id));
        acquire(&of_set("mine")).await.unwrap();
        let error = acquire(&of_set("nobodys")).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Configuration && error.to_string().contains("nobodys"), "{error}");
        assert_eq!(server.counters().token, 2);
    }

    #[tokio::test]
    async fn rfc7523_2_2_client_secret_jwt_signs_with_the_secret_and_never_sends_it() {
        let secret = "marker-secret-".repeat(6);
        for algorithm in ["HS256", "HS384", "HS512"] {
            let mut client =
                Client::confidential("app", &secret).only(TokenEndpointAuthMethod::ClientSecretJwt);
            client.assertion_algorithm = Some(algorithm.into());
            let server = AuthorizationServer::start(Settings::default().with_client(client)).await;
            let builder = |secret: &str| {
                let builder = Oidc::builder(server.issuer(), "app").client_secret(literal(secret));
                builder.client_auth(ClientAuth::ClientSecretJwt).signing_alg(algorithm)
            };
            acquire(&build(builder(&secret))).await.unwrap();
            let request = last(&server, "/token");
            assert!(!format!("{request:?}").contains("marker"), "{request:?}");
            assert_eq!(jwt(request.parameter("client_assertion").unwrap())[0]["alg"], algorithm);
            let error = acquire(&build(builder(&"other-secret-".repeat(6)))).await.unwrap_err();
            assert_eq!(error.oauth_error(), Some("invalid_client"));
            let error = acquire(&build(builder("marker-short"))).await.unwrap_err();
            assert!(
                error.kind() == ErrorKind::Configuration && error.to_string().contains("shorter"),
                "{error}"
            );
            assert!(!format!("{error} {error:?}").contains("marker"));
            assert_eq!(server.counters().token, 2);
        }
    }

    #[tokio::test]
    async fn a_rotated_key_file_is_seen_at_the_next_use() {
        let (old, new) = (SigningKey::generate(Algorithm::Es256), SigningKey::generate(Algorithm::EdDsa));
        let client = Client::with_keys("app", vec![VerificationKey::jwk(new.jwk())]);
        let server = AuthorizationServer::start(Settings::default().with_client(client)).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        private_file(&file, &old.pkcs8_pem());
        let provider = build(Oidc::builder(server.issuer(), "app").key(SecretSource::File(file.clone())));
        let before = provider.secret_revision();
        assert_eq!(acquire(&provider).await.unwrap_err().oauth_error(), Some("invalid_client"));
        assert_eq!(provider.secret_revision(), before);
        private_file(&file, &new.pkcs8_pem());
        assert_ne!(provider.secret_revision(), before, "a refusal is tried again at once");
        acquire(&provider).await.unwrap();
        assert_eq!(jwt(last(&server, "/token").parameter("client_assertion").unwrap())[0]["alg"], "EdDSA");
        // Somebody puts nonsense there.
        private_file(&file, "marker, no key");
        let error = acquire(&provider).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(
            error.to_string().contains("key.pem") && !format!("{error:?}").contains("marker"),
            "{error:?}"
        );
        assert_eq!(server.counters().token, 2);
    }

    fn private_file(path: &std::path::Path, text: &str) {
        fs::write(path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    #[tokio::test]
    async fn rfc7523_2_2_an_algorithm_that_does_not_fit_the_key_is_refused_before_anything_is_sent() {
        let key = SigningKey::generate(Algorithm::Es256).pkcs8_pem();
        let server = AuthorizationServer::start(Settings::default()).await;
        for algorithm in ["RS256", "ES384", "HS256", "none", "EdDSA"] {
            let builder = Oidc::builder(server.issuer(), "app").key(literal(&key)).signing_alg(algorithm);
            let error = acquire(&build(builder)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{algorithm}: {error}");
        }
        assert_eq!(server.counters().token, 0);
    }

    #[tokio::test]
    async fn an_encrypted_key_needs_its_passphrase() {
        let server = AuthorizationServer::start(Settings::default()).await;
        let key = SigningKey::generate(Algorithm::Es256);
        let plain = openssl::pkey::PKey::private_key_from_pem(key.pkcs8_pem().as_bytes()).unwrap();
        let cipher = openssl::symm::Cipher::aes_256_cbc();
        let encrypted = plain.private_key_to_pem_pkcs8_passphrase(cipher, b"marker-phrase").unwrap();
        let encrypted = String::from_utf8(encrypted).unwrap();
        let client = Client::with_keys("app", vec![VerificationKey::jwk(key.jwk())]);
        drop(server);
        let server = AuthorizationServer::start(Settings::default().with_client(client)).await;
        let builder = || Oidc::builder(server.issuer(), "app").key(literal(&encrypted));
        acquire(&build(builder().key_passphrase(literal("marker-phrase")))).await.unwrap();
        for provider in [build(builder()), build(builder().key_passphrase(literal("marker-wrong")))] {
            let error = acquire(&provider).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains("passphrase"), "{error}");
            assert!(!format!("{error} {error:?}").contains("marker"), "{error:?}");
        }
        assert_eq!(server.counters().token, 1);
    }
}

#[test]
fn a_method_without_what_it_needs_is_refused_when_it_is_built() {
    let context = Context::new();
    let base = || Oidc::builder("https://idp.example", "app");
    for (builder, key) in [
        (base().client_auth(ClientAuth::ClientSecretBasic), "client_secret"),
        (base().client_auth(ClientAuth::PrivateKeyJwt), "key"),
        (base().client_auth(ClientAuth::TlsClientAuth), "certificate"),
        (base().client_auth(ClientAuth::None).client_secret(literal("marker")), "client_auth"),
        (base().client_auth(ClientAuth::PrivateKeyJwt).client_secret(literal("marker")), "client_secret"),
        (
            base()
                .client_auth(ClientAuth::TlsClientAuth)
                .certificate(literal("x"))
                .client_secret(literal("marker")),
            "client_secret",
        ),
        (base().client_assertion(literal("jwt")).client_secret(literal("marker")), "client_secret"),
    ] {
        let error = builder.build(&context).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
        assert!(!format!("{error:?}").contains("marker"), "{error:?}");
    }
}
