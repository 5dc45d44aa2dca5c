//! Promises 4 to 8 where two things happen at once.

use keyfob_auth_core::{
    AccessToken, Acquired, AuthError, Challenge, CredentialProvider, ErrorKind, Login, NoInteraction,
    TokenStore,
    store::{LoginKey, StoreErrorKind},
    testing::{Step, StoreCall, StoreFault},
};

use super::{hostile::Interposed, *};

const FULL: Option<StoreFault> = Some(StoreFault::Fail(StoreErrorKind::Full));

#[tokio::test(start_paused = true)]
async fn a_rotated_refresh_token_is_kept_although_the_access_token_beside_it_is_of_no_use() {
    for life in [600, 0] {
        let world = World::logged_in(ScriptedProvider::attended()).await;
        let bad = world.session.token().await.unwrap();
        world.session.invalidate(&bad);
        let secret = if life == 0 { "access-9" } else { "access-1" };
        let answer = world.provider.issue();
        let access = AccessToken::new(secret).expires_in(life);
        world.provider.push(Step::Answer(Box::new(Acquired { access, ..answer })));
        assert_eq!(world.session.token().await.unwrap_err().kind(), ErrorKind::Refused);
        tokio::time::sleep(s(5)).await;
        assert_eq!(world.session.token().await.unwrap().secret(), "access-3");
        assert_eq!(world.provider.reuses(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_a_login_or_a_logout_is_not_served_after_it() {
    for logout in [false, true] {
        let world = World::logged_in(ScriptedProvider::attended()).await;
        let store = Interposed::new(world.store.clone());
        let context =
            Context::builder().executor(tokio::runtime::Handle::current()).clock(world.clock.clock()).build();
        let session =
            Session::new(Arc::new(world.provider.clone()), Arc::new(store.clone()), &context).unwrap();
        // The store has the old login's token; it is read just before the login is replaced, and comes just after.
        store.slow_writes(ms(100));
        let change = tokio::spawn({
            let (session, new) = (session.clone(), world.provider.issue());
            async move {
                if logout {
                    session.logout().await.map(drop)
                } else {
                    session.for_scopes(["b"]).adopt(new).await.map(drop)
                }
            }
        });
        tokio::time::sleep(ms(50)).await;
        store.slow_reads(ms(200));
        let asking = tokio::spawn({
            let session = session.clone();
            async move { session.token().await }
        });
        tokio::time::sleep(ms(1)).await;
        store.slow_reads(ms(0));
        change.await.unwrap().unwrap();
        let outcome = asking.await.unwrap();
        assert!(
            outcome.as_ref().map_or(true, |token| token.secret() != "access-1"),
            "logout: {logout}: {outcome:?}"
        );
        assert!(session.cached().is_none_or(|token| token.secret() != "access-1"), "logout: {logout}");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_reported_bad_while_they_come_again_are_not_served() {
    let world = World::new(ScriptedProvider::unattended());
    let store = Interposed::new(world.store.clone());
    let context =
        Context::builder().executor(tokio::runtime::Handle::current()).clock(world.clock.clock()).build();
    let session = Session::new(Arc::new(world.provider.clone()), Arc::new(store.clone()), &context).unwrap();
    let bad = session.token().await.unwrap();
    let again = AccessToken::new(bad.secret()).expires_in(600);
    world.provider.push(Step::Answer(Box::new(Acquired::token(again))));
    store.slow_writes(ms(100));
    let refreshing = tokio::spawn({
        let session = session.clone();
        async move { session.refresh().await }
    });
    tokio::time::sleep(ms(50)).await; // they have come, and are being saved
    assert_eq!(world.provider.exchanges(), 2);
    assert!(session.invalidate(&bad));
    assert_eq!(refreshing.await.unwrap().unwrap_err().kind(), ErrorKind::Refused);
    assert!(session.cached().is_none());
    assert_eq!(world.provider.exchanges(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_overtaken_by_a_login_elsewhere_in_the_session_is_served_from_it() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    world.provider.close_gate();
    let asking = tokio::spawn({
        let session = world.session.clone();
        async move { session.token().await }
    });
    tokio::time::sleep(ms(1)).await;
    let new = world.provider.issue();
    let late = ScriptedProvider::attended().issue();
    world.session.for_scopes(["b"]).adopt(new).await.unwrap();
    world.provider.push(Step::Answer(Box::new(late)));
    world.provider.open_gate();
    assert_eq!(asking.await.unwrap().unwrap().secret(), "access-3");
    assert_eq!(world.provider.reuses(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_forced_renewal_overtaken_by_a_login_is_served_from_it() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.provider.close_gate();
    let session = world.session.clone();
    let asking = tokio::spawn(async move { session.refresh().await });
    tokio::time::sleep(ms(1)).await;
    world.session.adopt(world.provider.issue()).await.unwrap();
    world.provider.push(Step::Fail(AuthError::login_rejected("spent").with_status(400)));
    world.provider.open_gate();
    assert_eq!(asking.await.unwrap().unwrap().secret(), "access-2");
}

#[tokio::test(start_paused = true)]
async fn a_login_made_while_an_exchange_is_announced_is_used_at_once() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    let store = Interposed::new(world.store.clone());
    let context =
        Context::builder().executor(tokio::runtime::Handle::current()).clock(world.clock.clock()).build();
    let session = Session::new(Arc::new(world.provider.clone()), Arc::new(store.clone()), &context).unwrap();
    world.clock.advance(s(601));
    let (other, new) = (world.session.clone(), world.provider.issue());
    store.before_save(async move { drop(other.adopt(new).await.unwrap()) });
    assert_eq!(session.token().await.unwrap().secret(), "access-2");
}

#[tokio::test(start_paused = true)]
async fn an_unsaved_login_is_not_lost_to_a_renewal_of_the_one_before_it() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    // Ours cannot write; another process can.
    let ours = FaultyStore::new(Arc::new(world.store.clone()));
    let context =
        Context::builder().executor(tokio::runtime::Handle::current()).clock(world.clock.clock()).build();
    let session = Session::new(Arc::new(world.provider.clone()), Arc::new(ours.clone()), &context).unwrap();
    world.clock.advance(s(601));
    ours.set(StoreCall::Save, FULL);
    let bob = ScriptedProvider::attended();
    bob.set_account("bob");
    session.adopt(bob.issue()).await.unwrap();
    assert_eq!(world.secret().await, "access-2", "the old login is renewed elsewhere");
    ours.set(StoreCall::Save, None);
    assert!(session.drain(s(3600)).await);
    assert_eq!(world.session.status().await.unwrap().account.unwrap().subject, "bob");
}

#[tokio::test(start_paused = true)]
async fn an_unsaved_login_is_not_lost_to_an_unsaved_renewal_of_the_one_before_it() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    world.provider.close_gate();
    let asking = tokio::spawn({
        let session = world.session.clone();
        async move { session.token().await.map(drop) }
    });
    tokio::time::sleep(ms(1)).await;
    world.store.set(StoreCall::Save, FULL);
    let bob = ScriptedProvider::attended();
    bob.set_account("bob");
    world.session.adopt(bob.issue()).await.unwrap();
    world.provider.open_gate();
    asking.await.unwrap().unwrap();
    tokio::time::sleep(ms(1)).await;
    world.store.set(StoreCall::Save, None);
    world.settle().await;
    assert_eq!(world.session.status().await.unwrap().account.unwrap().subject, "bob");
}

#[tokio::test(start_paused = true)]
async fn the_token_at_hand_is_not_taken_from_the_store_again() {
    for _ in 0..20 {
        let world = World::logged_in(ScriptedProvider::attended()).await;
        let generation = world.session.token().await.unwrap().generation();
        world.clock.advance(s(511));
        while world.provider.exchanges() == 0 {
            world.secret().await;
            world.settle().await;
            if world.provider.exchanges() == 0 {
                assert_eq!(
                    world.session.cached().unwrap().generation(),
                    generation,
                    "the same bytes, published again"
                );
            }
            world.clock.advance(s(1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_does_not_bring_an_expired_token_back_from_the_store() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.secret().await;
    world.provider.fail_always(Some(AuthError::transient("down")));
    world.clock.advance(s(601));
    world.clock.set_back(s(86_400));
    assert!(world.session.token().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_plain_caller_does_not_share_the_failure_of_a_demand() {
    let world = World::new(ScriptedProvider::unattended());
    world.provider.close_gate();
    world.provider.push(Step::Fail(AuthError::interaction_required("step up")));
    let session = world.session.clone();
    let demanding = tokio::spawn(async move { session.satisfy(Challenge::default()).await });
    tokio::time::sleep(ms(1)).await;
    let session = world.session.clone();
    let plain = tokio::spawn(async move { session.token().await });
    let session = world.session.clone();
    let forced = tokio::spawn(async move { session.refresh().await });
    tokio::time::sleep(ms(1)).await;
    world.provider.open_gate();
    assert!(demanding.await.unwrap().is_err());
    assert_eq!(plain.await.unwrap().unwrap().secret(), "access-1");
    assert_eq!(forced.await.unwrap().unwrap().secret(), "access-1");
}

#[tokio::test(start_paused = true)]
async fn equal_demands_at_once_are_one_exchange_and_its_failure_is_everybodys() {
    for fails in [false, true] {
        let world = World::new(ScriptedProvider::unattended());
        world.secret().await;
        world.provider.set_delay(ms(100));
        if fails {
            world.provider.fail_always(Some(AuthError::interaction_required("step up")));
        }
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let session = world.session.clone();
                tokio::spawn(async move { session.satisfy(Challenge::default()).await.is_err() })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), fails);
        }
        assert_eq!(world.provider.exchanges(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_never_satisfied_does_not_become_an_exchange_per_request() {
    for fails in [false, true] {
        let world = World::new(ScriptedProvider::unattended());
        if fails {
            world.provider.fail_always(Some(AuthError::interaction_required("step up")));
        }
        for _ in 0..1000 {
            let _ = world.session.satisfy(Challenge::default()).await;
            tokio::time::sleep(ms(10)).await;
        }
        assert!(world.provider.exchanges() <= 8, "{}", world.provider.exchanges());
    }
}

#[tokio::test(start_paused = true)]
async fn a_password_is_never_tried_twice_whoever_asks() {
    let world = World::new(ScriptedProvider::unattended());
    world.provider.fail_always(Some(AuthError::refused("wrong password").once()));
    assert!(world.session.token().await.is_err());
    for process in [&world, &world.neighbour()] {
        assert_eq!(process.session.refresh().await.unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(
            process.session.satisfy(Challenge::default()).await.unwrap_err().kind(),
            ErrorKind::Refused
        );
        let error = process.session.token().await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Refused, None), "{error}");
    }
    assert_eq!(world.provider.exchanges(), 1);
    world.provider.change_secret();
    world.provider.fail_always(None);
    assert!(world.session.refresh().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_remembered_through_later_failures() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    world.provider.push(Step::Lose(AuthError::transient("connection reset")));
    world.provider.push(Step::Fail(AuthError::transient("down").with_status(503)));
    for _ in 0..2 {
        assert_eq!(world.session.token().await.unwrap_err().kind(), ErrorKind::Transient);
        tokio::time::sleep(s(4)).await;
    }
    let error = world.session.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired);
    assert!(error.is_answer_lost(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn another_process_waits_for_what_is_left_of_a_pause_and_no_longer() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    let neighbour = world.neighbour();
    world.provider.fail_always(Some(AuthError::refused("no").with_status(401)));
    for _ in 0..4 {
        assert!(world.session.token().await.is_err());
        tokio::time::sleep(world.session.token().await.unwrap_err().retry_after().unwrap()).await;
    }
    assert!(world.session.token().await.is_err()); // the fifth: a pause of some 9 s
    tokio::time::sleep(s(8)).await;
    let after = neighbour.session.token().await.unwrap_err().retry_after().unwrap();
    assert!(after <= ms(1100), "{after:?}");
    world.provider.fail_always(None);
    tokio::time::sleep(ms(1100)).await;
    assert!(neighbour.session.token().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_strict_session_is_strict_also_where_another_one_was_first() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    let strict = Session::builder(Arc::new(world.provider.clone())).context(&world.session.context());
    world.clock.advance(s(601));
    // The engine is found by its store's address.
    let store: Arc<dyn TokenStore> = Arc::new(world.store.clone());
    let lax =
        Session::new(Arc::new(world.provider.clone()), Arc::clone(&store), &world.session.context()).unwrap();
    let strict = strict.store(store).strict().build().unwrap();
    world.provider.close_gate();
    let asking = tokio::spawn(async move { strict.token().await });
    tokio::time::sleep(ms(1)).await;
    world.store.set(StoreCall::Save, FULL);
    world.provider.open_gate();
    assert_eq!(asking.await.unwrap().unwrap_err().kind(), ErrorKind::Store);
    drop(lax);
}

#[tokio::test(start_paused = true)]
async fn a_report_of_another_sessions_token_retires_nothing() {
    let world = World::new(ScriptedProvider::unattended());
    let (a, b) = (world.session.for_scopes(["a"]), world.session.for_scopes(["b"]));
    let of_a = a.token().await.unwrap();
    b.token().await.unwrap();
    b.invalidate(&of_a);
    assert!(b.cached().is_some() && a.cached().is_some());
    let mut events = a.watch();
    for _ in 0..10 {
        a.invalidate(&of_a);
    }
    a.token().await.unwrap();
    assert!(matches!(events.next().await, Some(keyfob_auth_core::Event::Invalidated)));
    assert!(
        matches!(events.next().await, Some(keyfob_auth_core::Event::Renewed { .. })),
        "one event for one token"
    );
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_a_lock_less_neighbour_is_not_lost_to_our_verdict() {
    // Two processes without a lock that reaches both spend one refresh token; the server answers one and refuses the other.
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    let key = LoginKey::from(world.provider.identity());
    world.provider.close_gate();
    let asking = tokio::spawn({
        let session = world.session.clone();
        async move { session.token().await }
    });
    tokio::time::sleep(ms(1)).await;
    let (mut record, version) = world.store.load(&key).await.unwrap().unwrap();
    record.login.as_mut().unwrap().refresh_token = None;
    world.store.save(&key, Some(&record), Some(&version), None).await.unwrap();
    world.provider.open_gate();
    assert_eq!(asking.await.unwrap().unwrap().secret(), "access-2");
    world.clock.advance(s(601));
    assert_eq!(world.secret().await, "access-3");
}

#[tokio::test(start_paused = true)]
async fn subjects_are_not_given_a_retired_token_again() {
    use keyfob_auth_core::Subject;
    let world = World::new(ScriptedProvider::unattended());
    let session = world.session.for_subject(Subject::access_token("alice".to_owned()));
    let bad = session.token().await.unwrap();
    session.invalidate(&bad);
    world
        .provider
        .push(Step::Answer(Box::new(Acquired::token(AccessToken::new("access-1").expires_in(600)))));
    assert!(session.token().await.unwrap_err().to_string().contains("very token again"));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_that_fails_leaves_no_trace_of_a_lost_answer() {
    let world = World::new(ScriptedProvider::unattended());
    let acquired = world.provider.issue();
    world
        .session
        .adopt(Acquired::with_login(acquired.access, Login::with_refresh_token("stale")))
        .await
        .unwrap();
    world.clock.advance(s(601));
    let rejected = || Step::Fail(AuthError::login_rejected("no").with_status(400));
    world.provider.push(rejected());
    world.provider.push(Step::Fail(AuthError::transient("down")));
    assert!(world.session.token().await.is_err());
    let status = world.neighbour().session.status().await.unwrap();
    assert_eq!(status.last_error.map(|e| e.kind), Some(ErrorKind::Transient), "and other processes see it");
}

#[tokio::test(start_paused = true)]
async fn a_login_beside_a_logout_leaves_memory_and_store_agreed() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    let store = Interposed::new(world.store.clone());
    let context =
        Context::builder().executor(tokio::runtime::Handle::current()).clock(world.clock.clock()).build();
    for (first, second) in [(0, 30), (30, 0), (10, 15)] {
        let session =
            Session::new(Arc::new(world.provider.clone()), Arc::new(store.clone()), &context).unwrap();
        store.slow_writes(ms(20));
        store.slow_reads(ms(20));
        let login = async {
            tokio::time::sleep(ms(first)).await;
            session.login(Arc::new(NoInteraction)).await.map(drop)
        };
        let logout = async {
            tokio::time::sleep(ms(second)).await;
            session.logout().await.map(drop)
        };
        let _ = tokio::join!(login, logout);
        let stored = world.store.load(&LoginKey::from(world.provider.identity())).await.unwrap();
        assert_eq!(session.cached().is_some(), stored.is_some(), "{first} {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_logout_also_wins_where_there_is_no_login() {
    let world = World::new(ScriptedProvider::unattended());
    world.secret().await;
    world.clock.advance(s(601));
    world.provider.close_gate();
    let session = world.session.clone();
    let asking = tokio::spawn(async move { session.token_within(ms(10)).await });
    asking.await.unwrap().unwrap_err();
    world.session.logout().await.unwrap();
    world.provider.open_gate();
    world.settle().await;
    let stored = world.store.load(&LoginKey::from(world.provider.identity())).await.unwrap();
    assert!(stored.is_none() && world.session.cached().is_none(), "the answer of before is not kept");
}

#[tokio::test(start_paused = true)]
async fn a_logout_holds_from_its_first_moment() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.store.set(StoreCall::Load, Some(StoreFault::Hang));
    let session = world.session.clone();
    let leaving = tokio::spawn(async move { session.logout().await.map(drop) });
    tokio::time::sleep(s(1)).await;
    assert!(world.session.cached().is_none());
    assert_eq!(leaving.await.unwrap().unwrap_err().kind(), ErrorKind::Store);
}

#[tokio::test(start_paused = true)]
async fn a_login_gives_up_what_was_not_saved_of_the_one_before_it() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    world.provider.close_gate();
    let session = world.session.clone();
    let asking = tokio::spawn(async move { session.token().await.map(drop) });
    tokio::time::sleep(ms(1)).await;
    world.store.set(StoreCall::Save, FULL);
    world.provider.open_gate();
    asking.await.unwrap().unwrap();
    assert!(world.session.status().await.unwrap().unsaved);
    world.store.set(StoreCall::Save, None);
    world.session.adopt(world.provider.issue()).await.unwrap();
    assert!(!world.session.status().await.unwrap().unsaved);
    assert_eq!(world.store.leases_out(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_reported_bad_before_its_waiters_wake_is_not_given_to_them() {
    let world = World::new(ScriptedProvider::unattended());
    let mut events = world.session.watch();
    world.provider.close_gate();
    let session = world.session.clone();
    let reporting = tokio::spawn(async move {
        events.next().await;
        session.invalidate(&session.cached().unwrap());
    });
    tokio::time::sleep(ms(1)).await;
    let session = world.session.clone();
    let asking = tokio::spawn(async move { session.token().await });
    tokio::time::sleep(ms(1)).await;
    world.provider.open_gate();
    reporting.await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap().secret(), "access-2");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_login_goes_on_nowhere() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.provider.set_delay(s(100));
    assert!(tokio::time::timeout(s(1), world.session.login(Arc::new(NoInteraction))).await.is_err());
    tokio::time::sleep(s(200)).await;
    world.provider.set_delay(ms(0));
    world.clock.advance(s(601));
    assert_eq!(world.secret().await, "access-2", "the server was not asked for another");
}
