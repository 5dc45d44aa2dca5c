//! Promise 1 across processes: contexts that share nothing but the store and the server.

use keyfob_auth_core::{AuthError, ErrorKind};

use super::*;

#[tokio::test(start_paused = true)]
async fn eight_processes_cost_one_exchange() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.provider.set_delay(ms(100));
    let processes: Vec<_> = (0..8).map(|_| world.neighbour()).collect();
    world.clock.advance(s(601));
    let tasks: Vec<_> = processes
        .iter()
        .map(|p| {
            let session = p.session.clone();
            tokio::spawn(async move { callers(&session, 50).await })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().iter().all(|o| o.as_ref().is_ok_and(|t| t.secret() == "access-2")));
    }
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (1, 0));
    assert_eq!(world.store.leases_out(), 0);
}

#[tokio::test(start_paused = true)]
async fn another_process_finds_the_failure_and_does_not_repeat_it_at_once() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    world.provider.fail_always(Some(AuthError::transient("down").with_status(503).with_retry_after(s(20))));
    let processes: Vec<_> = (0..8).map(|_| world.neighbour()).collect();
    for process in &processes {
        let error = process.session.token().await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Transient, Some(503)));
    }
    assert_eq!(world.provider.exchanges(), 1);
    world.provider.fail_always(None);
    tokio::time::sleep(s(21)).await;
    for process in &processes {
        assert_eq!(process.secret().await, "access-2");
    }
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_another_process_share_its_failure() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    world.provider.set_delay(ms(200));
    world.provider.fail_always(Some(AuthError::transient("down").with_status(503)));
    let processes: Vec<_> = (0..8).map(|_| world.neighbour()).collect();
    let tasks: Vec<_> = processes
        .iter()
        .map(|p| {
            let session = p.session.clone();
            tokio::spawn(async move { session.token().await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap_err().status(), Some(503));
    }
    assert_eq!(world.provider.exchanges(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stored_token_in_its_early_window_is_served_and_renewed_beside() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(580));
    world.provider.close_gate();
    let neighbour = world.neighbour();
    assert_eq!(neighbour.secret().await, "access-1", "without waiting");
    tokio::time::sleep(ms(1)).await;
    world.provider.open_gate();
    neighbour.settle().await;
    assert_eq!(neighbour.secret().await, "access-2");
    assert_eq!(world.provider.exchanges(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_never_comes_free_is_an_error_that_names_its_holder() {
    use keyfob_auth_core::{CredentialProvider, TokenStore, store::LoginKey};
    let world = World::logged_in(ScriptedProvider::attended()).await;
    let held = world.store.try_lease(&LoginKey::from(world.provider.identity())).await.unwrap();
    world.clock.advance(s(601));
    let error = world.session.token().await.unwrap_err();
    assert!(error.to_string().contains("locked for renewal for 45 s by this process"), "{error}");
    drop(held);
    tokio::time::sleep(s(2)).await;
    assert_eq!(world.secret().await, "access-2");
}

#[tokio::test(start_paused = true)]
async fn a_process_killed_in_mid_exchange_leaves_an_attempt_that_explains_the_refusal() {
    use keyfob_auth_core::testing::Step;
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    // The neighbour's server acts, and then the neighbour is gone: its record says "pending".
    let neighbour = world.neighbour();
    world.provider.push(Step::Hang);
    let asking = tokio::spawn({
        let session = neighbour.session.clone();
        async move { session.token().await }
    });
    tokio::time::sleep(ms(5)).await;
    world.provider.issue(); // rotated
    world.provider.log_out_at_server();
    asking.abort();
    tokio::time::sleep(s(35)).await; // its hard limit stands for its death
    let error = world.session.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired);
    assert!(error.is_answer_lost(), "{error}");
}
