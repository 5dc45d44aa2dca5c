//! [`Recent`]: what is remembered by name, without growing for ever.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Values by name; beyond so many of them, the one that was used longest ago goes.
#[derive(Default)]
pub(crate) struct Recent<T, const MOST: usize = 1024>(Mutex<Entries<T>>);

#[derive(Default)]
struct Entries<T> {
    /// With each, when it was last used.
    by_name: HashMap<String, (u64, Arc<T>)>,
    tick: u64,
}

impl<T: Default, const MOST: usize> Recent<T, MOST> {
    /// The value of that name, made when it is first asked for.
    pub(crate) fn get(&self, name: &str) -> Arc<T> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Entries { by_name, tick } = &mut *entries;
        *tick += 1;
        if !by_name.contains_key(name) && by_name.len() >= MOST {
            let oldest = by_name.iter().min_by_key(|(_, (used, _))| *used).map(|(name, _)| name.clone());
            by_name.remove(&oldest.unwrap_or_default());
        }
        let (used, value) = by_name.entry(name.to_owned()).or_default();
        *used = *tick;
        Arc::clone(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1024;

    #[test]
    fn beyond_the_most_the_one_that_was_used_longest_ago_goes() {
        let recent = Recent::<Mutex<u32>>::default();
        let names: Vec<String> = (0..MOST).map(|n| n.to_string()).collect();
        let first: Vec<_> = names.iter().map(|name| recent.get(name)).collect();
        for name in names.iter().filter(|name| *name != "500") {
            recent.get(name);
        }
        recent.get("one more");
        let known =
            |name: &str| recent.0.lock().unwrap().by_name.get(name).map(|(_, value)| Arc::clone(value));
        assert_eq!(recent.0.lock().unwrap().by_name.len(), MOST);
        assert!(known("500").is_none() && known("one more").is_some());
        assert!(known("0").is_some_and(|value| Arc::ptr_eq(&value, &first[0])), "the same as before");
    }
}
