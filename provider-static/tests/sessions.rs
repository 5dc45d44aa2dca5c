//! What sessions make of these providers: when a source is asked, and what is served meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use keyfob_auth_core::{
    AccessToken, Context, CredentialProvider, ErrorKind, Lifetime, Session, TokenRequest,
    registry::{Registry, Settings, Value},
    store::MemoryStore,
    testing::FakeClock,
};
use keyfob_provider_static::{Cave, StaticToken};

/// `{"alg":"none"}` and `{"exp":4102444800}`: the end of 2099.
const JWT: &str = "eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDB9.x";
/// The same with `{"exp":1}`.
const EXPIRED: &str = "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.x";
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn session(provider: impl CredentialProvider + 'static, context: &Context) -> Session {
    Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), context).unwrap()
}

/// A context whose time the test moves.
fn at_will() -> (Arc<FakeClock>, Context) {
    let clock = FakeClock::new();
    let context = Context::builder().clock(clock.clock()).build();
    (clock, context)
}

#[tokio::test]
async fn a_token_without_an_end_is_served_from_the_cache_for_ever() {
    let (clock, context) = at_will();
    let literal = session(StaticToken::literal("abc"), &context);
    let given = session(Cave::new("https://cave.example").unwrap().token("abc"), &context);
    for session in [literal, given] {
        let first = session.token().await.unwrap();
        for _ in 0..3 {
            clock.advance(20 * YEAR);
            let token = session.cached().expect("no miss");
            assert_eq!((token.secret(), token.generation()), ("abc", first.generation()));
            assert_eq!(token.expires_at(), None);
        }
    }
}

#[tokio::test]
async fn a_literal_jwt_expires_when_it_says() {
    let context = Context::new();
    let expires =
        |token| session(StaticToken::literal(token), &context).token_blocking().map(|t| t.expires_at());
    assert!(expires(JWT).unwrap().is_some());
    assert_eq!(expires("opaque").unwrap(), None);
    let error = expires(EXPIRED).unwrap_err();
    assert!(!error.to_string().contains(EXPIRED), "{error}");
}

#[tokio::test]
async fn two_literals_in_one_context_stay_two() {
    let (context, store) = (Context::new(), Arc::new(MemoryStore::new()));
    for token in ["one", "other"] {
        let session = Session::new(Arc::new(StaticToken::literal(token)), store.clone(), &context).unwrap();
        assert_eq!(session.token().await.unwrap().secret(), token);
    }
}

#[tokio::test]
async fn a_changed_file_is_seen_within_ten_seconds() {
    let (clock, context) = at_will();
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    let json = folder.path().join("cave-secret.json");
    let cave = Cave::new("https://global.daf-apis.com").unwrap().secrets_folder(folder.path());
    let write = |token: &str| {
        fs::write(&plain, format!("{token}\n")).unwrap();
        fs::write(&json, format!(r#"{{"token": "{token}"}}"#)).unwrap();
    };
    write("first");
    let sessions = [session(StaticToken::file(&plain), &context), session(cave, &context)];
    for session in &sessions {
        assert_eq!(session.token().await.unwrap().secret(), "first");
    }
    write("second");
    for session in &sessions {
        assert_eq!(session.cached().unwrap().secret(), "first", "no file is read on the cached path");
    }
    clock.advance(Duration::from_secs(10));
    for session in &sessions {
        assert_eq!(session.token().await.unwrap().secret(), "second");
    }
    assert_eq!(sessions[0].token().await.unwrap().expires_at(), None);
    // A JWT is no other matter: its own end is far off, and told as what it is.
    fs::write(&plain, JWT).unwrap();
    clock.advance(Duration::from_secs(10));
    let token = sessions[0].token().await.unwrap();
    assert_eq!(token.secret(), JWT);
    let end = token.expires_at().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(end.as_secs(), 4_102_444_800);
    assert_eq!(sessions[0].status().await.unwrap().expires_at, token.expires_at());
    fs::remove_file(&plain).unwrap();
    assert_eq!(sessions[0].token().await.unwrap().secret(), JWT, "served meanwhile");
    clock.advance(Duration::from_secs(10));
    assert_eq!(sessions[0].token().await.unwrap_err().kind(), ErrorKind::NotConfigured);
}

/// As the kubelet does it: `token` leads to `..data/token`, and `..data` is turned to another folder.
#[cfg(unix)]
#[tokio::test]
async fn a_projected_token_is_followed_to_where_it_leads() {
    use std::os::unix::fs::symlink;

    let (clock, context) = at_will();
    let volume = tempfile::tempdir().unwrap();
    let project = |name: &str, token: &str| {
        fs::create_dir(volume.path().join(name)).unwrap();
        fs::write(volume.path().join(name).join("token"), token).unwrap();
        symlink(name, volume.path().join("..data_tmp")).unwrap();
        fs::rename(volume.path().join("..data_tmp"), volume.path().join("..data")).unwrap();
    };
    project("..2030_01_01", "first");
    symlink(Path::new("..data/token"), volume.path().join("token")).unwrap();
    let session = session(StaticToken::file(volume.path().join("token")), &context);
    assert_eq!(session.token().await.unwrap().secret(), "first");
    project("..2030_01_02", "second");
    fs::remove_dir_all(volume.path().join("..2030_01_01")).unwrap();
    clock.advance(Duration::from_secs(10));
    assert_eq!(session.token().await.unwrap().secret(), "second");
}

#[tokio::test]
async fn a_file_that_is_refused_and_then_replaced_is_tried_at_once() {
    let (_, context) = at_will();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "first").unwrap();
    let session = session(StaticToken::file(file.path()), &context);
    assert!(session.invalidate(&session.token().await.unwrap()));
    let error = session.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("replace it there"), "{error}");
    fs::write(file.path(), "replaced").unwrap();
    assert_eq!(session.token().await.unwrap().secret(), "replaced");
}

