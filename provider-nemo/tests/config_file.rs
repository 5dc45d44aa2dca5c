//! The platform's configuration: read and written as its real clients do, and shared with them.
#![cfg(unix)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and skips visibly"
)]

use std::{
    fs,
    io::Write,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::Engine;
use keyfob_auth_core::{
    AuthError, Binding, Context, ErrorKind, ExposeSecret, Identity, Login, RequestKey, Session, TokenStore,
    async_trait,
    registry::{Settings, Value},
    store::{
        Lease, LoginKey, Record, Saved, StoreError, StoreErrorKind, StoreInfo, StoredToken, TryLease, Version,
    },
    testing::{self, FakeClock, ScriptedProvider},
};
use keyfob_provider_nemo::config_file::NemoStore;
use tokio::runtime::Handle;

/// As the real clients wrote them.
const AFTER_LOGIN: &str = include_str!("data/nemo-config-after-login.yaml");
const AFTER_LOGOUT: &str = include_str!("data/nemo-config-after-logout.yaml");
const AFTER_REFRESH: &str = include_str!("data/nemo-config-after-sdk-refresh.yaml");
const LEGACY: &str = include_str!("data/nemo-config-legacy-api-key-input.yaml");
const LEGACY_REWRITTEN: &str = include_str!("data/nemo-config-legacy-api-key-rewritten.yaml");
const TWO_CONTEXTS: &str = include_str!("data/nemo-config-two-contexts.yaml");
const UNSIGNED: &str = include_str!("data/nemo-config-unsigned.yaml");
const URL: &str = "http://127.0.0.1:34839";

fn key() -> LoginKey {
    Identity::new("nemo").issuer(URL).label("test").into()
}

fn place(content: &str) -> (tempfile::TempDir, PathBuf, NemoStore) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    if !content.is_empty() {
        plant(&path, content);
    }
    let store = NemoStore::open(&path).unwrap();
    (folder, path, store)
}

/// As the clients write: in place. Some time ago, so that nobody waits for it to settle.
fn plant(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).unwrap();
    let old = SystemTime::now() - Duration::from_secs(60);
    fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

async fn load(store: &NemoStore) -> Option<(Record, Version)> {
    store.load(&key()).await.unwrap()
}

async fn save(store: &NemoStore, record: Option<&Record>) -> Version {
    let expected = load(store).await.map(|(_, version)| version);
    match store.save(&key(), record, expected.as_ref(), None).await.unwrap() {
        Saved::Written(version) => version,
        Saved::Conflict(there) => panic!("{there:?} is there"),
    }
}

fn refresh_token(record: &Record) -> Option<&str> {
    Some(record.login.as_ref()?.refresh_token.as_ref()?.expose_secret())
}

fn access_token(record: &Record) -> Option<&str> {
    Some(record.token(&RequestKey::default())?.secret.expose_secret())
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

/// A renewed login.
fn renewed(access: &str, refresh: Option<&str>) -> Record {
    let mut record = Record::default();
    record.login = refresh.map(|token| Login::with_refresh_token(token.to_owned()));
    record.put_token(StoredToken {
        request: RequestKey::default(),
        secret: access.to_owned().into(),
        obtained_at: at(1_900_000_000),
        expires_at: Some(at(1_900_000_300)),
        refresh_in: None,
        scopes: None,
        binding: Binding::None,
    });
    record
}

/// The value of a line, in a file that the real clients wrote.
fn line<'t>(content: &'t str, key: &str) -> &'t str {
    let start = format!("{key}: ");
    content.lines().find_map(|line| line.trim_start_matches([' ', '-']).strip_prefix(&start)).unwrap()
}

/// A context for every key, and several contexts in one file.
#[derive(Debug)]
struct PerKey(PathBuf);

impl PerKey {
    fn of(&self, key: &LoginKey) -> NemoStore {
        let context = key.fingerprint();
        let path = self.0.join(&context[..1]).join("config.yaml");
        NemoStore::open(path).unwrap().context(context).base_url(URL).unwrap()
    }
}

#[async_trait]
impl TokenStore for PerKey {
    async fn load(&self, key: &LoginKey) -> Result<Option<(Record, Version)>, StoreError> {
        self.of(key).load(key).await
    }

    async fn save(
        &self,
        key: &LoginKey,
        record: Option<&Record>,
        expected: Option<&Version>,
        lease: Option<&dyn Lease>,
    ) -> Result<Saved, StoreError> {
        self.of(key).save(key, record, expected, lease).await
    }

    async fn try_lease(&self, key: &LoginKey) -> Result<TryLease, StoreError> {
        self.of(key).try_lease(key).await
    }

