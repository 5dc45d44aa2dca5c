//! A chain is made of sessions.

use keyfob_auth_core::{AuthError, ErrorKind, Identity};

use super::*;

fn link(name: &str, provider: ScriptedProvider) -> (ScriptedProvider, Session) {
    let provider = provider.with_identity(Identity::new(name));
    let context = Context::builder()
        .executor(tokio::runtime::Handle::current())
        .clock(FakeClock::new().clock())
        .build();
    let session = Session::new(Arc::new(provider.clone()), Arc::new(MemoryStore::new()), &context).unwrap();
    (provider, session)
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_at_not_configured_and_log_in_first() {
    let (missing, a) = link("env", ScriptedProvider::unattended());
    missing.fail_always(Some(AuthError::not_configured("X is not set")));
    let (_, b) = link("person", ScriptedProvider::attended());
    let (_, c) = link("service", ScriptedProvider::unattended());
    let chain = Session::first_of([a, b, c]);
    assert!(chain.cached().is_none());
    assert_eq!(chain.token().await.unwrap().secret(), "access-1");
    assert_eq!(chain.cached().unwrap().secret(), "access-1");
    assert_eq!(chain.identity().kind, "service");
}

#[tokio::test(start_paused = true)]
async fn it_stops_at_any_other_failure() {
    let (refused, a) = link("first", ScriptedProvider::unattended());
    refused.fail_always(Some(AuthError::refused("wrong secret")));
    let (unasked, b) = link("second", ScriptedProvider::unattended());
    let error = Session::first_of([a, b]).token().await.unwrap_err();
    assert_eq!((error.kind(), error.provider()), (ErrorKind::Refused, Some("first")));
    assert_eq!(unasked.exchanges(), 0);
}

#[tokio::test(start_paused = true)]
async fn its_error_tells_what_each_link_said() {
    let (missing, a) = link("env", ScriptedProvider::unattended());
    missing.fail_always(Some(AuthError::not_configured("X is not set")));
    let (_, b) = link("person", ScriptedProvider::attended());
    let error = Session::first_of([a, b]).token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired);
    let text = error.to_string();
    assert!(text.contains("1. env: X is not set") && text.contains("2. person: log in first"), "{text}");
    let empty = Session::first_of([]);
    assert_eq!(empty.token().await.unwrap_err().kind(), ErrorKind::NotConfigured);
    assert!(empty.status().await.is_err() && empty.cached().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_link_that_serves_is_not_kept_waiting_by_those_before_it() {
    let (slow, a) = link("metadata", ScriptedProvider::unattended());
    slow.set_delay(s(2));
    slow.fail_always(Some(AuthError::not_configured("not on this cloud")));
    let (_, b) = link("service", ScriptedProvider::unattended());
    let chain = Session::first_of([a, b]);
    chain.token().await.unwrap();
    tokio::time::sleep(s(1)).await;
    let began = tokio::time::Instant::now();
    chain.token().await.unwrap();
    assert!(began.elapsed() < ms(10), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_report_retires_the_token_of_the_link_it_came_from() {
    let (first, a) = link("first", ScriptedProvider::attended());
    let (_, b) = link("second", ScriptedProvider::unattended().with_lifetime(s(601)));
    first.issue(); // so that the two links' tokens differ
    a.adopt(first.issue()).await.unwrap();
    let chain = Session::first_of([a.clone(), b.clone()]);
    let bad = chain.token().await.unwrap();
    b.token().await.unwrap();
    a.logout().await.unwrap();
    chain.token().await.unwrap();
    chain.invalidate(&bad);
    assert!(
        b.cached().is_some(),
        "the other link's token is of the same generation, and none of this report's business"
    );
}
