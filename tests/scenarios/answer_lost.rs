//! Promise 5, where nothing can be saved: the answer is lost after the server has rotated the refresh token.

use std::time::Instant;

use keyfob::{AuthError, Context, ErrorKind, Session, Token};
use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault, Settings};

use super::{
    child::{Process, Told},
    world::*,
};

/// Asks until there is a verdict: what may pass by itself is not one.
async fn verdict(session: &Session) -> Result<Token, AuthError> {
    let begun = Instant::now();
    loop {
        match session.token().await {
            Err(error) if error.kind() == ErrorKind::Transient => assert!(begun.elapsed() < s(20), "{error}"),
            outcome => return outcome,
        }
        tokio::time::sleep(ms(10)).await;
    }
}

#[track_caller]
fn assert_said_as_what_it_is(error: &AuthError) {
    assert_eq!(error.kind(), ErrorKind::LoginRequired, "{error}");
    assert!(error.is_answer_lost(), "{error}");
    assert!(error.to_string().contains("the answer to an earlier renewal was lost"), "{error}");
    assert!(error.to_string().contains("log in again"), "{error}");
}

/// It was tried twice, and the second time was a reuse that ended the login.
#[track_caller]
fn assert_spent_twice(server: &AuthorizationServer) {
    let counters = server.counters();
    let counted = (counters.requests_of("refresh_token"), counters.reuse, counters.families_killed);
    assert_eq!(counted, (2, 1, 1));
}

/// Whoever asks later, in this process or in another, hears the same, and nobody is asked.
async fn assert_said_to_everybody(server: &AuthorizationServer, folder: &Folder, session: &Session) {
    for _ in 0..3 {
        assert_said_as_what_it_is(&session.token().await.unwrap_err());
        assert_said_as_what_it_is(&elsewhere(server, folder).token().await.unwrap_err());
        tokio::time::sleep(ms(250)).await;
    }
    assert_spent_twice(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_is_said_as_what_it_is() {
    for lost in [Fault::DropAfter, Fault::Truncated, Fault::Malformed, Fault::EmptyBody] {
        let server = start(strict());
        let folder = Folder::new();
        let session = expired(&server, &folder).await;
        server.faults().push(Endpoint::Token, lost.clone());
        let error = session.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{lost:?}: {error}");
        assert!(error.is_answer_lost(), "{lost:?}: {error}");
        assert_said_as_what_it_is(&verdict(&session).await.unwrap_err());
        assert_said_to_everybody(&server, &folder, &session).await;

        // And a new login is one.
        log_in(&server, &session, s(600)).await;
        session.refresh().await.unwrap();
        assert_refreshes(&server, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_is_not_forgotten_over_what_else_fails_meanwhile() {
    let server = start(strict());
    let folder = Folder::new();
    let context = Context::new();
    let session = person(server.issuer(), folder.store(), &context);
    expire(&server, &session).await;
    server.faults().push(Endpoint::Token, Fault::DropAfter);
    assert!(session.token().await.unwrap_err().is_answer_lost());
    // Another session finds the server overloaded, which holds up this one too.
    let other = service(server.issuer(), "", folder.store(), &context);
    server.faults().push(Endpoint::Token, Fault::too_many_requests(Some(2)));
    until("the server is asked again", || {
        let _ = other.token_blocking();
        server.counters().requests_of("client_credentials") == 1
    })
    .await;
    assert_eq!(session.token().await.unwrap_err().kind(), ErrorKind::Transient);
    server.faults().push(Endpoint::Token, Fault::unavailable(None));
    assert_said_as_what_it_is(&verdict(&session).await.unwrap_err());
    let counters = server.counters();
    assert_eq!((counters.requests_of("refresh_token"), counters.reuse), (3, 1));
    assert_said_as_what_it_is(&elsewhere(&server, &folder).token().await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn inside_the_servers_grace_a_lost_answer_is_healed() {
    let server = start(Settings { reuse_grace: Some(s(30)), ..strict() });
    let folder = Folder::new();
    let session = expired(&server, &folder).await;
    server.faults().push(Endpoint::Token, Fault::DropAfter);
    assert!(session.token().await.unwrap_err().is_answer_lost());
    let token = verdict(&session).await.unwrap();
    assert_eq!(elsewhere(&server, &folder).token().await.unwrap().secret(), token.secret());
    session.refresh().await.unwrap();
    let counters = server.counters();
    assert_eq!((counters.requests_of("refresh_token"), counters.successes_of("refresh_token")), (3, 3));
    assert_eq!((counters.reuse, counters.families_killed), (1, 0));
}

/// A child: asks for a token, and says what it got.
pub(crate) async fn spend(told: &Told) {
    let session = person(&told.issuer, open(told.folder.clone()), &Context::new());
    super::child::report(if session.token().await.is_ok() { "renewed" } else { "failed" });
}

/// A process that is killed after the server has acted, before the answer has come.
async fn killed_in_between(server: &AuthorizationServer, folder: &Folder) {
    server.faults().push(Endpoint::Token, Fault::DelayAnswer(s(60)));
    let process = Process::start("spend", server.issuer(), &folder.path(), "");
    // Once it is counted as issued, the server has rotated.
    until("the server acts", || server.counters().successes_of("refresh_token") == 1).await;
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_between_answer_and_save_is_said_as_what_it_is() {
    let server = start(strict());
    let folder = Folder::new();
    let session = expired(&server, &folder).await;
    killed_in_between(&server, &folder).await;
    let begun = Instant::now();
    assert_said_as_what_it_is(&session.token().await.unwrap_err());
    println!("after the kill it was known within {:?}", begun.elapsed());
    assert_said_to_everybody(&server, &folder, &session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inside_the_servers_grace_a_killed_process_is_healed_at_once() {
    let server = start(Settings { reuse_grace: Some(s(30)), ..strict() });
    let folder = Folder::new();
    let session = expired(&server, &folder).await;
    killed_in_between(&server, &folder).await;
    let begun = Instant::now();
    session.token().await.unwrap();
    println!("after the kill it was healed within {:?}", begun.elapsed());
    let counters = server.counters();
    assert_eq!((counters.successes_of("refresh_token"), counters.reuse, counters.families_killed), (2, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_not_killed_renews_for_the_others() {
    let server = start(strict());
    let folder = Folder::new();
    let session = expired(&server, &folder).await;
    let mut process = Process::start("spend", server.issuer(), &folder.path(), "");
    assert_eq!(process.hear(), "renewed");
    process.succeeds();
    session.token().await.unwrap();
    assert_refreshes(&server, 1);
}
