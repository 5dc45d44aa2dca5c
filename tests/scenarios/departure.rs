//! Promise 4: nobody's departure loses a token.

use std::time::Instant;

use keyfob_idp::server::{Endpoint, Fault};

use super::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_dropped_in_mid_renewal_loses_nothing_and_the_next_waits_only_for_what_is_left() {
    let delay = s(1);
    let server = start(strict());
    let folder = Folder::new();
    let session = expired(&server, &folder).await;
    server.faults().push(Endpoint::Token, Fault::DelayAnswer(delay));
    let asking = ask(&session);
    until_refreshes(&server, 1).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());

    tokio::time::sleep(delay / 2).await;
    let begun = Instant::now();
    let token = session.token().await.unwrap();
    let waited = begun.elapsed();
    println!("the next caller waited {waited:?} of {delay:?}");
    assert!(waited < delay, "{waited:?}");
    assert_eq!(elsewhere(&server, &folder).token().await.unwrap().secret(), token.secret(), "it is saved");
    assert_refreshes(&server, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_nobody_waits_for_any_more_is_saved() {
    let server = start(strict());
    let folder = Folder::new();
    let session = expired(&server, &folder).await;
    // The server has not acted yet when they leave, and must get the request all the same.
    server.faults().push(Endpoint::Token, Fault::Delay(ms(300)));
    let asking: Vec<_> = (0..20).map(|_| ask(&session)).collect();
    until_refreshes(&server, 1).await;
    asking.iter().for_each(Asking::abort);
    assert!(session.token_within(ms(10)).await.is_err(), "a deadline ends the wait");
    let context = session.context();
    drop(session);
    assert!(context.drain(s(20)).await);
    assert_refreshes(&server, 1);
    elsewhere(&server, &folder).token().await.unwrap();
    assert_refreshes(&server, 1);
}
