//! The file store, against the least that reading and replacing a file take.

use std::{
    fs::{self, File},
    hint::black_box,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use keyfob::{
    AccessToken, Acquired, Context, Identity, Session, TokenStore,
    store::{LoginKey, Record, Saved, Version},
    store_file::FileStore,
    testing::{FakeClock, ScriptedProvider, Step},
};

use crate::{
    Result,
    operations::{Repeated, token_of},
    progress,
    table::{Goal, Row},
    timing::{interleaved, nanos, ratio},
};

/// The rows that are counted.
///
/// # Errors
/// If the store fails.
pub fn counted() -> Result<Vec<Row>> {
    progress("another process's fresh renewal");
    let folder = folder()?;
    let clock = FakeClock::new();
    let life = Duration::from_secs(600);
    let provider = ScriptedProvider::unattended().with_lifetime(life);
    // Nothing is shared but the folder, the server and the time.
    let process = || -> Result<Session> {
        let context = Context::builder().clock(clock.clock()).build();
        let store = Arc::new(FileStore::open(folder.path().join("tokens"))?);
        Ok(Session::new(Arc::new(provider.clone()), store, &context)?)
    };
    let (one, other) = (process()?, process()?);
    one.token_blocking()?;
    other.token_blocking()?;
    clock.advance(life);
    let renewed = one.token_blocking()?;
    let before = provider.exchanges();
    let found = other.token_blocking()?;
    if found.secret() != renewed.secret() {
        return Err("the other process got another token".into());
    }
    let asked = (provider.exchanges() - before) as f64;
    let figure = "file store: token() of another process's fresh renewal";
    Ok(vec![Row::counted(figure, Goal::Exactly(0.0), asked, "requests")])
}

/// The rows that are timed.
///
/// # Errors
/// If the store fails, or the file beside it.
pub fn timed() -> Result<Vec<Row>> {
    progress("the file store");
    let folder = folder()?;
    // The store makes it, private.
    let tokens = folder.path().join("tokens");
    let store = FileStore::open(&tokens)?;
    let key = LoginKey::from(Identity::new("scripted").issuer("https://idp.example").client("client"));
    let (record, version) = record(&store, &key)?;
    let mut version = Some(version);
    let file = file_of_record(&tokens)?;
    let contents = fs::read(&file)?;

    let mut failed: Option<String> = None;
    let mut plain = || drop(black_box(fs::read(&file)));
    let mut load = || match pollster::block_on(store.load(&key)) {
        Ok(Some(found)) => drop(black_box(found)),
        other => failed = Some(format!("the record was not loaded: {other:?}")),
    };
    let loads = interleaved(2001, &mut [&mut plain, &mut load]);

    let beside = tokens.join("plain");
    let mut plain_failed = None;
    let mut plain = || {
        if let Err(error) = replace(&beside, &contents) {
            plain_failed = Some(error.to_string());
        }
    };
    let mut save = || match pollster::block_on(store.save(&key, Some(&record), version.as_ref(), None)) {
        Ok(Saved::Written(written)) => version = Some(written),
        other => failed = Some(format!("the record was not saved: {other:?}")),
    };
    let saves = interleaved(201, &mut [&mut plain, &mut save]);
    if let Some(why) = failed.or(plain_failed) {
        return Err(why.into());
    }
    let each = |[plain, ours]: &[Vec<Duration>; 2]| {
        format!("{:.1} µs, and {:.1} µs; {} bytes", nanos(ours) / 1e3, nanos(plain) / 1e3, contents.len())
    };
    Ok(vec![
        Row::timed("file store: load over fs::read", Goal::AtMost(4.0), ratio(&loads[1], &loads[0]), "×")
            .note(each(&loads)),
        Row::timed(
            "file store: save over write, fsync, rename, fsync",
            Goal::AtMost(1.3),
            ratio(&saves[1], &saves[0]),
            "×",
        )
        .note(each(&saves)),
    ])
}

/// Loads the record of a session, again and again.
///
/// # Errors
/// If the store fails.
pub fn loading() -> Result<Repeated> {
    let folder = folder()?;
    let store = FileStore::open(folder.path().join("tokens"))?;
    let key = LoginKey::from(Identity::new("scripted").issuer("https://idp.example").client("client"));
    record(&store, &key)?;
    Ok(Box::new(move |times| {
        // It is there as long as this is.
        let _folder = &folder;
        for _ in 0..times {
            let found = pollster::block_on(store.load(&key));
            assert!(matches!(black_box(found), Ok(Some(_))), "the record was not loaded");
        }
    }))
}

/// On the disk that the workspace is on: temporary folders may be in memory, where syncing costs nothing.
fn folder() -> Result<tempfile::TempDir> {
    let target = std::env::current_exe()?;
    let target = target.parent().ok_or("this program is in no folder")?;
    Ok(tempfile::tempdir_in(target)?)
}

/// A record of a session with a token of 1,024 bytes, as the engine saves it.
fn record(store: &FileStore, key: &LoginKey) -> Result<(Record, Version)> {
    let provider = ScriptedProvider::unattended();
    let token = AccessToken::new(token_of(1024)).expires_in(3600);
    provider.push(Step::Answer(Box::new(Acquired::token(token))));
    let context = Context::new();
    Session::new(Arc::new(provider), Arc::new(store.clone()), &context)?.token_blocking()?;
    context.drain_blocking(Duration::from_secs(10));
    let found = pollster::block_on(store.load(key))?;
    Ok(found.ok_or("the engine saved no record under this key")?)
}

/// The file of the only record in this folder.
///
/// # Errors
/// If there is none.
pub fn file_of_record(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let record = entries.find(|path| path.extension().is_some_and(|ending| ending == "json"));
    Ok(record.ok_or_else(|| format!("there is no record in {}", folder.display()))?)
}

/// The least that replacing a file safely takes.
fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}
