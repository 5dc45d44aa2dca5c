//! Promise 11: secrets stay secret. A child goes through every path with its log at the finest level and prints whatever can
//! be printed; no secret is in it.

use std::{
    error::Error,
    fmt::Debug,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
};

use keyfob::{
    AuthError, Context, CredentialProvider as _, Event, Interaction, Prompt, Session, TokenRequest,
    authorize::Origins,
    middleware::AuthClient,
    oidc::{ClientAuth, Flow, Oidc},
    registry::SecretSource,
};
use keyfob_idp::server::{AuthorizationServer, AutoApprove, Client, Endpoint, Fault, Settings};

use super::{
    child::{Told, command},
    world::*,
};

/// The secret of the client `marked`.
const CLIENT_SECRET: &str = "marker-client: secret+%";
/// A secret that the server does not know.
const WRONG_SECRET: &str = "marker-wrong-secret";

#[test]
fn no_secret_is_printed_on_any_path() {
    let server = start(Settings {
        auto_approve: Some(AutoApprove { user: "alice".into(), after_polls: 1 }),
        // So that the login outlives its faults.
        reuse_grace: Some(s(600)),
        ..strict().with_client(Client::confidential("marked", CLIENT_SECRET))
    });
    let folder = Folder::new();
    let output = command("tell everything", server.issuer(), &folder.path(), "")
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success(), "{text}");
    // It is all there: what was printed, the log down to its finest level, the panic.
    for part in
        ["@done", "TRACE", "DEBUG", "what=\"renew\"", "token published", "logged in", "a panic of ours"]
    {
        assert!(text.contains(part), "{part:?} is not in the output:\n{text}");
    }
    let secrets = secrets(&server);
    println!("{} secrets looked for in {} lines", secrets.len(), text.lines().count());
    assert!(secrets.len() > 12, "{}", secrets.len());
    for line in text.lines() {
        assert!(leak(&secrets, line).is_none(), "a secret is in the line {line:?}");
    }
    // And the search would find them.
    for secret in &secrets {
        assert!(leak(&secrets, &format!("x={secret},")).is_some());
    }
}

/// Everything secret that the server was sent. What it sent and was never sent back is known by its form: see [`leak`].
fn secrets(server: &AuthorizationServer) -> Vec<String> {
    const PARAMETERS: [&str; 5] = ["refresh_token", "device_code", "client_secret", "token", "password"];
    let mut secrets: Vec<String> = [CLIENT_SECRET, WRONG_SECRET].map(str::to_owned).into();
    for request in server.requests() {
        let form = request.form.iter().filter(|(name, _)| PARAMETERS.contains(&name.as_str()));
        let header = request.header("authorization").and_then(|value| value.split_once(' '));
        secrets.extend(form.map(|(_, value)| value.clone()).chain(header.map(|(_, value)| value.to_owned())));
    }
    secrets.sort();
    secrets.dedup();
    secrets
}

/// The secret that is in a line: a known one, or one by the form that the server gives them.
fn leak<'a>(secrets: &'a [String], line: &'a str) -> Option<&'a str> {
    let random = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let by_form = line.split(|c: char| !random(c) && c != '.').find(|word| {
        // Access tokens, refresh tokens and device codes; JWTs.
        let ours = ["at-", "rt-", "dc-"].iter().any(|kind| word.contains(kind)) && word.len() >= 35;
        ours || word.contains("eyJ")
    });
    let marked = line.contains("marker-").then_some("marker-");
    secrets.iter().map(String::as_str).find(|secret| line.contains(*secret)).or(by_form).or(marked)
}

/// Remembers nothing, and panics if it is told to.
#[derive(Debug)]
struct Person {
    panics: bool,
}

impl Interaction for Person {
    fn show(&self, _: &Prompt) {
        assert!(!self.panics, "a panic of ours");
    }
}

/// Prints whatever it is in every way there is.
fn print(value: &impl Debug) {
    println!("{value:?}\n{value:#?}");
}

fn print_error(error: &AuthError) {
    print(error);
    println!("{error}");
    let mut source = error.source();
    while let Some(error) = source {
        println!("{error}\n{error:?}\n{error:#?}");
        source = error.source();
    }
}

