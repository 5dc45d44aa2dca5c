//! Promise 3: a failed early renewal harms nobody, and a failure is everybody's who waited for it.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use keyfob::{Context, ErrorKind, Freshness, Session, store::MemoryStore};
use keyfob_idp::server::{Endpoint, Fault};

use super::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_a_server_that_is_down_inside_the_early_window() {
    let server = start(strict());
    let folder = Folder::new();
    let session = elsewhere(&server, &folder);
    // Valid for 30 s, to be renewed after 2 to 5 s.
    let old = log_in_with(&server, &session, |token| token.expires_in(30).with_refresh_in(s(2))).await;
    let sessions: Vec<Session> =
        [session].into_iter().chain((0..2).map(|_| elsewhere(&server, &folder))).collect();
    // They adopt it from the folder.
    for session in &sessions {
        assert_eq!(session.token().await.unwrap().secret(), old.secret());
    }
    server.faults().set_always(Endpoint::Token, Some(Fault::DropBefore));
    for session in &sessions {
        until_token_is(session, Freshness::Stale).await;
    }
    assert_eq!(server.counters().token, 0, "renewal is driven by demand");

    let end = Instant::now() + s(6);
    let tasks: Vec<_> = (0..99)
        .map(|n| {
            let (session, old) = (sessions[n % sessions.len()].clone(), old.secret().to_owned());
            tokio::spawn(async move {
                let mut longest = Duration::ZERO;
                while Instant::now() < end {
                    let begun = Instant::now();
                    let token = session.token().await.expect("nobody sees it");
                    longest = longest.max(begun.elapsed());
                    assert!(token.secret() == old);
                    tokio::time::sleep(ms(5)).await;
                }
                longest
            })
        })
        .collect();
    let mut longest = Duration::ZERO;
    for task in tasks {
        longest = longest.max(task.await.unwrap());
    }
    let asked = asked_at(&server);
    let gap = shortest_gap(&asked);
    println!("{} attempts in 6 s, {gap:?} between two at least; longest call {longest:?}", asked.len());
    assert!((2..=6).contains(&asked.len()), "{} attempts in 6 s", asked.len());
    assert!(gap.is_some_and(|gap| gap >= ms(990)), "{gap:?}");
    assert!(
        asked[1] - asked[0] < ms(2000),
        "the second attempt comes after a second or so: {:?}",
        asked[1] - asked[0]
    );

    // It is back: the next attempt renews, once for all.
    server.faults().clear();
    let before = refreshes(&server);
    until("the renewal", || sessions[0].cached().unwrap().secret() != old.secret()).await;
    let new = sessions[0].token().await.unwrap();
    for session in &sessions[1..] {
        until("the others see it", || session.cached().unwrap().secret() == new.secret()).await;
    }
    assert_eq!(refreshes(&server), before + 1);
    assert_not_logged_out(&server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_with_nothing_cached_share_one_failure_in_the_time_of_one() {
    let folder = Folder::new();
    for store in [Arc::new(MemoryStore::new()), folder.store()] {
        let server = start(strict());
        let session = service(server.issuer(), "", store, &Context::new());
        server.faults().set_always(Endpoint::Token, Some(Fault::unavailable(None).delayed(ms(100))));
        let begun = Instant::now();
        let outcomes = callers(std::slice::from_ref(&session), 100).await;
        let took = begun.elapsed();
        let errors: BTreeSet<String> =
            outcomes.iter().map(|outcome| outcome.as_ref().unwrap_err().to_string()).collect();
        println!("a hundred callers had their error within {took:?}");
        // Those who came after its end are told besides how long to wait.
        assert!(errors.iter().all(|error| error.contains("(HTTP 503)")), "{errors:?}");
        for outcome in &outcomes {
            let error = outcome.as_ref().unwrap_err();
            assert_eq!((error.kind(), error.status()), (ErrorKind::Transient, Some(503)));
        }
        assert_eq!(server.counters().token, 1);
        assert!(took >= ms(100) && took < s(1), "{took:?}");

        server.faults().clear();
        let begun = Instant::now();
        while session.token().await.is_err() {
            assert!(begun.elapsed() < s(10));
            tokio::time::sleep(ms(5)).await;
        }
        assert_eq!(server.counters().token, 2, "and the next attempt gets one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_secret_under_a_thousand_callers_is_three_requests_and_its_mending_is_seen() {
    let server = start(strict());
    let session = service(server.issuer(), "", Arc::new(MemoryStore::new()), &Context::new());
    server.set_secret("service", "another").unwrap();
    let end = Instant::now() + s(5);
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let session = session.clone();
            tokio::spawn(async move {
                let mut calls = 0;
                while Instant::now() < end {
                    let error = session.token().await.expect_err("the secret is wrong");
                    assert_eq!(
                        (error.kind(), error.oauth_error()),
                        (ErrorKind::Refused, Some("invalid_client"))
                    );
                    calls += 1;
                    tokio::time::sleep(ms(50)).await;
                }
                calls
            })
        })
        .collect();
    let mut calls = 0;
    for task in tasks {
        calls += task.await.unwrap();
    }
    let asked = server.counters().token;
    println!("{calls} calls in 5 s were {asked} requests");
    assert!((2..=3).contains(&asked), "{asked} requests");
    assert_eq!(server.counters().invalid_client, asked);

    server.set_secret("service", "service-secret").unwrap();
    let mended = Instant::now();
    while session.token().await.is_err() {
        tokio::time::sleep(ms(5)).await;
        assert!(mended.elapsed() < s(5), "its mending is not seen");
    }
    println!("its mending was seen after {:?}", mended.elapsed());
    assert_eq!(server.counters().token, asked + 1);
}
