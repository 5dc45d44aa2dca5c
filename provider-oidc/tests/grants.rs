//! Password (RFC 6749 section 4.3), JWT bearer (RFC 7523) and token exchange (RFC 8693).
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use common::{Script, answer, build, elsewhen, last, literal, service, values};
use keyfob_auth_core::{
    Acquired, AuthError, Context, CredentialProvider, ErrorKind, ExposeSecret, SecretString, Session,
    Subject, TokenRequest,
    registry::SecretSource,
    store::{MemoryStore, Record},
};
use keyfob_idp::server::{
    AccessTokenFormat, Algorithm, AuthorizationServer, Endpoint, Fault, JWT_BEARER_GRANT, Settings,
    SigningKey, TOKEN_EXCHANGE_GRANT, TrustedIssuer, VerificationKey,
};
use keyfob_provider_oidc::{Flow, Oidc, OidcBuilder};
use serde_json::json;

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

async fn acquire(provider: &Oidc) -> Result<Acquired, AuthError> {
    provider.acquire(&TokenRequest::default(), None).await
}

fn session(builder: OidcBuilder, context: &Context, store: &Arc<MemoryStore>) -> Session {
    let provider = builder.build(context).unwrap();
    Session::new(Arc::new(provider), Arc::clone(store) as _, context).unwrap()
}

/// What is stored, its secrets in the clear.
async fn stored(session: &Session, store: &MemoryStore) -> Option<Record> {
    use keyfob_auth_core::TokenStore as _;
    store.load(&session.identity().into()).await.unwrap().map(|(record, _)| record)
}

mod password {
    use super::*;

    fn alice(server: &AuthorizationServer, password: &str) -> OidcBuilder {
        Oidc::builder(server.issuer(), "cli")
            .flow(Flow::Password)
            .username("alice")
            .password(literal(password))
            .scopes(["openid", "read"])
    }

    #[tokio::test]
    async fn rfc6749_4_3_2_the_password_goes_into_the_body_and_brings_a_login() {
        let server = AuthorizationServer::start(Settings::default()).await;
        let acquired = acquire(&build(alice(&server, "alice-password"))).await.unwrap();
        let request = last(&server, "/token");
        assert_eq!(request.parameter("grant_type"), Some("password"));
        assert_eq!(
            (request.parameter("username"), request.parameter("password")),
            (Some("alice"), Some("alice-password"))
        );
        assert_eq!(request.parameter("scope"), Some("openid read"));
        assert!(request.query.is_empty());
        let login = acquired.login.unwrap();
        assert!(login.refresh_token.is_some());
        assert_eq!(login.account.unwrap().name.as_deref(), Some("alice"));
    }

    #[tokio::test]
    async fn a_refused_password_is_never_tried_twice_until_it_changes() {
        let server = AuthorizationServer::start(Settings::default()).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "marker-wrong").unwrap();
        let (clock, context) = elsewhen();
        // Without an ID token, which would be judged by the odd clock.
        let builder = || alice(&server, "").scopes(["read"]).password(SecretSource::File(file.clone()));
        let store = Arc::new(MemoryStore::new());
        let one = session(builder(), &context, &store);
        for _ in 0..20 {
            let error = one.token().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().contains("\"alice\" or its password"), "{error}");
            assert!(!format!("{error:?}").contains("marker"), "{error:?}");
            clock.advance(Duration::from_secs(3600));
        }
        // Nor by another process that shares the store.
        let other = session(builder(), &Context::new(), &store);
        other.token().await.unwrap_err();
        assert_eq!(server.counters().requests_of("password"), 1, "a second try might lock the account");
        fs::write(&file, "alice-password").unwrap();
        one.token().await.unwrap();
        assert_eq!(server.counters().requests_of("password"), 2);
    }

    #[tokio::test]
    async fn it_is_renewed_by_its_refresh_token_and_the_password_is_used_once_more_if_that_is_refused() {
        let server = AuthorizationServer::start(Settings::default()).await;
        let context = Context::new();
        let store = Arc::new(MemoryStore::new());
        let session = session(alice(&server, "alice-password"), &context, &store);
        session.token().await.unwrap();
        session.refresh().await.unwrap();
        let count = || {
            let counters = server.counters();
            (counters.requests_of("password"), counters.requests_of("refresh_token"))
        };
        assert_eq!(count(), (1, 1));
        // The server has forgotten the login.
        assert_eq!(server.log_out("alice"), 1);
        session.refresh().await.unwrap();
        assert_eq!(count(), (2, 2));
        session.refresh().await.unwrap();
        assert_eq!(count(), (2, 3), "and the new login's token from then on");
    }

    #[tokio::test]
    async fn a_password_is_not_sent_again_because_a_server_was_away() {
        let server = AuthorizationServer::start(Settings::default()).await;
        let provider = build(alice(&server, "alice-password").token_endpoint(server.token_endpoint()));
        for fault in [Fault::status(503), Fault::DropAfter, Fault::Html(502)] {
            server.faults().push(Endpoint::Token, fault);
            assert_eq!(acquire(&provider).await.unwrap_err().kind(), ErrorKind::Transient);
        }
        assert_eq!(server.counters().requests_of("password"), 3, "once for each that asked");
    }
}

