//! The `keyfob` command as a person or a script calls it, as far as that needs no server.
#![cfg(all(feature = "cli", feature = "static", feature = "store-file", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    thread,
    time::{Duration, Instant},
};

use support::{Home, Ran, assert_fails, signal};

/// `{"alg":"none"}` and `{"exp":4102444800,"sub":"alice"}`, unsigned.
const JWT: &str = "eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDAsInN1YiI6ImFsaWNlIn0.x";

const TWO: &str = "\
default_profile = \"work\"

[profile.work]
provider = \"static\"
token = \"abc\"

[profile.other]
provider = \"static\"
tokn = \"marker-secret\"
";

#[test]
fn without_a_file_the_place_and_an_example_are_shown() {
    let home = Home::new("");
    fs::remove_file(home.file()).unwrap();
    for command in ["token", "status", "login", "profiles"] {
        let ran = home.run(command);
        assert_fails(&ran, 2, &[home.file().to_str().unwrap(), "[profile.work]", "provider = \"oidc\""]);
        assert!(!ran.err.contains("caused by"), "{}", ran.err);
    }
}

#[test]
fn profiles_are_listed_bad_ones_too() {
    let ran = Home::new(TWO).run("profiles");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(ran.out, "other  static\nwork   static  (default)\n");
    let none = Home::new("").run("profiles");
    assert_eq!((none.code, none.out.as_str()), (0, ""));
}

#[test]
fn an_unknown_profile_lists_those_there_are() {
    let home = Home::new(TWO);
    assert_fails(
        &home.run("token --profile wrok"),
        2,
        &["\"wrok\"", "other, work", home.file().to_str().unwrap()],
    );
    let unnamed = Home::new("[profile.a]\n[profile.b]\n");
    assert_fails(&unnamed.run("token"), 2, &["default_profile = \"a\"", "--profile NAME", "a, b"]);
}

#[test]
fn a_bad_profile_is_named_with_key_and_line_and_stops_no_other() {
    let home = Home::new(TWO);
    assert_eq!(home.run("token").code, 0);
    let misspelt = "profile.other: `token` is missing; did you mean it by `tokn`?";
    assert_fails(&home.run("token --profile other"), 2, &[misspelt, "line 9"]);
    let with_both = Home::new(&format!("{TWO}token = \"abc\"\n"));
    let ran = with_both.run("token --profile other");
    assert_fails(&ran, 2, &["profile.other: unknown key `tokn`; did you mean `token`?", "line 9"]);
    assert!(!ran.err.contains("marker"), "{}", ran.err);
}

#[test]
fn a_required_key_that_is_misspelt_is_told_with_its_line() {
    for (config, said, line) in [
        (
            "provdier = \"static\"\ntoken = \"x\"",
            "the key `provider` is missing; did you mean it by `provdier`?",
            2,
        ),
        ("provider = \"static\"\nTokn = \"x\"", "`token` is missing; did you mean it by `Tokn`?", 3),
        #[cfg(feature = "oidc")]
        (
            "provider = \"oidc\"\nclient_id = \"x\"\nisuer = \"https://idp.example\"",
            "profile.a: the key `issuer` is missing; did you mean it by `isuer`?",
            4,
        ),
        #[cfg(feature = "oidc")]
        (
            "provider = \"oidc\"\nissuer = \"https://idp.example\"\nclientid = \"x\"\nclient_secret = \"x\"",
            "profile.a: the key `client_id` is missing; did you mean it by `clientid`?",
            4,
        ),
    ] {
        let ran = Home::new(&format!("[profile.a]\n{config}\n")).run("token");
        assert_fails(&ran, 2, &[said, &format!("line {line}")]);
    }
}

#[test]
fn without_a_cave_token_it_is_told_how_to_get_one() {
    let home = Home::new("[profile.connectome]\nprovider = \"cave\"\nstore = \"memory\"\n");
    let run = |arguments: &str| -> Ran {
        home.command(arguments).env_remove("CLOUD_VOLUME_DIR").output().unwrap().into()
    };
    let file = home.folder().join(".cloudvolume/secrets/global.daf-apis.com-cave-secret.json");
    let ways = [
        "make one at https://global.daf-apis.com/auth/api/v1/create_token",
        "`keyfob login` at a terminal asks for it",
        "write {\"token\": \"THE TOKEN\"} into",
        file.to_str().unwrap(),
    ];
    let token = run("token");
    assert_fails(&token, 3, &ways);
    assert!(token.err.ends_with("\nlog in: keyfob login --profile connectome\n"), "{}", token.err);
    // Where nobody can be asked, it leads to the terminal or to the file.
    let login = run("login");
    assert_fails(&login, 1, &ways);
    assert_fails(&login, 1, &["nobody can be asked here: there is no terminal; run it at one; no token for"]);
    // What was told works.
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "{\"token\": \"abc\"}").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let token = run("token");
    assert_eq!((token.code, token.out.as_str(), token.err.as_str()), (0, "abc\n", ""));
}

