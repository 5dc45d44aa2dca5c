//! A second server: with TLS and client certificates, and with a database that survives a restart.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use keyfob::{
    Binding, Context, CredentialProvider as _, ErrorKind, ExposeSecret as _, LoginRequest, SecretString,
    Session, TokenRequest,
    keycloak::KeycloakBuilder,
    oidc::{ClientAuth, Flow},
    registry::SecretSource,
    store_file::FileStore,
};
use keyfob_idp::{
    keycloak::{Keycloak as Server, Options, client_secret},
    server::{Algorithm, SigningKey},
};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    Turn,
    app::soon,
    clients::{literal, make},
    keycloak::{claims, client, of_alice, user_id},
    say, set_lifetime,
};

/// How long an access token lives while the server is restarted, in seconds.
const LIFETIME: u64 = 5;

/// A server whose authority is in a file.
struct Durable {
    server: Server,
    folder: TempDir,
}

impl Durable {
    async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let database = Some(folder.path().join("database"));
        let began = Instant::now();
        let options = Options { database, tls: true, ..Options::default() };
        let server = Server::for_tests(options).await?;
        say(&format!("  with TLS and a database on disk, started in {:.1} s", began.elapsed().as_secs_f64()));
        std::fs::write(folder.path().join("authority.pem"), server.authority()).unwrap();
        Some(Self { server, folder })
    }

    /// A client that trusts the authority.
    fn client(&self, id: &str) -> KeycloakBuilder {
        let authority = SecretSource::File(self.folder.path().join("authority.pem"));
        client(&self.server, id).oidc(|oidc| oidc.ca_file(authority))
    }
}

#[tokio::test]
async fn certificates_assertions_and_a_restart() {
    // One server at a time has work.
    let Some(_turn) =
        Turn::wait("a server with TLS and a database: certificates, JWT bearer, a restart").await
    else {
        return;
    };
    let Some(mut durable) = Durable::start().await else { return };
    a_token_is_bound_to_the_clients_certificate(&durable).await;
    somebody_elses_assertion_is_a_grant(&durable).await;
    a_restart_is_a_delay(&mut durable).await;
}

async fn a_token_is_bound_to_the_clients_certificate(durable: &Durable) {
    let server = &durable.server;
    make(server, json!({
        "clientId": "svc-certificate", "enabled": true, "publicClient": false,
        "clientAuthenticatorType": "client-x509", "standardFlowEnabled": false, "serviceAccountsEnabled": true,
        "attributes": {
            "x509.subjectdn": "CN=svc-certificate", "x509.allow.regex.pattern.comparison": "false",
            "tls.client.certificate.bound.access.tokens": "true",
        },
    }))
    .await;
    let own = server.client_certificate("svc-certificate");
    let with =
        |builder: KeycloakBuilder| builder.client_auth(ClientAuth::TlsClientAuth).build(&Context::new());
    for discovery in [false, true] {
        let builder = durable.client("svc-certificate").discovery(discovery);
        let provider = with(
            builder
                .oidc(|oidc| oidc.certificate(literal(&own.certificate)).certificate_key(literal(&own.key))),
        )
        .unwrap();
        assert_eq!(provider.identity().grant, "client_credentials");
        let token = provider.acquire(&TokenRequest::default(), None).await.unwrap().access;
        let seen = claims(token.secret().expose_secret());
        assert_eq!(seen["cnf"]["x5t#S256"], own.thumbprint, "{seen}");
        assert!(
            matches!(token.binding(), Binding::Certificate(bound) if *bound == own.thumbprint),
            "{token:?}"
        );
        provider.present(&token, None).unwrap();
    }

    // Somebody else's certificate, of the same authority; and none at all, which a request by hand must try.
    let other = server.client_certificate("somebody-else");
    let provider = with(
        durable
            .client("svc-certificate")
            .oidc(|oidc| oidc.certificate(literal(&other.certificate)).certificate_key(literal(&other.key))),
    );
    let error = provider.unwrap().acquire(&TokenRequest::default(), None).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Refused, Some(401)), "{error}");
    let form = [("grant_type", "client_credentials"), ("client_id", "svc-certificate")];
    assert_eq!(server.post("token", &form).await.unwrap().status, 401);
    let error = with(durable.client("svc-certificate")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

/// RFC 7523 section 2.1, a preview in Keycloak: an identity provider vouches for a person whom it shares with the realm.
async fn somebody_elses_assertion_is_a_grant(durable: &Durable) {
    const ISSUER: &str = "https://issuer.example.test";
    let server = &durable.server;
    let key = SigningKey::generate(Algorithm::Rs256);
    let public = json!({"keys": [key.jwk()]}).to_string();
    let partner = json!({
        "alias": "partner", "providerId": "jwt-authorization-grant", "enabled": true,
        "config": {
            "issuer": ISSUER, "useJwksUrl": "false", "publicKeySignatureVerifier": public,
            "jwtAuthorizationGrantEnabled": "true", "jwtAuthorizationGrantAssertionSignatureAlg": "RS256",
        },
    });
    server.admin(Method::POST, "/identity-provider/instances", Some(&partner)).await.unwrap();
    let path = format!("/users/{}/federated-identity/partner", user_id(server, "alice").await);
    let known = json!({"identityProvider": "partner", "userId": "their-alice", "userName": "their-alice"});
    server.admin(Method::POST, &path, Some(&known)).await.unwrap();
    make(server, json!({
        "clientId": "svc-grant", "enabled": true, "publicClient": false, "secret": "svc-grant-secret",
        "standardFlowEnabled": false, "serviceAccountsEnabled": false,
        "attributes": {
            "oauth2.jwt.authorization.grant.enabled": "true", "oauth2.jwt.authorization.grant.idp": "partner",
        },
    }))
    .await;
    let key = Arc::new(key);
    let audience = server.issuer();
    let asking_for = |subject: &'static str| {
        let (key, audience) = (Arc::clone(&key), audience.clone());
        let provider = durable
            .client("svc-grant")
            .client_secret(literal("svc-grant-secret"))
            .flow(Flow::JwtBearer)
            .oidc(|oidc| {
                oidc.assertion_from(move || {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                    let assertion = key.sign(
                        "JWT",
                        &json!({
                            "iss": ISSUER, "sub": subject, "aud": audience, "iat": now.as_secs(),
                            "exp": now.as_secs() + 60, "jti": format!("{}", now.as_nanos()),
                        }),
                    );
                    async move { Ok(SecretString::from(assertion)) }
                })
            })
            .build(&Context::new());
        provider.unwrap()
    };
    let token = asking_for("their-alice").acquire(&TokenRequest::default(), None).await.unwrap().access;
    let seen = claims(token.secret().expose_secret());
    assert_eq!(seen["preferred_username"], "alice", "{seen}");
    let error = asking_for("nobody").acquire(&TokenRequest::default(), None).await.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("invalid_grant")), "{error}");
}

