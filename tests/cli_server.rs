//! The `keyfob` command against an authorization server.
#![cfg(all(feature = "cli", feature = "oidc", feature = "store-file", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::Child,
    time::Duration,
};

use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault, Settings};
use serde_json::Value;
use support::{Home, Ran, assert_fails, signal};

fn server() -> AuthorizationServer {
    AuthorizationServer::start_on_own_thread(Settings {
        device_interval: Duration::from_millis(10),
        access_token_lifetime: Duration::from_secs(600),
        ..Settings::default()
    })
}

/// A person's profile (the default), and a service's.
fn home(server: &AuthorizationServer) -> Home {
    let issuer = server.issuer();
    Home::new(&format!(
        "default_profile = \"work\"\n\
         [profile.work]\nprovider = \"oidc\"\nissuer = \"{issuer}\"\nclient_id = \"cli\"\nscopes = [\"openid\", \"api\"]\n\
         [profile.service]\nprovider = \"oidc\"\nissuer = \"{issuer}\"\nclient_id = \"service\"\n\
         client_secret = {{ env = \"SERVICE_SECRET\" }}\n"
    ))
}

/// A device login that waits for its person.
struct Login {
    child: Child,
    said: Vec<String>,
    rest: BufReader<std::process::ChildStderr>,
}

impl Login {
    /// Starts one, and reads on until it has shown address and code.
    fn begin(home: &Home) -> Self {
        Self::begin_with(home, "login")
    }

    fn begin_with(home: &Home, arguments: &str) -> Self {
        let mut child = home.command(arguments).spawn().unwrap();
        let mut rest = BufReader::new(child.stderr.take().unwrap());
        let mut said = Vec::new();
        while !said.iter().any(|line: &String| line.starts_with("The code is valid for")) {
            let mut line = String::new();
            assert_ne!(rest.read_line(&mut line).unwrap(), 0, "it ended: {said:?}");
            said.push(line.trim_end_matches('\n').to_owned());
        }
        Self { child, said, rest }
    }

    fn code(&self, server: &AuthorizationServer) -> String {
        let pending = server.pending_user_codes();
        pending.into_iter().find(|code| self.said.contains(code)).expect("the code has a line of its own")
    }

    fn end(mut self) -> Ran {
        let mut err = self.said.join("\n") + "\n";
        self.rest.read_to_string(&mut err).unwrap();
        let mut ran = Ran::from(self.child.wait_with_output().unwrap());
        ran.err = err;
        ran
    }
}

fn log_in(home: &Home, server: &AuthorizationServer) {
    let login = Login::begin(home);
    server.approve(&login.code(server), "alice").unwrap();
    let ran = login.end();
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
}

