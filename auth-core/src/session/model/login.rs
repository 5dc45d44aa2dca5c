//! Renewals beside logins, logouts and other processes.

use shuttle::{future::block_on, thread};

use super::{
    many_orders, some_time,
    world::{Grants, LIFE, World},
};
use crate::{Keep, TokenStore};

fn logged_in() -> World {
    let world = World::new(Grants::Rotating, Keep::Store);
    block_on(world.session.adopt(world.provider.login("old"))).unwrap();
    world
}

fn is_stored(world: &World) -> bool {
    let keys = block_on(world.store.list()).unwrap();
    keys.iter().any(|key| block_on(world.store.load(key)).unwrap().is_some())
}

#[test]
fn a_logout_wins_over_a_renewal() {
    many_orders(|| {
        let world = logged_in();
        world.clock.advance(LIFE);
        let renewing = {
            let world = world.clone();
            thread::spawn(move || drop(block_on(world.session.token())))
        };
        some_time();
        block_on(world.session.logout()).unwrap();
        assert!(world.session.cached().is_none(), "served after the logout");
        renewing.join().unwrap();
        world.settle();
        assert!(world.session.cached().is_none(), "the old login came back");
        assert!(!is_stored(&world), "the old login is stored again");
        assert!(world.provider.exchanges() <= 1);
    });
}

#[test]
fn a_login_wins_over_a_renewal() {
    many_orders(|| {
        let world = logged_in();
        world.clock.advance(LIFE);
        let renewing = {
            let world = world.clone();
            thread::spawn(move || drop(block_on(world.session.token())))
        };
        some_time();
        let new = world.provider.login("new");
        block_on(world.session.adopt(new)).unwrap();
        let is_new = |token: &crate::Token| token.secret().starts_with("access-new");
        assert!(is_new(&world.token()), "the new login was lost");
        renewing.join().unwrap();
        world.settle();
        assert!(world.session.cached().as_ref().is_some_and(is_new), "the old login came back");
        let neighbour = world.neighbour();
        assert!(is_new(&neighbour.token()), "the store has the old login");
    });
}

#[test]
fn a_refresh_token_is_spent_once_by_two_processes() {
    many_orders(|| {
        let world = logged_in();
        world.clock.advance(LIFE);
        let asking = [world.clone(), world.neighbour()]
            .map(|process| thread::spawn(move || process.token().secret().to_owned()));
        let [mine, theirs] = asking.map(|asking| asking.join().unwrap());
        assert_eq!(mine, theirs);
        assert_eq!((world.provider.exchanges(), world.provider.reuses()), (1, 0));
        world.clock.advance(LIFE);
        world.neighbour().token();
        assert_eq!(
            (world.provider.exchanges(), world.provider.reuses()),
            (2, 0),
            "the lease was not given back"
        );
    });
}

#[test]
fn a_refresh_token_is_spent_once_by_two_requests() {
    many_orders(|| {
        let world = logged_in();
        world.clock.advance(LIFE);
        let asking = [world.session.clone(), world.session.for_scopes(["b"])]
            .map(|session| thread::spawn(move || drop(block_on(session.token()).unwrap())));
        asking.into_iter().for_each(|asking| asking.join().unwrap());
        assert_eq!((world.provider.exchanges(), world.provider.reuses()), (2, 0));
    });
}
