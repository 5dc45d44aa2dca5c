//! `Session::stored`: the token that the file has, without a runtime and without setting anything off.
#![cfg(unix)]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use keyfob_auth_core::{
    Context, Session, Subject,
    testing::{FakeClock, ScriptedProvider},
};
use keyfob_store_file::FileStore;

const LIFE: Duration = Duration::from_secs(600);
/// After the early window has begun, wherever the jitter puts that, and before its end.
const DUE: Duration = Duration::from_secs(550);

/// A folder with a fresh token in it, and what stands for the processes that share it.
struct House {
    folder: tempfile::TempDir,
    clock: Arc<FakeClock>,
    provider: ScriptedProvider,
}

impl House {
    fn new() -> Self {
        let provider = ScriptedProvider::unattended().with_lifetime(LIFE);
        let house = Self { folder: tempfile::tempdir().unwrap(), clock: FakeClock::new(), provider };
        assert_eq!(house.process().token_blocking().unwrap().secret(), "access-1");
        house
    }

    fn process(&self) -> Session {
        let context = Context::builder().clock(self.clock.clock()).build();
        let store = FileStore::open(self.folder.path().join("tokens")).unwrap();
        Session::new(Arc::new(self.provider.clone()), Arc::new(store), &context).unwrap()
    }

    fn record(&self) -> PathBuf {
        let entries = fs::read_dir(self.folder.path().join("tokens")).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths.find(|path| path.extension().is_some_and(|ending| ending == "json")).unwrap()
    }
}

fn stored(session: &Session) -> Option<String> {
    session.stored().map(|token| token.secret().to_owned())
}

#[test]
fn a_token_that_is_valid_and_not_due_is_served() {
    let house = House::new();
    let session = house.process();
    assert_eq!(stored(&session).as_deref(), Some("access-1"));
    assert_eq!(session.token_blocking().unwrap().secret(), "access-1", "it is at hand now");
    assert_eq!(house.provider.exchanges(), 1);
}

#[test]
fn a_due_token_is_left_to_those_who_renew_it() {
    let house = House::new();
    house.clock.advance(DUE);
    let session = house.process();
    assert_eq!(stored(&session), None);
    assert_eq!(house.provider.exchanges(), 1, "nothing was set off");
    assert_eq!(session.token_blocking().unwrap().secret(), "access-1");
    assert!(session.context().drain_blocking(Duration::from_secs(10)));
    assert_eq!(house.provider.exchanges(), 2, "whoever asks for it has it renewed");
    assert_eq!(stored(&house.process()).as_deref(), Some("access-2"));
}

#[test]
fn neither_an_expired_token_nor_one_from_the_future_is_served() {
    for set in [FakeClock::advance as fn(&FakeClock, Duration), FakeClock::set_back] {
        let house = House::new();
        set(&house.clock, LIFE);
        assert_eq!(stored(&house.process()), None);
        assert_eq!(house.provider.exchanges(), 1);
    }
}

#[test]
fn a_token_that_was_reported_bad_is_not_served_again() {
    let house = House::new();
    let session = house.process();
    let token = session.stored().unwrap();
    assert!(session.invalidate(&token));
    assert_eq!(stored(&session), None);
    assert_eq!(session.token_blocking().unwrap().secret(), "access-2");
}

#[test]
fn a_request_of_its_own_a_subject_and_a_chain_have_none() {
    let house = House::new();
    let session = house.process();
    for other in [
        session.for_scopes(["other"]),
        session.for_subject(Subject::access_token("of a caller")),
        Session::first_of([house.process()]),
    ] {
        assert_eq!(stored(&other), None, "{other:?}");
    }
    assert_eq!(house.provider.exchanges(), 1);
}

#[test]
fn what_is_no_record_is_left_for_those_who_report_it() {
    let house = House::new();
    let path = house.record();
    for contents in ["", "damage", "{\"keyfob\":2,"] {
        fs::write(&path, contents).unwrap();
        assert_eq!(stored(&house.process()), None);
        assert_eq!(fs::read_to_string(&path).unwrap(), contents);
    }
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    assert_eq!(stored(&house.process()), None);
    assert!(!path.parent().unwrap().exists(), "looking makes no folder");
}
