//! What can be seen of it: counters.
#![cfg(feature = "metrics")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use keyfob_auth_core::AuthError;
use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};

use super::*;

#[derive(Clone, Default)]
struct Counts(Arc<Mutex<BTreeMap<String, u64>>>);

struct Count(Counts, String);

impl CounterFn for Count {
    fn increment(&self, by: u64) {
        *self.0.0.lock().unwrap().entry(self.1.clone()).or_default() += by;
    }

    fn absolute(&self, _: u64) {}
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: String =
            key.labels().map(|label| format!(" {}={}", label.key(), label.value())).collect();
        Counter::from_arc(Arc::new(Count(self.clone(), format!("{}{labels}", key.name()))))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn renewals_failures_reports_logins_and_logouts_are_counted() {
    let counts = Counts::default();
    with_local_recorder(&counts, || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = World::logged_in(ScriptedProvider::attended()).await;
            let token = world.session.token().await.unwrap();
            world.session.invalidate(&token);
            world.session.token().await.unwrap();
            world.clock.advance(s(601));
            world.provider.fail_always(Some(AuthError::transient("down")));
            assert!(world.session.token().await.is_err());
            world.provider.fail_always(None);
            world.session.logout().await.unwrap();
        });
    });
    let counts = counts.0.lock().unwrap().clone();
    let expected = [
        ("keyfob_exchanges_total", 2),
        ("keyfob_failures_total kind=transient", 1),
        ("keyfob_invalidations_total", 1),
        ("keyfob_logins_total", 1),
        ("keyfob_logouts_total", 1),
        ("keyfob_tokens_published_total", 2),
    ];
    assert_eq!(counts, expected.map(|(name, n)| (name.to_owned(), n)).into());
}