#[test]
fn wrong_types_and_unknown_names_are_told_with_their_line() {
    for (config, said) in [
        ("[profile.a]\nprovider = 3", "`provider` must be a text"),
        ("[profile.a]\nprovider = \"statik\"", "`static`"),
        (
            "[profile.a]\ntoken = { envv = \"X\" }\nprovider = \"static\"",
            "unknown key `envv`; did you mean `env`?",
        ),
        ("[profile.a]\nstore = \"fil\"\nprovider = \"static\"\ntoken = \"x\"", "`file`"),
        ("[profile.a]\norigins = \"x\"\nprovider = \"static\"", "a list of texts"),
        ("[profile]\na = 3", "must be a table"),
        ("# nothing\ndefault = \"a\"", "unknown key `default`"),
        ("\ndefault_profile = []", "must be a text"),
    ] {
        assert_fails(&Home::new(config).run("token"), 2, &[said, "line 2"]);
    }
}

#[test]
fn an_error_of_syntax_shows_its_place_but_nothing_of_the_line() {
    let ran =
        Home::new("[profile.a]\ntoken = \"marker-secret\nprovider = \"static\"\n").run("token --verbose");
    assert_fails(&ran, 2, &["config.toml, line 2, column "]);
    assert!(!ran.err.contains("marker"), "{}", ran.err);
}

#[test]
fn the_file_may_be_named_by_option_or_variable() {
    let (home, other) = (Home::new(TWO), Home::new("[profile.x]\nprovider = \"static\"\ntoken = \"xyz\"\n"));
    let path = other.file();
    assert_eq!(home.run(&format!("token --config {}", path.display())).out, "xyz\n");
    let by_variable =
        |path: &str| Ran::from(home.command("token").env("KEYFOB_CONFIG", path).output().unwrap());
    assert_eq!(by_variable(path.to_str().unwrap()).out, "xyz\n");
    assert_eq!(by_variable("").out, "abc\n");
    assert_fails(&by_variable("/nowhere/k.toml"), 2, &["/nowhere/k.toml"]);
}

#[test]
fn a_token_is_printed_alone() {
    let home = Home::new(TWO);
    let ran = home.run("token");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "abc\n", ""));
    assert_eq!(home.run("token --header").out, "Authorization: Bearer abc\n");
    assert_eq!(home.run("token --refresh").out, "abc\n");
    assert_fails(&home.run("token --decode"), 1, &["no JWT"]);
}

#[test]
fn a_jwt_is_decoded() {
    let home = Home::new(&format!("[profile.a]\nprovider = \"static\"\ntoken = \"{JWT}\"\n"));
    let ran = home.run("token --decode");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let shown: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(shown["claims"]["sub"], "alice");
    assert_eq!(shown["header"]["alg"], "none");
    let status: serde_json::Value = serde_json::from_str(&home.run("status --json").out).unwrap();
    assert_eq!(status["expires_at"], serde_json::Value::Null, "nothing of a literal is kept");
}

#[test]
fn status_is_one_object_with_these_keys_also_without_a_login() {
    let home = Home::new(TWO);
    let ran = home.run("status --json");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let serde_json::Value::Object(object) = serde_json::from_str(&ran.out).unwrap() else {
        panic!("{}", ran.out)
    };
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "account",
        "binding",
        "claims",
        "expires_at",
        "freshness",
        "issuer",
        "last_error",
        "last_renewal",
        "login",
        "missing_scopes",
        "profile",
        "provider",
        "refreshable",
        "scopes",
        "store",
        "token_type",
    ];
    assert_eq!(keys, expected);
    assert_eq!((&object["profile"], &object["provider"]), (&"work".into(), &"static".into()));
    assert_eq!((&object["freshness"], &object["account"]), (&"none".into(), &serde_json::Value::Null));
    assert_eq!((&object["login"], &object["token_type"]), (&"not_needed".into(), &serde_json::Value::Null));
    assert_eq!(object["missing_scopes"], serde_json::json!([]));
    let human = home.run("status");
    assert_eq!(human.code, 0);
    assert!(human.out.starts_with("profile      work\nprovider     static\n"), "{}", human.out);
}

#[test]
fn a_login_that_needs_no_person_says_so_and_logout_can_be_repeated() {
    let home = Home::new(TWO);
    let login = home.run("login");
    assert_eq!((login.code, login.out.as_str()), (0, ""), "{}", login.err);
    assert!(login.err.contains("needs no login") && !login.err.contains("abc"), "{}", login.err);
    for _ in 0..2 {
        let logout = home.run("logout");
        assert_eq!((logout.code, logout.out.as_str()), (0, ""), "{}", logout.err);
    }
    let refresh = home.run("refresh");
    assert_eq!((refresh.code, refresh.out.as_str()), (0, ""), "{}", refresh.err);
}