#[cfg(unix)]
#[tokio::test]
async fn a_command_is_run_again_when_its_credential_ends() {
    let (clock, context) = at_will();
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let script = format!(
        "echo x >> '{runs}'; n=$(wc -l < '{runs}'); printf '{{\"kind\": \"ExecCredential\", \"apiVersion\": \
         \"client.authentication.k8s.io/v1\", \"status\": {{\"token\": \"run-%s\", \"expirationTimestamp\": \
         \"203%s-01-01T01:00:00Z\"}}}}' $n $((n - 1))",
        runs = runs.display()
    );
    let session = session(StaticToken::command(["sh", "-c", &script]), &context);
    // The clock starts with the year 2030.
    for _ in 0..3 {
        assert_eq!(session.token().await.unwrap().secret(), "run-1");
        clock.advance(Duration::from_secs(17 * 60));
    }
    clock.advance(Duration::from_secs(10 * 60));
    assert_eq!(session.token().await.unwrap().secret(), "run-2");
    assert_eq!(fs::read_to_string(&runs).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn a_callback_is_asked_again_only_when_it_must_be() {
    let (clock, context) = at_will();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = |life: fn(AccessToken) -> AccessToken| {
        let calls = Arc::clone(&calls);
        calls.store(0, Ordering::SeqCst);
        StaticToken::callback(move |_| {
            let n = calls.fetch_add(1, Ordering::SeqCst);
            async move { Ok(life(AccessToken::new(format!("token-{n}")))) }
        })
    };
    let life_of_its_own = session(counted(|token| token.expires_in(600)), &context);
    for _ in 0..3 {
        assert_eq!(life_of_its_own.token().await.unwrap().secret(), "token-0");
    }
    assert_eq!(life_of_its_own.refresh().await.unwrap().secret(), "token-1");
    clock.advance(Duration::from_secs(600));
    assert_eq!(life_of_its_own.token().await.unwrap().secret(), "token-2");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    // Nobody says, and it is no JWT: so long as that is usual.
    let unsaid = session(counted(|token| token), &context);
    assert_eq!(unsaid.token().await.unwrap().secret(), "token-0");
    clock.advance(context.limits().unknown_lifetime);
    assert_eq!(unsaid.token().await.unwrap().secret(), "token-1");
    // Its own end, from the token.
    let jwt = session(StaticToken::callback(async |_| Ok(AccessToken::new(JWT))), &context);
    let end = jwt.token().await.unwrap().expires_at().unwrap();
    assert_eq!(end.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 4_102_444_800);
}

#[tokio::test]
async fn a_callback_is_called_once_at_a_time_whatever_is_asked_for() {
    let (running, most, calls) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (r, m, c) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&calls));
    let enter = move || {
        c.fetch_add(1, Ordering::SeqCst);
        m.fetch_max(r.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    };
    let leave = move || running.fetch_sub(1, Ordering::SeqCst);
    let (entering, leaving) = (enter.clone(), leave.clone());
    let asynchronous = StaticToken::callback(move |_| {
        entering();
        let leaving = leaving.clone();
        async move {
            // Others have their chance to come in between.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            leaving();
            Ok(AccessToken::new("abc"))
        }
    });
    let blocking = StaticToken::blocking_callback(move |_| {
        enter();
        std::thread::yield_now();
        leave();
        Ok(AccessToken::new("abc"))
    });
    for provider in [asynchronous, blocking] {
        let session = session(provider, &Context::new());
        let all = (0..32).map(|n| {
            let session = session.for_scopes([format!("scope-{n}")]);
            tokio::spawn(async move { session.token().await })
        });
        for one in all.collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap().unwrap().secret(), "abc");
        }
    }
    assert_eq!((most.load(Ordering::SeqCst), calls.load(Ordering::SeqCst)), (1, 64));
}

