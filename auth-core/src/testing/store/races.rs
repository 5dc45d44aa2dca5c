//! Requirements of calls at the same time.

use std::sync::Arc;

use super::parts::*;
use crate::{TokenStore, store::Saved};

/// Of saves at the same time over one version, one is written; the others are told what it wrote.
pub async fn concurrent_saves_have_one_winner(store: Arc<dyn TokenStore>) {
    const WRITERS: usize = 12;
    if best_effort(store.describe().compare_and_set, "concurrent_saves_have_one_winner") {
        return;
    }
    let key = key("race");
    let mut expected = None;
    for _round in 0..5 {
        let start = Arc::new(tokio::sync::Barrier::new(WRITERS));
        let tasks = (0..WRITERS).map(|writer| {
            let (store, key, expected, start) =
                (Arc::clone(&store), key.clone(), expected.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                let record = sample(&format!("writer {writer}"));
                save(&*store, &key, Some(&record), expected.as_ref()).await
            })
        });
        let mut ends = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            ends.push(task.await.expect("a save panicked"));
        }
        let winners: Vec<_> = ends
            .iter()
            .enumerate()
            .filter_map(|(writer, end)| match end {
                Saved::Written(version) => Some((writer, version.clone())),
                Saved::Conflict(_) => None,
            })
            .collect();
        let [(winner, version)] = &winners[..] else {
            panic!("{} of {WRITERS} saves over one version were written", winners.len());
        };
        let record = sample(&format!("writer {winner}"));
        for end in ends.into_iter().filter(|end| matches!(end, Saved::Conflict(_))) {
            assert_conflict(&*store, end, Some((&record, version)));
        }
        assert_holds(&*store, &key, &record, version).await;
        expected = Some(version.clone());
    }
    forget(&*store, &key).await;
}

/// Tasks that each add to the record, again after a conflict, lose none of what they added.
pub async fn concurrent_changes_are_all_kept(store: Arc<dyn TokenStore>) {
    const WRITERS: usize = 6;
    const CHANGES: usize = 5;
    if best_effort(store.describe().compare_and_set, "concurrent_changes_are_all_kept") {
        return;
    }
    let key = key("changes");
    create(&*store, &key, &counted(0)).await;
    let tasks = (0..WRITERS).map(|_| {
        let (store, key) = (Arc::clone(&store), key.clone());
        tokio::spawn(async move {
            for _ in 0..CHANGES {
                loop {
                    let (record, version) = load(&*store, &key).await.expect("the record is gone");
                    let next = counted(count(&record) + 1);
                    if let Saved::Written(_) = save(&*store, &key, Some(&next), Some(&version)).await {
                        break;
                    }
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("a writer panicked");
    }
    let (record, _) = load(&*store, &key).await.expect("the record is gone");
    assert_eq!(count(&record), WRITERS * CHANGES, "changes were lost");
    forget(&*store, &key).await;
}

/// Loads while others save see one save's record or another's, with its version, never nothing and never a mixture.
pub async fn a_load_sees_whole_records_only(store: Arc<dyn TokenStore>) {
    const SAVES: usize = 30;
    let key = key("whole");
    let mut version = create(&*store, &key, &counted(0)).await;
    let writer = {
        let (store, key) = (Arc::clone(&store), key.clone());
        tokio::spawn(async move {
            for number in 1..=SAVES {
                version = written(save(&*store, &key, Some(&counted(number)), Some(&version)).await);
            }
        })
    };
    let mut last = 0;
    while !writer.is_finished() {
        let (record, _) = load(&*store, &key).await.expect("a record that is being replaced is not there");
        assert_same(&*store, &record, &counted(count(&record)));
        assert!(count(&record) >= last, "an older record came back");
        last = count(&record);
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer panicked");
    let (record, _) = load(&*store, &key).await.expect("the record is gone");
    assert_eq!(count(&record), SAVES);
    forget(&*store, &key).await;
}