mod jwt_bearer {
    use super::*;

    struct Issuer(SigningKey);

    const ISSUER: &str = "https://issuer.example";

    impl Issuer {
        fn new() -> Self {
            Self(SigningKey::generate(Algorithm::Es256))
        }

        async fn server(&self) -> AuthorizationServer {
            let trusted = vec![
                TrustedIssuer::new(ISSUER, vec![VerificationKey::jwk(self.0.jwk())]),
                // An assertion that the client signs itself.
                TrustedIssuer::new("service", vec![VerificationKey::jwk(self.0.jwk())]),
            ];
            let settings = Settings { trusted_issuers: trusted, ..Settings::default() };
            AuthorizationServer::start(settings).await
        }

        fn assertion(&self, server: &AuthorizationServer, id: &str) -> String {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let claims =
                json!({"iss": ISSUER, "sub": "alice", "aud": server.issuer(), "exp": now + 60, "jti": id});
            self.0.sign("JWT", &claims)
        }
    }

    #[tokio::test]
    async fn rfc7523_2_1_the_grant_sends_assertion_and_not_client_assertion() {
        let issuer = Issuer::new();
        let server = issuer.server().await;
        let assertion = issuer.assertion(&server, "one");
        let provider = build(
            service(&server)
                .flow(Flow::JwtBearer)
                .assertion(literal(&assertion))
                .scopes(["read"])
                .audience("api"),
        );
        let acquired = acquire(&provider).await.unwrap();
        assert!(acquired.login.is_none(), "the assertion is new each time");
        let request = last(&server, "/token");
        assert_eq!(request.parameter("grant_type"), Some(JWT_BEARER_GRANT));
        assert_eq!(request.parameter("assertion"), Some(assertion.as_str()));
        assert!(request.parameter("client_assertion").is_none());
        assert_eq!((request.parameter("scope"), request.parameter("audience")), (Some("read"), Some("api")));
        // Its id is spent.
        let error = acquire(&provider).await.unwrap_err();
        assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("invalid_grant")));
    }

    #[tokio::test]
    async fn an_assertion_from_a_callback_is_asked_for_at_each_use() {
        let issuer = Arc::new(Issuer::new());
        let server = Arc::new(issuer.server().await);
        let (issued, by) = (Arc::new(std::sync::atomic::AtomicUsize::new(0)), Arc::clone(&issuer));
        let (count, of) = (Arc::clone(&issued), Arc::clone(&server));
        let provider = build(service(&server).flow(Flow::JwtBearer).assertion_from(move || {
            let id = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst).to_string();
            let assertion = by.assertion(&of, &id);
            async move { Ok(SecretString::from(assertion)) }
        }));
        for _ in 0..3 {
            acquire(&provider).await.unwrap();
        }
        assert_eq!(issued.load(std::sync::atomic::Ordering::SeqCst), 3);
        assert_eq!(server.counters().successes_of(JWT_BEARER_GRANT), 3);
    }

    #[cfg(feature = "jose")]
    #[tokio::test]
    async fn rfc7523_3_an_assertion_that_is_signed_here_is_about_its_subject_and_new_each_time() {
        let issuer = Issuer::new();
        let server = issuer.server().await;
        let (_, context) = elsewhen();
        let builder =
            service(&server).flow(Flow::JwtBearer).key(literal(&issuer.0.pkcs8_pem())).subject("alice");
        let provider = builder.build(&context).unwrap();
        for _ in 0..2 {
            acquire(&provider).await.unwrap();
        }
        let assertion = last(&server, "/token").parameter("assertion").unwrap().to_owned();
        let [_, claims] = common::jwt(&assertion);
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("service"), &json!("alice")));
        assert_eq!(claims["aud"], server.issuer());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(claims["iat"].as_u64().unwrap()) < 60, "by the server's clock");
        assert_eq!(server.counters().replays, 0);
    }

    #[tokio::test]
    async fn an_assertion_that_cannot_be_had_asks_nothing() {
        let issuer = Issuer::new();
        let server = issuer.server().await;
        let folder = tempfile::tempdir().unwrap();
        let absent = SecretSource::File(folder.path().join("assertion.jwt"));
        let error =
            acquire(&build(service(&server).flow(Flow::JwtBearer).assertion(absent))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConfigured);
        assert!(error.to_string().contains("assertion.jwt"), "{error}");
        assert!(server.requests().is_empty());
    }
}