/// A child: goes every way.
pub(crate) async fn tell_everything(told: &Told) {
    let filter = tracing_subscriber::EnvFilter::new("off,keyfob=trace");
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    log.init();
    tracing::trace!(target: "keyfob", "the finest level is on");
    the_life_of_a_login(told).await;
    faults(told).await;
    clients(told).await;
    requests(told).await;
    stores(told).await;
    #[cfg(feature = "config")]
    configuration(told);
    super::child::report("done");
}

/// The person's session in a folder of its own, with an ID token.
fn session(told: &Told, name: &str) -> Session {
    let context = Context::new();
    let provider = Oidc::builder(&told.issuer, "cli").flow(Flow::Device).scopes(["openid", "read"]);
    print(&provider);
    let provider = provider.label(name).build(&context).unwrap();
    print(&provider);
    print(&provider.identity());
    let builder = Session::builder(Arc::new(provider)).store(open(told.folder.clone())).context(&context);
    print(&builder);
    builder.build().unwrap()
}

async fn signed_in(told: &Told, name: &str) -> Session {
    let session = session(told, name);
    session.login(Arc::new(Person { panics: false })).await.unwrap();
    session
}

async fn print_session(session: &Session) {
    print(session);
    print(&session.context());
    match session.token().await {
        Ok(token) => {
            print(&token);
            print(token.presentation());
            print(&token.header());
            print(&session.cached_header());
            print(&session.authorization().await);
        }
        Err(error) => print_error(&error),
    }
    print(&session.status().await);
}

async fn the_life_of_a_login(told: &Told) {
    let session = session(told, "life");
    let mut events = session.watch();
    let seen = Arc::new(Mutex::new(Vec::<Event>::new()));
    let seeing = Arc::clone(&seen);
    let watcher = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            seeing.lock().unwrap().push(event);
        }
    });
    print_error(&session.token().await.unwrap_err());
    print_error(&session.login(Arc::new(Person { panics: true })).await.unwrap_err());
    let token = session.login(Arc::new(Person { panics: false })).await.unwrap();
    print(&session.invalidate(&token));
    print_session(&session).await;
    print(&session.refresh().await);
    print(&session.for_scopes(["read"]).token().await);
    print_error(&session.for_scopes(["beyond"]).token().await.unwrap_err());
    let store = open(told.folder.clone());
    for key in store.list().await.unwrap() {
        print(&store.load(&key).await);
        print(&store.try_lease(&key).await);
    }
    control(told, Endpoint::Revocation, &Fault::status(500)).await;
    print(&session.logout().await);
    print_session(&session).await;
    watcher.abort();
    let seen = seen.lock().unwrap();
    assert!(seen.len() >= 5, "{seen:?}");
    print(&*seen);
}

async fn faults(told: &Told) {
    let session = signed_in(told, "faults").await;
    for fault in [
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::Truncated,
        Fault::Malformed,
        Fault::EmptyBody,
        Fault::Oversized((1 << 20) + 1),
        Fault::Html(502),
        Fault::status(400),
        Fault::status(500),
        Fault::unavailable(Some(1)),
        Fault::too_many_requests(None),
        Fault::oauth_error("invalid_client"),
        Fault::oauth_error("interaction_required"),
        Fault::oauth_error("temporarily_unavailable"),
    ] {
        // A process of its own, which no pause of an earlier one holds up.
        let session = self::session(told, "faults");
        session.token().await.unwrap();
        control(told, Endpoint::Token, &fault).await;
        print_error(&session.refresh().await.unwrap_err());
        print_session(&session).await;
    }
    control(told, Endpoint::Token, &Fault::oauth_error("invalid_grant")).await;
    control(told, Endpoint::Token, &Fault::oauth_error("invalid_grant")).await;
    let session_that_is_refused = self::session(told, "faults");
    print_error(&session_that_is_refused.refresh().await.unwrap_err());
    print_session(&session_that_is_refused).await;
    print_session(&session).await;
    for endpoint in [Endpoint::Discovery, Endpoint::DeviceAuthorization] {
        control(told, endpoint, &Fault::Html(503)).await;
        let login = self::session(told, "faults").login(Arc::new(Person { panics: false })).await;
        print_error(&login.unwrap_err());
    }
}

