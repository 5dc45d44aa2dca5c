//! A logout in one process holds in another, and wins over a renewal under way.

use keyfob::{Context, ErrorKind};
use keyfob_idp::server::{Endpoint, Fault};

use super::{
    child::{Process, Told},
    world::*,
};

/// A child: logs out.
pub(crate) async fn log_out(told: &Told) {
    let session = person(&told.issuer, open(told.folder.clone()), &Context::new());
    let report = session.logout().await.unwrap();
    super::child::report(format!("{} {}", report.was_logged_in, report.revoked));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_in_one_process_is_seen_by_another() {
    let server = start(strict());
    let folder = Folder::new();
    let session = expired(&server, &folder).await;
    let mut process = Process::start("log out", server.issuer(), &folder.path(), "");
    assert_eq!(process.hear(), "true true");
    process.succeeds();
    for session in [session, elsewhere(&server, &folder)] {
        let error = session.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoginRequired, "{error}");
        assert!(session.status().await.unwrap().account.is_none());
        assert!(!session.status().await.unwrap().refreshable);
    }
    let counters = server.counters();
    assert_eq!((refreshes(&server), counters.revocation, counters.families_revoked), (0, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_wins_over_a_renewal_under_way_in_another_process() {
    let server = start(strict());
    let folder = Folder::new();
    let session = expired(&server, &folder).await;
    server.faults().push(Endpoint::Token, Fault::DelayAnswer(s(3)));
    let asking = ask(&session);
    until_refreshes(&server, 1).await;
    let mut process = Process::start("log out", server.issuer(), &folder.path(), "");
    assert_eq!(process.hear(), "true true");
    process.succeeds();
    assert!(!asking.is_finished(), "the logout came first");
    let error = asking.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired, "{error}");
    assert!(session.cached().is_none());
    for session in [session, elsewhere(&server, &folder)] {
        assert_eq!(session.token().await.unwrap_err().kind(), ErrorKind::LoginRequired);
    }
    // The server has ended it, and what the renewal brought was given back: a refresh token and an access token.
    let counters = server.counters();
    assert_eq!((refreshes(&server), counters.revocation, counters.families_revoked), (1, 3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_wins_over_a_renewal_under_way_in_the_same_process() {
    let server = start(strict());
    let folder = Folder::new();
    let session = expired(&server, &folder).await;
    server.faults().push(Endpoint::Token, Fault::DelayAnswer(s(1)));
    let asking = ask(&session);
    until_refreshes(&server, 1).await;
    let report = session.logout().await.unwrap();
    assert!(report.was_logged_in && report.revoked, "{report:?}");
    assert!(!asking.is_finished(), "the logout came first");
    assert_eq!(asking.await.unwrap().unwrap_err().kind(), ErrorKind::LoginRequired);
    assert!(session.drain(s(20)).await);
    for session in [session, elsewhere(&server, &folder)] {
        assert!(session.cached().is_none());
        assert_eq!(session.token().await.unwrap_err().kind(), ErrorKind::LoginRequired);
    }
    assert_eq!((refreshes(&server), server.counters().families_revoked), (1, 1));
}
