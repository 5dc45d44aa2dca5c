//! Promises 3, 4 and 7: failures harm nobody, are shared and not repeated; `invalid_grant` is believed last.

use keyfob_auth_core::{
    AuthError, ErrorKind, Login,
    store::{LoginKey, Record},
    testing::{Step, StoreCall},
};

use super::*;

fn down() -> AuthError {
    AuthError::transient("the server is down").with_status(503)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_in_the_early_window_is_seen_by_nobody_and_asked_once_a_second_at_most() {
    let world = World::new(ScriptedProvider::unattended());
    world.secret().await;
    world.clock.advance(s(580));
    world.provider.fail_always(Some(down()));
    for _ in 0..500 {
        assert_eq!(world.secret().await, "access-1");
        assert!(world.session.cached().is_some());
        tokio::time::sleep(ms(10)).await;
    }
    let asked = world.provider.exchanges() - 1;
    assert!((1..=5).contains(&asked), "{asked} requests in 5 s");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_waiters_without_a_token_share_one_failure() {
    let world = World::new(ScriptedProvider::unattended());
    world.provider.set_delay(ms(100));
    world.provider.fail_always(Some(down()));
    let began = tokio::time::Instant::now();
    let outcomes = callers(&world.session, 100).await;
    assert!(outcomes.iter().all(|o| o.as_ref().is_err_and(|e| e.status() == Some(503))));
    assert_eq!(world.provider.exchanges(), 1);
    assert!(began.elapsed() < ms(110));
    let later = world.session.token().await.unwrap_err();
    assert!(later.retry_after().is_some() && world.provider.exchanges() == 1, "remembered: {later}");
}

#[tokio::test(start_paused = true)]
async fn a_revoked_secret_is_asked_three_times_in_five_seconds_and_its_mending_seen_within_five() {
    let world = World::new(ScriptedProvider::unattended());
    world
        .provider
        .fail_always(Some(AuthError::refused("no").with_oauth("invalid_client", None).with_status(401)));
    let storm = |seconds| {
        let session = world.session.clone();
        async move {
            for _ in 0..seconds * 100 {
                for _ in 0..10 {
                    let _ = session.token().await;
                }
                tokio::time::sleep(ms(10)).await;
            }
        }
    };
    storm(5).await;
    assert!(world.provider.exchanges() <= 3, "{}", world.provider.exchanges());
    world.provider.fail_always(None);
    storm(5).await;
    assert!(world.session.cached().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_changed_local_secret_is_tried_at_once() {
    let world = World::new(ScriptedProvider::unattended());
    world.provider.fail_always(Some(AuthError::refused("no").once()));
    assert!(world.session.token().await.is_err());
    tokio::time::sleep(s(86_400)).await;
    assert!(world.session.token().await.is_err());
    assert_eq!(world.provider.exchanges(), 1, "what is not to be repeated is not");
    world.provider.fail_always(None);
    world.provider.change_secret();
    assert_eq!(world.secret().await, "access-1");
    assert_eq!(world.provider.exchanges(), 2);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_by_all_tenants_of_an_endpoint() {
    let provider = |tenant: usize| {
        ScriptedProvider::unattended().with_identity(
            keyfob_auth_core::Identity::new("scripted")
                .issuer(format!("https://idp.example/{tenant}"))
                .client("c"),
        )
    };
    let world = World::new(provider(0));
    world.provider.fail_always(Some(down().with_retry_after(s(30))));
    assert!(world.session.token().await.is_err());
    let mut asked = 0;
    for tenant in 1..100 {
        let other = provider(tenant);
        let session =
            Session::new(Arc::new(other.clone()), Arc::new(world.store.clone()), &world.session.context())
                .unwrap();
        let error = session.token().await.unwrap_err();
        assert!(error.retry_after().is_some_and(|after| after > s(25)), "{error}");
        asked += other.exchanges();
    }
    assert_eq!(asked, 0);
    tokio::time::sleep(s(31)).await;
    world.provider.fail_always(None);
    world.secret().await;
}

#[tokio::test(start_paused = true)]
async fn who_was_kept_from_asking_has_not_failed() {
    let identity =
        |tenant| keyfob_auth_core::Identity::new("scripted").issuer(format!("https://idp.example/{tenant}"));
    let world = World::new(ScriptedProvider::unattended().with_identity(identity(0)));
    let other = ScriptedProvider::unattended().with_identity(identity(1));
    let store = Arc::new(world.store.clone());
    let session = Session::new(Arc::new(other.clone()), store, &world.session.context()).unwrap();
    for _ in 0..8 {
        world.provider.push(Step::Fail(down()));
        assert!(world.session.refresh().await.is_err());
        assert!(session.token().await.is_err());
        assert_eq!(other.exchanges(), 0);
        tokio::time::sleep(s(2)).await;
        world.session.refresh().await.unwrap();
    }
    session.token().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_open_again_when_the_session_that_found_it_down_asks_again() {
    for _ in 0..20 {
        let world = World::new(ScriptedProvider::unattended());
        world.provider.fail_always(Some(down()));
        let begun = tokio::time::Instant::now();
        for (exchanges, latest) in [(1, ms(0)), (2, ms(1260)), (3, ms(3770)), (4, ms(8780))] {
            while world.provider.exchanges() < exchanges {
                assert!(begun.elapsed() <= latest, "exchange {exchanges} is late");
                assert!(world.session.token().await.is_err());
                tokio::time::sleep(ms(5)).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn exchanges_at_one_endpoint_are_capped() {
    let world = World::with(ScriptedProvider::unattended(), |c| c.limits(|l| l.concurrent_exchanges = 4));
    world.provider.set_delay(ms(100));
    let sessions: Vec<_> = (0..40).map(|i| world.session.for_scopes([i.to_string()])).collect();
    let tasks: Vec<_> =
        sessions.into_iter().map(|s| tokio::spawn(async move { s.token().await.map(drop) })).collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!((world.provider.exchanges(), world.provider.most_at_once()), (40, 4));
}

#[tokio::test(start_paused = true)]
async fn a_hung_provider_is_ended_and_a_callers_deadline_ends_its_wait_only() {
    let world = World::new(ScriptedProvider::unattended());
    world.provider.push(Step::Hang);
    let began = tokio::time::Instant::now();
    let error = world.session.token_within(ms(500)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(began.elapsed() < ms(510));
    let error = world.session.token().await.unwrap_err();
    assert!(error.to_string().contains("within 30 s"), "{error}");
    assert_eq!(world.provider.exchanges(), 1);
    tokio::time::sleep(s(2)).await;
    assert_eq!(world.secret().await, "access-1");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_provider_is_an_error_of_that_call() {
    let world = World::new(ScriptedProvider::unattended());
    world.provider.push(Step::Panic);
    assert!(world.session.token().await.unwrap_err().to_string().contains("panicked"));
    tokio::time::sleep(s(2)).await;
    assert_eq!(world.secret().await, "access-1");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_leaves_the_renewal_running_and_the_next_waits_for_the_rest() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    world.provider.set_delay(ms(100));
    let gone = tokio::time::timeout(ms(50), world.session.token()).await;
    assert!(gone.is_err());
    let began = tokio::time::Instant::now();
    assert_eq!(world.secret().await, "access-2");
    assert!(began.elapsed() <= ms(60), "{:?}", began.elapsed());
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn no_login_is_said_without_asking_the_server() {
    let world = World::new(ScriptedProvider::attended());
    let error = world.session.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired);
    assert_eq!(world.provider.exchanges(), 0);
    world.session.adopt(world.provider.issue()).await.unwrap();
    assert_eq!(world.secret().await, "access-1", "seen at once");
}

#[tokio::test(start_paused = true)]
async fn invalid_grant_is_believed_after_the_store_was_read_again() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    world.provider.log_out_at_server();
    let loads = world.store.count(StoreCall::Load);
    let error = world.session.token().await.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::LoginRequired, Some("invalid_grant")));
    assert!(error.to_string().contains("log in again") && !error.is_answer_lost(), "{error}");
    assert!(world.store.count(StoreCall::Load) - loads >= 3);
    assert_eq!(world.provider.exchanges(), 1);
    let again = world.session.token().await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::LoginRequired);
    tokio::time::sleep(s(10)).await;
    assert!(world.session.token().await.is_err());
    assert_eq!(world.provider.exchanges(), 1, "a dead refresh token is not sent twice");
    let status = world.session.status().await.unwrap();
    assert_eq!(status.account.unwrap().subject, "alice", "the account stays, as a hint");
    assert!(!status.refreshable);
}

#[tokio::test(start_paused = true)]
async fn a_different_record_is_tried_before_invalid_grant_is_believed() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    // Another tool, without a lock, rotates the refresh token while our exchange is under way.
    world.provider.close_gate();
    let asking = tokio::spawn({
        let session = world.session.clone();
        async move { session.token().await }
    });
    tokio::time::sleep(ms(1)).await;
    let rotated = world.provider.issue();
    overwrite(&world, rotated.login.unwrap()).await;
    world.provider.push(Step::Fail(
        AuthError::login_rejected("spent").with_oauth("invalid_grant", None).with_status(400),
    ));
    world.provider.open_gate();
    let token = asking.await.unwrap().unwrap();
    assert_eq!(token.secret(), "access-3");
    assert_eq!((world.provider.exchanges(), world.provider.reuses()), (2, 0));
}

/// Writes a login as a stranger would.
async fn overwrite(world: &World, login: Login) {
    use keyfob_auth_core::{CredentialProvider, TokenStore};
    let key = LoginKey::from(world.provider.identity());
    let (_, version) = world.store.load(&key).await.unwrap().unwrap();
    world.store.save(&key, Some(&Record::with_login(login)), Some(&version), None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unattended_provider_is_asked_again_without_the_refused_login() {
    let world = World::new(ScriptedProvider::unattended());
    let acquired = world.provider.issue();
    let login = Login::with_refresh_token("stale");
    world.session.adopt(keyfob_auth_core::Acquired::with_login(acquired.access, login)).await.unwrap();
    world.clock.advance(s(601));
    world.provider.push(Step::Fail(AuthError::login_rejected("no").with_status(400)));
    assert_eq!(world.secret().await, "access-2");
    assert_eq!(world.provider.exchanges(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_503_never_deletes_a_login() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    world.provider.push(Step::Fail(down()));
    assert_eq!(world.session.token().await.unwrap_err().kind(), ErrorKind::Transient);
    tokio::time::sleep(s(2)).await;
    assert_eq!(world.secret().await, "access-2");
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_after_the_server_rotated_is_said_as_what_it_is() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    world.provider.push(Step::Lose(AuthError::transient("connection reset")));
    assert_eq!(world.session.token().await.unwrap_err().kind(), ErrorKind::Transient);
    tokio::time::sleep(s(2)).await;
    let error = world.session.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired);
    assert!(error.is_answer_lost() && error.to_string().contains("lost"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_for_another_account_is_refused_and_the_login_kept() {
    let world = World::logged_in(ScriptedProvider::attended().reusable()).await;
    world.clock.advance(s(601));
    world.provider.set_account("mallory");
    let error = world.session.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("mallory"), "{error}");
    assert_eq!(world.session.status().await.unwrap().account.unwrap().subject, "alice");
}
