//! What sessions at one token endpoint share: the pause after a failure, and the cap.

use keyfob_auth_core::{
    AuthError, ErrorKind, Identity,
    testing::{Step, StoreCall},
};

use super::*;

fn down() -> AuthError {
    AuthError::transient("the server is down").with_status(503)
}

/// Another client of the same server, in the same context.
fn tenant_of(world: &World, provider: ScriptedProvider, name: &str) -> (ScriptedProvider, Session) {
    let provider =
        provider.with_identity(Identity::new("scripted").issuer("https://idp.example/x").client(name));
    let context = world.session.context();
    let session = Session::new(Arc::new(provider.clone()), Arc::new(world.store.clone()), &context).unwrap();
    (provider, session)
}

#[tokio::test(start_paused = true)]
async fn failures_of_exchanges_side_by_side_are_one_failure() {
    let world = World::new(ScriptedProvider::unattended());
    world.provider.set_delay(ms(100));
    world.provider.fail_always(Some(down()));
    let sessions: Vec<_> = (0..16).map(|i| world.session.for_scopes([i.to_string()])).collect();
    let tasks: Vec<_> =
        sessions.into_iter().map(|s| tokio::spawn(async move { s.token().await.map(drop) })).collect();
    for task in tasks {
        task.await.unwrap().unwrap_err();
    }
    assert_eq!(world.provider.exchanges(), 16);
    world.provider.fail_always(None);
    tokio::time::sleep(ms(1300)).await;
    assert_eq!(world.secret().await, "access-1", "a blip is no outage of a minute");
}

#[tokio::test(start_paused = true)]
async fn a_success_begun_before_a_failure_does_not_end_its_pause() {
    let world = World::new(ScriptedProvider::unattended());
    let (slow, other) = tenant_of(&world, ScriptedProvider::unattended(), "slow");
    slow.set_delay(s(1));
    let slow = tokio::spawn(async move { other.token().await.map(drop) });
    tokio::time::sleep(ms(10)).await;
    world.provider.push(Step::Fail(down().with_retry_after(s(30))));
    assert!(world.session.token().await.is_err());
    slow.await.unwrap().unwrap();
    let (third, session) = tenant_of(&world, ScriptedProvider::unattended(), "third");
    assert!(session.token().await.is_err());
    assert_eq!(third.exchanges(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_asked_no_server_does_not_say_that_it_is_back() {
    let world = World::new(ScriptedProvider::unattended());
    world.provider.fail_always(Some(down()));
    for _ in 0..3 {
        assert!(world.session.token().await.is_err());
        tokio::time::sleep(s(6)).await;
    }
    let (_, nobody) = tenant_of(&world, ScriptedProvider::attended(), "nobody");
    assert_eq!(nobody.token().await.unwrap_err().kind(), ErrorKind::LoginRequired);
    assert!(world.session.token().await.is_err());
    let asked = world.provider.exchanges();
    let (third, session) = tenant_of(&world, ScriptedProvider::unattended(), "third");
    tokio::time::sleep(s(2)).await;
    assert!(session.token().await.is_err());
    assert_eq!((world.provider.exchanges(), third.exchanges()), (asked, 0), "the pause went on growing");
}

#[tokio::test(start_paused = true)]
async fn the_pause_of_an_endpoint_is_no_failure_of_a_login_and_writes_nothing() {
    let world = World::new(ScriptedProvider::unattended());
    let (other, session) = tenant_of(&world, ScriptedProvider::attended(), "other");
    session.adopt(other.issue()).await.unwrap();
    world.clock.advance(s(601));
    world
        .provider
        .push(Step::Lose(down().with_retry_after(s(5)).with_origin("https://idp.example/of-somebody-else")));
    assert!(world.session.token().await.is_err());
    let saves = world.store.count(StoreCall::Save);
    let error = session.token().await.unwrap_err();
    assert!(
        error.retry_after().is_some() && error.origin().is_none() && !error.is_answer_lost(),
        "{error:?}"
    );
    assert_eq!((other.exchanges(), world.store.count(StoreCall::Save)), (0, saves));
    tokio::time::sleep(ms(5_100)).await;
    other.log_out_at_server();
    let error = session.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired);
    assert!(!error.is_answer_lost(), "nothing of its own was ever lost: {error}");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_tenants_of_a_server_that_is_down_do_not_become_as_many_attempts() {
    let world = World::new(ScriptedProvider::unattended());
    world.provider.set_delay(ms(100));
    world.provider.fail_always(Some(down()));
    // Clones share the server, and its counts.
    let tasks: Vec<_> = (0..10_000)
        .map(|tenant| {
            let (_, session) = tenant_of(&world, world.provider.clone(), &tenant.to_string());
            tokio::spawn(async move { session.token().await.is_err() })
        })
        .collect();
    let began = tokio::time::Instant::now();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    assert!(began.elapsed() < s(1), "{:?}", began.elapsed());
    assert!(world.provider.exchanges() <= 16, "{}", world.provider.exchanges());
}

#[tokio::test(start_paused = true)]
async fn a_cap_of_nothing_or_of_everything_is_a_cap_all_the_same() {
    for cap in [0, usize::MAX] {
        let world =
            World::with(ScriptedProvider::unattended(), |c| c.limits(|l| l.concurrent_exchanges = cap));
        assert_eq!(world.session.token_within(s(1)).await.unwrap().secret(), "access-1");
    }
}

#[tokio::test(start_paused = true)]
async fn one_exchange_finds_out_whether_the_endpoint_is_back() {
    let world = World::new(ScriptedProvider::unattended());
    world.provider.fail_always(Some(down()));
    assert!(world.session.token().await.is_err());
    tokio::time::sleep(s(2)).await;
    world.provider.set_delay(ms(100));
    let sessions: Vec<_> = (0..10).map(|i| world.session.for_scopes([i.to_string()])).collect();
    let tasks: Vec<_> =
        sessions.into_iter().map(|s| tokio::spawn(async move { s.token().await.is_err() })).collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    assert_eq!(world.provider.exchanges(), 2);
}
