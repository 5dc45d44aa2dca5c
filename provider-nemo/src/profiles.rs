//! Which context of which configuration file each profile uses, so that its provider and its store mean the same one.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use keyfob_auth_core::{AuthError, Context, registry::Settings};

use crate::config_file::NemoStore;

/// By the profile's name, in the keyfob context.
#[derive(Default)]
struct Profiles(Mutex<BTreeMap<String, NemoStore>>);

/// Says which one the profile with these settings uses.
pub(crate) fn remember(settings: &Settings, context: &Context, store: &NemoStore) -> Result<(), AuthError> {
    let profiles = context.shared(|| Ok(Profiles::default()))?;
    let mut profiles = profiles.0.lock().unwrap_or_else(PoisonError::into_inner);
    profiles.insert(settings.name().to_owned(), store.clone());
    Ok(())
}

/// The one that the profile of a store with these settings uses, if its provider is this crate's.
pub(crate) fn of_store(settings: &Settings, context: &Context) -> Result<Option<NemoStore>, AuthError> {
    let profiles = context.shared(|| Ok(Profiles::default()))?;
    let profiles = profiles.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(settings.name().strip_suffix(".store").and_then(|profile| profiles.get(profile)).cloned())
}
