//! Files of other tools: read with patience, changed one at a time, and as a whole.
#![cfg(unix)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and skips visibly"
)]

mod common;

use std::{
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use common::{Actor, role, run, say};
use keyfob_auth_core::store::{Lease, StoreError, StoreErrorKind, TryLease};
use keyfob_store_file::shared::{Change, Privacy, SharedFile, SharedLease};

const NAME: &str = "their.file";

/// The steps of a write, and those of them after which the new content is there.
const WRITES: [(&str, &[&str], &[&str]); 4] = [
    ("create", &["locked", "made", "written", "synced"], &["renamed", "done"]),
    ("replace", &["locked", "made", "written", "synced"], &["renamed", "done"]),
    ("room", &["locked", "made", "written", "synced"], &["renamed", "done"]),
    ("remove", &["locked"], &["removed"]),
];

fn at(folder: &Path) -> SharedFile {
    SharedFile::at("a test's file", folder.join(NAME)).unwrap()
}

/// A number between two marks: a format that notices every cut.
fn parse(bytes: &[u8]) -> Result<usize, String> {
    let text = str::from_utf8(bytes).ok().and_then(|text| text.strip_prefix('<')?.strip_suffix('>'));
    text.and_then(|number| number.parse().ok()).ok_or_else(|| "no number".into())
}

fn written(number: usize) -> Change {
    Change::Write(format!("<{number}>").into_bytes().into())
}

fn number(file: &SharedFile) -> Option<usize> {
    run(file.read(parse)).unwrap().map(|found| found.value)
}

fn put(file: &SharedFile, number: usize, lease: Option<&SharedLease>) -> Result<(), StoreError> {
    run(file.update(lease, parse, |_| Ok((written(number), ()))))
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Names in the folder that are neither the file nor a lock.
fn leftovers(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != NAME && !name.ends_with(".lock") && !name.ends_with(".lease")).collect()
}

fn held(lease: Result<TryLease, StoreError>) -> Box<dyn Lease> {
    match lease.unwrap() {
        TryLease::Held(lease) => lease,
        TryLease::Busy { holder } => panic!("{holder:?} has the lease"),
    }
}

fn shared(lease: &dyn Lease) -> &SharedLease {
    lease.as_any().downcast_ref().unwrap()
}

/// Not a test: what the children do.
#[test]
fn child() {
    let Some((role, _)) = role() else { return };
    let folder = PathBuf::from(env::var_os("KEYFOB_TEST_FOLDER").unwrap());
    let file = at(&folder);
    let (role, argument) = role.split_once(' ').unwrap_or((&role, ""));
    match role {
        "count" => {
            for _ in 0..argument.parse().unwrap() {
                run(file.update(None, parse, |found| Ok((written(found.unwrap().value + 1), ())))).unwrap();
            }
        }
        "lease" => {
            let _lease = held(file.try_lease(""));
            let _theirs = held(file.try_lease_with(&folder.join("their.lock"), "theirs"));
            say("held");
            park();
        }
        "read-only" => {
            assert_told_of_read_only(&file);
            say("told");
        }
        "lock" => run(file.update(None, parse, |_| -> Result<(Change, ()), _> {
            say("held");
            park()
        }))
        .unwrap(),
        _ => {
            let armed = Arc::new(AtomicBool::new(false));
            let (hooked, step) = (Arc::clone(&armed), argument.to_owned());
            let file = file.at_each_step(move |at| {
                if hooked.load(Ordering::Relaxed) && at == step {
                    say(at);
                    park();
                }
                Ok(())
            });
            write(&file, role, || armed.store(true, Ordering::Relaxed)).unwrap();
        }
    }
}

fn park() -> ! {
    loop {
        thread::park();
    }
}

/// One of [`WRITES`], where the content is number 1, or nothing for `create`.
fn write(file: &SharedFile, kind: &str, arm: impl Fn()) -> Result<(), StoreError> {
    match kind {
        "create" | "replace" => {
            arm();
            put(file, 2, None)
        }
        "room" => {
            let lease = held(file.try_lease(""));
            run(lease.reserve(4096)).unwrap();
            arm();
            put(file, 2, Some(shared(&*lease)))
        }
        "remove" => {
            arm();
            run(file.update(None, parse, |_| Ok((Change::Remove, ()))))
        }
        other => panic!("{other} is no write"),
    }
}

fn before(write: &str) -> (tempfile::TempDir, SharedFile) {
    let folder = tempfile::tempdir().unwrap();
    let file = at(folder.path());
    if write != "create" {
        put(&file, 1, None).unwrap();
    }
    (folder, file)
}

fn states(write: &str) -> (Option<usize>, Option<usize>) {
    match write {
        "create" => (None, Some(2)),
        "remove" => (Some(1), None),
        _ => (Some(1), Some(2)),
    }
}

/// After a writer's end everything works, at once, and nothing stays behind.
fn assert_sound(folder: &Path, context: &str) {
    let (file, begun) = (at(folder), Instant::now());
    let lease = held(file.try_lease(""));
    run(lease.reserve(4096)).unwrap();
    put(&file, 7, Some(shared(&*lease))).unwrap();
    drop(lease);
    put(&file, 8, None).unwrap();
    assert_eq!(number(&file), Some(8), "{context}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{context}: something waited for the dead");
    assert_eq!(leftovers(folder), [""; 0], "{context}");
}

#[test]
fn a_writer_killed_at_any_step_leaves_the_old_content_or_the_new_one() {
    for (write, old_steps, new_steps) in WRITES {
        for step in old_steps.iter().chain(new_steps) {
            let context = format!("{write}, killed at {step}");
            let (folder, file) = before(write);
            let mut actor = Actor::start(&format!("{write} {step}"), folder.path());
            actor.expect(step);
            actor.kill();
            let (old, new) = states(write);
            assert_eq!(number(&file), if old_steps.contains(step) { old } else { new }, "{context}");
            assert_sound(folder.path(), &context);
        }
    }
}

#[test]
fn a_step_that_fails_leaves_the_old_content_and_nothing_else() {
    for (kind, steps, _) in WRITES {
        for step in steps {
            let context = format!("{kind}, no room at {step}");
            let (folder, file) = before(kind);
            let armed = Arc::new(AtomicBool::new(false));
            let (hooked, step) = (Arc::clone(&armed), *step);
            let broken = file.clone().at_each_step(move |at| {
                let fails = hooked.load(Ordering::Relaxed) && at == step;
                if fails { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
            });
            let error = write(&broken, kind, || armed.store(true, Ordering::Relaxed)).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Full, "{context}");
            assert_eq!(number(&file), states(kind).0, "{context}");
            assert_eq!(leftovers(folder.path()), [""; 0], "{context}");
            assert_sound(folder.path(), &context);
        }
    }
}

#[test]
fn changes_of_several_processes_are_all_kept() {
    const PROCESSES: usize = 6;
    const CHANGES: usize = 25;
    let (folder, file) = before("replace");
    let actors: Vec<_> =
        (0..PROCESSES).map(|_| Actor::start(&format!("count {CHANGES}"), folder.path())).collect();
    actors.into_iter().for_each(Actor::succeeds);
    assert_eq!(number(&file), Some(1 + PROCESSES * CHANGES));
    assert_eq!(leftovers(folder.path()), [""; 0]);
}

#[test]
fn a_write_without_a_lock_just_before_ours_is_seen_and_kept() {
    for kind in ["replace", "room"] {
        let (folder, file) = before("replace");
        let path = folder.path().join(NAME);
        let intruded = Arc::new(AtomicBool::new(false));
        let (once, theirs) = (Arc::clone(&intruded), path.clone());
        let file = file.at_each_step(move |at| {
            if at == "synced" && !once.swap(true, Ordering::Relaxed) {
                fs::write(&theirs, "<50>")?;
            }
            Ok(())
        });
        let lease = held(file.try_lease(""));
        if kind == "room" {
            run(lease.reserve(4096)).unwrap();
        }
        let seen = AtomicUsize::new(0);
        let result = run(file.update(Some(shared(&*lease)), parse, |found| {
            let times = seen.fetch_add(1, Ordering::Relaxed) + 1;
            let value = found.unwrap().value;
            Ok((written(value + 1), (times, value)))
        }));
        assert_eq!(result.unwrap(), (2, 50), "{kind}");
        assert_eq!(number(&file), Some(51), "{kind}");
        drop(lease);
        assert_eq!(leftovers(folder.path()), [""; 0], "{kind}");
    }
}

#[test]
fn a_removal_does_not_take_what_was_written_meanwhile() {
    let (folder, file) = before("replace");
    let path = folder.path().join(NAME);
    let file = file.at_each_step(move |at| if at == "locked" { fs::write(&path, "<50>") } else { Ok(()) });
    let kept = run(file.update(None, parse, |found| {
        let value = found.unwrap().value;
        Ok((if value == 1 { Change::Remove } else { Change::Keep }, value))
    }));
    assert_eq!((kept.unwrap(), number(&file)), (50, Some(50)));
}

#[test]
fn what_another_tool_is_writing_is_read_again() {
    for (torn, lock) in [("", false), ("<1", false), ("", true), ("<1", true)] {
        let (folder, file) = before("create");
        let path = folder.path().join(NAME);
        fs::write(&path, torn).unwrap();
        let reads = AtomicUsize::new(0);
        // The other tool is done while the second look is taken.
        let watched = |bytes: &[u8]| {
            if reads.fetch_add(1, Ordering::Relaxed) == 1 {
                fs::write(&path, "<12>").unwrap();
            }
            parse(bytes)
        };
        let file = file.reread(Duration::from_secs(60));
        let found = if lock {
            run(file.update(None, watched, |found| Ok((Change::Keep, found.unwrap().value)))).unwrap()
        } else {
            run(file.read(watched)).unwrap().unwrap().value
        };
        assert_eq!((found, reads.into_inner()), (12, 3), "{torn:?}, {lock}");
    }
}

#[test]
fn what_makes_no_sense_for_good_is_reported_and_left_alone() {
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    for (content, old) in [("", true), ("marker", true), ("<1", true), ("\0\0", true), ("marker", false)] {
        let (folder, file) = before("create");
        let path = folder.path().join(NAME);
        fs::write(&path, content).unwrap();
        let reads = AtomicUsize::new(0);
        let counted = |bytes: &[u8]| {
            reads.fetch_add(1, Ordering::Relaxed);
            parse(bytes)
        };
        if old {
            fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        }
        for lock in [false, true] {
            let file = file.clone().reread(Duration::from_millis(40));
            let error = if lock {
                run(file.update(None, counted, |_| Ok((written(2), ())))).unwrap_err()
            } else {
                run(file.read(counted)).unwrap_err()
            };
            assert_eq!(error.kind(), StoreErrorKind::Corrupt);
            let message = error.to_string();
            for part in [&*path.to_string_lossy(), "no number", "a test's file", "move it away"] {
                assert!(message.contains(part), "{message}");
            }
            assert!(!format!("{error:?}").contains("marker"), "{error:?}");
        }
        assert!(!old || reads.into_inner() == 2, "an old file is not read again");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn what_is_too_large_is_neither_read_nor_written() {
    let (folder, file) = before("replace");
    let file = file.largest(8);
    let path = folder.path().join(NAME);
    let change = |_: Option<&_>| Ok((Change::Write(vec![b'x'; 9].into()), ()));
    let error = run(file.update(None, parse, change)).unwrap_err();
    assert_eq!((error.kind(), number(&file)), (StoreErrorKind::Unsupported, Some(1)));
    fs::write(&path, "<1000000>").unwrap();
    for error in [run(file.read(parse)).unwrap_err(), put(&file, 2, None).unwrap_err()] {
        assert!(error.to_string().contains("too large"), "{error}");
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "<1000000>");
    fs::write(&path, "<100000>").unwrap();
    assert_eq!(number(&file), Some(100_000));
}

#[test]
fn content_that_is_young_is_seen_twice() {
    for lock in [false, true] {
        let (folder, file) = before("create");
        let path = folder.path().join(NAME);
        let file = file.settle(Duration::from_millis(20)).reread(Duration::from_secs(60));
        // As young as can be, however long the test takes to get there.
        let plant = |content: &str| {
            fs::write(&path, content).unwrap();
            let young = SystemTime::now() + Duration::from_secs(3600);
            fs::File::options().write(true).open(&path).unwrap().set_modified(young).unwrap();
        };
        plant("<1>");
        let reads = AtomicUsize::new(0);
        let watched = |bytes: &[u8]| {
            if reads.fetch_add(1, Ordering::Relaxed) == 0 {
                plant("<12>");
            }
            parse(bytes)
        };
        let found = if lock {
            run(file.update(None, watched, |found| Ok((Change::Keep, found.unwrap().value)))).unwrap()
        } else {
            run(file.read(watched)).unwrap().unwrap().value
        };
        assert_eq!((found, reads.into_inner()), (12, 2));
        // What we wrote is whole.
        put(&file, 3, None).unwrap();
        let young = SystemTime::now() + Duration::from_secs(3600);
        fs::File::options().write(true).open(&path).unwrap().set_modified(young).unwrap();
        let file = file.settle(Duration::from_secs(3600));
        assert_eq!(number(&file), Some(3));
    }
}

#[test]
fn what_is_made_is_private_and_what_was_there_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let above = folder.path().join("a/b");
    let file = SharedFile::at("a test's file", above.join(NAME)).unwrap();
    assert_eq!(run(file.read(parse)).unwrap().map(|found| found.value), None);
    run(file.update(None, parse, |_| Ok((Change::Remove, ())))).unwrap();
    assert!(!folder.path().join("a").exists(), "a removal made a folder");
    put(&file, 1, None).unwrap();
    assert_eq!((mode(&folder.path().join("a")), mode(&above)), (0o700, 0o700));
    for entry in fs::read_dir(&above).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    chmod(&above, 0o755);
    for (privacy, before, after) in [
        (Privacy::Warn, 0o644, 0o644),
        (Privacy::Warn, 0o640, 0o640),
        (Privacy::Warn, 0o600, 0o600),
        (Privacy::Warn, 0o4755, 0o755),
        (Privacy::Tighten, 0o644, 0o600),
        (Privacy::Tighten, 0o600, 0o600),
    ] {
        chmod(&above.join(NAME), before);
        let file = file.clone().privacy(privacy);
        let found = run(file.read(parse)).unwrap().unwrap();
        assert_eq!(found.open_to_others, (before & 0o077 != 0).then_some(before), "{privacy:?} {before:o}");
        put(&file, 2, None).unwrap();
        assert_eq!(mode(&above.join(NAME)), after, "{privacy:?} {before:o}");
    }
    assert_eq!(mode(&above), 0o755, "another tool's folder keeps its mode");
}

#[test]
fn a_private_file_that_is_not_private_is_refused() {
    let (folder, file) = before("replace");
    let path = folder.path().join(NAME);
    let private = file.clone().privacy(Privacy::Private);
    assert_eq!(number(&private), Some(1));
    chmod(&path, 0o604);
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    let linked = SharedFile::at("a test's file", &link).unwrap().privacy(Privacy::Private);
    for (file, advice) in [(private, "chmod 600"), (linked, "rm ")] {
        for error in [run(file.read(parse)).unwrap_err(), put(&file, 2, None).unwrap_err()] {
            assert_eq!(error.kind(), StoreErrorKind::Denied);
            assert!(error.to_string().contains(advice), "{error}");
        }
    }
    assert_eq!(number(&file), Some(1));
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (elsewhere, here) = (folder.path().join("elsewhere"), folder.path().join("here"));
    fs::create_dir(&elsewhere).unwrap();
    fs::create_dir(&here).unwrap();
    symlink("../elsewhere/second", here.join(NAME)).unwrap();
    symlink("real", elsewhere.join("second")).unwrap();
    let file = at(&here);
    for number in [1, 2] {
        put(&file, number, None).unwrap();
        assert_eq!(fs::read_to_string(elsewhere.join("real")).unwrap(), format!("<{number}>"));
    }
    assert!(fs::symlink_metadata(here.join(NAME)).unwrap().is_symlink());
    // One lock, whichever name is used.
    assert!(elsewhere.join("real.keyfob.lock").exists() && fs::read_dir(&here).unwrap().count() == 1);
    symlink("circle", here.join("circle")).unwrap();
    let circle = SharedFile::at("a test's file", here.join("circle")).unwrap();
    assert_eq!(run(circle.read(parse)).unwrap_err().kind(), StoreErrorKind::Denied);
}

#[test]
fn what_is_no_file_of_ours_is_refused_without_hanging() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let mut bad = vec!["folder", "fifo"];
    if rustix::process::geteuid().is_root() {
        fs::write(folder.path().join("others"), "<1>").unwrap();
        chown(folder.path().join("others"), Some(12_345), None).unwrap();
        bad.push("others");
    } else {
        eprintln!("skipped: a file of another user: only root can make one");
    }
    for name in bad {
        let file = SharedFile::at("a test's file", folder.path().join(name)).unwrap();
        for error in [run(file.read(parse)).unwrap_err(), put(&file, 2, None).unwrap_err()] {
            assert_eq!(error.kind(), StoreErrorKind::Denied, "{name}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
    for path in ["", "/"] {
        assert!(SharedFile::at("a test's file", path).is_err(), "{path:?}");
    }
}

#[test]
fn the_group_stays() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: the group stays: only root can give a file to any group");
        return;
    }
    let (folder, file) = before("replace");
    let path = folder.path().join(NAME);
    chown(&path, None, Some(54_321)).unwrap();
    chmod(&path, 0o640);
    put(&file, 2, None).unwrap();
    assert_eq!((fs::metadata(&path).unwrap().gid(), mode(&path)), (54_321, 0o640));
}

#[test]
fn a_lock_that_is_not_to_be_had_ends_with_its_holders_name() {
    let (folder, file) = before("replace");
    let file = file.patience(Duration::from_millis(30));
    let mut actor = Actor::start("lock", folder.path());
    actor.expect("held");
    let error = put(&file, 2, None).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains(&format!("process {} on ", actor.id())), "{error}");
    assert_eq!(number(&file), Some(1));
    actor.kill();
    put(&file, 2, None).unwrap();

    let theirs = folder.path().join("their.lock");
    fs::write(&theirs, "").unwrap();
    chmod(&theirs, 0o644);
    let file = file.their_lock(&theirs);
    let other = fs::File::open(&theirs).unwrap();
    other.lock().unwrap();
    let error = put(&file, 3, None).unwrap_err().to_string();
    if cfg!(target_os = "linux") {
        assert!(error.contains(&format!("process {} (", std::process::id())), "{error}");
    }
    other.unlock().unwrap();
    put(&file, 3, None).unwrap();
    assert_eq!((fs::read(&theirs).unwrap().len(), mode(&theirs)), (0, 0o644), "their lock file was changed");
}

#[test]
fn a_lease_dies_with_its_holder_and_tells_who_it_is() {
    let (folder, file) = before("replace");
    let theirs = folder.path().join("their.lock");
    let mut actor = Actor::start("lease", folder.path());
    actor.expect("held");
    // Ours alone, ours with theirs, theirs alone.
    for (busy, named) in [
        (file.try_lease(""), true),
        (file.try_lease_with(&theirs, "theirs"), true),
        (file.try_lease_with(&theirs, "not theirs"), cfg!(target_os = "linux")),
    ] {
        let TryLease::Busy { holder } = busy.unwrap() else { panic!("two have one lease") };
        let holder = holder.unwrap_or_default();
        assert!(!named || holder.starts_with(&format!("process {} ", actor.id())), "{holder}");
    }
    assert_eq!(fs::read(&theirs).unwrap().len(), 0, "their lock file was written");
    drop(held(file.try_lease("another")));
    drop(held(file.try_lease("not theirs")));
    put(&file, 2, None).unwrap();
    actor.kill();
    let lease = held(file.try_lease(""));
    drop(held(file.try_lease_with(&theirs, "theirs")));
    // A lease of another file is no lease of this one.
    run(lease.reserve(4096)).unwrap();
    let other = SharedFile::at("a test's file", folder.path().join("other")).unwrap();
    put(&other, 9, Some(shared(&*lease))).unwrap();
    assert!(folder.path().join(format!("{NAME}.keyfob.room")).exists(), "its room was used for another file");
}

#[test]
fn a_folder_that_cannot_be_written_is_told_and_nothing_is_lost() {
    let (folder, file) = before("replace");
    fs::remove_file(folder.path().join(format!("{NAME}.keyfob.lock"))).unwrap();
    chmod(folder.path(), 0o500);
    if rustix::process::geteuid().is_root() {
        // Root may write everywhere.
        for path in [folder.path().to_path_buf(), folder.path().join(NAME)] {
            chown(path, Some(12_345), Some(12_345)).unwrap();
        }
        match Actor::start_as(12_345, "read-only", folder.path()) {
            Ok(mut actor) => {
                actor.expect("told");
                actor.succeeds();
            }
            Err(error) => eprintln!("skipped: another user may not run this test: {error}"),
        }
    } else {
        assert_told_of_read_only(&file);
    }
    chmod(folder.path(), 0o700);
    assert_eq!(fs::read_to_string(folder.path().join(NAME)).unwrap(), "<1>");
    assert_eq!(leftovers(folder.path()), [""; 0]);
}

fn assert_told_of_read_only(file: &SharedFile) {
    for error in [put(file, 2, None).unwrap_err(), file.try_lease("").unwrap_err()] {
        assert_eq!(error.kind(), StoreErrorKind::Denied);
        assert!(error.to_string().contains("not allowed to open"), "{error}");
    }
    assert_eq!(number(file), Some(1));
}
