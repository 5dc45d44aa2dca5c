//! Promise 5: nothing is spent that could not be saved; persist, then publish.

use keyfob_auth_core::{
    AuthError, ErrorKind, Event, Keep, NoInteraction, TokenStore,
    store::{Outcome, Record, StoreErrorKind, TryLease},
    testing::{Step, StoreCall, StoreFault},
};

use super::*;

const FULL: Option<StoreFault> = Some(StoreFault::Fail(StoreErrorKind::Full));

#[tokio::test(start_paused = true)]
async fn a_token_in_memory_only_leaves_no_record_but_a_failure_does_and_its_end() {
    async fn records(world: &World) -> Vec<Record> {
        let mut records = Vec::new();
        for key in world.store.list().await.unwrap() {
            records.extend(world.store.load(&key).await.unwrap().map(|(record, _)| record));
        }
        records
    }
    let world = World::new(ScriptedProvider::unattended().keeping(Keep::Memory));
    assert_eq!(world.secret().await, "access-1");
    assert!(records(&world).await.is_empty());
    world.clock.advance(s(601));
    world.provider.push(Step::Fail(AuthError::transient("down")));
    world.session.token().await.unwrap_err();
    let outcome =
        |records: &[Record]| records.first().and_then(|r| r.attempt.as_ref()).map(|a| a.outcome.clone());
    assert!(matches!(outcome(&records(&world).await), Some(Outcome::Failed { .. })));
    tokio::time::sleep(s(2)).await;
    assert_eq!(world.secret().await, "access-2");
    let ended = records(&world).await;
    assert!(matches!(outcome(&ended), Some(Outcome::Renewed)), "the failure would be told to others");
    assert!(ended[0].tokens().is_empty());
    assert_eq!(world.provider.exchanges(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_the_renewal_and_not_the_login() {
    for call in [StoreCall::Save, StoreCall::Reserve] {
        let world = World::logged_in(ScriptedProvider::attended()).await;
        world.clock.advance(s(601));
        world.store.set(call, FULL);
        let error = world.session.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains("was not begun"), "{error}");
        assert_eq!(world.provider.exchanges(), 0, "nothing was spent");
        world.store.set(call, None);
        tokio::time::sleep(s(2)).await;
        assert_eq!(world.secret().await, "access-2");
        assert_eq!(world.provider.reuses(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_keep_a_login_is_found_out_before_anybody_is_asked() {
    for (call, kind) in [
        (StoreCall::Load, StoreErrorKind::Denied),
        (StoreCall::Lease, StoreErrorKind::Denied),
        (StoreCall::Lease, StoreErrorKind::Unavailable),
        (StoreCall::Reserve, StoreErrorKind::Full),
    ] {
        let world = World::new(ScriptedProvider::attended());
        world.store.set(call, Some(StoreFault::Fail(kind)));
        let error = world.session.login(Arc::new(NoInteraction)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store, "{call:?}");
        assert!(error.to_string().contains("the login was not begun"), "{error}");
        assert_eq!((world.provider.logins(), world.store.count(StoreCall::Save)), (0, 0), "{call:?}");
        world.store.set(call, None);
        world.session.login(Arc::new(NoInteraction)).await.unwrap();
        assert_eq!((world.provider.logins(), world.store.leases_out()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn who_renews_meanwhile_has_proved_that_the_store_can_be_written() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    let key = world.store.list().await.unwrap().remove(0);
    let TryLease::Held(_held) = world.store.try_lease(&key).await.unwrap() else { panic!("nobody has it") };
    world.session.login(Arc::new(NoInteraction)).await.unwrap();
    assert_eq!(world.provider.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_save_that_somebody_has_to_mend_is_tried_on_but_no_drain_waits_for_it() {
    for (kind, waits) in [(StoreErrorKind::Denied, false), (StoreErrorKind::Full, true)] {
        let world = World::new(ScriptedProvider::attended());
        world.store.set(StoreCall::Save, Some(StoreFault::Fail(kind)));
        world.session.login(Arc::new(NoInteraction)).await.unwrap();
        let begun = tokio::time::Instant::now();
        assert_eq!(world.session.drain(s(40)).await, !waits, "{kind:?}");
        assert_eq!(begun.elapsed() >= s(40), waits, "{kind:?}");
        assert!(world.session.status().await.unwrap().unsaved);
        world.store.set(StoreCall::Save, None);
        tokio::time::sleep(s(12)).await;
        assert!(!world.session.status().await.unwrap().unsaved, "{kind:?}");
        assert_eq!(world.neighbour().secret().await, "access-1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_save_that_fails_after_the_exchange_is_served_from_memory_marked_and_tried_until_it_succeeds() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    let mut events = world.session.watch();
    world.provider.close_gate();
    let asking = tokio::spawn({
        let session = world.session.clone();
        async move { session.token().await }
    });
    tokio::time::sleep(ms(1)).await; // the attempt is on record, the exchange under way
    world.store.set(StoreCall::Save, FULL);
    world.provider.open_gate();
    assert_eq!(asking.await.unwrap().unwrap().secret(), "access-2");
    assert!(matches!(events.next().await, Some(Event::Unsaved(_))));
    assert!(world.session.status().await.unwrap().unsaved);
    assert_eq!(world.store.leases_out(), 1, "the lease is kept");
    // Another process cannot spend the old refresh token.
    let neighbour = world.neighbour();
    assert!(neighbour.session.token_within(s(5)).await.is_err());
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (1, 0));
    world.store.set(StoreCall::Save, None);
    world.settle().await;
    assert!(!world.session.status().await.unwrap().unsaved);
    assert_eq!(world.store.leases_out(), 0);
    assert_eq!(world.neighbour().secret().await, "access-2");
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn while_something_is_unsaved_nothing_more_is_spent() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    world.provider.close_gate();
    let asking = tokio::spawn({
        let session = world.session.clone();
        async move { session.token().await }
    });
    tokio::time::sleep(ms(1)).await;
    world.store.set(StoreCall::Save, FULL);
    world.provider.open_gate();
    asking.await.unwrap().unwrap();
    world.clock.advance(s(601));
    let error = world.session.token().await.unwrap_err();
    assert!(error.to_string().contains("not saved yet"), "{error}");
    assert_eq!(world.provider.exchanges(), 1);
    world.store.set(StoreCall::Save, None);
    tokio::time::sleep(s(12)).await;
    assert_eq!(world.secret().await, "access-3");
    assert_eq!(world.provider.reuses(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_strict_session_returns_an_error_instead_and_saves_all_the_same() {
    let world = World::new(ScriptedProvider::attended());
    let strict = Session::builder(Arc::new(world.provider.clone()))
        .store(Arc::new(world.store.clone()))
        .context(&world.session.context())
        .label("strict")
        .strict()
        .build()
        .unwrap();
    strict.adopt(world.provider.issue()).await.unwrap();
    world.clock.advance(s(601));
    world.provider.close_gate();
    let asking = tokio::spawn({
        let session = strict.clone();
        async move { session.token().await }
    });
    tokio::time::sleep(ms(1)).await;
    world.store.set(StoreCall::Save, FULL);
    world.provider.open_gate();
    let error = asking.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(strict.cached().is_none());
    world.store.set(StoreCall::Save, None);
    world.settle().await;
    tokio::time::sleep(s(2)).await;
    assert_eq!(strict.token().await.unwrap().secret(), "access-2", "from the store now");
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_save_that_happened_although_it_failed_is_no_lost_login() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    world.provider.close_gate();
    let asking = tokio::spawn({
        let session = world.session.clone();
        async move { session.token().await }
    });
    tokio::time::sleep(ms(1)).await;
    world.store.set(StoreCall::Save, Some(StoreFault::FailAfter(StoreErrorKind::Unavailable)));
    world.provider.open_gate();
    assert_eq!(asking.await.unwrap().unwrap().secret(), "access-2");
    world.store.set(StoreCall::Save, None);
    world.settle().await;
    assert_eq!(world.neighbour().secret().await, "access-2");
    world.clock.advance(s(601));
    assert_eq!(world.secret().await, "access-3");
    assert_eq!(world.provider.reuses(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_does_not_hang_the_caller_for_ever() {
    let world = World::new(ScriptedProvider::unattended());
    world.store.set(StoreCall::Load, Some(StoreFault::Hang));
    let began = tokio::time::Instant::now();
    let error = world.session.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(began.elapsed() <= s(11));
}

#[tokio::test(start_paused = true)]
async fn without_a_login_an_unsaved_token_holds_no_lease() {
    let world = World::new(ScriptedProvider::unattended());
    world.store.set(StoreCall::Save, FULL);
    assert_eq!(world.secret().await, "access-1");
    assert_eq!(world.store.leases_out(), 0);
    assert_eq!(world.neighbour().secret().await, "access-2");
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_lost_exchange_is_tried_again_within_a_grace() {
    let world = World::logged_in(ScriptedProvider::attended().reusable()).await;
    world.clock.advance(s(601));
    world.provider.push(Step::Lose(AuthError::transient("reset")));
    assert!(world.session.token().await.is_err());
    tokio::time::sleep(ms(1300)).await;
    assert!(world.session.token().await.is_ok(), "asked again within some 1.25 s");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_drops_keys_is_refused_for_bound_logins_when_the_session_is_built() {
    use keyfob_auth_core::store::Capacity;
    let mut keeps = Capacity::default();
    keeps.binding_key = false;
    let store = FaultyStore::new(Arc::new(MemoryStore::new())).keeping(keeps);
    let context = Context::new();
    let build =
        |provider: ScriptedProvider| Session::new(Arc::new(provider), Arc::new(store.clone()), &context);
    let error = build(ScriptedProvider::attended().binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(build(ScriptedProvider::attended()).is_ok());
    assert!(build(ScriptedProvider::attended().binding().keeping(Keep::Memory)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_bound_login_that_comes_unannounced_is_refused_by_a_store_that_drops_keys() {
    use keyfob_auth_core::store::Capacity;
    let mut keeps = Capacity::default();
    keeps.binding_key = false;
    let store = FaultyStore::new(Arc::new(MemoryStore::new())).keeping(keeps);
    let world = World::on(ScriptedProvider::attended(), store, |context| context);
    let error = world.session.adopt(ScriptedProvider::attended().binding().issue()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(world.store.count(StoreCall::Save), 0);
}

#[tokio::test(start_paused = true)]
async fn a_login_without_a_refresh_token_is_saved_later_too() {
    let world = World::new(ScriptedProvider::attended());
    let mut acquired = world.provider.issue();
    acquired.login.as_mut().unwrap().refresh_token = None;
    world.store.set(StoreCall::Save, FULL);
    world.session.adopt(acquired).await.unwrap();
    assert!(world.session.status().await.unwrap().unsaved);
    world.store.set(StoreCall::Save, None);
    world.settle().await;
    assert_eq!(world.neighbour().secret().await, "access-1");
}
