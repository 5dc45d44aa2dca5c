//! Promise 8, once through real sockets: the wall clock is set forward and back, the machine is suspended.

use keyfob::{Context, testing::FakeClock};

use super::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_set_and_a_suspended_machine() {
    let server = start(strict());
    let folder = Folder::new();
    let clock = FakeClock::new();
    let context = Context::builder().clock(clock.clock()).build();
    let session = person(server.issuer(), folder.store(), &context);
    log_in(&server, &session, s(600)).await;
    session.token().await.unwrap();
    assert_refreshes(&server, 0);

    // Forward, or asleep: to a program it is the same.
    clock.suspend(s(3600));
    assert!(session.cached().is_none());
    session.token().await.unwrap();
    assert_refreshes(&server, 1);

    // Back: obtained in the future. It is served, and renewed beside.
    let future = session.token().await.unwrap();
    clock.set_back(s(3600));
    assert_eq!(session.token().await.unwrap().secret(), future.secret());
    assert!(session.drain(s(20)).await);
    let now = session.token().await.unwrap();
    assert_ne!(now.secret(), future.secret());
    assert_refreshes(&server, 2);

    // Back, and its life passes: the monotonic clock knows.
    clock.advance(s(300));
    clock.set_back(s(299));
    assert_eq!(session.token().await.unwrap().secret(), now.secret());
    clock.advance(s(301));
    session.token().await.unwrap();
    assert_refreshes(&server, 3);
    session.token().await.unwrap();
    assert_refreshes(&server, 3);
}