fn status(home: &Home) -> Value {
    let ran = home.run("status --json");
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn a_person_logs_in_works_and_logs_out() {
    let server = server();
    let home = home(&server);
    assert_fails(&home.run("token"), 3, &["log in: keyfob login --profile work"]);
    let before = status(&home);
    assert_eq!((&before["freshness"], &before["login"]), (&"none".into(), &"needed".into()));
    let human = home.run("status");
    assert_eq!(human.err, "log in: keyfob login --profile work\n");
    assert!(human.out.contains("\nlogin        needed\n"), "{}", human.out);

    let login = Login::begin(&home);
    assert!(login.said.iter().any(|line| *line == server.url("/device")), "{:?}", login.said);
    server.approve(&login.code(&server), "alice").unwrap();
    let ran = login.end();
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    assert!(ran.err.contains("logged in as alice with profile work"), "{}", ran.err);

    let token = home.run("token");
    assert_eq!((token.code, token.err.as_str()), (0, ""));
    assert_eq!(home.run("token").out, token.out, "it is kept between two runs");
    assert_eq!(home.run("token --header").out, format!("Authorization: Bearer {}", token.out));
    assert_eq!(
        server.counters().token,
        server.counters().device_polls,
        "no token was asked for but by the login"
    );

    let known = status(&home);
    for (key, value) in
        [("profile", "work"), ("provider", "oidc"), ("account", "alice"), ("freshness", "fresh")]
    {
        assert_eq!(known[key], value, "{known:#}");
    }
    assert_eq!((&known["issuer"], &known["refreshable"]), (&server.issuer().into(), &true.into()));
    assert!(known["store"].as_str().unwrap().starts_with("file /"), "{known:#}");
    assert_eq!((&known["login"], &known["token_type"]), (&"made".into(), &"Bearer".into()), "{known:#}");
    assert_eq!((&known["binding"], &known["missing_scopes"]), (&Value::Null, &serde_json::json!([])));
    assert!(
        known["expires_at"].as_str().unwrap().ends_with('Z') && known["last_renewal"].is_string(),
        "{known:#}"
    );
    assert_eq!((&known["last_error"], &known["scopes"][0]), (&Value::Null, &"openid".into()), "{known:#}");
    let human = home.run("status").out;
    assert!(
        human.contains("\naccount      alice\n") && human.contains("\ntoken        fresh, expires "),
        "{human}"
    );

    let refresh = home.run("refresh");
    assert_eq!((refresh.code, refresh.out.as_str()), (0, ""), "{}", refresh.err);
    let renewed = home.run("token");
    assert_ne!(renewed.out, token.out);
    assert_ne!(home.run("token --refresh").out, renewed.out);
    assert_eq!(server.counters().requests_of("refresh_token"), 2);

    let logout = home.run("logout");
    assert_eq!((logout.code, logout.out.as_str()), (0, ""), "{}", logout.err);
    assert!(
        server.counters().revocation >= 1 && logout.err.contains("revoked at the server"),
        "{}",
        logout.err
    );
    assert_fails(&home.run("token"), 3, &["keyfob login --profile work"]);
    assert_eq!(home.run("logout").code, 0);
    assert_eq!(status(&home)["account"], Value::Null);
}

#[test]
fn a_login_is_explained_in_the_standards_words_and_without_its_secrets() {
    let server = server();
    let home = home(&server);
    let login = Login::begin_with(&home, "login --explain");
    server.approve(&login.code(&server), "alice").unwrap();
    let ran = login.end();
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    for said in [
        "Discovery (OpenID Connect Discovery section 4)",
        &format!("  > GET {}", server.url("/.well-known/openid-configuration")),
        "Device authorization request (RFC 8628 section 3.1)",
        &format!("  > POST {}", server.url("/device_authorization")),
        "  >   client_id: cli",
        "  >   scope: openid api",
        "Token request, grant urn:ietf:params:oauth:grant-type:device_code (RFC 8628 section 3.4)",
        "  < HTTP 200 after ",
        "  <   token_type: Bearer",
        "not shown)",
    ] {
        assert!(
            ran.err.lines().any(|line| line.starts_with(said) || line.ends_with(said)),
            "{said}: {}",
            ran.err
        );
    }
    let codes = server
        .requests()
        .iter()
        .filter_map(|r| r.parameter("device_code").map(str::to_owned))
        .collect::<Vec<_>>();
    let token = home.run("token").out;
    assert!(!codes.is_empty() && !token.trim().is_empty());
    for secret in codes.iter().map(String::as_str).chain([token.trim()]) {
        assert!(!ran.err.contains(secret), "{}", ran.err);
    }
    let quiet = Login::begin(&home);
    server.approve(&quiet.code(&server), "alice").unwrap();
    assert!(!quiet.end().err.contains("Token request"), "only when asked for");

    // What a service sends, and why it is refused.
    let ran = home
        .command("login --explain --profile service")
        .env("SERVICE_SECRET", "marker-wrong")
        .output()
        .unwrap();
    let ran = Ran::from(ran);
    assert_fails(&ran, 1, &["invalid_client", "  <   error: invalid_client", "  < HTTP 401 after "]);
    assert!(ran.err.contains("  >   Authorization: Basic (") && !ran.err.contains("marker"), "{}", ran.err);
}

#[test]
fn a_denied_login_keeps_the_old_one() {
    let server = server();
    let home = home(&server);
    log_in(&home, &server);
    let token = home.run("token").out;
    let login = Login::begin(&home);
    server.deny(&login.code(&server)).unwrap();
    let ran = login.end();
    assert_fails(&ran, 1, &["error: ", "HTTP 400"]);
    assert!(ran.err.ends_with("\nthe earlier login is kept as it was\n"), "{}", ran.err);
    assert_eq!(home.run("token").out, token);
}

#[test]
fn an_interrupted_login_keeps_the_old_one() {
    let server = server();
    let home = home(&server);
    log_in(&home, &server);
    let token = home.run("token").out;
    let login = Login::begin(&home);
    signal(&login.child, "-INT");
    assert_fails(&login.end(), 130, &["interrupted"]);
    assert_eq!(home.run("token").out, token);
}

#[test]
fn a_service_needs_no_login() {
    let server = server();
    let home = home(&server);
    let run = |arguments: &str| -> Ran {
        home.command(arguments).env("SERVICE_SECRET", "service-secret").output().unwrap().into()
    };
    let token = run("token --profile service");
    assert_eq!((token.code, token.err.as_str()), (0, ""));
    assert_eq!(run("token --profile service").out, token.out);
    assert_eq!(server.counters().token, 1);
    let login = run("login --profile service");
    assert_eq!((login.code, login.out.as_str()), (0, ""), "{}", login.err);
    assert!(login.err.contains("needs no login"), "{}", login.err);
    assert_fails(&home.run("token --refresh --profile service"), 2, &["SERVICE_SECRET"]);
}

#[test]
fn a_wrong_secret_is_refused_with_its_http_status() {
    let server = server();
    let home = home(&server);
    let mut command = home.command("token --profile service --verbose");
    let ran = Ran::from(command.env("SERVICE_SECRET", "marker-secret").output().unwrap());
    assert_fails(&ran, 1, &["HTTP 401", "invalid_client"]);
    assert!(!ran.err.contains("marker-secret"), "{}", ran.err);
}

#[test]
fn what_may_work_later_exits_with_4() {
    for (fault, said) in [
        (Fault::unavailable(None), "HTTP 503"),
        (Fault::too_many_requests(Some(7)), "HTTP 429"),
        (Fault::DropBefore, "caused by: "),
    ] {
        let server = server();
        let home = home(&server);
        server.faults().set_always(Endpoint::Token, Some(fault));
        let mut command = home.command("token --profile service");
        let ran = Ran::from(command.env("SERVICE_SECRET", "service-secret").output().unwrap());
        assert_fails(&ran, 4, &["error: ", said]);
    }
    let server = server();
    let home = home(&server);
    drop(server);
    for command in ["login", "token --profile service"] {
        let ran = Ran::from(home.command(command).env("SERVICE_SECRET", "service-secret").output().unwrap());
        assert_fails(&ran, 4, &["error: ", "caused by: "]);
    }
}

#[test]
fn a_login_that_was_ended_at_the_server_has_to_be_made_again() {
    let server = server();
    let home = home(&server);
    log_in(&home, &server);
    server.log_out("alice");
    assert_fails(&home.run("refresh"), 3, &["invalid_grant", "HTTP 400", "keyfob login --profile work"]);
    // The token that is there serves to its end; then there is nothing but a name.
    assert_eq!(status(&home)["login"], "made");
    log_in(&home, &server);
    assert_eq!(home.run("token").code, 0);
}

#[test]
fn logout_forgets_whatever_the_server_says() {
    let server = server();
    let home = home(&server);
    log_in(&home, &server);
    server.set_down(true);
    let ran = home.run("logout");
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    assert!(ran.err.contains("forgotten here") && ran.err.contains("error: "), "{}", ran.err);
    assert_fails(&home.run("token"), 3, &["keyfob login --profile work"]);
}

#[test]
fn a_store_that_cannot_be_written_is_found_out_before_anybody_signs_in() {
    let server = server();
    let home = home(&server);
    let file = home.folder().join("a-file");
    std::fs::write(&file, "").unwrap();
    // What is above it is a file: no second try makes it a folder, whoever tries.
    let folder = file.join("keyfob/tokens");
    let text = std::fs::read_to_string(home.file()).unwrap();
    let store = format!("store = {{ kind = \"file\", path = {folder:?} }}\n[profile.service]");
    std::fs::write(home.file(), text.replace("[profile.service]", &store)).unwrap();
    let begun = std::time::Instant::now();
    let ran = home.run("login");
    let path = format!("'{}'", folder.display());
    assert_fails(
        &ran,
        1,
        &["the login was not begun, for it could not be kept: ", &path, "name another place (`store`)"],
    );
    assert!(ran.err.contains("caused by: ") && !ran.err.contains("/device"), "{}", ran.err);
    assert!(begun.elapsed() < Duration::from_secs(35), "it was not tried for 40 s");
    assert_eq!((server.requests().len(), server.pending_user_codes().len()), (0, 0), "nobody was asked");
    // What is mended works.
    std::fs::remove_file(&file).unwrap();
    log_in(&home, &server);
    assert_eq!(home.run("token").code, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_store_that_fails_while_the_person_signs_in_is_not_tried_for_long() {
    let server = server();
    let home = home(&server);
    let login = Login::begin(&home);
    let tokens = home.folder().join(".local/state/keyfob");
    let path = format!("'{}'", tokens.join("tokens").display());
    std::fs::remove_dir_all(&tokens).unwrap();
    std::fs::write(&tokens, "").unwrap();
    server.approve(&login.code(&server), "alice").unwrap();
    let begun = std::time::Instant::now();
    let ran = login.end();
    assert_fails(
        &ran,
        1,
        &["the login was made, but its store does not work", "mend that, and log in again", &path],
    );
    assert!(begun.elapsed() < Duration::from_secs(35), "it was not tried for 40 s");
}

#[test]
fn scopes_that_were_added_since_the_login_are_told_until_the_next_one() {
    let server = server();
    let home = home(&server);
    log_in(&home, &server);
    let text = std::fs::read_to_string(home.file()).unwrap();
    std::fs::write(home.file(), text.replace("\"api\"]", "\"api\", \"api.write\"]")).unwrap();
    assert_eq!(status(&home)["missing_scopes"], serde_json::json!(["api.write"]));
    let human = home.run("status");
    assert!(human.out.contains("\nmissing      api.write (in `scopes` since the login"), "{}", human.out);
    assert_eq!(human.err, "log in: keyfob login --profile work\n");
    let renewed = home.run("token --refresh");
    assert_eq!(renewed.code, 0, "{}", renewed.err);
    let said = "the login of \"work\" was not asked for with api.write, which `scopes` has";
    assert_eq!(renewed.err.matches(said).count(), 1, "{}", renewed.err);
    log_in(&home, &server);
    assert_eq!(status(&home)["missing_scopes"], serde_json::json!([]));
    assert_eq!(home.run("status").err, "");
}

#[cfg(feature = "jose")]
#[test]
fn the_key_that_a_token_is_bound_to_is_shown() {
    let server = server();
    let home = home(&server);
    let text = std::fs::read_to_string(home.file()).unwrap();
    std::fs::write(home.file(), text.replace("client_id = \"cli\"", "client_id = \"cli\"\ndpop = true"))
        .unwrap();
    log_in(&home, &server);
    let known = status(&home);
    let thumbprint = known["binding"]["jkt"].as_str().unwrap();
    assert_eq!(
        (&known["token_type"], thumbprint.len()),
        (&"DPoP".into(), 43),
        "SHA-256 in base64url: {known:#}"
    );
    let human = home.run("status").out;
    assert!(human.contains(&format!("\ntoken type   DPoP, bound to jkt {thumbprint}\n")), "{human}");
}

#[test]
fn a_secret_file_that_everybody_can_read_is_warned_of_with_how_to_mend_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let server = server();
    let home = home(&server);
    let secret = home.folder().join("client secret");
    std::fs::write(&secret, "service-secret\n").unwrap();
    let text = std::fs::read_to_string(home.file()).unwrap();
    let source = format!("{{ file = {secret:?} }}");
    std::fs::write(home.file(), text.replace("{ env = \"SERVICE_SECRET\" }", &source)).unwrap();
    let mode = |mode: u32| std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let ran = home.run("token --refresh --profile service");
    let path = secret.display();
    let said = format!("others can read the secret in '{path}' (mode 0644): chmod 600 '{path}'");
    assert_eq!((ran.code, ran.err.matches(&said).count()), (0, 1), "{}", ran.err);
    assert!(!ran.err.contains("service-secret"), "{}", ran.err);
    mode(0o600);
    assert_eq!(home.run("token --refresh --profile service").err, "");
}

#[test]
fn a_wrong_realm_is_told_with_what_to_look_at() {
    let server = server();
    let issuer = format!("{}/realms/typo", server.issuer());
    let config = format!(
        "[profile.a]\nprovider = \"oidc\"\nclient_id = \"cli\"\nissuer = \"{issuer}\"\nstore = \"memory\"\n"
    );
    let ran = Home::new(&config).run("login");
    let url = format!("(HTTP 404) [{issuer}/.well-known/openid-configuration]");
    assert_fails(&ran, 2, &["look at `issuer`", "its realm or tenant, and a base path", &url]);
}

#[test]
fn an_issuer_without_tls_is_fine_on_loopback_only() {
    let home =
        Home::new("[profile.a]\nprovider = \"oidc\"\nclient_id = \"x\"\nissuer = \"http://idp.example\"\n");
    assert_fails(&home.run("token"), 2, &["`issuer`", "https", "line 4"]);
}

#[test]
fn a_login_is_seen_by_a_session_of_the_library() {
    let server = server();
    let home = home(&server);
    log_in(&home, &server);
    let token = home.run("token").out;
    let folder = home.file().parent().unwrap().join("../../.local/state/keyfob/tokens");
    let text = std::fs::read_to_string(home.file()).unwrap();
    let text = text.replace(
        "[profile.service]",
        &format!("store = {{ kind = \"file\", path = {folder:?} }}\n[profile.service]"),
    );
    let config = keyfob::Config::parse(&text, home.file()).unwrap();
    let context = keyfob::Context::new();
    let session = config.profile(None, &keyfob::registry(), &context).unwrap().session;
    assert_eq!(session.token_blocking().unwrap().secret(), token.trim_end());
    assert_eq!(server.counters().requests_of("refresh_token"), 0);
}
