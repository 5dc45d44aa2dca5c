//! Promise 6: invalidation is exact.

use keyfob_auth_core::{AccessToken, Acquired, Challenge, ErrorKind, Lifetime, testing::Step};

use super::*;

#[tokio::test(start_paused = true)]
async fn ten_reports_of_one_bad_token_cause_one_renewal() {
    let world = World::new(ScriptedProvider::unattended());
    let bad = world.session.token().await.unwrap();
    for _ in 0..10 {
        assert!(world.session.invalidate(&bad));
        assert_ne!(world.secret().await, bad.secret());
    }
    assert_eq!(world.provider.exchanges(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_report_of_an_older_token_changes_nothing() {
    let world = World::new(ScriptedProvider::unattended());
    let old = world.session.token().await.unwrap();
    world.session.refresh().await.unwrap();
    assert!(world.session.invalidate(&old));
    assert_eq!(world.session.cached().unwrap().secret(), "access-2");
    assert_eq!(world.provider.exchanges(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_begun_earlier_does_not_bring_the_retired_token_back() {
    let world = World::new(ScriptedProvider::unattended());
    let bad = world.session.token().await.unwrap();
    world.clock.advance(s(580));
    world.provider.close_gate();
    world.secret().await; // begins one beside
    tokio::task::yield_now().await;
    world.session.invalidate(&bad);
    assert!(world.session.cached().is_none());
    world
        .provider
        .push(Step::Answer(Box::new(Acquired::token(AccessToken::new("access-1").expires_in(600)))));
    world.provider.open_gate();
    world.settle().await;
    assert!(world.session.cached().is_none(), "the same bytes again are refused");
    let error = world.session.token().await.unwrap_err();
    assert!(error.to_string().contains("very token again"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_retired_token_is_not_taken_from_the_store_again() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    let bad = world.session.token().await.unwrap();
    world.session.invalidate(&bad);
    assert_eq!(world.secret().await, "access-2");
    let neighbour = world.neighbour();
    assert_eq!(neighbour.secret().await, "access-2");
    assert_eq!(world.provider.exchanges(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_refuses_every_token_does_not_become_a_renewal_per_request() {
    let world = World::new(ScriptedProvider::unattended());
    for _ in 0..1000 {
        let token = world.session.token().await.unwrap();
        world.session.invalidate(&token);
        tokio::time::sleep(ms(10)).await;
    }
    assert!(world.provider.exchanges() <= 6, "{}", world.provider.exchanges());
}

#[tokio::test(start_paused = true)]
async fn a_challenge_bypasses_the_cache_once_and_replaces_the_token() {
    let world = World::new(ScriptedProvider::unattended());
    world.secret().await;
    let stepped = world.session.satisfy(Challenge::default()).await.unwrap();
    assert_eq!(stepped.secret(), "access-2");
    assert_eq!(world.secret().await, "access-2");
    assert_eq!(world.provider.exchanges(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_challenge_that_takes_a_person_says_so_and_leaves_the_token_alone() {
    let world = World::new(ScriptedProvider::unattended());
    world.secret().await;
    let mut challenge = Challenge::default();
    challenge.acr_values = Some("gold".into());
    world.provider.push(Step::Fail(
        keyfob_auth_core::AuthError::interaction_required("step up").with_challenge(challenge.clone()),
    ));
    let error = world.session.satisfy(challenge.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.challenge()), (ErrorKind::InteractionRequired, Some(&challenge)));
    assert_eq!(world.secret().await, "access-1");
}

#[tokio::test(start_paused = true)]
async fn a_forced_renewal_is_shared_by_those_who_ask_together() {
    let world = World::new(ScriptedProvider::unattended());
    world.secret().await;
    world.provider.set_delay(ms(100));
    let outcomes = tokio::join!(world.session.refresh(), world.session.refresh(), world.session.refresh());
    assert!(
        [outcomes.0, outcomes.1, outcomes.2]
            .iter()
            .all(|o| o.as_ref().is_ok_and(|t| t.secret() == "access-2"))
    );
    assert_eq!(world.provider.exchanges(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_source_with_one_token_only_is_not_lost_for_ever_to_one_refusal() {
    let world = World::new(ScriptedProvider::unattended());
    let literal = || Acquired::token(AccessToken::new("literal").with_lifetime(Lifetime::Unlimited));
    world.provider.push(Step::Answer(Box::new(literal())));
    let token = world.session.token().await.unwrap();
    world.session.invalidate(&token);
    world.provider.push(Step::Answer(Box::new(literal())));
    assert!(world.session.token().await.unwrap_err().to_string().contains("very token again"));
    tokio::time::sleep(s(90)).await;
    world.provider.push(Step::Answer(Box::new(literal())));
    assert_eq!(world.secret().await, "literal");
}