async fn a_restart_is_a_delay(durable: &mut Durable) {
    set_lifetime(&durable.server, LIFETIME).await;
    let store = durable.folder.path().join("logins");
    let session = || {
        let context = Context::new();
        let builder = durable.client("web").client_secret(literal(&client_secret("web").unwrap()));
        let provider = builder.flow(Flow::Browser).oidc(|oidc| oidc.redirect_uri("http://127.0.0.1:8999/cb"));
        let provider = Arc::new(provider.build(&context).unwrap());
        let store = Arc::new(FileStore::open(&store).unwrap());
        (Session::new(Arc::clone(&provider) as _, store, &context).unwrap(), provider)
    };
    let ((first, provider), (second, _)) = (session(), session());
    let (url, pending) = provider.oidc().start(&LoginRequest::default(), None).await.unwrap();
    let redirect = durable.server.authorize(&url, "alice", false).await.unwrap();
    let acquired = provider.oidc().finish(pending, redirect.split_once('?').unwrap().1).await.unwrap();
    first.adopt(acquired).await.unwrap();

    let leaving = of_alice(&durable.server, durable.client("native")).await.0;

    // Two processes, and many callers in each, go on throughout.
    let (done, running) = tokio::sync::watch::channel(false);
    let mut callers = JoinSet::new();
    for caller in 0..20 {
        let session = if caller % 2 == 0 { first.clone() } else { second.clone() };
        callers.spawn(call(session, running.clone()));
    }
    tokio::time::sleep(Duration::from_secs(2 * LIFETIME)).await;
    // Nothing is under way at this moment, or Keycloak could be killed with a rotated token that nobody has.
    first.refresh().await.unwrap();
    let began = Instant::now();
    durable.server.stop();
    a_logout_forgets_all_the_same(&leaving).await;
    durable.server.restart().await.unwrap();
    let away = began.elapsed();
    tokio::time::sleep(Duration::from_secs(2 * LIFETIME)).await;
    done.send(true).unwrap();

    let mut failures: BTreeMap<ErrorKindName, usize> = BTreeMap::new();
    for call in callers.join_all().await {
        assert!(call.last.is_some(), "every caller has a token in the end: {call:?}");
        for (kind, times) in call.failures {
            *failures.entry(kind).or_default() += times;
        }
    }
    say(&format!("  away for {:.1} s; meanwhile {failures:?}", away.as_secs_f64()));
    assert!(failures.keys().all(|kind| *kind == "transient"), "nothing but a delay: {failures:?}");
    let last = first.refresh().await.unwrap();
    assert_eq!(durable.server.introspect(last.secret()).await.unwrap()["active"], true);
    assert_eq!(durable.server.session_count("alice").await.unwrap(), 2, "the same sessions");
    assert!(first.logout().await.unwrap().revoked);
}

/// Nobody is there to revoke anything.
async fn a_logout_forgets_all_the_same(session: &Session) {
    let report = soon(session.logout()).await.unwrap();
    assert!(report.was_logged_in && !report.revoked, "{report:?}");
    let problem = report.problems.first().expect("what could not be done");
    assert_eq!(problem.kind(), ErrorKind::Transient, "{problem}");
    assert_eq!(session.token().await.unwrap_err().kind(), ErrorKind::LoginRequired);
    assert!(!session.status().await.unwrap().refreshable);
}

type ErrorKindName = &'static str;

#[derive(Debug, Default)]
struct Calls {
    /// The last answer's token, if it was one.
    last: Option<String>,
    failures: BTreeMap<ErrorKindName, usize>,
}

async fn call(session: Session, running: tokio::sync::watch::Receiver<bool>) -> Calls {
    let mut calls = Calls::default();
    while !*running.borrow() {
        match session.token().await {
            Ok(token) => {
                let now = SystemTime::now();
                assert!(
                    token.expires_at().unwrap() + Duration::from_secs(1) > now,
                    "an expired token: {token:?}"
                );
                calls.last = Some(token.secret().to_owned());
            }
            Err(error) => {
                calls.last = None;
                *calls.failures.entry(error.kind().as_str()).or_default() += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    calls
}
