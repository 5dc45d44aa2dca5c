//! Promise 6: ten reports of one bad token are one renewal.

use std::sync::Arc;

use keyfob::{authorize::Origins, middleware::AuthClient};
use keyfob_idp::server::AuthorizationServer;
use tokio::sync::Barrier;

use super::world::*;

async fn status(server: &AuthorizationServer, secret: &str) -> u16 {
    http().get(server.api_url()).bearer_auth(secret).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_401s_with_one_token_are_one_renewal() {
    let server = start(strict());
    let folder = Folder::new();
    let session = elsewhere(&server, &folder);
    let token = log_in(&server, &session, s(600)).await;
    assert_eq!(status(&server, token.secret()).await, 200);
    assert!(server.revoke_access_token(token.secret()));

    let barrier = Arc::new(Barrier::new(10));
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let (session, token, barrier) = (session.clone(), token.clone(), Arc::clone(&barrier));
            let (url, http) = (server.api_url(), http());
            tokio::spawn(async move {
                let call = |secret: String| http.get(&url).bearer_auth(secret).send();
                assert_eq!(call(token.secret().to_owned()).await.unwrap().status(), 401);
                barrier.wait().await;
                assert!(session.invalidate(&token));
                let next = session.token().await.unwrap();
                assert_ne!(next.secret(), token.secret());
                assert_eq!(call(next.secret().to_owned()).await.unwrap().status(), 200);
                next
            })
        })
        .collect();
    let mut next = Vec::new();
    for task in tasks {
        next.push(Ok(task.await.unwrap()));
    }
    let next = one_token(&next);
    assert_refreshes(&server, 1);
    // A late report of the old one changes nothing.
    assert!(session.invalidate(&token));
    assert_eq!(session.token().await.unwrap().secret(), next);
    assert_eq!(elsewhere(&server, &folder).token().await.unwrap().secret(), next, "for other processes too");
    assert_refreshes(&server, 1);
    let counters = server.counters();
    assert_eq!((counters.api, counters.api_unauthorized, counters.api_ok), (21, 10, 11));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_401s_through_the_middleware_are_one_renewal_and_ten_answers() {
    let server = start(strict());
    let folder = Folder::new();
    let session = elsewhere(&server, &folder);
    let token = log_in(&server, &session, s(600)).await;
    assert!(server.revoke_access_token(token.secret()));
    let origins = Origins::new().with(server.issuer()).unwrap();
    let client = AuthClient::builder(session).origins(origins).http(|http| http.no_proxy()).build().unwrap();
    let barrier = Arc::new(Barrier::new(10));
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let (client, barrier, url) = (client.clone(), Arc::clone(&barrier), server.api_url());
            tokio::spawn(async move {
                barrier.wait().await;
                client.get(url).send().await.unwrap().status().as_u16()
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 200);
    }
    assert_refreshes(&server, 1);
    let counters = server.counters();
    // Who came after the renewal was not refused.
    assert_eq!(counters.api_ok, 10);
    assert!((1..=10).contains(&counters.api_unauthorized), "{}", counters.api_unauthorized);
    println!("{} of 10 requests were refused first", counters.api_unauthorized);
}
