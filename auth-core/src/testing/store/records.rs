//! Requirements of records, their versions and their keys.

use super::parts::*;
use crate::{
    Identity, Login, TokenStore,
    store::{LoginKey, Record, Saved, StoreErrorKind, Version},
};

/// A key without a record loads as `None`, and lists as nothing.
pub async fn nothing_is_there_before_the_first_save(store: &dyn TokenStore) {
    let key = key("nothing");
    assert!(load(store, &key).await.is_none(), "a record that nobody saved");
    if let Ok(keys) = store.list().await {
        assert!(!keys.contains(&key), "a key is listed that has no record");
    }
}

/// Login, tokens and attempt come back as they were, as far as the store says that it keeps them.
pub async fn a_loaded_record_is_the_saved_one(store: &dyn TokenStore) {
    let key = key("loaded");
    let record = sample("one");
    let version = create(store, &key, &record).await;
    let (loaded, found) = load(store, &key).await.expect("the saved record is not there");
    assert_same(store, &loaded, &record);
    assert_eq!(found, version, "load and save tell different versions");
    let (_, again) = load(store, &key).await.expect("the record is gone after a load");
    assert_eq!(again, version, "the version changes without a save");
    if let Some((at_once, found)) = store.load_at_once(&key) {
        assert_same(store, &at_once, &record);
        assert_eq!(found, version, "load and load_at_once tell different versions");
    }
    forget(store, &key).await;
}

/// A save over the version that it expects is written, and has another version.
pub async fn a_save_over_its_version_replaces_the_record(store: &dyn TokenStore) {
    let key = key("replaced");
    let first = create(store, &key, &sample("one")).await;
    let second = written(save(store, &key, Some(&sample("two")), Some(&first)).await);
    assert_ne!(first, second, "two records have one version");
    // The same content again is another save all the same.
    let third = written(save(store, &key, Some(&sample("two")), Some(&second)).await);
    assert_ne!(second, third, "two saves have one version");
    let (loaded, version) = load(store, &key).await.expect("the record is gone");
    assert_same(store, &loaded, &sample("two"));
    assert_eq!(version, third);
    forget(store, &key).await;
}

/// A save that expects another version changes nothing and says what is there.
pub async fn a_save_over_another_version_is_a_conflict_and_changes_nothing(store: &dyn TokenStore) {
    let key = key("conflict");
    let old = create(store, &key, &sample("one")).await;
    let new = written(save(store, &key, Some(&sample("two")), Some(&old)).await);
    for expected in [old, Version::new("no such version"), Version::new("")] {
        let saved = save(store, &key, Some(&sample("three")), Some(&expected)).await;
        assert_conflict(store, saved, Some((&sample("two"), &new)));
        assert_holds(store, &key, &sample("two"), &new).await;
    }
    forget(store, &key).await;
}

/// A save that expects nothing does not overwrite a record.
pub async fn creating_over_an_existing_record_is_a_conflict(store: &dyn TokenStore) {
    let key = key("create");
    let version = create(store, &key, &sample("one")).await;
    let saved = save(store, &key, Some(&sample("two")), None).await;
    assert_conflict(store, saved, Some((&sample("one"), &version)));
    assert_holds(store, &key, &sample("one"), &version).await;
    forget(store, &key).await;
}

/// A renewal does not bring back what a logout removed.
pub async fn a_save_over_a_removed_record_is_a_conflict(store: &dyn TokenStore) {
    let key = key("logged-out");
    let version = create(store, &key, &sample("one")).await;
    written(save(store, &key, None, Some(&version)).await);
    assert_conflict(store, save(store, &key, Some(&sample("two")), Some(&version)).await, None);
    assert!(load(store, &key).await.is_none(), "a removed record came back");
}

/// Only the very version that it was told of is removed.
pub async fn removing_with_the_wrong_version_is_a_conflict(store: &dyn TokenStore) {
    let key = key("remove");
    let old = create(store, &key, &sample("one")).await;
    let new = written(save(store, &key, Some(&sample("two")), Some(&old)).await);
    for expected in [Some(&old), None] {
        let saved = save(store, &key, None, expected).await;
        assert_conflict(store, saved, Some((&sample("two"), &new)));
        assert_holds(store, &key, &sample("two"), &new).await;
    }
    forget(store, &key).await;
}

/// A removed record is not loaded; removing it again is a conflict, removing nothing is not.
pub async fn a_removed_record_is_gone(store: &dyn TokenStore) {
    let key = key("gone");
    let version = create(store, &key, &sample("one")).await;
    written(save(store, &key, None, Some(&version)).await);
    assert!(load(store, &key).await.is_none(), "a removed record is still there");
    assert!(store.load_at_once(&key).is_none(), "a removed record is still loaded at once");
    assert_conflict(store, save(store, &key, None, Some(&version)).await, None);
    written(save(store, &key, None, None).await);
}

/// A version says more than a count: a save that expects the old record does not overwrite one written since.
pub async fn a_removed_and_rewritten_record_has_another_version(store: &dyn TokenStore) {
    let key = key("rewritten");
    let first = create(store, &key, &sample("one")).await;
    written(save(store, &key, None, Some(&first)).await);
    let second = create(store, &key, &sample("one")).await;
    assert_ne!(first, second, "a version came back");
    let saved = save(store, &key, Some(&sample("two")), Some(&first)).await;
    assert_conflict(store, saved, Some((&sample("one"), &second)));
    forget(store, &key).await;
}

