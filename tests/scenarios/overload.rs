//! `Retry-After`: nobody at this server asks earlier, whatever login it is for.

use std::{sync::Arc, time::Instant};

use keyfob::{Context, ErrorKind, Session, store::MemoryStore};
use keyfob_idp::server::{Endpoint, Fault};

use super::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_429_nobody_asks_before_its_time_in_any_session_at_this_server() {
    let server = start(strict());
    let context = Context::new();
    let store = Arc::new(MemoryStore::new());
    let sessions: Vec<Session> =
        ["one", "two", "three"].map(|label| service(server.issuer(), label, store.clone(), &context)).into();
    server.faults().push(Endpoint::Token, Fault::too_many_requests(Some(3)));
    let error = sessions[0].token().await.unwrap_err();
    let refused = Instant::now();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Transient, Some(429)));
    assert_eq!(error.retry_after(), Some(s(3)));
    for outcome in callers(&sessions, 300).await {
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Transient, Some(429)));
        assert!(error.retry_after().is_some_and(|after| after <= s(3)), "{error}");
    }
    assert_eq!(server.counters().token, 1);

    // Impatient, all of them.
    for session in &sessions {
        while session.token().await.is_err() {
            assert!(refused.elapsed() < s(20));
            tokio::time::sleep(ms(5)).await;
        }
    }
    let asked = asked_at(&server);
    println!(
        "after a 429 with 3 s: asked after {:?}",
        asked.iter().map(|at| *at - asked[0]).collect::<Vec<_>>()
    );
    assert_eq!(asked.len(), 4, "the refused one, then one for each session");
    // Clocks are coarse: some milliseconds.
    assert!(asked[1] - asked[0] >= ms(2990), "{:?}", asked[1] - asked[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_at_the_same_login_waits_too() {
    let server = start(strict());
    let folder = Folder::new();
    let session = expired(&server, &folder).await;
    let others: Vec<Session> = (0..3).map(|_| elsewhere(&server, &folder)).collect();
    server.faults().push(Endpoint::Token, Fault::too_many_requests(Some(2)));
    let error = session.token().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(s(2)), "{error}");
    for other in &others {
        let error = other.token().await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Transient, Some(429)), "{error}");
    }
    assert_eq!(refreshes(&server), 1);
    let begun = Instant::now();
    for other in &others {
        while other.token().await.is_err() {
            assert!(begun.elapsed() < s(20));
            tokio::time::sleep(ms(5)).await;
        }
    }
    let asked = asked_at(&server);
    assert_eq!(asked.len(), 2);
    assert!(asked[1] - asked[0] >= ms(1990), "{:?}", asked[1] - asked[0]);
    assert_not_logged_out(&server);
}