async fn clients(told: &Told) {
    for auth in [ClientAuth::ClientSecretBasic, ClientAuth::ClientSecretPost] {
        for secret in [CLIENT_SECRET, WRONG_SECRET] {
            let context = Context::new();
            let provider = Oidc::builder(&told.issuer, "marked")
                .client_secret(SecretSource::Literal(secret.into()))
                .client_auth(auth)
                .extra_parameter("product", "marker-extra")
                .label(format!("{auth:?} {}", secret.len()));
            print(&provider);
            let provider = provider.build(&context).unwrap();
            print(&provider);
            print(&provider.acquire(&TokenRequest::default(), None).await);
            let session = Session::new(Arc::new(provider), open(told.folder.clone()), &context).unwrap();
            print_session(&session).await;
        }
    }
}

async fn requests(told: &Told) {
    let session = signed_in(told, "requests").await;
    let origins = Origins::new().with(&told.issuer).unwrap();
    let client = AuthClient::builder(session).origins(origins).http(|http| http.no_proxy());
    print(&client);
    let client = client.build().unwrap();
    print(&client);
    control(told, Endpoint::Api, &Fault::invalid_token()).await;
    for path in
        ["/api/echo", "/api/redirect?to=/api/echo", "/api/redirect?to=http://localhost:1/", "/api/public"]
    {
        match client.get(format!("{}{path}", told.issuer)).send().await {
            Ok(answer) => print(&answer.text().await),
            Err(error) => print(&error),
        }
    }
}

/// Records that cannot be read, and a folder that others can.
async fn stores(told: &Told) {
    signed_in(told, "stores").await;
    let files = || std::fs::read_dir(&told.folder).unwrap().map(|entry| entry.unwrap().path());
    let records = || files().filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (path, mode) in [(records().next().unwrap(), 0o644), (told.folder.clone(), 0o755)] {
        let before = path.metadata().unwrap().permissions().mode();
        allow(&path, mode);
        for record in ["stores", "life", "faults", "requests"] {
            print_session(&session(told, record)).await;
        }
        allow(&path, before);
    }
    for record in records() {
        let whole = std::fs::read(&record).unwrap();
        std::fs::write(&record, &whole[..whole.len() / 2]).unwrap();
    }
    print_session(&session(told, "stores")).await;
    print(&open(told.folder.clone()).list().await);
    print_session(&session(told, "stores")).await;
}

#[cfg(feature = "config")]
fn configuration(told: &Told) {
    let profile =
        format!("[profile.a]\nprovider = \"oidc\"\nissuer = \"{}\"\nclient_id = \"marked\"\n", told.issuer);
    for line in [
        "client_secret = \"marker-in-a-file\"",
        "client_secret = \"marker-in-a-file",
        "client_secret = \"marker-in-a-file\" marker-beside",
        "client_secret = [\"marker-in-a-file\"]",
        "client_secret = { literal = \"marker-in-a-file\" }",
        "client_secret = \"marker-in-a-file\"\nclient_secret = \"marker-again\"",
        "client_secret = \"marker-in-a-file\"\nno_such_key = \"marker-of-a-stranger\"",
    ] {
        match keyfob::Config::parse(&format!("{profile}{line}\n"), told.folder.join("config.toml")) {
            Ok(config) => {
                print(&config);
                match config.profile(Some("a"), &keyfob::registry(), &Context::new()) {
                    Ok(profile) => print(&profile),
                    Err(error) => print_error(&error),
                }
            }
            Err(error) => print_error(&error),
        }
    }
}

/// Asks the server for a fault.
async fn control(told: &Told, endpoint: Endpoint, fault: &Fault) {
    let command = serde_json::json!({ "endpoint": endpoint, "fault": fault });
    let answer = http().post(format!("{}/control/faults", told.issuer)).json(&command).send().await.unwrap();
    assert_eq!(answer.status(), 204);
}
