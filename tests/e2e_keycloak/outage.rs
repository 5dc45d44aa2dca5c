//! The server goes away, and comes back without its memory.

use std::time::{Duration, Instant};

use keyfob::ErrorKind;

use crate::{
    Turn,
    app::{sign_in, soon},
    command::Desk,
    support::assert_fails,
};

/// The longest that an answer may take that is "not now".
const AT_ONCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn an_outage_is_survived_and_a_lost_login_is_told() {
    let Some(mut keycloak) = Turn::wait("the server is stopped and restarted").await else { return };
    // The library and the command share a login.
    let desk = Desk::new(&keycloak);
    let session = desk.session();
    let token = sign_in(&session, &keycloak, "alice", false).await.unwrap();
    assert_eq!(desk.print("token").trim_end(), token.secret());

    keycloak.stop();
    let began = Instant::now();
    let error = soon(session.refresh()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    assert_eq!(session.token().await.unwrap().secret(), token.secret(), "the token at hand is served");
    let other = session.for_scopes(["openid", "api:read"]);
    let error = soon(other.token()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "there is none at hand: {error}");
    assert_eq!(desk.print("token").trim_end(), token.secret());
    assert_fails(&desk.run("refresh"), 4, &["error: ", "caused by: "]);
    assert_fails(&desk.run("login"), 4, &["error: ", "caused by: "]);
    assert_fails(&desk.run("token --profile service"), 4, &["error: ", "caused by: "]);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(session.status().await.unwrap().refreshable, "no outage ends a login");

    // All its sessions and keys are gone.
    keycloak.restart().await.unwrap();
    let began = Instant::now();
    let error = soon(session.refresh()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired, "{error}");
    assert!(error.to_string().contains("log in again"), "{error}");
    assert_fails(&desk.run("refresh"), 3, &["keyfob login --profile work"]);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(desk.print("token --profile service").len() > 100);

    let renewed = sign_in(&session, &keycloak, "alice", false).await.unwrap();
    assert_eq!(desk.print("token").trim_end(), renewed.secret());
    assert_eq!(desk.run("refresh").code, 0);
}
