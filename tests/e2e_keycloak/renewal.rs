//! Renewal under strict rotation: one reuse of a refresh token would log the person out.

use std::collections::BTreeSet;

use keyfob::Token;
use keyfob_idp::keycloak::Keycloak;
use tokio::task::JoinSet;

use crate::{
    Turn,
    app::{App, is_active, refresh_by_hand},
    events::refreshes,
};

#[tokio::test]
async fn each_renewal_rotates_and_none_reuses() {
    const RENEWALS: usize = 20;
    const TASKS: usize = 100;

    let Some(keycloak) = Turn::wait("renewals under strict rotation").await else { return };
    let app = App::new(&keycloak);
    let session = app.of_alice(&keycloak).await;
    let mut access = BTreeSet::from([session.token().await.unwrap().secret().to_owned()]);
    let mut refresh = BTreeSet::from([app.refresh_token().await]);
    for _ in 0..RENEWALS {
        access.insert(session.refresh().await.unwrap().secret().to_owned());
        // What is published has been saved.
        refresh.insert(app.refresh_token().await);
    }
    assert_eq!((access.len(), refresh.len()), (RENEWALS + 1, RENEWALS + 1));
    assert_eq!(refreshes(&keycloak).await.each_once(), RENEWALS);

    // All report one bad token, and all ask for another.
    let bad = session.token().await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (session, bad) = (session.clone(), bad.clone());
        tasks.spawn(async move {
            session.invalidate(&bad);
            session.token().await.unwrap().secret().to_owned()
        });
    }
    let got = tasks.join_all().await.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(got.len(), 1);
    assert!(!got.contains(bad.secret()));
    assert_eq!(refreshes(&keycloak).await.each_once(), RENEWALS + 1);

    assert_eq!(keycloak.session_count("alice").await.unwrap(), 1);
    assert!(is_active(&keycloak, session.token().await.unwrap().secret()).await);

    // The rule that all this keeps: a spent refresh token is refused, and takes the newest with it.
    let spent = app.refresh_token().await;
    session.refresh().await.unwrap();
    assert_eq!(refresh_by_hand(&keycloak, &spent).await.error(), "invalid_grant");
    let error = session.refresh().await.unwrap_err();
    assert_eq!(error.oauth_error(), Some("invalid_grant"), "{error}");
}

#[tokio::test]
async fn two_scopes_of_one_login_are_renewed_at_once() {
    const ROUNDS: usize = 5;

    let Some(keycloak) = Turn::wait("two scopes of one login").await else { return };
    let app = App::new(&keycloak);
    let session = app.of_alice(&keycloak).await;
    let narrow = session.for_scopes(["openid", "api:read"]);
    let mut both = (session.token().await.unwrap(), narrow.token().await.unwrap());
    assert_ne!(both.0.secret(), both.1.secret());
    assert_eq!(refreshes(&keycloak).await.each_once(), 1);
    for _ in 0..ROUNDS {
        let (wide, narrow) = tokio::join!(session.refresh(), narrow.refresh());
        let renewed = (wide.unwrap(), narrow.unwrap());
        assert_ne!(renewed.0.secret(), both.0.secret());
        assert_ne!(renewed.1.secret(), both.1.secret());
        both = renewed;
    }
    assert_eq!(refreshes(&keycloak).await.each_once(), 1 + 2 * ROUNDS);
    assert_eq!(keycloak.session_count("alice").await.unwrap(), 1);

    // Less was asked for in between, and nothing is lost by it.
    assert_eq!(scopes(&keycloak, &both.0).await, (true, true));
    assert_eq!(scopes(&keycloak, &both.1).await, (true, false));

    // Another process has both without asking.
    let other = app.session();
    assert_eq!(other.token().await.unwrap().secret(), both.0.secret());
    let other = other.for_scopes(["api:read", "openid"]);
    assert_eq!(other.token().await.unwrap().secret(), both.1.secret());
    assert_eq!(refreshes(&keycloak).await.each_once(), 1 + 2 * ROUNDS);
}

/// Whether the token is good for reading, and for writing.
async fn scopes(keycloak: &Keycloak, token: &Token) -> (bool, bool) {
    let seen = keycloak.introspect(token.secret()).await.unwrap();
    let scopes = seen["scope"].as_str().unwrap_or_default();
    let has = |scope| scopes.split_whitespace().any(|granted| granted == scope);
    (has("api:read"), has("api:write"))
}
