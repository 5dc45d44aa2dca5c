//! How a session at Keycloak ends, each in our words; and what a session survives: other keys of the realm's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use keyfob::{
    AccessToken, Acquired, Context, ErrorKind, Login, Session,
    oidc::{Exchange, Flow, Observer, explain},
    store::MemoryStore,
};
use keyfob_idp::keycloak::{Keycloak as Server, password};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    Turn,
    app::{refresh_by_hand, soon},
    clients::literal,
    keycloak::{client, of_alice, user_id},
};

/// A session that alice is signed in with.
async fn signed_in(server: &Server) -> Session {
    of_alice(server, client(server, "native")).await.0
}

/// The next renewal asks for a login, in these words, and the server's own are not lost.
async fn assert_ended(session: &Session, says: &str, description: &str) {
    let error = soon(session.refresh()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired, "{says}: {error}");
    let message = error.to_string();
    assert!(message.contains(says) && message.contains("log in again"), "{says}: {message}");
    assert!(error.oauth_description().is_some_and(|said| said.starts_with(description)), "{message}");
    // Known from now on, without asking.
    assert_eq!(session.refresh().await.unwrap_err().kind(), ErrorKind::LoginRequired);
}

/// Sleeps until the server's clock, which counts in seconds, has come this far.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_millis(1000 * seconds + 500)).await;
}

#[tokio::test]
async fn each_end_of_a_session_is_told_in_our_words() {
    let Some(server) = Turn::wait("keycloak: every end of a session").await else { return };
    let realm = server.admin(Method::GET, "", None).await.unwrap();

    // Its limits: idle, in all, and idle offline.
    let expired = ("idled too long, or reached its limit", "Token is not active");
    let offline = ("the offline session at Keycloak has ended", "Offline");
    for (limit, scope, (says, description)) in [
        ("ssoSessionIdleTimeout", "profile", expired),
        ("ssoSessionMaxLifespan", "profile", expired),
        ("offlineSessionIdleTimeout", "offline_access", offline),
    ] {
        server.set_realm(&json!({ limit: 2 })).await.unwrap();
        let builder = client(&server, "native").oidc(|oidc| oidc.scopes(["openid", scope]));
        let session = of_alice(&server, builder).await.0;
        pass(3).await;
        assert_ended(&session, says, description).await;
        server.set_realm(&json!({ limit: realm[limit] })).await.unwrap();
    }

    // An operator ends it, disables the person, or revokes everything up to now.
    let session = signed_in(&server).await;
    server.log_out_user("alice").await.unwrap();
    assert_ended(&session, "the session at Keycloak has ended", "Session not active").await;

    let session = signed_in(&server).await;
    let path = format!("/users/{}", user_id(&server, "alice").await);
    set_user(&server, &path, false).await;
    assert_ended(&session, "the account is disabled", "User disabled").await;
    set_user(&server, &path, true).await;

    let session = signed_in(&server).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    server.set_realm(&json!({"notBefore": now + 2})).await.unwrap();
    assert_ended(&session, "a not-before policy", "Stale token").await;
    pass(2).await;
    let session = signed_in(&server).await;
    session.refresh().await.unwrap();
    server.set_realm(&json!({"notBefore": 0})).await.unwrap();
}

async fn set_user(server: &Server, path: &str, enabled: bool) {
    let mut user = server.admin(Method::GET, path, None).await.unwrap();
    user["enabled"] = enabled.into();
    server.admin(Method::PUT, path, Some(&user)).await.unwrap();
}

#[tokio::test]
async fn a_refresh_token_that_somebody_else_spends_ends_the_session_and_says_why() {
    let Some(server) = Turn::wait("keycloak: a refresh token spent by somebody else").await else { return };
    let form = [
        ("grant_type", "password"),
        ("client_id", "native"),
        ("username", "alice"),
        ("password", &password("alice").unwrap()),
        ("scope", "openid"),
    ];
    let shared = server.post("token", &form).await.unwrap().text("refresh_token").to_owned();
    let context = Context::new();
    let restored = || {
        let provider = client(&server, "native").flow(Flow::Device).build(&context).unwrap();
        Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap()
    };
    let session = restored();
    let login = Login::with_refresh_token(shared.clone());
    let spent = refresh_by_hand(&server, &shared).await;
    assert_eq!(spent.status, 200, "{spent:?}");
    session.adopt(Acquired::with_login(AccessToken::new("stale".to_owned()), login)).await.unwrap();
    assert_ended(
        &session,
        "the refresh token was used before",
        "Maximum allowed refresh token reuse exceeded",
    )
    .await;
    // The newest token is dead as well: whoever else has it must log in, too.
    let again = refresh_by_hand(&server, spent.text("refresh_token")).await;
    assert_eq!(again.error(), "invalid_grant", "{again:?}");
}

/// Counts the times that the realm's keys are fetched.
#[derive(Default)]
struct KeyFetches(AtomicUsize);

impl Observer for KeyFetches {
    fn exchanged(&self, exchange: &Exchange) {
        if exchange.request_line.ends_with("/certs") {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test]
async fn a_login_survives_that_the_realms_key_is_replaced() {
    let Some(server) = Turn::wait("keycloak: the realm's key is rotated").await else { return };
    let fetches = Arc::new(KeyFetches::default());
    let count = || fetches.0.load(Ordering::SeqCst);
    let context = Context::new();
    explain(&context, Arc::clone(&fetches) as _).unwrap();
    let log_in = async || {
        let provider = client(&server, "native")
            .flow(Flow::Password)
            .oidc(|oidc| oidc.username("alice").password(literal(&password("alice").unwrap())))
            .build(&context)
            .unwrap();
        let session = Session::builder(Arc::new(provider)).store(Arc::new(MemoryStore::new()));
        let session = session.context(&context).build().unwrap();
        session.token().await.unwrap();
        assert_eq!(session.status().await.unwrap().account.unwrap().name.as_deref(), Some("alice"));
        session
    };
    let old = log_in().await;
    log_in().await;
    assert_eq!(count(), 1, "the keys are fetched once");

    let realm = server.admin(Method::GET, "", None).await.unwrap();
    let key = json!({
        "name": "newer", "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
        "parentId": realm["id"],
        "config": {"priority": ["500"], "enabled": ["true"], "active": ["true"], "algorithm": ["RS256"]},
    });
    server.admin(Method::POST, "/components", Some(&key)).await.unwrap();
    let found = server.admin(Method::GET, "/components?name=newer", None).await.unwrap();
    // Its ID token is signed with the new key, and its refresh token with another that did not change.
    old.refresh().await.unwrap();
    assert_eq!(count(), 2, "a key that is not known is looked for");
    log_in().await;
    old.refresh().await.unwrap();
    assert_eq!(count(), 2);

    // What was signed by it is still good for logouts and new logins when it goes again.
    let gone = |component: &Value| format!("/components/{}", component["id"].as_str().unwrap());
    server.admin(Method::DELETE, &gone(&found[0]), None).await.unwrap();
    old.refresh().await.unwrap();
    log_in().await;
    assert_eq!(count(), 2, "the older key is known");
    let report = old.logout().await.unwrap();
    assert!(report.revoked && report.problems.is_empty(), "{report:?}");
}
