//! The conformance suite for [`TokenStore`]s.
//!
//! Each function is one requirement, named so, and panics if the store does not meet it. [`all`] runs every one:
//!
//! ```
//! use std::sync::Arc;
//!
//! use keyfob_auth_core::{store::MemoryStore, testing};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! testing::store::all(Arc::new(MemoryStore::new())).await;
//! # });
//! ```
//!
//! A store whose keys are not free (another tool's file) calls those that apply to it. What a store says of itself in
//! [`TokenStore::describe`] is honoured: what it cannot keep is not asked for, and what it promises to nobody is skipped with
//! a line on standard error.
//!
//! # What it deletes
//! Only what it wrote: every key has a random label, so that it may run against a store in use, and several at once. A
//! requirement that is not met leaves its records behind, under labels that begin with `conformance-`.
//!
//! New requirements come with minor versions.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test suite fails by panicking and skips visibly"
)]

mod leases;
mod parts;
mod races;
mod records;

use std::{future::Future, sync::Arc, time::Duration};

pub use self::{leases::*, races::*, records::*};
use crate::TokenStore;

/// The longest that one requirement may take in [`all`].
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs every requirement. See the [module](self) for what it deletes.
///
/// Run it on a runtime of several threads: some requirements are about calls at the same time.
///
/// # Panics
/// If one is not met, or takes longer than a minute.
pub async fn all(store: Arc<dyn TokenStore>) {
    macro_rules! run {
        ($($requirement:ident($store:expr);)*) => {
            $(timed(stringify!($requirement), $requirement($store)).await;)*
        };
    }
    run! {
        nothing_is_there_before_the_first_save(&*store);
        a_loaded_record_is_the_saved_one(&*store);
        a_save_over_its_version_replaces_the_record(&*store);
        a_save_over_another_version_is_a_conflict_and_changes_nothing(&*store);
        creating_over_an_existing_record_is_a_conflict(&*store);
        a_save_over_a_removed_record_is_a_conflict(&*store);
        removing_with_the_wrong_version_is_a_conflict(&*store);
        a_removed_record_is_gone(&*store);
        a_removed_and_rewritten_record_has_another_version(&*store);
        concurrent_saves_have_one_winner(Arc::clone(&store));
        concurrent_changes_are_all_kept(Arc::clone(&store));
        a_load_sees_whole_records_only(Arc::clone(&store));
        keys_that_differ_in_one_part_do_not_share_a_record(&*store);
        a_lease_excludes_others_until_dropped(&*store);
        a_released_lease_can_be_had_again(&*store);
        a_lease_has_one_winner(Arc::clone(&store));
        leases_of_two_keys_do_not_exclude_each_other(&*store);
        a_lease_does_not_keep_others_from_saving(&*store);
        a_reservation_does_not_disturb_the_record(&*store);
        a_record_at_its_bounds_survives(&*store);
        binding_keys_are_kept_or_declared_dropped(&*store);
        list_tells_every_key_or_is_unsupported(&*store);
        debug_and_errors_show_no_secret(&*store);
    }
}

async fn timed(name: &str, requirement: impl Future<Output = ()>) {
    if tokio::time::timeout(PATIENCE, Box::pin(requirement)).await.is_err() {
        panic!("{name}: not done after {PATIENCE:?}");
    }
}