mod token_exchange {
    use super::*;

    fn exchange(server: &AuthorizationServer) -> OidcBuilder {
        service(server).flow(Flow::TokenExchange)
    }

    /// An access token of a person's, and their ID token.
    async fn alices(server: &AuthorizationServer) -> [String; 2] {
        tokens_of(server, "alice").await
    }

    async fn tokens_of(server: &AuthorizationServer, user: &str) -> [String; 2] {
        let provider = build(
            Oidc::builder(server.issuer(), "cli")
                .flow(Flow::Password)
                .username(user)
                .password(literal(&format!("{user}-password")))
                .scopes(["openid", "read", "write"]),
        );
        let acquired = acquire(&provider).await.unwrap();
        server.reset_counters();
        let id_token = acquired.login.unwrap().id_token.unwrap();
        [acquired.access.secret().expose_secret().to_owned(), id_token.expose_secret().to_owned()]
    }

    #[tokio::test]
    async fn rfc8693_2_1_the_subject_and_its_type_are_sent_and_every_audience_and_resource() {
        let server = AuthorizationServer::start(Settings::default()).await;
        let [subject, _] = alices(&server).await;
        let builder = exchange(&server).subject_token(literal(&subject)).scopes(["read"]);
        let provider = build(
            builder
                .audience("one")
                .audience("two")
                .resource("https://a.example")
                .resource("https://b.example"),
        );
        let acquired = acquire(&provider).await.unwrap();
        assert_eq!(acquired.access.scopes().unwrap().to_string(), "read");
        assert!(acquired.login.is_none());
        let request = last(&server, "/token");
        assert_eq!(request.parameter("grant_type"), Some(TOKEN_EXCHANGE_GRANT));
        assert_eq!(request.parameter("subject_token"), Some(subject.as_str()));
        assert_eq!(request.parameter("subject_token_type"), Some(ACCESS_TOKEN));
        assert_eq!(values(&request, "audience"), ["one", "two"]);
        assert_eq!(values(&request, "resource"), ["https://a.example", "https://b.example"]);
        for absent in ["actor_token", "actor_token_type", "requested_token_type"] {
            assert_eq!(request.parameter(absent), None, "{absent}");
        }
    }

