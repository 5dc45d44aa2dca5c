use std::{fs, future::poll_fn, path::Path, task::Poll};

use keyfob_auth_core::{AccessToken, ExposeSecret as _, Lifetime, NoInteraction, registry::Value};
use tempfile::TempDir;

use super::*;

const OWN: &str = "https://cave.example";
const OWN_FILE: &str = "cave.example-cave-secret.json";
const GLOBAL_FILE: &str = "global.daf-apis.com-cave-secret.json";
/// As CAVE's are: 32 hexadecimal digits.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn listed() -> Cave {
    let origins = Origins::parse([OWN]).unwrap();
    Cave::new(OWN).unwrap().general_token_for(&origins)
}

async fn token(cave: &Cave) -> Result<AccessToken, AuthError> {
    cave.acquire(&TokenRequest::default(), None).await.map(|acquired| acquired.access)
}

async fn text(cave: &Cave) -> String {
    token(cave).await.unwrap().secret().expose_secret().to_owned()
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap()
}

#[tokio::test]
async fn the_token_comes_from_the_first_place_that_has_one() {
    let own = (OWN_FILE, r#"{"token": "own"}"#);
    let own_of_another_key = (OWN_FILE, r#"{"second": "own-second"}"#);
    let general = (GENERAL, r#"{"token": "general", "third": "general-third"}"#);
    let old = (DEPRECATED, r#"{"token": "old", "second": "old-second"}"#);
    for (files, key, expected) in [
        (&[own, general, old][..], "token", Some("own")),
        (&[general, old], "token", Some("general")),
        (&[old], "token", Some("old")),
        (&[own_of_another_key, general, old], "second", Some("own-second")),
        // The first file that exists counts; after it only that of old, as with CAVE's client.
        (&[own_of_another_key, general, old], "token", Some("old")),
        (&[own_of_another_key, general], "token", None),
        (&[own, general], "third", None),
        (&[general, old], "second", Some("old-second")),
        (&[], "token", None),
    ] {
        let folder = folder(files);
        let cave = listed().secrets_folder(folder.path()).token_key(key);
        let found = token(&cave).await.ok().map(|token| token.secret().expose_secret().to_owned());
        assert_eq!(found.as_deref(), expected, "{files:?} {key}");
        let file = folder.path().join("elsewhere.json");
        fs::write(&file, format!(r#"{{"{key}": "elsewhere"}}"#)).unwrap();
        assert_eq!(text(&cave.clone().token_file(&file)).await, "elsewhere");
        assert_eq!(text(&cave.token_file(&file).token("given")).await, "given");
    }
}

#[tokio::test]
async fn the_neighbours_folder_is_looked_through_first_file_by_file() {
    let (named, home) = (folder(&[(GENERAL, r#"{"token": "named"}"#)]), folder(&[]));
    let cave = Cave { folders: vec![named.path().into(), home.path().into()], ..listed() };
    assert_eq!(text(&cave).await, "named");
    fs::write(home.path().join(OWN_FILE), r#"{"token": "own"}"#).unwrap();
    assert_eq!(text(&cave).await, "own", "a server's own file goes before a general one");
    let saved = cave.save_token(TOKEN, "token", true).await.unwrap();
    assert_eq!(saved, [named.path().join(OWN_FILE), named.path().join(GENERAL)]);
    assert_eq!(text(&cave).await, TOKEN);
    assert_eq!(read(home.path(), OWN_FILE), r#"{"token": "own"}"#);
}

#[tokio::test]
async fn the_general_token_is_for_the_global_server_and_listed_ones_only() {
    let folder = folder(&[(GENERAL, r#"{"token": "general"}"#), (DEPRECATED, r#"{"token": "old"}"#)]);
    let others = Origins::parse(["https://other.example", "https://cave.example:8443"]).unwrap();
    for (cave, may) in [
        (Cave::new("https://global.daf-apis.com").unwrap(), true),
        (listed(), true),
        (Cave::new(OWN).unwrap(), false),
        (Cave::new(OWN).unwrap().general_token_for(&others), false),
        (Cave::new("https://global.daf-apis.com:8443").unwrap(), false),
    ] {
        let found = token(&cave.clone().secrets_folder(folder.path())).await;
        if may {
            assert_eq!(found.unwrap().secret().expose_secret(), "general");
            continue;
        }
        let error = found.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoginRequired);
        let said = error.to_string();
        for part in
            ["cave-secret.json is only for https://global.daf-apis.com", "into `origins`", "create_token"]
        {
            assert!(said.contains(part), "{said}");
        }
    }
}

#[tokio::test]
async fn what_is_missing_is_told_with_what_to_do() {
    let folder = folder(&[(OWN_FILE, r#"{"second": "marker", "third": 1}"#)]);
    let cave = listed().secrets_folder(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let error = token(&cave).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired);
    assert_eq!(
        error.to_string(),
        format!(
            "no token for the CAVE server https://cave.example: {} has no token under the key `token` (it has `second`, \
             `third`); there is no {}; make one at https://cave.example/auth/api/v1/create_token, and save it: \
             `keyfob login` at a terminal asks for it, `Cave::save_token` takes it in a program, or write {{\"token\": \
             \"THE TOKEN\"}} into {} by hand, for yourself alone (mode 0600)",
            path(OWN_FILE),
            path(DEPRECATED),
            path(OWN_FILE)
        )
    );
    let none = token(&cave.clone().token_file(folder.path().join("none"))).await.unwrap_err().to_string();
    assert!(none.contains(&format!("there is no {}; make one at", path("none"))), "{none}");
    let number = token(&cave.clone().token_key("third")).await.unwrap_err();
    assert_eq!(number.kind(), ErrorKind::Configuration);
    assert!(number.to_string().contains("under the key `third` is no text"), "{number}");
    let homeless = token(&Cave { folders: Vec::new(), ..listed() }).await.unwrap_err().to_string();
    assert!(homeless.contains("no home folder: name a `token_file`"), "{homeless}");
}

#[tokio::test]
async fn a_file_that_is_no_secret_file_is_told_and_left_alone() {
    let folder = folder(&[(GENERAL, "marker")]);
    let file = folder.path().join(GENERAL);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    fs::File::options().write(true).open(&file).unwrap().set_modified(long_ago).unwrap();
    let cave = listed().secrets_folder(folder.path());
    for error in [token(&cave).await.unwrap_err(), cave.save_token(TOKEN, "token", true).await.unwrap_err()] {
        let said = error.to_string();
        assert!(said.contains(file.to_str().unwrap()) && said.contains("no JSON object"), "{said}");
        assert!(said.contains("mend it") && !said.contains("marker"), "{said}");
    }
    assert_eq!(read(folder.path(), GENERAL), "marker");
    assert!(!folder.path().join(OWN_FILE).exists());
}

#[tokio::test]
async fn files_are_read_again_and_a_given_token_is_for_ever() {
    let folder = folder(&[(GENERAL, r#"{"token": "general"}"#)]);
    let cave = listed().secrets_folder(folder.path());
    let found = token(&cave).await.unwrap();
    assert_eq!((found.lifetime(), found.reread_after()), (Lifetime::Unlimited, Some(content::REREAD)));
    let before = cave.secret_revision();
    for file in [OWN_FILE, DEPRECATED, GENERAL] {
        let before = cave.secret_revision();
        fs::write(folder.path().join(file), r#"{"token": "replaced"}"#).unwrap();
        assert_ne!(cave.secret_revision(), before, "{file}");
    }
    assert_ne!(cave.secret_revision(), before);
    let given = cave.token("given");
    let found = token(&given).await.unwrap();
    assert_eq!((found.lifetime(), found.reread_after()), (Lifetime::Unlimited, None));
    assert_ne!(given.secret_revision(), given.clone().token("another").secret_revision());
}

#[tokio::test]
async fn saving_writes_what_caves_own_client_writes() {
    let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"));
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("new/secrets");
    let cave = Cave::new("https://global.daf-apis.com").unwrap().secrets_folder(&secrets);
    let files = [secrets.join(GLOBAL_FILE), secrets.join(GENERAL)];
    assert_eq!(cave.save_token("fake-cave-token-2", "token", false).await.unwrap(), files);
    assert_eq!(cave.save_token(" fake-cave-token-3\n", "second-project", false).await.unwrap(), files);
    for file in [GENERAL, GLOBAL_FILE] {
        assert_eq!(read(&secrets, file), read(data, &format!("cave-two-keys.{file}")));
    }
    #[cfg(unix)]
    for (path, mode) in [(secrets.clone(), 0o700), (files[0].clone(), 0o600), (files[1].clone(), 0o600)] {
        assert_eq!(mode_of(&path), mode, "{}", path.display());
    }
    assert_eq!(text(&cave).await, "fake-cave-token-2");
    // A server that was merely named has a file of its own only.
    let other = Cave::new("https://minnie.microns-daf.com").unwrap().secrets_folder(&secrets);
    let saved = other.save_token("fake-minnie-token", "token", false).await.unwrap();
    assert_eq!(saved, [secrets.join("minnie.microns-daf.com-cave-secret.json")]);
    assert_eq!(
        read(&secrets, "minnie.microns-daf.com-cave-secret.json"),
        read(data, "cave-per-server.minnie.microns-daf.com-cave-secret.json")
    );
}

#[cfg(unix)]
fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;

    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn what_else_is_in_a_file_stays_and_so_does_its_mode() {
    let there = r#"{"second": "s\u00e9cond", "n": 1.50, "token": "old"}"#;
    let folder = folder(&[(GENERAL, there)]);
    let cave = listed().secrets_folder(folder.path());
    cave.save_token(TOKEN, "token", true).await.unwrap();
    assert_eq!(
        read(folder.path(), GENERAL),
        format!(r#"{{"second": "s\u00e9cond", "n": 1.50, "token": "{TOKEN}"}}"#)
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;

        fs::set_permissions(folder.path().join(GENERAL), fs::Permissions::from_mode(0o644)).unwrap();
        cave.save_token(TOKEN, "another", false).await.unwrap();
        assert_eq!(mode_of(&folder.path().join(GENERAL)), 0o644);
        assert_eq!(mode_of(&folder.path().join(OWN_FILE)), 0o600);
    }
}

#[tokio::test]
async fn another_token_is_overwritten_only_if_it_may_be() {
    let folder = folder(&[(GENERAL, r#"{"token": "old"}"#)]);
    let cave = listed().secrets_folder(folder.path());
    let error = cave.save_token(TOKEN, "token", false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let said = error.to_string();
    assert!(
        said.contains("another token under the key `token`") && said.contains("cave-secret.json"),
        "{said}"
    );
    assert_eq!(read(folder.path(), GENERAL), r#"{"token": "old"}"#);
    assert!(!folder.path().join(OWN_FILE).exists(), "neither file is touched");
    cave.save_token(TOKEN, "token", true).await.unwrap();
    // The same once more is no error, and no write.
    let before = fs::metadata(folder.path().join(GENERAL)).unwrap().modified().unwrap();
    assert_eq!(cave.save_token(TOKEN, "token", false).await.unwrap().len(), 2);
    assert_eq!(fs::metadata(folder.path().join(GENERAL)).unwrap().modified().unwrap(), before);
}

#[tokio::test]
async fn if_one_file_cannot_be_written_the_error_says_which() {
    for (broken, whole) in [(OWN_FILE, GENERAL), (GENERAL, OWN_FILE)] {
        let folder = folder(&[]);
        // Where its lock has to be.
        fs::create_dir(folder.path().join(format!("{broken}.keyfob.lock"))).unwrap();
        let cave = listed().secrets_folder(folder.path());
        let error = cave.save_token(TOKEN, "token", false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        let said = error.to_string();
        let path = |name: &str| folder.path().join(name).display().to_string();
        assert!(said.starts_with(&format!(
            "the token was saved in {}, but not in {}: ",
            path(whole),
            path(broken)
        )));
        assert!(said.contains("; mend that and save it again") && !said.contains(TOKEN), "{said}");
        assert_eq!(read(folder.path(), whole), format!(r#"{{"token": "{TOKEN}"}}"#));
        assert!(!folder.path().join(broken).exists());
    }
    let folder = folder(&[]);
    for file in [OWN_FILE, GENERAL] {
        fs::create_dir(folder.path().join(format!("{file}.keyfob.lock"))).unwrap();
    }
    let cave = listed().secrets_folder(folder.path());
    let said = cave.save_token(TOKEN, "token", false).await.unwrap_err().to_string();
    assert!(
        said.starts_with("the token was saved nowhere: not in ") && said.matches("; not in ").count() == 1,
        "{said}"
    );
}

#[tokio::test]
async fn what_is_no_token_is_not_saved() {
    let folder = folder(&[]);
    let cave = listed().secrets_folder(folder.path());
    for (token, key, said) in [
        (" \n", "token", "the token to save is empty"),
        ("marker\nmarker", "token", "this is no CAVE token: the access token has characters"),
        (TOKEN, "", "the key to save the token under is empty"),
    ] {
        let error = cave.save_token(token, key, true).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        let text = error.to_string();
        assert!(text.contains(said) && !text.contains("marker"), "{text}");
    }
    let homeless = Cave { folders: Vec::new(), ..listed() };
    let error = homeless.save_token(TOKEN, "token", true).await.unwrap_err();
    assert!(error.to_string().contains("no home folder"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn many_who_save_at_once_lose_nothing() {
    let folder = folder(&[(GENERAL, r#"{"there": "before"}"#)]);
    let saving = (0..16).map(|n| {
        // Each with locks of its own, as another process has.
        let cave = listed().secrets_folder(folder.path());
        tokio::spawn(async move { cave.save_token(format!("token-{n}"), &format!("key-{n}"), false).await })
    });
    for saved in saving.collect::<Vec<_>>() {
        saved.await.unwrap().unwrap();
    }
    for n in 0..16 {
        let cave = listed().secrets_folder(folder.path()).token_key(format!("key-{n}"));
        assert_eq!(text(&cave).await, format!("token-{n}"));
        fs::remove_file(folder.path().join(OWN_FILE)).ok();
        assert_eq!(text(&cave).await, format!("token-{n}"), "in the general file too");
    }
    assert!(read(folder.path(), GENERAL).starts_with(r#"{"there": "before", "#));
}

#[tokio::test]
async fn of_two_who_save_another_token_at_once_one_has_both_files() {
    let folder = folder(&[]);
    let lock = fs::File::create(folder.path().join(format!("{OWN_FILE}.keyfob.lock"))).unwrap();
    #[cfg(unix)]
    lock.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    lock.lock().unwrap();
    let cave = listed().secrets_folder(folder.path());
    let mut saving = [TOKEN, "another"].map(|token| Box::pin(cave.save_token(token, "token", false)));
    for saving in &mut saving {
        // Nothing is there yet, so each goes on to the lock, and waits.
        assert!(poll_fn(|context| Poll::Ready(saving.as_mut().poll(context))).await.is_pending());
    }
    lock.unlock().unwrap();
    let [one, other] = saving;
    let (won, lost) = match tokio::join!(one, other) {
        (Ok(_), Err(error)) => (TOKEN, error),
        (Err(error), Ok(_)) => ("another", error),
        both => panic!("{both:?}"),
    };
    assert_eq!(lost.kind(), ErrorKind::Refused);
    for file in [OWN_FILE, GENERAL] {
        assert_eq!(read(folder.path(), file), format!(r#"{{"token": "{won}"}}"#));
    }
}

#[derive(Debug, Default)]
struct Person {
    shown: Mutex<Vec<Prompt>>,
    asked: Mutex<Vec<Question>>,
}

#[async_trait]
impl Interaction for Person {
    fn show(&self, prompt: &Prompt) {
        self.shown.lock().unwrap().push(prompt.clone());
    }

    async fn ask(&self, question: &Question) -> Result<SecretString, AuthError> {
        self.asked.lock().unwrap().push(question.clone());
        Ok(format!("{TOKEN}\n").into())
    }
}

#[tokio::test]
async fn a_new_token_is_told_how_to_make_and_shown_when_asked() {
    let url = "https://cave.example/auth/api/v1/create_token";
    let person = Person::default();
    let new = listed().get_new_token(Some(&person));
    assert_eq!(new.url, url);
    assert!(new.instructions.contains(url) && new.instructions.contains("ends the token that you had"));
    assert_eq!(*person.shown.lock().unwrap(), [Prompt::OpenUrl { url: url.into() }]);
    assert_eq!(listed().get_new_token(None), new);
}

#[tokio::test]
async fn a_login_asks_for_the_token_and_saves_it_over_the_old() {
    let folder = folder(&[(GENERAL, r#"{"mine": "old", "other": "x"}"#)]);
    let cave = listed().secrets_folder(folder.path()).token_key("mine");
    let person = Arc::new(Person::default());
    let acquired = cave.login(&LoginRequest::default(), None, Arc::clone(&person) as _).await.unwrap();
    assert_eq!(acquired.access.secret().expose_secret(), TOKEN);
    assert_eq!(read(folder.path(), GENERAL), format!(r#"{{"mine": "{TOKEN}", "other": "x"}}"#));
    let asked = person.asked.lock().unwrap().clone();
    assert!(asked[0].secret && asked[0].text.contains("create_token") && asked.len() == 1);
    assert!(person.shown.lock().unwrap().is_empty(), "opening the page would end the token that is there");
    // Where nobody can be asked, what is there serves.
    let nobody = || Arc::new(NoInteraction);
    assert!(cave.login(&LoginRequest::default(), None, nobody()).await.is_ok());
    let none = cave.token_key("none").login(&LoginRequest::default(), None, nobody()).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::LoginRequired);
    let said = none.to_string();
    assert!(
        said.starts_with("nobody is here to answer") && said.contains("; no token for the CAVE"),
        "{said}"
    );
    let given = listed().secrets_folder(folder.path()).token("given");
    given.login(&LoginRequest::default(), None, Arc::clone(&person) as _).await.unwrap();
    assert_eq!(person.asked.lock().unwrap().len(), 1, "a given token is no file's");
}

#[tokio::test]
async fn a_redirect_is_a_login_page_unless_it_adds_a_slash() {
    let folder = folder(&[(GENERAL, r#"{"token": "marker"}"#)]);
    let cave = listed().secrets_folder(folder.path());
    let from: Uri = "https://cave.example/auth/api/v1/user?id=1".parse().unwrap();
    let refusal = |status, location: Option<&str>| {
        let mut headers = HeaderMap::new();
        if let Some(location) = location {
            headers.insert(header::LOCATION, location.parse().unwrap());
        }
        cave.refusal(&from, StatusCode::from_u16(status).unwrap(), &headers)
    };
    for (status, location, refused) in [
        (302, Some("https://cave.example/login"), true),
        (302, Some("/login?next=x"), true),
        (303, Some("https://accounts.example/oauth2"), true),
        (307, Some("https://global.daf-apis.com/sticky_auth/api/v1/authorize?redirect=x"), true),
        (301, Some("https://elsewhere.example/auth/api/v1/user/"), true),
        (302, Some("no\u{a0}url"), true),
        (308, Some("https://Cave.Example/auth/api/v1/user/?id=1"), false),
        (308, Some("/auth/api/v1/user/"), false),
        (304, Some("https://cave.example/login"), false),
        (302, None, false),
    ] {
        assert_eq!(refusal(status, location).is_some(), refused, "{status} {location:?}");
    }
    token(&cave).await.unwrap();
    let error = refusal(302, Some("/login")).unwrap();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Refused, Some(302)));
    assert_eq!(
        error.to_string(),
        format!(
            "the server sent the request to a login page, which is how CAVE says that the token is not valid; make a new one \
             at https://cave.example/auth/api/v1/create_token and put it in this one's place (HTTP 302) [{}]",
            folder.path().join(GENERAL).display()
        )
    );
}

#[tokio::test]
async fn settings_name_server_file_and_key() {
    let string = |text: &str| Value::String(text.into());
    let settings = |entries: &[(&str, Value)]| {
        entries.iter().fold(Settings::new("profile.work"), |settings, (key, value)| {
            settings.with(*key, value.clone(), Some(2))
        })
    };
    let from = |settings: &Settings| Cave::from_settings(settings, &Context::new());
    let folder = folder(&[("cave.json", r#"{"mine": "from-file"}"#)]);
    let file = folder.path().join("cave.json").display().to_string();
    let all = settings(&[
        ("server", string(OWN)),
        ("token_file", string(&file)),
        ("token_key", string("mine")),
        ("origins", Value::List(vec![string(OWN)])),
    ]);
    let cave = from(&all).unwrap();
    all.finish().unwrap();
    assert_eq!((text(&cave).await.as_str(), cave.general), ("from-file", true));
    let identity = cave.identity();
    assert_eq!((&*identity.kind, &*identity.issuer, &*identity.label), ("cave", OWN, "work"));
    let none = from(&settings(&[])).unwrap();
    assert_eq!((none.server.url.as_str(), none.key.as_str(), none.general), (GLOBAL, "token", true));
    assert!(!from(&settings(&[("server", string(OWN))])).unwrap().general);
    for (key, value, said) in [
        ("server", string("http://cave.example"), "`server` is none: the CAVE server's address: the origin"),
        ("token_key", string(""), "`token_key` must not be empty"),
        ("token_file", string(""), "`token_file` must not be empty"),
        ("origins", Value::List(vec![string("x")]), "`origins`"),
    ] {
        let error = from(&settings(&[(key, value)])).unwrap_err().to_string();
        assert!(error.contains("profile.work: ") && error.contains(said), "{error}");
    }
}

#[test]
fn identities_tell_apart_what_has_another_token() {
    let cave = listed();
    let identities = [
        cave.clone(),
        cave.clone().token_key("other"),
        cave.clone().token_file("/a"),
        cave.clone().secrets_folder("/b"),
        cave.clone().token("same"),
        cave.clone().token("same"),
        Cave::new("https://other.example").unwrap(),
    ]
    .map(|cave| cave.identity());
    for (n, one) in identities.iter().enumerate() {
        assert!(!identities[..n].contains(one), "{one:?}");
    }
    let given = cave.token("marker");
    assert_eq!(given.identity(), given.identity());
    assert!(!format!("{given:?}").contains("marker"));
    assert_eq!(given.keeps(), Keep::Memory);
}
