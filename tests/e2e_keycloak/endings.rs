//! How a login ends: by its person, or by an operator.

use keyfob::{ErrorKind, LastError};

use crate::{
    Turn,
    app::{App, is_active, refresh_by_hand, sign_in, soon},
    events::refreshes,
};

#[tokio::test]
async fn a_logout_revokes_at_the_server() {
    let Some(keycloak) = Turn::wait("a logout revokes").await else { return };
    let app = App::new(&keycloak);
    let session = app.of_alice(&keycloak).await;
    let (access, refresh) = (session.token().await.unwrap(), app.refresh_token().await);
    assert!(is_active(&keycloak, access.secret()).await);

    let report = session.logout().await.unwrap();
    assert!(report.was_logged_in && report.revoked && report.problems.is_empty(), "{report:?}");
    assert!(app.record().await.is_none());
    let refused = refresh_by_hand(&keycloak, &refresh).await;
    assert_eq!((refused.status, refused.error()), (400, "invalid_grant"));
    assert!(!is_active(&keycloak, access.secret()).await);
    assert!(session.cached().is_none());
    for session in [session, app.session()] {
        let error = session.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoginRequired, "{error}");
        let again = session.logout().await.unwrap();
        assert!(!again.was_logged_in && !again.revoked && again.problems.is_empty(), "{again:?}");
    }
}

#[tokio::test]
async fn an_operator_ends_the_login() {
    let Some(keycloak) = Turn::wait("an operator ends the login").await else { return };
    let app = App::new(&keycloak);
    let session = app.of_alice(&keycloak).await;
    session.refresh().await.unwrap();
    keycloak.log_out_user("alice").await.unwrap();

    let error = soon(session.refresh()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired, "{error}");
    assert_eq!((error.oauth_error(), error.status()), (Some("invalid_grant"), Some(400)), "{error}");
    assert!(error.to_string().contains("log in again") && !error.is_answer_lost(), "{error}");

    // It is known here and in other processes, and the server is not asked again.
    let last = session.status().await.unwrap().last_error;
    assert!(matches!(last, Some(LastError { kind: ErrorKind::LoginRequired, .. })), "{last:?}");
    let other = app.session();
    let error = soon(other.refresh()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired, "{error}");
    assert!(error.to_string().contains("log in again"), "{error}");
    let refused = refreshes(&keycloak).await.refused;
    assert_eq!(refused.len(), 1, "{refused:?}");

    // A new login mends it, for all.
    let token = sign_in(&session, &keycloak, "alice", false).await.unwrap();
    assert_eq!(soon(other.token()).await.unwrap().secret(), token.secret());
    soon(other.refresh()).await.unwrap();
}
