//! Promises 1, 2 and 8: one renewal, no waiting on a token that still works, time.

use std::time::SystemTime;

use keyfob_auth_core::{AccessToken, Acquired, AuthError, Keep, Lifetime, testing::Step};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_at_no_token_cost_one_exchange() {
    let world = World::new(ScriptedProvider::unattended());
    world.provider.set_delay(ms(100));
    let began = tokio::time::Instant::now();
    let outcomes = callers(&world.session, 1000).await;
    assert!(outcomes.iter().all(|o| o.as_ref().is_ok_and(|t| t.secret() == "access-1")));
    assert_eq!(world.provider.exchanges(), 1);
    assert!(began.elapsed() < ms(110), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_at_an_expired_token_cost_one_exchange() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    assert_eq!(world.secret().await, "access-1");
    world.clock.advance(s(601));
    assert!(world.session.cached().is_none());
    let outcomes = callers(&world.session, 1000).await;
    assert!(outcomes.iter().all(|o| o.as_ref().is_ok_and(|t| t.secret() == "access-2")));
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn in_the_early_window_nobody_waits_and_one_renewal_runs_beside() {
    let world = World::new(ScriptedProvider::unattended());
    world.secret().await;
    world.provider.close_gate();
    world.clock.advance(s(570));
    for _ in 0..200 {
        assert_eq!(world.session.cached().unwrap().secret(), "access-1");
        assert_eq!(world.secret().await, "access-1");
        assert_eq!(world.session.cached_header().unwrap(), "Bearer access-1");
    }
    tokio::task::yield_now().await;
    world.provider.open_gate();
    world.settle().await;
    assert_eq!(world.provider.exchanges(), 2);
    assert_eq!(world.secret().await, "access-2");
}

#[tokio::test(start_paused = true)]
async fn the_servers_hint_sets_the_window() {
    let world = World::new(ScriptedProvider::unattended().with_refresh_in(s(100)));
    world.secret().await;
    world.clock.advance(s(99));
    world.secret().await;
    world.settle().await;
    assert_eq!(world.provider.exchanges(), 1);
    world.clock.advance(s(62)); // the hint, and the whole jitter
    world.secret().await;
    world.settle().await;
    assert_eq!(world.provider.exchanges(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_served_to_its_end_and_not_beyond() {
    let world = World::new(ScriptedProvider::unattended());
    world.secret().await;
    world.provider.fail_always(Some(AuthError::transient("down")));
    world.clock.advance(ms(599_990));
    assert_eq!(world.secret().await, "access-1");
    world.clock.advance(ms(20));
    assert!(world.session.cached().is_none());
    assert!(world.session.token().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_life_counts_from_when_the_request_was_sent() {
    let world = World::new(ScriptedProvider::unattended().with_lifetime(s(60)));
    world.provider.set_delay(s(20));
    let asked: SystemTime = world.session.context().clock().wall();
    let token = world.session.token().await.unwrap();
    assert_eq!(token.expires_at().unwrap().duration_since(asked).unwrap(), s(60));
    world.clock.advance(s(40));
    assert!(world.session.cached().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_does_not_prolong_a_token() {
    let world = World::new(ScriptedProvider::unattended());
    world.secret().await;
    world.clock.set_back(s(86_400));
    assert_eq!(world.secret().await, "access-1", "the monotonic clock says that it is valid");
    world.settle().await;
    assert_eq!(world.provider.exchanges(), 2, "obtained in the future: renewed beside");
    world.clock.advance(s(601));
    assert!(world.session.cached().is_none(), "the monotonic clock says that it is expired");
}

#[tokio::test(start_paused = true)]
async fn a_suspended_machine_and_a_clock_set_forward_expire_a_token() {
    for moved in [FakeClock::suspend, FakeClock::set_forward] {
        let world = World::new(ScriptedProvider::unattended());
        world.secret().await;
        moved(&world.clock, s(601));
        assert!(world.session.cached().is_none());
        assert_eq!(world.secret().await, "access-2");
    }
}

#[tokio::test(start_paused = true)]
async fn rfc6749_5_1_expiry_comes_from_the_answer_else_from_the_jwt_else_from_the_rule() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let world = World::new(ScriptedProvider::unattended());
    let start = world.session.context().clock().wall();
    let exp = start.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 77;
    let jwt = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{exp}}}")));
    let cases = [
        (AccessToken::new(jwt.clone()).expires_in(500), Some(s(500))),
        (AccessToken::new(jwt.clone()), Some(s(77))),
        (AccessToken::new(jwt).with_lifetime(Lifetime::Unlimited), Some(s(77))),
        (AccessToken::new("opaque"), Some(s(300))),
        (AccessToken::new("opaque").with_lifetime(Lifetime::At(start + s(9))), Some(s(9))),
        (AccessToken::new("opaque").with_lifetime(Lifetime::Unlimited), None),
    ];
    for (token, life) in cases {
        world.provider.push(Step::Answer(Box::new(Acquired::token(token))));
        let expires = world.session.refresh().await.unwrap().expires_at();
        assert_eq!(expires.map(|at| at.duration_since(start).unwrap()), life);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_comes_expired_is_an_error_that_asks_about_the_clock() {
    let world = World::new(ScriptedProvider::unattended().living(Lifetime::In(Duration::ZERO)));
    let error = world.session.token().await.unwrap_err();
    assert!(error.to_string().contains("is the clock right"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_kept_is_asked_for_each_time() {
    let world = World::new(ScriptedProvider::unattended().keeping(Keep::Nothing));
    assert_eq!(world.secret().await, "access-1");
    assert_eq!(world.secret().await, "access-2");
    world.provider.set_delay(ms(10));
    callers(&world.session, 100).await;
    assert_eq!(world.provider.exchanges(), 3, "those that come at once ask together");
    assert!(world.session.cached().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_for_memory_never_reaches_a_store_on_disk() {
    use keyfob_auth_core::{store::Persistence, testing::StoreCall};
    for keep in [Keep::Memory, Keep::Nothing, Keep::Store] {
        let world = World::new(ScriptedProvider::unattended().keeping(keep));
        let disk = hostile::Interposed::new(world.store.clone());
        disk.say(Persistence::UntilRemoved);
        let session =
            Session::new(Arc::new(world.provider.clone()), Arc::new(disk), &world.session.context()).unwrap();
        session.token().await.unwrap();
        let used = world.store.count(StoreCall::Save) + world.store.count(StoreCall::Load);
        assert_eq!(used > 0, keep == Keep::Store, "{keep:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_who_never_wait_have_fresh_tokens_all_the_same() {
    let world = World::new(ScriptedProvider::unattended());
    world.secret().await;
    for exchanges in 2..6 {
        world.clock.advance(s(570));
        assert!(world.session.cached_header().is_some() && world.session.cached().is_some());
        world.settle().await;
        assert_eq!(world.provider.exchanges(), exchanges);
    }
    world.provider.push(Step::Fail(AuthError::transient("a blip")));
    world.clock.advance(s(570));
    world.session.cached();
    world.settle().await;
    tokio::time::sleep(s(2)).await;
    world.session.cached();
    world.settle().await;
    assert_eq!(world.provider.exchanges(), 7, "and after a failure");
}

#[tokio::test(start_paused = true)]
async fn expired_tokens_do_not_pile_up_on_record() {
    use keyfob_auth_core::{CredentialProvider, TokenStore, store::LoginKey};
    let world = World::logged_in(ScriptedProvider::attended()).await;
    for scope in ["a", "b", "c"] {
        world.session.for_scopes([scope]).token().await.unwrap();
        world.clock.advance(s(601));
    }
    world.secret().await;
    let key = LoginKey::from(world.provider.identity());
    assert_eq!(world.store.load(&key).await.unwrap().unwrap().0.tokens().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_scopes_of_one_login_are_two_tokens_and_never_spend_one_refresh_token_twice() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.provider.set_delay(ms(50));
    let (a, b) = (world.session.for_scopes(["a"]), world.session.for_scopes(["b"]));
    let (a, b) = tokio::join!(a.token(), b.token());
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_ne!(a.secret(), b.secret());
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (2, 0));
    assert_eq!(world.provider.most_at_once(), 1, "one after another");
    assert_eq!(world.secret().await, "access-1", "the first token stays");
}

#[tokio::test(start_paused = true)]
async fn reusable_refresh_tokens_are_used_side_by_side() {
    let world = World::logged_in(ScriptedProvider::attended().reusable()).await;
    world.provider.set_delay(ms(50));
    let sessions: Vec<_> = ["a", "b", "c"].map(|scope| world.session.for_scopes([scope])).into();
    let outcomes = tokio::join!(sessions[0].token(), sessions[1].token(), sessions[2].token());
    assert!(outcomes.0.is_ok() && outcomes.1.is_ok() && outcomes.2.is_ok());
    assert_eq!((world.provider.exchanges(), world.provider.most_at_once()), (3, 3));
    assert_eq!(world.store.leases_out(), 0);
}

#[tokio::test(start_paused = true)]
async fn subjects_have_tokens_of_their_own_that_are_never_stored() {
    use keyfob_auth_core::{Subject, testing::StoreCall};
    let world = World::new(ScriptedProvider::unattended());
    let of = |subject: &str| world.session.for_subject(Subject::access_token(subject.to_owned()));
    let first = of("alice").token().await.unwrap();
    let second = of("bob").token().await.unwrap();
    assert_ne!(first.secret(), second.secret());
    assert_eq!(of("alice").token().await.unwrap().secret(), first.secret());
    assert_eq!(world.provider.exchanges(), 2);
    assert_eq!(world.store.count(StoreCall::Save), 0);
}

#[tokio::test(start_paused = true)]
async fn subjects_are_bounded() {
    use keyfob_auth_core::Subject;
    let world = World::with(ScriptedProvider::unattended(), |c| c.limits(|l| l.subjects = 10));
    for i in 0..50 {
        world.session.for_subject(Subject::access_token(format!("subject-{i}"))).token().await.unwrap();
    }
    world.session.for_subject(Subject::access_token("subject-49")).token().await.unwrap();
    assert_eq!(world.provider.exchanges(), 50);
    world.session.for_subject(Subject::access_token("subject-0")).token().await.unwrap();
    assert_eq!(world.provider.exchanges(), 51, "the oldest gave way");
}

#[tokio::test(start_paused = true)]
async fn one_identity_and_store_in_one_context_is_one_engine() {
    let world = World::new(ScriptedProvider::unattended());
    let context = world.session.context();
    let store: Arc<dyn keyfob_auth_core::TokenStore> = Arc::new(world.store.clone());
    let one = Session::new(Arc::new(world.provider.clone()), Arc::clone(&store), &context).unwrap();
    let two = Session::new(Arc::new(world.provider.clone()), store, &context).unwrap();
    one.token().await.unwrap();
    assert!(two.cached().is_some());
    assert_eq!(world.provider.exchanges(), 1);
}
