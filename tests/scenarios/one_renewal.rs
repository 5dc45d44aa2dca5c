//! Promise 1: one expired token costs one exchange, however many ask.

use std::{sync::Arc, time::Instant};

use keyfob::{Context, NoInteraction, Session, testing::FakeClock};
use keyfob_idp::server::{AutoApprove, DEVICE_CODE_GRANT, Endpoint, Fault, Settings};

use super::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tasks_at_an_expired_token_are_one_request() {
    let auto_approve = Some(AutoApprove { user: "alice".into(), after_polls: 1 });
    let server = start(Settings { auto_approve, ..strict() });
    let folder = Folder::new();
    let clock = FakeClock::new();
    let context = Context::builder().clock(clock.clock()).build();
    let session = person(server.issuer(), folder.store(), &context);
    let first = session.login(Arc::new(NoInteraction)).await.unwrap().secret().to_owned();
    assert_eq!(server.counters().requests_of(DEVICE_CODE_GRANT), 2, "pending, then granted");

    assert_eq!(one_token(&callers(std::slice::from_ref(&session), 1000).await), first);
    assert_refreshes(&server, 0);
    clock.advance(s(601));
    let begun = Instant::now();
    let second = one_token(&callers(&[session], 1000).await);
    println!("a thousand tasks and one renewal: {:?}", begun.elapsed());
    assert_ne!(first, second);
    assert_refreshes(&server, 1);
    assert_eq!((server.counters().discovery, server.counters().token), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_processes_at_an_expired_token_are_one_request() {
    let server = start(strict());
    let folder = Folder::new();
    let mut sessions = vec![expired(&server, &folder).await];
    sessions.extend((1..8).map(|_| elsewhere(&server, &folder)));
    server.faults().push(Endpoint::Token, Fault::DelayAnswer(ms(200)));
    one_token(&callers(&sessions, 800).await);
    assert_refreshes(&server, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_scopes_of_one_login_at_once_are_two_requests_and_no_logout() {
    for processes in [1, 2] {
        let server = start(strict());
        let folder = Folder::new();
        let here = elsewhere(&server, &folder);
        log_in(&server, &here, s(600)).await;
        let there = if processes == 1 { here.clone() } else { elsewhere(&server, &folder) };
        let sessions: [Session; 2] = [here.for_scopes(["read"]), there.for_scopes(["write"])];
        for round in 1..=5 {
            // A demand for a renewal of each, at once, with callers beside.
            let (read, write) = tokio::join!(sessions[0].refresh(), sessions[1].refresh());
            let (read, write) = (read.unwrap(), write.unwrap());
            assert_refreshes(&server, 2 * round);
            assert_eq!(read.scopes().unwrap().to_string(), "read");
            assert_eq!(write.scopes().unwrap().to_string(), "write");
            assert_ne!(read.secret(), write.secret());
        }
        // Each has the scope that it asked for, at the API too.
        for session in &sessions {
            let token = session.token().await.unwrap();
            let answer = http().get(server.api_url()).bearer_auth(token.secret()).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
        assert_refreshes(&server, 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_scopes_that_expire_together_are_two_requests_and_no_logout() {
    let server = start(strict());
    let folder = Folder::new();
    let clock = FakeClock::new();
    let sessions: Vec<Session> = ["read", "write"]
        .map(|scope| {
            let context = Context::builder().clock(clock.clock()).build();
            person(server.issuer(), folder.store(), &context).for_scopes([scope])
        })
        .into();
    log_in(&server, &sessions[0], s(600)).await;
    assert!(callers(&sessions, 100).await.iter().all(Result::is_ok));
    server.reset_counters();
    clock.advance(s(601));
    server.faults().push(Endpoint::Token, Fault::DelayAnswer(ms(100)));
    let outcomes = callers(&sessions, 200).await;
    let secrets: std::collections::BTreeSet<_> =
        outcomes.iter().map(|outcome| outcome.as_ref().unwrap().secret().to_owned()).collect();
    assert_eq!(secrets.len(), 2);
    assert_refreshes(&server, 2);
}