/// Keys that differ in issuer, client, kind, grant, tenant or label, however odd, are different keys.
pub async fn keys_that_differ_in_one_part_do_not_share_a_record(store: &dyn TokenStore) {
    let base = key("parts").identity().clone();
    let mut keys = vec![base.clone()];
    let long = "x".repeat(5000);
    let odd = [
        "other",
        "OTHER",
        "",
        " ",
        "other ",
        "other.",
        "../../other",
        "/",
        "a\\nb",
        "a\nb",
        "a\r\nb",
        "nul\0",
        "nul\0\0",
        "ä",
        "a\u{308}",
        "名前",
        "\u{202e}rtl",
        "🔑",
        "CON",
        "*?\"<>|:",
        "$HOME;`x`",
        "%00",
        &long,
    ];
    for odd in odd {
        // The label stays a part of each, so that no other run's key is met.
        let odd_label = format!("{}{odd}", base.label);
        let part = |change: &dyn Fn(&mut Identity)| {
            let mut other = base.clone();
            change(&mut other);
            other
        };
        keys.push(part(&|key| key.issuer = odd.into()));
        keys.push(part(&|key| key.client = odd.into()));
        keys.push(part(&|key| key.kind = odd.into()));
        keys.push(part(&|key| key.grant = odd.into()));
        keys.push(part(&|key| key.tenant = odd.into()));
        keys.push(part(&|key| key.label.clone_from(&odd_label)));
    }
    // Where one part ends and the next begins.
    for (issuer, client) in
        [("a\nb", "c"), ("a", "b\nc"), ("a\\", "nb"), ("a\\nb", "c"), ("ab", "c"), ("a", "bc")]
    {
        keys.push(base.clone().issuer(issuer).client(client));
    }
    let mut keys: Vec<_> = keys.into_iter().map(LoginKey::from).collect();
    keys.sort();
    keys.dedup();
    for (number, key) in keys.iter().enumerate() {
        match save(store, key, Some(&sample(&number.to_string())), None).await {
            Saved::Written(_) => {}
            Saved::Conflict(_) => panic!("this key shares a record with another: {key:?}"),
        }
    }
    for (number, key) in keys.iter().enumerate() {
        let (record, _) = load(store, key).await.unwrap_or_else(|| panic!("no record under {key:?}"));
        assert_same(store, &record, &sample(&number.to_string()));
    }
    for key in &keys {
        forget(store, key).await;
    }
}

/// A record with as many tokens as it may have, of 8 KiB each.
pub async fn a_record_at_its_bounds_survives(store: &dyn TokenStore) {
    let key = key("bounds");
    let record = bounds();
    let version = create(store, &key, &record).await;
    assert_holds(store, &key, &record, &version).await;
    forget(store, &key).await;
}

/// A store that says so keeps binding keys; another does not pretend to.
pub async fn binding_keys_are_kept_or_declared_dropped(store: &dyn TokenStore) {
    let key = key("binding");
    let mut login = Login::with_refresh_token("refresh");
    login.binding_key = Some("binding-key".to_owned().into());
    let record = Record::with_login(login);
    let kept = match store.save(&key, Some(&record), None, None).await {
        Ok(saved) => {
            written(saved);
            load(store, &key)
                .await
                .is_some_and(|(loaded, _)| loaded.login.is_some_and(|login| login.binding_key.is_some()))
        }
        Err(error) if error.kind() == StoreErrorKind::Unsupported => false,
        Err(error) => panic!("a save failed: {error}"),
    };
    assert_eq!(kept, store.describe().keeps.binding_key, "what it keeps is not what it says");
    forget(store, &key).await;
}

/// Every key with a record is listed once, and none after its removal; or nothing can be listed at all.
pub async fn list_tells_every_key_or_is_unsupported(store: &dyn TokenStore) {
    let keys = [key("list-one"), key("list-\n-two"), key("list-\u{1f511}-three")];
    for key in &keys {
        create(store, key, &sample("one")).await;
    }
    match store.list().await {
        Ok(listed) => {
            for key in &keys {
                let times = listed.iter().filter(|listed| *listed == key).count();
                assert_eq!(times, 1, "{key:?} is listed {times} times");
            }
        }
        Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unsupported, "the list failed: {error}"),
    }
    for key in &keys {
        forget(store, key).await;
    }
    if let Ok(listed) = store.list().await {
        assert!(keys.iter().all(|key| !listed.contains(key)), "a removed key is listed");
    }
}

/// Nothing that is printed shows a token.
pub async fn debug_and_errors_show_no_secret(store: &dyn TokenStore) {
    let key = key("secrets");
    let record = sample(MARKER);
    let version = create(store, &key, &record).await;
    let lease = held(store, &key).await;
    let mut printed = vec![format!("{:?}", lease.reserve(64 * 1024).await)];
    printed.push(format!("{store:?} {lease:?} {:?} {}", store.describe(), store.describe()));
    printed.push(format!("{:?} {:#?}", store.load(&key).await, store.try_lease(&key).await));
    printed.push(format!("{:?}", store.save(&key, Some(&record), None, Some(&*lease)).await));
    printed.push(format!("{:?}", store.save(&key, Some(&record), Some(&version), Some(&*lease)).await));
    printed.push(format!("{:?}", store.list().await));
    lease.release().await;
    for text in printed {
        assert!(!text.contains(MARKER), "a secret shows: {text}");
    }
    forget(store, &key).await;
}