#[test]
fn a_literal_secret_that_others_can_read_is_warned_of() {
    let home = Home::new(TWO);
    assert_eq!(home.run("token").err, "");
    home.allow(0o644);
    let ran = home.run("token");
    assert_eq!((ran.code, ran.out.as_str()), (0, "abc\n"));
    assert!(ran.err.contains("others can read") && ran.err.contains("profile.work.token"), "{}", ran.err);
    assert!(!ran.err.contains("abc"), "{}", ran.err);
    let elsewhere =
        Home::new("[profile.a]\nprovider = \"static\"\ntoken = { env = \"KEYFOB_TEST_TOKEN\" }\n");
    elsewhere.allow(0o644);
    let ran = Ran::from(elsewhere.command("token").env("KEYFOB_TEST_TOKEN", "from-env").output().unwrap());
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("from-env\n", ""));
}

#[test]
fn a_secret_that_is_not_there_is_configuration() {
    let config = |form: &str| format!("[profile.a]\nprovider = \"static\"\ntoken = {form}\n");
    for (form, said) in [
        ("{ env = \"KEYFOB_TEST_UNSET\" }", "KEYFOB_TEST_UNSET"),
        ("{ file = \"absent.txt\" }", "/keyfob/absent.txt"),
        ("{ command = [\"false\", \"marker-secret\"] }", "command false"),
        ("{ command = [\"/nowhere/marker\"] }", "/nowhere"),
    ] {
        let ran = Home::new(&config(form)).run("token");
        assert_fails(&ran, 2, &["error: ", said]);
        assert!(!ran.err.contains("marker-secret"), "{}", ran.err);
    }
    let missing = Home::new(&config("{ file = \"absent.txt\" }")).run("token");
    assert!(missing.err.ends_with("/absent.txt, for `token` of profile.a]\n"), "{}", missing.err);
}

#[test]
fn wrong_use_exits_with_2_and_help_is_at_hand() {
    let home = Home::new(TWO);
    for arguments in ["", "frobnicate", "token --frobnicate", "token --header --decode", "--profile"] {
        assert_eq!(home.run(arguments).code, 2, "{arguments}");
    }
    let help = home.run("--help");
    assert_eq!(help.code, 0);
    for command in ["login", "token", "status", "refresh", "logout", "profiles", "KEYFOB_CONFIG"] {
        assert!(help.out.contains(command), "{}", help.out);
    }
    assert!(home.run("--version").out.starts_with("keyfob "));
}

#[test]
fn no_secret_is_ever_said() {
    let home = Home::new(&TWO.replace("abc", "marker-secret"));
    for command in ["login", "status", "status --json", "refresh", "logout", "profiles", "token --decode"] {
        for option in ["", " --verbose", " --profile other"] {
            let ran = home.run(&format!("{command}{option}"));
            assert!(
                !ran.out.contains("marker") && !ran.err.contains("marker"),
                "{command}: {}{}",
                ran.out,
                ran.err
            );
        }
    }
    let told = home.run("token --verbose");
    assert!(told.out == "marker-secret\n" && !told.err.contains("marker"), "{}", told.err);
}

#[test]
fn a_reader_who_went_away_is_no_panic() {
    let home = Home::new(TWO);
    for command in ["token", "status --json", "profiles", "--help"] {
        let mut child = home.command(command).spawn().unwrap();
        drop(child.stdout.take());
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{command}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran = Ran::from(Home::new(TWO).command("token").stdout(full).output().unwrap());
    assert_fails(&ran, 1, &["error: cannot write to the standard output: "]);
}

#[test]
fn an_interrupt_waits_for_what_is_under_way_and_a_second_one_does_not() {
    let home = Home::new("[profile.a]\nprovider = \"static\"\ntoken = { command = [\"./wait\"] }\n");
    let folder = home.file().parent().unwrap().to_owned();
    let script = folder.join("wait");
    let mut file = fs::File::create(&script).unwrap();
    writeln!(file, "#!/bin/sh\ntouch {0}/started\nsleep 3\ntouch {0}/ended\necho abc", folder.display())
        .unwrap();
    drop(file);
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let start = || {
        let _ = fs::remove_file(folder.join("started"));
        let mut command = home.command("token");
        let child = command.current_dir(&folder).spawn().unwrap();
        let begun = Instant::now();
        while !folder.join("started").exists() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it did not start");
            thread::sleep(Duration::from_millis(10));
        }
        child
    };

    let child = start();
    signal(&child, "-INT");
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_fails(&ran, 130, &["interrupted"]);
    assert!(folder.join("ended").exists(), "what was under way was let end");

    let child = start();
    signal(&child, "-TERM");
    thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    signal(&child, "-INT");
    assert_eq!(Ran::from(child.wait_with_output().unwrap()).code, 130);
    assert!(begun.elapsed() < Duration::from_secs(2), "the second one is obeyed at once");
}