    #[tokio::test]
    async fn rfc8693_2_1_the_actors_type_is_there_if_and_only_if_the_actor_is() {
        let server = AuthorizationServer::start(Settings::default()).await;
        let [subject, _] = alices(&server).await;
        let [_, actor] = tokens_of(&server, "bob").await;
        let builder = exchange(&server).subject_token(literal(&subject));
        acquire(&build(builder.clone().actor_token_type(ID_TOKEN))).await.unwrap();
        assert_eq!(last(&server, "/token").parameter("actor_token_type"), None);
        acquire(&build(builder.actor_token(literal(&actor)).actor_token_type(ID_TOKEN))).await.unwrap();
        let request = last(&server, "/token");
        assert_eq!(request.parameter("actor_token"), Some(actor.as_str()));
        assert_eq!(request.parameter("actor_token_type"), Some(ID_TOKEN));
    }

    #[tokio::test]
    async fn rfc8693_2_1_a_subject_is_required_and_read_at_each_use() {
        let server = AuthorizationServer::start(Settings::default()).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("subject");
        let provider = build(exchange(&server).subject_token(SecretSource::File(file.clone())));
        assert_eq!(acquire(&provider).await.unwrap_err().kind(), ErrorKind::NotConfigured);
        fs::write(&file, "marker-unknown").unwrap();
        let revision = provider.secret_revision();
        let error = acquire(&provider).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(!format!("{error:?}").contains("marker"), "{error:?}");
        let [subject, _] = alices(&server).await;
        fs::write(&file, &subject).unwrap();
        assert_ne!(provider.secret_revision(), revision, "a refusal is tried again at once");
        acquire(&provider).await.unwrap();

        server.reset_counters();
        let none = build(exchange(&server));
        assert_eq!(acquire(&none).await.unwrap_err().kind(), ErrorKind::NotConfigured);
        assert!(server.requests().is_empty());
    }

    #[tokio::test]
    async fn rfc8693_2_2_1_an_answer_without_issued_token_type_is_refused() {
        let script = Script::start([
            answer("200 OK", r#"{"access_token":"marker","token_type":"Bearer","expires_in":60}"#),
            answer("200 OK", r#"{"access_token":"marker","token_type":"Bearer","issued_token_type":""}"#),
        ])
        .await;
        let provider = build(
            Oidc::builder(&script.url, "svc")
                .client_secret(literal("s"))
                .flow(Flow::TokenExchange)
                .token_endpoint(&script.url)
                .subject_token(literal("subject")),
        );
        for _ in 0..2 {
            let error = acquire(&provider).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().contains("`issued_token_type`"), "{error}");
            assert!(!format!("{error:?}").contains("marker"), "{error:?}");
        }
        assert_eq!(script.requests().len(), 2, "one each");
    }

    #[tokio::test]
    async fn rfc8693_2_2_1_a_token_of_type_n_a_is_not_presented() {
        let server = AuthorizationServer::start(Settings::default()).await;
        let [subject, _] = alices(&server).await;
        let builder = exchange(&server).subject_token(literal(&subject)).requested_token_type(ID_TOKEN);
        let error = acquire(&build(builder)).await.unwrap_err();
        assert_eq!(last(&server, "/token").parameter("requested_token_type"), Some(ID_TOKEN));
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("\"N_A\""), "{error}");
    }