#[tokio::test]
async fn a_blocking_callback_keeps_its_turn_when_nobody_waits_for_it_any_more() {
    let (entering, mut entered) = tokio::sync::mpsc::unbounded_channel();
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let running = AtomicUsize::new(0);
    let provider = StaticToken::blocking_callback(move |_| {
        let beside = running.fetch_add(1, Ordering::SeqCst);
        entering.send(beside).unwrap();
        held.lock().unwrap().recv().unwrap();
        running.fetch_sub(1, Ordering::SeqCst);
        Ok(AccessToken::new("abc"))
    });
    let call = || {
        let provider = provider.clone();
        tokio::spawn(async move { provider.acquire(&TokenRequest::default(), None).await })
    };
    let first = call();
    assert_eq!(entered.recv().await, Some(0));
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let second = call();
    // It has every chance to begin beside the first.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    release.send(()).unwrap();
    assert_eq!(entered.recv().await, Some(0), "the first was over");
    assert_eq!(second.await.unwrap().unwrap().access.lifetime(), Lifetime::Unknown);
}

#[tokio::test]
async fn a_callback_that_panics_is_an_error() {
    let asynchronous = StaticToken::callback(async |request| match request.scopes.is_empty() {
        true => panic!("marker"),
        false => Ok(AccessToken::new("abc")),
    });
    let blocking = StaticToken::blocking_callback(|request| match request.scopes.is_empty() {
        true => panic!("marker"),
        false => Ok(AccessToken::new("abc")),
    });
    for provider in [asynchronous, blocking] {
        let (clock, context) = at_will();
        let session = session(provider, &context);
        let error = session.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient);
        assert!(error.to_string().contains("panicked") && !error.to_string().contains("marker"), "{error}");
        clock.advance(Duration::from_secs(5));
        assert_eq!(session.for_scopes(["a"]).token().await.unwrap().secret(), "abc", "the next has its turn");
    }
}

#[tokio::test]
async fn the_registry_makes_them_from_settings() {
    let text = |text: &str| Value::String(text.into());
    let settings = |provider: &str, key: &str, value: &str| {
        Settings::new("profile.work").with("provider", text(provider), Some(2)).with(
            key,
            text(value),
            Some(3),
        )
    };
    let registry =
        Registry::new().provider("static", StaticToken::from_settings).provider("cave", Cave::from_settings);
    let profile = registry.profile(&settings("static", "token", "abc"), &Context::new()).unwrap();
    assert_eq!(profile.session.token().await.unwrap().secret(), "abc");
    assert_eq!(profile.literal_secrets, ["profile.work.token"]);
    assert!(registry.profile(&settings("static", "tokn", "abc"), &Context::new()).is_err());
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), r#"{"token": "from-cave"}"#).unwrap();
    let cave = settings("cave", "token_file", file.path().to_str().unwrap());
    let profile = registry.profile(&cave, &Context::new()).unwrap();
    assert_eq!(profile.session.token().await.unwrap().secret(), "from-cave");
    let typo = registry.profile(&settings("cave", "token_fil", "x"), &Context::new()).unwrap_err();
    assert!(typo.to_string().contains("did you mean `token_file`?"), "{typo}");
}

#[tokio::test]
async fn a_token_that_is_saved_is_served_at_the_next_refresh() {
    let folder = tempfile::tempdir().unwrap();
    let cave = Cave::new("https://global.daf-apis.com").unwrap().secrets_folder(folder.path());
    let session = session(cave.clone(), &Context::new());
    assert_eq!(session.token().await.unwrap_err().kind(), ErrorKind::LoginRequired);
    cave.save_token("0123456789abcdef0123456789abcdef", "token", false).await.unwrap();
    // What was missing is there: its revision ends the remembered failure.
    assert_eq!(session.token().await.unwrap().secret(), "0123456789abcdef0123456789abcdef");
    cave.save_token("ffffffffffffffffffffffffffffffff", "token", true).await.unwrap();
    assert_eq!(session.refresh().await.unwrap().secret(), "ffffffffffffffffffffffffffffffff");
}

#[tokio::test]
async fn a_file_that_is_asked_for_all_the_time_is_never_waited_for() {
    let (clock, context) = at_will();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "first").unwrap();
    let session = session(StaticToken::file(file.path()), &context);
    let first = session.token().await.unwrap();
    fs::write(file.path(), "second").unwrap();
    // Past the beginning of the early window, before the end of its service.
    clock.advance(Duration::from_millis(9_500));
    assert_eq!(session.cached().unwrap().secret(), "first", "it sets off the reading, beside");
    assert!(context.drain(Duration::from_secs(5)).await);
    assert_eq!(session.cached().unwrap().secret(), "second");
    assert!(session.cached().unwrap().generation() > first.generation());
    // A machine that slept an hour: the file is read beside the first request.
    fs::write(file.path(), "third").unwrap();
    clock.suspend(Duration::from_secs(3600));
    assert_eq!(session.cached().unwrap().secret(), "second");
    assert!(context.drain(Duration::from_secs(5)).await);
    assert_eq!(session.cached().unwrap().secret(), "third");
}