    fn describe(&self) -> StoreInfo {
        NemoStore::open(&self.0).unwrap().describe()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_clients_file_conforms() {
    let folder = tempfile::tempdir().unwrap();
    testing::store::all(Arc::new(PerKey(folder.path().to_path_buf()))).await;
    for place in fs::read_dir(folder.path()).unwrap() {
        let place = place.unwrap().path();
        assert!(!text(&place.join("config.yaml")).contains("token"), "a login was left behind");
        for entry in fs::read_dir(place).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let expected = name == "config.yaml" || name.ends_with(".lock") || name.ends_with(".lease");
            assert!(expected, "{name} was left behind");
        }
    }
}

#[tokio::test]
async fn a_login_is_written_as_the_real_client_writes_it() {
    let (access, refresh) = (line(AFTER_LOGIN, "token"), line(AFTER_LOGIN, "refresh_token"));
    // Into nothing, into an empty file, and where somebody logged out.
    for before in ["", "\n", AFTER_LOGOUT] {
        let (_folder, path, store) = place(before);
        let store = store.base_url(URL).unwrap();
        assert!(load(&store).await.is_none(), "{before}");
        save(&store, Some(&renewed(access, Some(refresh)))).await;
        assert_eq!(text(&path).trim_start(), AFTER_LOGIN);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_renewal_is_written_as_the_real_client_writes_it() {
    let (_folder, path, store) = place(AFTER_LOGIN);
    let (record, _) = load(&store).await.unwrap();
    assert_eq!(access_token(&record), Some(line(AFTER_LOGIN, "token")));
    assert_eq!(refresh_token(&record), Some(line(AFTER_LOGIN, "refresh_token")));
    let (access, refresh) = (line(AFTER_REFRESH, "token"), line(AFTER_REFRESH, "refresh_token"));
    save(&store, Some(&renewed(access, Some(refresh)))).await;
    assert_eq!(text(&path), AFTER_REFRESH);
}

#[tokio::test]
async fn a_logout_is_written_as_the_real_client_writes_it() {
    for (before, after) in [
        (AFTER_LOGIN, AFTER_LOGOUT.to_owned()),
        (UNSIGNED, AFTER_LOGOUT.to_owned()),
        (
            TWO_CONTEXTS,
            TWO_CONTEXTS
                .replace("- type: oauth\n  name: staging-user\n", "- type: no-auth\n  name: staging-user\n")
                .replace(
                    &format!(
                        "  token: {}\n",
                        TWO_CONTEXTS.rsplit("  token: ").next().unwrap().lines().next().unwrap()
                    ),
                    "",
                ),
        ),
    ] {
        let (_folder, path, store) = place(before);
        save(&store, None).await;
        assert_eq!(text(&path), after);
        assert!(load(&store).await.is_none());
        // Again: there is nothing to remove.
        save(&store, None).await;
        assert_eq!(text(&path), after);
    }
}

#[tokio::test]
async fn a_token_without_its_times_has_them_in_it() {
    let (_folder, _, store) = place(UNSIGNED);
    let (record, _) = load(&store).await.unwrap();
    let token = record.token(&RequestKey::default()).unwrap();
    assert_eq!((token.obtained_at, token.expires_at), (at(1_795_296_929), Some(at(1_795_300_529))));
    assert!(record.login.is_none(), "there is nothing to renew it with");
    for (token, expires) in
        [("opaque", None), ("eyJhIjoxfQ.eyJleHAiOjQwMDAwMDAwMDB9.x", Some(at(4_000_000_000)))]
    {
        let (_folder, _, store) = place(&UNSIGNED.replace(line(UNSIGNED, "token"), token));
        let (record, _) = load(&store).await.unwrap();
        let token = record.token(&RequestKey::default()).unwrap();
        assert_eq!(token.expires_at, expires);
        assert!(token.obtained_at <= SystemTime::now());
    }
}

#[tokio::test]
async fn contexts_are_told_apart() {
    let (_folder, path, store) = place(TWO_CONTEXTS);
    let tokens: Vec<&str> = TWO_CONTEXTS.lines().filter_map(|line| line.strip_prefix("  token: ")).collect();
    let of = |name: &str| store.clone().context(name);
    assert_eq!(access_token(&load(&of("default")).await.unwrap().0), Some(tokens[0]));
    assert_eq!(access_token(&load(&of("staging")).await.unwrap().0), Some(tokens[1]));
    assert!(load(&of("other")).await.is_none());
    save(&of("default"), Some(&renewed("new", Some("r")))).await;
    let expected =
        TWO_CONTEXTS.replacen(&format!("token: {}\n", tokens[0]), "token: new\n  refresh_token: r\n", 1);
    assert_eq!(text(&path), expected);
    assert_eq!(access_token(&load(&of("staging")).await.unwrap().0), Some(tokens[1]));
    // The current one was found before somebody chose another, and stays.
    let current = store.clone();
    assert_eq!(access_token(&load(&current).await.unwrap().0), Some(tokens[1]));
    plant(&path, expected.replace("current_context: staging", "current_context: default"));
    assert_eq!(access_token(&load(&current).await.unwrap().0), Some(tokens[1]));
    assert_eq!(access_token(&load(&NemoStore::open(&path).unwrap()).await.unwrap().0), Some("new"));
}

#[tokio::test]
async fn a_context_is_made_beside_the_others() {
    for before in [TWO_CONTEXTS, LEGACY] {
        let (_folder, path, store) = place(before);
        let store = store.context("third").base_url("https://third.example").unwrap();
        save(&store, Some(&renewed("t", Some("r")))).await;
        let content = text(&path);
        let cluster = "- name: third-cluster\n  base_url: https://third.example/\n  metadata: {}\n";
        let user = "- type: oauth\n  name: third-user\n  token: t\n  refresh_token: r\n";
        let context = "- name: third\n  cluster: third-cluster\n  user: third-user\n  workspace: default\n  preferences:\n    \
                       output_format: table\n    timestamp_format: iso8601\n    truncate: true\n    color_output: true\n  \
                       metadata: {}\n";
        let kept = [cluster, user, context].iter().fold(content.clone(), |content, part| {
            assert_eq!(content.matches(part).count(), 1, "{content}");
            content.replace(part, "")
        });
        assert_eq!(kept, before);
        let connection = store.connection().await.unwrap().unwrap();
        assert_eq!(
            (connection.base_url.as_str(), connection.workspace.as_deref()),
            ("https://third.example/", Some("default"))
        );
    }
}

#[tokio::test]
async fn a_context_that_nobody_knows_is_not_made_up() {
    let (_folder, path, store) = place(TWO_CONTEXTS);
    for (store, why) in [
        (store.clone().context("third"), "set `base_url`"),
        (store.clone().context("th/ird").base_url(URL).unwrap(), "use letters"),
        (store.clone().context("").base_url(URL).unwrap(), "use letters"),
    ] {
        assert!(load(&store).await.is_none());
        let error = store.save(&key(), Some(&renewed("t", None)), None, None).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unsupported);
        let message = error.to_string();
        assert!(message.contains(why) && message.contains(&*path.to_string_lossy()), "{message}");
        assert!(store.connection().await.unwrap().is_none());
    }
    assert_eq!(text(&path), TWO_CONTEXTS);
}

#[tokio::test]
async fn a_context_of_another_platform_is_refused() {
    let (_folder, path, store) = place(AFTER_LOGIN);
    for same in [URL, "http://127.0.0.1:34839/"] {
        assert!(load(&store.clone().base_url(same).unwrap()).await.is_some());
    }
    let other = store.clone().base_url("http://127.0.0.1:34840").unwrap();
    for error in [
        other.load(&key()).await.unwrap_err(),
        other.save(&key(), Some(&renewed("t", None)), None, None).await.unwrap_err(),
        other.try_lease(&key()).await.unwrap_err(),
        other.connection().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Unsupported);
        assert!(
            error.to_string().contains("is for http://127.0.0.1:34839/, not for http://127.0.0.1:34840/"),
            "{error}"
        );
    }
    assert_eq!(text(&path), AFTER_LOGIN);
    for bad in ["", "localhost", "ftp://a", "https://"] {
        assert!(store.clone().base_url(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn what_is_known_of_a_platform_is_told() {
    let (_folder, path, store) = place(TWO_CONTEXTS);
    plant(
        &path,
        TWO_CONTEXTS.replace(
            "- name: staging-cluster\n",
            "- name: staging-cluster\n  certificate_authority: \"/etc/ca.pem\"\n",
        ),
    );
    let connection = store.connection().await.unwrap().unwrap();
    assert_eq!((connection.context.as_str(), connection.user.as_str()), ("staging", "staging-user"));
    assert_eq!(connection.base_url, "http://127.0.0.1:34839/");
    assert_eq!(connection.certificate_authority.as_deref(), Some(Path::new("/etc/ca.pem")));
    let (_folder, _, store) = place("");
    assert!(store.connection().await.unwrap().is_none());
    let (_folder, _, store) = place(&TWO_CONTEXTS.replace("current_context: staging\n", ""));
    let error = store.connection().await.unwrap_err();
    assert!(error.to_string().contains("none is the current one"), "{error}");
    assert!(store.context("staging").connection().await.unwrap().is_some());
}

#[tokio::test]
async fn api_keys_of_former_releases_are_read_and_others_are_left_as_they_are() {
    let (_folder, path, store) = place(LEGACY);
    let (record, version) = load(&store.clone().context("default")).await.unwrap();
    let token = access_token(&record).unwrap().to_owned();
    // As the real client migrates it, but for the time of the migration.
    let theirs = LEGACY_REWRITTEN.lines().find_map(|line| line.strip_prefix("  token: ")).unwrap();
    assert_eq!(token.split('.').next(), theirs.split('.').next());
    assert!(token.ends_with('.') && token.split('.').count() == 3);
    assert_eq!(
        load(&store.clone().context("default")).await.unwrap().1,
        version,
        "another token at every look"
    );
    // A renewal beside it changes it as little as the unknown keys.
    let staging = LEGACY.lines().find_map(|line| line.strip_prefix("  token: ")).unwrap();
    save(&store, Some(&renewed("new", None))).await;
    assert_eq!(text(&path), LEGACY.replace(staging, "new"));
    // Its own turns it into a user of today.
    plant(&path, LEGACY);
    save(&store.clone().context("default"), Some(&renewed("new", Some("r")))).await;
    let expected = "- name: default-user\n  type: oauth\n  token: new\n  refresh_token: r\n";
    assert_eq!(
        text(&path),
        LEGACY.replace("- name: default-user\n  type: api-key\n  api_key: someone@example.test\n", expected)
    );
    for (key, token) in [("  plain-key ", Some("plain-key")), ("''", None)] {
        plant(&path, LEGACY.replace("someone@example.test", key));
        let found = load(&store.clone().context("default")).await;
        assert_eq!(found.as_ref().and_then(|(record, _)| access_token(record)), token);
    }
}

#[tokio::test]
async fn comments_order_and_unknown_keys_stay() {
    const BEFORE: &str = "# Made by hand: ü\r\n%EXTRA%telemetry_enabled: false # never\r\nusers:\r\n  # the first\r\n  - name: 'u' # me\r\n    refresh_token: \"old\\\
                          tr\" # spent soon\r\n    x_more: {a: [1, 2], b: yes}\r\n    # before the token\r\n    token: |\r\n      old\r\n    type: oauth\r\n\
                          clusters: [{name: c, base_url: 'http://127.0.0.1:34839'}]\r\ncontexts:\r\n- {name: x, user: u, cluster: c}\r\ncurrent_context: x\r\nx_last:\r\n- 1\r\n";
    let before = BEFORE.replace("%EXTRA%", "x_first: &a 1\r\nx_second: *a\r\n");
    let (_folder, path, store) = place(&before);
    let (record, _) = load(&store).await.unwrap();
    assert_eq!((access_token(&record), refresh_token(&record)), (Some("old\n"), Some("old\tr")));
    save(&store, Some(&renewed("new", Some("it's: new")))).await;
    let after = before
        .replace("\"old\\tr\" # spent soon", "'it''s: new' # spent soon")
        .replace("token: |\r\n      old\r\n", "token: new\r\n");
    assert_eq!(text(&path), after);
    save(&store, None).await;
    let gone = after
        .replace("    refresh_token: 'it''s: new' # spent soon\r\n", "")
        .replace("    token: new\r\n", "")
        .replace("type: oauth", "type: no-auth");
    assert_eq!(text(&path), gone);
}

#[tokio::test]
async fn what_makes_no_sense_is_told_and_left_alone() {
    let twice = AFTER_LOGIN.replace(
        "contexts:\n",
        "contexts:\n- {name: default, cluster: default-cluster, user: default-user}\n",
    );
    let large = format!("{AFTER_LOGIN}# {}\n", "x".repeat(10 * 1024 * 1024));
    let edited = |from: &str, to: &str| {
        assert!(AFTER_LOGIN.contains(from));
        AFTER_LOGIN.replace(from, to)
    };
    let cases: Vec<(String, &str)> = vec![
        (twice, "two contexts are called \"default\""),
        (edited("users:\n", "users:\n- name: default-user\n"), "two users are called"),
        (edited("clusters:\n", "clusters:\n- name: default-cluster\n"), "two clusters are called"),
        (format!("{AFTER_LOGIN}users: []\n"), "`users` is there twice"),
        (edited("  token:", "  token: marker\n  token:"), "`token` is there twice"),
        (edited("  name: default-user", "\tname: default-user"), "indented with a tab"),
        ("- a\n- list\n".into(), "no mapping"),
        ("marker\n".into(), "no mapping"),
        (
            edited("contexts:\n- name: default\n", "contexts:\n- marker\n- name: default\n"),
            "an item of `contexts` is no mapping",
        ),
        (
            edited("contexts:\n- name: default\n", "contexts:\n  a: marker\nx:\n- name: default\n"),
            "`contexts` is no list",
        ),
        (edited("- name: default\n", "- name:\n"), "a context has no `name`"),
        (edited("- name: default\n", "- name: [default]\n"), "a context has no `name`"),
        (edited("  user: default-user\n", "  user: other\n"), "that is not there"),
        (edited("current_context: default\n", "current_context: other\n"), "current context"),
        (edited("current_context: default\n", "current_context: [a]\n"), "no text"),
        (edited("  token: ", "  token: {a: marker}\n  x: "), "`token` is no text"),
        (edited("  token: ", "  token:\n  x: "), "has no `token`"),
        (edited("type: oauth", "type: future"), "neither `oauth` nor"),
        (edited("base_url: ", "x: "), "no `base_url`"),
        (format!("{AFTER_LOGIN}\u{0}\u{0}"), "not YAML"),
        (format!("{AFTER_LOGIN}---\na: 1\n"), "more than one document"),
        ("\"marker\u{1}".into(), "not YAML"),
        ("[".repeat(5000), "not YAML"),
        (large, "too large"),
        // Cut off by a client that is writing it, at the end of each list and in the middle of the last.
        (AFTER_LOGIN.split("contexts:").next().unwrap().into(), "it has `current_context` and no `contexts`"),
        (AFTER_LOGIN.split("  user: ").next().unwrap().into(), "a context has no `user`"),
        (AFTER_LOGIN.split("user\n  workspace").next().unwrap().into(), "that is not there"),
    ];
    for (content, why) in cases {
        let (_folder, path, store) = place(&content);
        for error in [
            store.load(&key()).await.unwrap_err(),
            store.save(&key(), Some(&renewed("t", None)), None, None).await.unwrap_err(),
            store.save(&key(), None, None, None).await.unwrap_err(),
        ] {
            let message = error.to_string();
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{message}");
            for part in [why, &*path.to_string_lossy(), "the configuration of NeMo Platform", "left alone"] {
                assert!(message.contains(part), "{part:?} is not in {message:?}");
            }
            assert!(!format!("{error:?}").contains("marker"), "{error:?}");
        }
        assert!(text(&path) == content, "{why}");
        assert_eq!(
            fs::read_dir(path.parent().unwrap())
                .unwrap()
                .filter(|entry| {
                    let name = entry.as_ref().unwrap().file_name();
                    !name.to_string_lossy().ends_with(".lock")
                })
                .count(),
            1,
            "{why}"
        );
    }
    let (_folder, path, store) = place("x");
    plant(&path, b"a: \xff\n");
    assert!(store.load(&key()).await.unwrap_err().to_string().contains("not UTF-8"));
}

#[tokio::test]
async fn what_cannot_be_changed_safely_is_left_alone() {
    for (from, to) in [
        // The value is used elsewhere, too.
        ("  token: ", "  token: &t "),
        // No place to put a context.
        ("contexts:\n- name: default\n", "contexts:\n-\n  name: default\n"),
    ] {
        let content = AFTER_LOGIN.replace(from, to);
        let content = if from.contains("token") { format!("{content}x_token: *t\n") } else { content };
        let (_folder, path, store) = place(&content);
        let store =
            if from.contains("token") { store } else { store.context("other").base_url(URL).unwrap() };
        let expected = load(&store).await.map(|(_, version)| version);
        let error = store.save(&key(), Some(&renewed("t", None)), expected.as_ref(), None).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("left alone"), "{error}");
        assert_eq!(text(&path), content);
    }
}

#[tokio::test]
async fn a_login_without_an_access_token_is_one_that_has_expired() {
    let (_folder, path, store) = place(AFTER_LOGOUT);
    let record = Record::with_login(Login::with_refresh_token("r"));
    save(&store, Some(&record)).await;
    let token = line(&text(&path), "token").to_owned();
    assert_eq!(keyfob_auth_core::jwt_expiry(&token), Some(at(1)), "a real client would not renew it");
    fs::remove_file(path.with_file_name(rest_of(&path))).unwrap();
    let (record, _) = load(&store).await.unwrap();
    assert_eq!((access_token(&record), refresh_token(&record)), (None, Some("r")));
    // While the refresh token is the same, so is the access token; another login does not keep it.
    plant(&path, AFTER_LOGIN);
    let same = Record::with_login(Login::with_refresh_token(line(AFTER_LOGIN, "refresh_token").to_owned()));
    save(&store, Some(&same)).await;
    assert_eq!(text(&path), AFTER_LOGIN);
    save(&store, Some(&Record::with_login(Login::with_refresh_token("another")))).await;
    assert!(!text(&path).contains(line(AFTER_LOGIN, "token")), "another's access token stayed");
}

/// The name of what is kept beside the configuration.
fn rest_of(path: &Path) -> String {
    let names = fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.find(|name| name.contains(".keyfob.") && name.ends_with(".json")).unwrap()
}

#[tokio::test]
async fn the_lease_is_the_clients_own_lock_and_ours() {
    let (_folder, path, store) = place(TWO_CONTEXTS);
    let theirs = path.with_file_name("config.yaml.staging.oauth-refresh.lock");
    let TryLease::Held(lease) = store.try_lease(&key()).await.unwrap() else { panic!("nobody has it") };
    let other = fs::File::options().append(true).open(&theirs).unwrap();
    assert!(other.try_lock().is_err(), "their client would renew beside us");
    // Another context has another lock, unless it is the same user's.
    let default = store.clone().context("default");
    assert!(matches!(default.try_lease(&key()).await.unwrap(), TryLease::Held(_)));
    plant(&path, TWO_CONTEXTS.replace("user: default-user\n", "user: staging-user\n"));
    assert!(matches!(default.try_lease(&key()).await.unwrap(), TryLease::Busy { .. }));
    lease.release().await;
    other.try_lock().unwrap();
    let TryLease::Busy { holder } = store.try_lease(&key()).await.unwrap() else { panic!("two have it") };
    if cfg!(target_os = "linux") {
        assert!(holder.unwrap().starts_with(&format!("process {} ", std::process::id())));
    }
    // It is for an exchange: a login or a logout does not wait for it.
    save(&store, None).await;
    other.unlock().unwrap();
    assert_eq!(fs::metadata(&theirs).unwrap().len(), 0);
    let slashed = store.context("a/b");
    drop(slashed.try_lease(&key()).await.unwrap());
    assert!(path.with_file_name("config.yaml.a_b.oauth-refresh.lock").exists());
}

#[tokio::test]
async fn what_a_client_wrote_meanwhile_is_a_conflict() {
    let (_folder, path, store) = place(TWO_CONTEXTS);
    let (_, version) = load(&store).await.unwrap();
    let theirs = TWO_CONTEXTS.rsplit("  token: ").next().unwrap().lines().next().unwrap();
    let rewritten = TWO_CONTEXTS.replace(theirs, "theirs");
    plant(&path, &rewritten);
    let saved = store.save(&key(), Some(&renewed("ours", None)), Some(&version), None).await.unwrap();
    let Saved::Conflict(Some((record, version))) = saved else { panic!("{saved:?}") };
    assert_eq!((access_token(&record), text(&path) == rewritten), (Some("theirs"), true));
    // What they write in another context is none.
    plant(&path, rewritten.replace("table", "json"));
    let saved = store.save(&key(), Some(&renewed("ours", None)), Some(&version), None).await.unwrap();
    assert!(matches!(saved, Saved::Written(_)));
    assert_eq!(text(&path), TWO_CONTEXTS.replace(theirs, "ours").replace("table", "json"));
}

#[tokio::test]
async fn a_file_that_may_be_half_written_does_not_count_at_once() {
    let (_folder, path, store) = place(TWO_CONTEXTS);
    // As young as can be, however long the test takes to get there.
    let young = SystemTime::now() + Duration::from_secs(3600);
    fs::File::options().write(true).open(&path).unwrap().set_modified(young).unwrap();
    let begun = Instant::now();
    save(&store, None).await;
    assert!(begun.elapsed() >= Duration::from_millis(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_being_written_is_never_seen_by_halves() {
    const WRITES: usize = 100;
    let (_folder, path, store) = place(TWO_CONTEXTS);
    let tokens = ["one", "another"].map(|token| token.repeat(300));
    let old = line(TWO_CONTEXTS, "token");
    let contents = tokens.clone().map(|token| TWO_CONTEXTS.replace(old, &token));
    let store = store.context("default");
    let writer = std::thread::spawn(move || {
        for write in 0..WRITES {
            // As they do: truncated, then written in pieces, which end anywhere.
            let content = contents[write % 2].as_bytes();
            let (begin, end) = content.split_at(content.len() * write / WRITES);
            let mut file = fs::File::create(&path).unwrap();
            file.write_all(begin).unwrap();
            std::thread::yield_now();
            file.write_all(end).unwrap();
        }
    });
    let mut loads = 0;
    while !writer.is_finished() || loads == 0 {
        let (record, _) = load(&store).await.expect("a login that is there was not seen");
        let token = access_token(&record).unwrap();
        assert!(token == old || tokens.iter().any(|whole| whole == token), "half a token");
        loads += 1;
    }
    writer.join().unwrap();
}

/// A process of its own: another context.
fn session(provider: &ScriptedProvider, path: &Path) -> Session {
    let context = Context::builder().executor(Handle::current()).clock(FakeClock::new().clock()).build();
    let provider = provider.clone().with_identity(key().identity().clone());
    Session::new(Arc::new(provider), Arc::new(NemoStore::open(path).unwrap()), &context).unwrap()
}

/// A token of the platform's, around the beginning of 2030, where the clock of the tests starts.
fn jwt(issued: i64, expires: i64) -> String {
    const START: i64 = 1_893_456_000;
    let claims = format!(r#"{{"iat":{},"exp":{}}}"#, START + issued, START + expires);
    format!("eyJhbGciOiJSUzI1NiJ9.{}.x", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims))
}

/// A login as the real client writes it.
fn logged_in(provider: &ScriptedProvider, access: &str) -> String {
    let refresh = provider.issue().login.unwrap().refresh_token.unwrap();
    AFTER_LOGIN
        .replace(line(AFTER_LOGIN, "token"), access)
        .replace(line(AFTER_LOGIN, "refresh_token"), refresh.expose_secret())
}

#[tokio::test]
async fn a_login_of_the_real_client_is_used_and_renewed_in_its_file() {
    let (_folder, path, _) = place("");
    let provider = ScriptedProvider::attended();
    let fresh = jwt(-60, 3000);
    plant(&path, logged_in(&provider, &fresh));
    assert_eq!(session(&provider, &path).token().await.unwrap().secret(), fresh);
    assert_eq!(provider.exchanges(), 0);
    plant(&path, logged_in(&provider, &jwt(-600, -60)));
    let token = session(&provider, &path).token().await.unwrap();
    assert_eq!((line(&text(&path), "token"), provider.exchanges()), (token.secret(), 1));
    assert_eq!(line(&text(&path), "refresh_token"), "refresh-3");
    // The next process has nothing to do.
    assert_eq!(session(&provider, &path).token().await.unwrap().secret(), token.secret());
    assert_eq!((provider.exchanges(), provider.reuses()), (1, 0));
}

#[tokio::test]
async fn a_logout_on_either_side_is_seen_by_the_other() {
    let (_folder, path, _) = place(AFTER_LOGOUT);
    let provider = ScriptedProvider::attended();
    let ours = session(&provider, &path);
    ours.adopt(provider.issue()).await.unwrap();
    assert_eq!(line(&text(&path), "type"), "oauth");
    assert!(ours.logout().await.unwrap().was_logged_in);
    assert_eq!((text(&path), provider.revocations()), (AFTER_LOGOUT.to_owned(), 1));
    ours.adopt(provider.issue()).await.unwrap();
    plant(&path, AFTER_LOGOUT);
    assert_eq!(ours.refresh().await.unwrap_err().kind(), ErrorKind::LoginRequired);
    assert_eq!((text(&path), provider.exchanges()), (AFTER_LOGOUT.to_owned(), 0));
}

#[tokio::test]
async fn a_renewal_of_the_real_client_is_followed() {
    let (_folder, path, _) = place(AFTER_LOGOUT);
    let provider = ScriptedProvider::attended();
    let ours = session(&provider, &path);
    ours.adopt(provider.issue()).await.unwrap();
    plant(&path, logged_in(&provider, &jwt(-600, -60)));
    assert_eq!(ours.refresh().await.unwrap().secret(), "access-3");
    assert_eq!(line(&text(&path), "refresh_token"), "refresh-3");
    assert_eq!((provider.exchanges(), provider.reuses()), (1, 0));
}

#[tokio::test]
async fn a_refused_login_loses_its_refresh_token_and_nothing_else() {
    let (_folder, path, _) = place("");
    let provider = ScriptedProvider::attended();
    plant(&path, logged_in(&provider, &jwt(-600, -60)));
    provider.fail_always(Some(AuthError::transient("down").with_status(503)));
    let before = text(&path);
    assert!(session(&provider, &path).token().await.is_err());
    assert_eq!(text(&path), before, "a 503 deletes nothing");
    provider.fail_always(None);
    provider.log_out_at_server();
    assert_eq!(session(&provider, &path).refresh().await.unwrap_err().kind(), ErrorKind::LoginRequired);
    assert!(!text(&path).contains("refresh_token"));
    assert_eq!(line(&text(&path), "base_url"), line(AFTER_LOGIN, "base_url"));
}

const FOLDER: &str = "KEYFOB_TEST_FOLDER";
const RENEWALS: usize = 15;

/// This test binary again, as a process of its own.
fn child(role: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([role, "--exact", "--nocapture"]).env(FOLDER, folder).current_dir("/");
    // Its runner's lines are not this one's.
    command.stdout(std::process::Stdio::null());
    command
}

fn store_of_child() -> Option<NemoStore> {
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    Some(NemoStore::open(folder.join("config.yaml")).unwrap())
}

/// Not a test: what the children do.
#[test]
fn renew_often() {
    let Some(store) = store_of_child() else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for _ in 0..RENEWALS {
            let lease = loop {
                match store.try_lease(&key()).await.unwrap() {
                    TryLease::Held(lease) => break lease,
                    TryLease::Busy { .. } => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            };
            let (record, version) = load(&store).await.unwrap();
            let next = refresh_token(&record).unwrap().parse::<usize>().unwrap() + 1;
            let record = renewed(&format!("access-{next}"), Some(&next.to_string()));
            let saved = store.save(&key(), Some(&record), Some(&version), Some(&*lease)).await.unwrap();
            assert!(matches!(saved, Saved::Written(_)), "somebody renewed without the lease");
            lease.release().await;
        }
    });
}

#[tokio::test]
async fn renewals_of_several_processes_and_contexts_are_all_kept() {
    const PROCESSES: usize = 3;
    let (folder, path, store) = place(AFTER_LOGIN);
    save(&store, Some(&renewed("access-0", Some("0")))).await;
    let children: Vec<_> =
        (0..PROCESSES).map(|_| child("renew_often", folder.path()).spawn().unwrap()).collect();
    // Another context beside them, without their lock.
    let other = store.clone().context("other").base_url(URL).unwrap();
    for number in 0..RENEWALS {
        save(&other, Some(&renewed("other", Some(&format!("o{number}"))))).await;
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let last = PROCESSES * RENEWALS;
    let (record, _) = load(&store).await.unwrap();
    assert_eq!(refresh_token(&record), Some(last.to_string().as_str()));
    assert_eq!(access_token(&record), Some(format!("access-{last}").as_str()));
    let (record, _) = load(&other).await.unwrap();
    assert_eq!(refresh_token(&record), Some(format!("o{}", RENEWALS - 1).as_str()));
    assert_eq!(text(&path).matches("- name: ").count(), 4);
}

/// Not a test: what the child does.
#[test]
fn find_it_read_only() {
    let Some(store) = store_of_child() else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(assert_read_only(&store));
}

async fn assert_read_only(store: &NemoStore) {
    let (record, version) = load(store).await.unwrap();
    assert_eq!(refresh_token(&record), Some(line(AFTER_LOGIN, "refresh_token")));
    for error in [
        store.try_lease(&key()).await.unwrap_err(),
        store.save(&key(), Some(&renewed("t", None)), Some(&version), None).await.unwrap_err(),
        store.save(&key(), None, Some(&version), None).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Denied);
        assert!(error.to_string().contains("not allowed to open"), "{error}");
    }
}

#[tokio::test]
async fn in_a_folder_that_cannot_be_written_nothing_is_spent_and_nothing_lost() {
    let (folder, path, store) = place(AFTER_LOGIN);
    let read_only = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
    if rustix::process::geteuid().is_root() {
        // Root may write everywhere.
        for path in [folder.path(), &path] {
            std::os::unix::fs::chown(path, Some(12_345), Some(12_345)).unwrap();
        }
        read_only(0o500);
        match child("find_it_read_only", folder.path()).uid(12_345).gid(12_345).spawn() {
            Ok(mut child) => assert!(child.wait().unwrap().success()),
            Err(error) => eprintln!("skipped: another user may not run this test: {error}"),
        }
    } else {
        read_only(0o500);
        assert_read_only(&store).await;
    }
    read_only(0o700);
    assert_eq!(text(&path), AFTER_LOGIN);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn settings_name_the_file_the_context_and_the_platform() {
    let text = |text: &str| Value::String(text.into());
    let settings = |url: &str| {
        Settings::new("profile.a.store")
            .with("path", text("/somewhere/config.yaml"), None)
            .with("context", text("staging"), None)
            .with("base_url", text(url), Some(7))
    };
    let good = settings("https://nemo.example.com");
    let store = NemoStore::from_settings(&good, &Context::new()).unwrap();
    good.finish().unwrap();
    let info = store.describe();
    assert_eq!(info.kind, "nemo");
    assert_eq!(info.location.as_deref(), Some("/somewhere/config.yaml (context staging)"));
    let error = NemoStore::from_settings(&settings("nemo"), &Context::new()).unwrap_err();
    assert!(error.to_string().contains("base_url") && error.to_string().contains("line 7"), "{error}");
    assert!(NemoStore::open("").is_err());
    let default = NemoStore::from_settings(&Settings::new("profile.a.store"), &Context::new()).unwrap();
    assert!(default.describe().location.unwrap().contains("config.yaml"));
}

#[tokio::test]
async fn a_file_that_is_open_to_others_is_used_and_closed() {
    let (_folder, path, store) = place(AFTER_LOGIN);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    save(&store, Some(&renewed("new", None))).await;
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}