    #[tokio::test]
    async fn rfc8693_each_caller_has_a_token_of_its_own_and_none_is_stored() {
        let server = AuthorizationServer::start(Settings::default()).await;
        let [[alice, _], [bob, bobs_id]] =
            [tokens_of(&server, "alice").await, tokens_of(&server, "bob").await];
        for flow in [Flow::TokenExchange, Flow::ClientCredentials] {
            server.reset_counters();
            let context = Context::new();
            let store = Arc::new(MemoryStore::new());
            let session = session(service(&server).flow(flow), &context, &store);
            let of_alice = session.for_subject(Subject::access_token(alice.as_str()));
            let of_bob = session.for_subject(Subject::access_token(bob.as_str()));
            let mut by_id = Subject::access_token(bobs_id.as_str());
            by_id.token_type = ID_TOKEN.into();
            let by_id = session.for_subject(by_id);
            let mut secrets = Vec::new();
            for _ in 0..3 {
                for session in [&of_alice, &of_bob, &by_id] {
                    secrets.push(session.token().await.unwrap().secret().to_owned());
                }
            }
            secrets.sort();
            secrets.dedup();
            assert_eq!(secrets.len(), 3, "one for each subject, and it is kept");
            assert_eq!(server.counters().requests_of(TOKEN_EXCHANGE_GRANT), 3);
            assert!(stored(&session, &store).await.is_none(), "in memory only");
            let request = last(&server, "/token");
            assert_eq!(request.parameter("subject_token_type"), Some(ID_TOKEN));
        }
    }

    #[tokio::test]
    async fn rfc8693_3_a_token_of_another_issuer_is_exchanged_by_its_type() {
        let elsewhere = SigningKey::generate(Algorithm::Es256);
        let issuer = "https://elsewhere.example";
        let trusted = TrustedIssuer::new(issuer, vec![VerificationKey::jwk(elsewhere.jwk())]);
        let settings = Settings { trusted_issuers: vec![trusted], ..Settings::default() };
        let server =
            AuthorizationServer::start(Settings { access_token_format: AccessTokenFormat::Jwt, ..settings })
                .await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"iss": issuer, "sub": "alice", "aud": server.issuer(), "exp": now + 60});
        let token = elsewhere.sign("JWT", &claims);
        let builder = exchange(&server).subject_token(literal(&token)).subject_token_type(JWT);
        let acquired = acquire(&build(builder)).await.unwrap();
        let [_, claims] = common::jwt(acquired.access.secret().expose_secret());
        assert_eq!(claims["sub"], "subject-alice");
        assert_eq!(last(&server, "/token").parameter("subject_token_type"), Some(JWT));
    }
}

#[tokio::test]
async fn rfc6749_8_2_extra_parameters_are_sent_with_each_grant_and_may_be_repeated() {
    let details = r#"[{"type":"payment","actions":["read"]}]"#;
    // The embedded server refuses what comes twice, as RFC 6749 section 3.2 says of the standards' own parameters.
    for flow in [Flow::ClientCredentials, Flow::Password, Flow::JwtBearer, Flow::TokenExchange] {
        let body = r#"{"access_token":"at","token_type":"Bearer","issued_token_type":"x"}"#;
        let script = Script::start([answer("200 OK", body)]).await;
        let provider = build(
            Oidc::builder(&script.url, "svc")
                .client_secret(literal("s"))
                .token_endpoint(&script.url)
                .flow(flow)
                .username("alice")
                .password(literal("p"))
                .assertion(literal("a"))
                .subject_token(literal("t"))
                .authorization_details(details)
                .extra_parameter("tenant", "one & two")
                .extra_parameter("tenant", "three"),
        );
        acquire(&provider).await.unwrap();
        let request = script.requests().pop().unwrap();
        let body = request.split_once("\r\n\r\n").unwrap().1;
        assert!(body.ends_with("&tenant=one+%26+two&tenant=three"), "{flow:?}: {body}");
        // RFC 9396 section 6.
        assert_eq!(body.matches("authorization_details=%5B%7B%22type%22").count(), 1, "{flow:?}: {body}");
    }
}

#[tokio::test]
async fn rfc6749_3_2_token_requests_are_posted_forms_and_hold_no_credentials_in_their_url() {
    let server = AuthorizationServer::start(Settings::default()).await;
    acquire(&build(service(&server))).await.unwrap();
    let request = last(&server, "/token");
    assert_eq!(request.method, "POST");
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(request.header("accept"), Some("application/json"));
    assert!(
        request.query.is_empty() && request.header("cookie").is_none() && request.header("referer").is_none()
    );
}
