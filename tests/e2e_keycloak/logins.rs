//! A person signs in, or does not.

use keyfob::{ErrorKind, Freshness};
use keyfob_idp::keycloak::API_AUDIENCE;
use serde_json::{Value, json};

use crate::{
    Turn,
    app::{App, SCOPES, sign_in},
    events::refreshes,
};

#[tokio::test]
async fn a_person_signs_in_by_device_login_and_calls_an_api() {
    let Some(keycloak) = Turn::wait("device login, and calls of an API").await else { return };
    let app = App::new(&keycloak);
    let session = app.session();
    let error = session.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired, "{error}");

    let token = sign_in(&session, &keycloak, "alice", false).await.unwrap();
    assert_eq!(keycloak.session_count("alice").await.unwrap(), 1);

    // What the resource server sees.
    let seen = keycloak.introspect(token.secret()).await.unwrap();
    assert_eq!(seen["active"], true, "{seen}");
    assert_eq!((&seen["username"], &seen["client_id"]), (&json!("alice"), &json!("native")));
    assert!(seen["aud"].as_array().unwrap().contains(&json!(API_AUDIENCE)), "{seen}");
    let scopes = seen["scope"].as_str().unwrap();
    assert!(SCOPES.iter().all(|scope| scopes.contains(scope)), "{scopes}");

    // The account comes from the ID token.
    let status = session.status().await.unwrap();
    let account = status.account.unwrap();
    assert_eq!(account.name.as_deref(), Some("alice"));
    assert_eq!(seen["sub"], account.subject);
    assert_eq!(account.issuer, Some(keycloak.issuer()));
    assert_eq!((status.freshness, status.refreshable), (Freshness::Fresh, true));

    // An API that takes the token: Keycloak's own.
    let (name, value) = session.authorization().await.unwrap();
    let request = reqwest::Client::new().get(keycloak.endpoint("userinfo")).header(name, value);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let person: Value = answer.json().await.unwrap();
    assert_eq!(person["preferred_username"], "alice");

    // Another process finds the same token and asks for none.
    assert_eq!(app.session().token().await.unwrap().secret(), token.secret());
    assert_eq!(refreshes(&keycloak).await.each_once(), 0);
}

#[tokio::test]
async fn a_denied_login_keeps_the_earlier_one() {
    let Some(keycloak) = Turn::wait("a denied login").await else { return };
    let app = App::new(&keycloak);
    let session = app.session();
    let error = sign_in(&session, &keycloak, "alice", true).await.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("access_denied")), "{error}");
    assert!(error.to_string().contains("denied") && error.to_string().contains("HTTP 400"), "{error}");
    assert!(app.record().await.is_none(), "nothing is stored");

    let token = sign_in(&session, &keycloak, "alice", false).await.unwrap();
    sign_in(&session, &keycloak, "bob", true).await.unwrap_err();
    assert_eq!(session.token().await.unwrap().secret(), token.secret());
    assert_eq!(session.status().await.unwrap().account.unwrap().name.as_deref(), Some("alice"));
    session.refresh().await.unwrap();

    // Whoever signs in takes the login over.
    sign_in(&session, &keycloak, "bob", false).await.unwrap();
    assert_eq!(session.status().await.unwrap().account.unwrap().name.as_deref(), Some("bob"));
}
