//! Promises 4 and 9: login, logout, adoption.

use keyfob_auth_core::{
    AuthError, ErrorKind, Event, NoInteraction,
    store::StoreErrorKind,
    testing::{StoreCall, StoreFault},
};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_login_is_saved_and_served_and_asking_never_logs_in() {
    let world = World::new(ScriptedProvider::attended());
    assert!(world.session.token().await.is_err());
    assert_eq!(world.provider.logins(), 0);
    let mut events = world.session.watch();
    assert_eq!(world.session.login(Arc::new(NoInteraction)).await.unwrap().secret(), "access-1");
    assert_eq!(world.secret().await, "access-1");
    assert_eq!(world.neighbour().secret().await, "access-1");
    assert_eq!((world.provider.logins(), world.provider.exchanges()), (1, 0));
    assert!(matches!(events.next().await, Some(Event::Renewed { .. })));
    assert!(matches!(events.next().await, Some(Event::LoggedIn)));
}

#[tokio::test(start_paused = true)]
async fn a_failed_login_keeps_the_old_one() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.provider.fail_always(Some(AuthError::refused("denied").with_oauth("access_denied", None)));
    let error = world.session.login(Arc::new(NoInteraction)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    world.provider.fail_always(None);
    world.clock.advance(s(601));
    assert_eq!(world.secret().await, "access-2");
}

#[tokio::test(start_paused = true)]
async fn dropping_a_login_ends_it_and_touches_nothing_stored() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    let saves = world.store.count(StoreCall::Save);
    world.provider.set_delay(s(100));
    assert!(tokio::time::timeout(s(1), world.session.login(Arc::new(NoInteraction))).await.is_err());
    assert_eq!(world.store.leases_out(), 0, "no lease while a person is awaited");
    world.settle().await;
    assert_eq!(world.store.count(StoreCall::Save), saves);
    assert_eq!(world.secret().await, "access-1");
    world.provider.set_delay(ms(0));
    assert!(world.session.login(Arc::new(NoInteraction)).await.is_ok(), "the next one is not locked out");
}

#[tokio::test(start_paused = true)]
async fn one_login_at_a_time() {
    let world = World::new(ScriptedProvider::attended());
    world.provider.set_delay(s(1));
    let (one, other) = tokio::join!(
        world.session.login(Arc::new(NoInteraction)),
        world.session.login(Arc::new(NoInteraction))
    );
    assert_eq!([one, other].iter().filter(|o| o.is_ok()).count(), 1);
    assert_eq!(world.provider.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn rfc7009_2_a_logout_forgets_the_access_token_here_and_revokes() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    let report = world.session.logout().await.unwrap();
    assert!(report.was_logged_in && report.revoked && report.problems.is_empty());
    assert_eq!(world.provider.revocations(), 1);
    assert_eq!(world.provider.revoked_tokens(), ["access-1"], "of memory and of the store, once");
    assert!(world.session.cached().is_none());
    assert_eq!(world.session.token().await.unwrap_err().kind(), ErrorKind::LoginRequired);
    let again = world.session.logout().await.unwrap();
    assert!(!again.was_logged_in && again.problems.is_empty());
    assert_eq!(world.provider.revocations(), 1);
}

#[tokio::test(start_paused = true)]
async fn rfc7009_2_1_a_logout_revokes_every_access_token_that_is_still_good() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.session.for_scopes(["first"]).token().await.unwrap();
    world.clock.advance(s(601));
    for scope in ["second", "third"] {
        world.session.for_scopes([scope]).token().await.unwrap();
    }
    // Another process has none of them in memory.
    let neighbour = world.neighbour();
    assert!(neighbour.session.logout().await.unwrap().revoked);
    assert_eq!(world.provider.revoked_tokens(), ["access-4", "access-3"], "the newest first, no expired one");
    assert_eq!(world.provider.revocations(), 1);
}

#[tokio::test(start_paused = true)]
async fn rfc7009_2_2_1_a_logout_that_the_server_does_not_hear_forgets_all_the_same_and_says_so() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.provider.fail_always(Some(AuthError::transient("down").with_status(503)));
    let report = world.session.logout().await.unwrap();
    assert!(report.was_logged_in && !report.revoked);
    assert_eq!(report.problems[0].status(), Some(503));
    assert!(!world.session.status().await.unwrap().refreshable);
}

