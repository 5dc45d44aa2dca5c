//! What the status tells, also to another process, and what is printed.

use keyfob_auth_core::{AuthError, Binding, ErrorKind, Freshness, Scopes, store::TokenStore};

use super::*;

#[tokio::test(start_paused = true)]
async fn the_status_tells_of_the_login_and_of_the_token() {
    let world = World::new(ScriptedProvider::attended());
    let none = world.session.status().await.unwrap();
    assert_eq!((none.freshness, none.refreshable, none.account.is_none()), (Freshness::None, false, true));
    assert_eq!(none.binding, None);
    world.session.adopt(world.provider.issue()).await.unwrap();
    let obtained = world.session.context().clock().wall();
    for reader in [&world, &world.neighbour()] {
        let fresh = reader.session.status().await.unwrap();
        assert_eq!((fresh.freshness, fresh.refreshable), (Freshness::Fresh, true));
        assert_eq!(fresh.account.unwrap().subject, "alice");
        assert_eq!(fresh.expires_at, Some(obtained + s(600)));
        assert_eq!(fresh.last_renewal, Some(obtained));
        assert_eq!(fresh.store, world.store.describe());
        assert!(fresh.last_error.is_none());
        assert_eq!((fresh.binding, fresh.missing_scopes), (Some(Binding::None), Scopes::none()));
    }
    world.clock.advance(s(595));
    assert_eq!(world.session.status().await.unwrap().freshness, Freshness::Stale);
    world.clock.advance(s(5));
    assert_eq!(world.session.status().await.unwrap().freshness, Freshness::Expired);
    assert_eq!(world.provider.exchanges(), 0, "no server is asked");
}

#[tokio::test(start_paused = true)]
async fn another_process_sees_the_last_error() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    world.clock.advance(s(601));
    world.provider.fail_always(Some(AuthError::transient("the server is down").with_status(503)));
    assert!(world.session.token().await.is_err());
    let seen = world.neighbour().session.status().await.unwrap();
    let error = seen.last_error.unwrap();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Transient, "the server is down"));
    assert!(seen.last_renewal.is_some(), "the renewal before it is still known");
}

#[tokio::test(start_paused = true)]
async fn nothing_that_can_be_printed_holds_a_secret() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    let token = world.session.token().await.unwrap();
    let status = world.session.status().await.unwrap();
    world.clock.advance(s(601));
    world.provider.log_out_at_server();
    let error = world.session.token().await.unwrap_err();
    let printed = format!(
        "{token:?} {status:?} {error:?} {error} {:?} {:?} {:?}",
        world.session,
        world.store,
        world.provider.issue()
    );
    for secret in ["access-", "refresh-1"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_tells_of_the_newest_token_and_of_none_that_was_reported_bad() {
    let world = World::logged_in(ScriptedProvider::attended()).await;
    let neighbour = world.neighbour();
    neighbour.secret().await;
    world.clock.advance(s(601));
    world.secret().await;
    assert_eq!(
        neighbour.session.status().await.unwrap().freshness,
        Freshness::Fresh,
        "another process renewed it"
    );
    let renewed = world.session.context().clock().wall();
    assert_eq!(neighbour.session.status().await.unwrap().last_renewal, Some(renewed));
    let bad = world.session.token().await.unwrap();
    world.session.invalidate(&bad);
    assert_eq!(world.session.status().await.unwrap().freshness, Freshness::None);
}