#[tokio::test(start_paused = true)]
async fn a_logout_wins_over_a_renewal_under_way_here_and_elsewhere() {
    for elsewhere in [false, true] {
        let world = World::logged_in(ScriptedProvider::attended()).await;
        world.clock.advance(s(601));
        world.provider.close_gate();
        let renewing = if elsewhere { world.neighbour().session } else { world.session.clone() };
        let asking = tokio::spawn(async move { renewing.token().await });
        tokio::time::sleep(ms(1)).await;
        assert!(world.session.logout().await.unwrap().was_logged_in);
        world.provider.set_account("alice");
        let revoked = world.provider.revocations();
        // The server honours the renewal after all.
        world.provider.push(keyfob_auth_core::testing::Step::Answer(Box::new(world.provider.issue())));
        world.provider.open_gate();
        assert_eq!(asking.await.unwrap().unwrap_err().kind(), ErrorKind::LoginRequired);
        world.settle().await;
        tokio::time::sleep(s(1)).await;
        assert!(world.session.token().await.is_err());
        assert!(world.neighbour().session.token().await.is_err(), "elsewhere: {elsewhere}");
        assert_eq!(world.provider.revocations(), revoked + 1, "what it brought is revoked too");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_login_is_not_overwritten_by_a_renewal_of_the_old_one() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    world.provider.close_gate();
    let neighbour = world.neighbour();
    let asking = tokio::spawn({
        let session = neighbour.session.clone();
        async move { session.token().await }
    });
    tokio::time::sleep(ms(1)).await;
    let bob = ScriptedProvider::attended();
    world.provider.set_account("bob");
    let new = world.provider.issue();
    world.session.adopt(new).await.unwrap();
    // The old one's answer comes late.
    world.provider.push(keyfob_auth_core::testing::Step::Answer(Box::new(bob.issue())));
    world.provider.open_gate();
    assert_eq!(asking.await.unwrap().unwrap().secret(), "access-2", "the new login's");
    assert_eq!(world.provider.revocations(), 0);
    assert_eq!(neighbour.session.status().await.unwrap().account.unwrap().subject, "bob");
    world.clock.advance(s(601));
    assert!(world.session.token().await.is_ok());
    assert_eq!(world.provider.reuses(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_cannot_be_saved_is_served_and_marked() {
    let world = World::new(ScriptedProvider::attended());
    world.store.set(StoreCall::Save, Some(StoreFault::Fail(StoreErrorKind::Full)));
    world.session.login(Arc::new(NoInteraction)).await.unwrap();
    assert_eq!(world.secret().await, "access-1");
    assert!(world.session.status().await.unwrap().unsaved);
    world.store.set(StoreCall::Save, None);
    world.settle().await;
    assert!(!world.session.status().await.unwrap().unsaved);
    assert_eq!(world.neighbour().secret().await, "access-1");
}

#[tokio::test(start_paused = true)]
async fn a_logout_gives_up_what_was_not_saved_yet() {
    let world = World::new(ScriptedProvider::attended());
    world.store.set(StoreCall::Save, Some(StoreFault::Fail(StoreErrorKind::Full)));
    world.session.login(Arc::new(NoInteraction)).await.unwrap();
    let report = world.session.logout().await.unwrap();
    assert!(report.was_logged_in && report.revoked);
    world.store.set(StoreCall::Save, None);
    world.settle().await;
    assert!(world.session.token().await.is_err() && world.store.leases_out() == 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_to_sign_in_where_it_cannot_be_kept() {
    let world = World::new(ScriptedProvider::attended());
    world.store.set(StoreCall::Load, Some(StoreFault::Fail(StoreErrorKind::Denied)));
    assert_eq!(world.session.login(Arc::new(NoInteraction)).await.unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(world.provider.logins(), 0);
    // What cannot be read is set aside by a new login.
    world.store.set(StoreCall::Load, Some(StoreFault::Fail(StoreErrorKind::Corrupt)));
    assert!(world.session.login(Arc::new(NoInteraction)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_adopted_login_whose_access_token_has_expired_is_renewed_at_once() {
    let world = World::new(ScriptedProvider::attended());
    let mut old = world.provider.issue();
    old.access = old.access.with_age(s(700));
    assert_eq!(world.session.adopt(old).await.unwrap().secret(), "access-2");
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (1, 0));
    let mut lone = world.provider.issue();
    (lone.access, lone.login) = (lone.access.with_age(s(700)), None);
    assert!(world.session.adopt(lone).await.is_err(), "nothing is left of this one");
}
