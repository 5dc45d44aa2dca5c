//! A real Keycloak, started and driven for tests.
//!
//! [`Keycloak::start`] fetches the server through Maven (once), starts it on a loopback port, unless told otherwise with
//! its database in memory and without TLS, and makes a realm `test` in it. The realm's people are alice and bob; who answers Keycloak's pages for
//! them is [`Keycloak::sign_in_at_device`] and [`Keycloak::authorize`]. What an operator would do to a session or
//! a client is in the admin methods: [`Keycloak::log_out_user`], [`Keycloak::set_realm`] and so on.
//!
//! Tests begin with [`Keycloak::for_tests`], which is `None`, and says so, unless `KEYFOB_E2E=keycloak` is set, or with
//! [`Keycloak::for_group`].
//!
//! The clients of the realm (`keycloak/realm.json`):
//!
//! | client | how | for |
//! | --- | --- | --- |
//! | `native` | public | code on any loopback port, device, password, refresh |
//! | `native-pkce` | public, PKCE demanded | code; no device grant |
//! | `native-consent` | public, consent asked | code with a consent page, device |
//! | `native-dpop` | public, DPoP demanded | code, device, password |
//! | `web` | secret | code, device, password, client credentials, token exchange |
//! | `svc-basic`, `svc-post` | secret | client credentials |
//! | `resource-server` | secret | introspection; in every token's audience |
//!
//! Refresh tokens rotate strictly: one reuse of an old one and the newest is dead too.

mod admin;
mod browser;
mod distribution;
mod options;
mod realm;
mod server;
mod tls;

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use serde_json::Value;

pub use self::distribution::Availability;
pub use self::options::{Options, VERSION_VARIABLE};
pub use self::realm::{API_AUDIENCE, API_SCOPES, client_secret, password};

use self::distribution::{Distribution, Turn};
use self::server::Server;
use self::tls::Tls;
use crate::browser::shortened;
use crate::server::ClientCertificate;

/// The environment variable that asks for tests against real servers: `KEYFOB_E2E=keycloak`.
pub const E2E_VARIABLE: &str = "KEYFOB_E2E";

/// How many lines of the server's log an error carries.
const TAIL: usize = 40;

/// A running Keycloak with a realm `test`. Dropping it ends the server.
///
/// It may live in a `static` as well: the server also ends when the process that started it does, however that
/// happens.
#[derive(Debug)]
pub struct Keycloak {
    options: Options,
    distribution: Distribution,
    port: u16,
    base: String,
    http: reqwest::Client,
    tls: Option<Tls>,
    server: Option<Server>,
}

impl Keycloak {
    /// Whether a server could be started here; fetches it if that has not happened yet.
    pub async fn availability(options: &Options) -> Availability {
        match prepare(options).await {
            Ok(_) => Availability::Ready,
            Err(reason) => Availability::Missing(reason.to_string()),
        }
    }

    /// A server for an end-to-end test, or `None` where the test is to be skipped.
    ///
    /// Skipping writes a line to the standard error stream that the test runner does not swallow. Tests run when
    /// `KEYFOB_E2E` is `keycloak`; then a server that cannot be fetched skips the test too, unless `CI` is set.
    ///
    /// # Panics
    ///
    /// When the server cannot be fetched and `CI` is set, and always when it does not start.
    pub async fn for_tests(options: Options) -> Option<Self> {
        Self::for_group("keycloak", options).await
    }

    /// The same for the tests of another group: they run when `KEYFOB_E2E` names it.
    ///
    /// # Panics
    ///
    /// As [`for_tests`](Self::for_tests).
    pub async fn for_group(group: &str, options: Options) -> Option<Self> {
        if std::env::var(E2E_VARIABLE).as_deref() != Ok(group) {
            say(&format!("skipped: set KEYFOB_E2E={group}"));
            return None;
        }
        if let Availability::Missing(reason) = Self::availability(&options).await {
            let on_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
            assert!(!on_ci, "no Keycloak: {reason}");
            say(&format!("skipped: no Keycloak: {reason}"));
            return None;
        }
        Some(Self::start(options).await.expect("Keycloak starts"))
    }

    /// Starts a server and makes the realm; the first start of a version also downloads and builds it.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let distribution = prepare(&options).await?;
        let port = match options.port {
            Some(port) => port,
            None => server::free_port()?,
        };
        let tls = options.tls.then(|| Tls::new(options.folder.join(format!("tls-{port}")))).transpose()?;
        // No pool: a connection kept by one test's runtime would be dead in the next one's.
        let mut http = reqwest::Client::builder();
        if let Some(tls) = &tls {
            http = http.tls_certs_merge([reqwest::Certificate::from_pem(tls.authority.pem().as_bytes())?]);
        }
        let http = http
            .no_proxy()
            .redirect(Policy::none())
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(60))
            .build()?;
        let base = format!("http{}://127.0.0.1:{port}", if options.tls { "s" } else { "" });
        let mut keycloak = Self { options, distribution, port, base, http, tls, server: None };
        keycloak.restart().await?;
        Ok(keycloak)
    }

    /// Ends the server, waits until its port is free and starts it anew on the same port.
    ///
    /// With the database in memory, sessions, keys and whatever was changed are gone, and the realm is as at first; with a
    /// [file](Options::database) all is as it was.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.stop();
        if !server::is_free(self.port) {
            return Err(Error(format!("port {} is taken", self.port)));
        }
        let turn = Turn::wait(&self.options.folder).await?;
        self.server =
            Some(Server::spawn(&self.distribution, &self.options, &self.base, self.port, self.tls.as_ref())?);
        let made = match self.wait_until_up().await {
            Ok(()) if self.has_realm().await => Ok(()),
            Ok(()) => self.make_realm(&self.options).await,
            Err(error) => Err(error),
        };
        drop(turn);
        if let Err(error) = made {
            let error =
                Error(format!("{error}\nthe end of {}:\n{}", self.log_path().display(), self.log_tail()));
            self.stop();
            return Err(error);
        }
        Ok(())
    }

    /// Ends the server and waits until its port is free. Does nothing if it has ended.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// The address of the server, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The issuer: the address of the realm.
    pub fn issuer(&self) -> String {
        format!("{}/realms/{}", self.base, realm::NAME)
    }

    /// An endpoint of the issuer by its last part, such as `token`, `auth`, `auth/device` or `revoke`.
    pub fn endpoint(&self, name: &str) -> String {
        format!("{}/protocol/openid-connect/{name}", self.issuer())
    }

    /// The certificate authority of a server with [TLS](Options::tls): PEM.
    ///
    /// # Panics
    ///
    /// Without TLS.
    pub fn authority(&self) -> String {
        self.tls.as_ref().expect("a server with TLS").authority.pem()
    }

    /// A certificate for a client, by that authority; its subject is `CN=name`.
    ///
    /// # Panics
    ///
    /// Without TLS.
    pub fn client_certificate(&self, name: &str) -> ClientCertificate {
        self.tls.as_ref().expect("a server with TLS").authority.certify(name)
    }

    /// The process id of the server, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    /// Posts a form to an [endpoint](Self::endpoint) and reads the JSON answer.
    pub async fn post(&self, endpoint: &str, form: &[(&str, &str)]) -> Result<Reply, Error> {
        let answer = self.http.post(self.endpoint(endpoint)).form(form).send().await?;
        Reply::read(answer).await
    }

    /// The file the server writes its log to.
    pub fn log_path(&self) -> &Path {
        self.server.as_ref().map_or(Path::new("(no server)"), Server::log)
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        server::tail(self.log_path(), TAIL)
    }

    async fn has_realm(&self) -> bool {
        let answer = self.http.get(self.issuer()).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    async fn wait_until_up(&mut self) -> Result<(), Error> {
        let probe = format!("{}/realms/master/.well-known/openid-configuration", self.base);
        let deadline = Instant::now() + self.options.patience;
        loop {
            if let Some(status) = self.server.as_mut().and_then(Server::exited) {
                return Err(Error(format!("Keycloak ended while starting: {status}")));
            }
            let answer = self.http.get(&probe).timeout(Duration::from_secs(5)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error(format!("Keycloak did not answer within {:?}", self.options.patience)));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

/// An endpoint's answer: its status, and its body as JSON (`null` where it has none).
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

impl Reply {
    /// A text member of the body, or "" when there is none.
    pub fn text(&self, member: &str) -> &str {
        self.body[member].as_str().unwrap_or_default()
    }

    /// The `error` of an OAuth error answer, or "".
    pub fn error(&self) -> &str {
        self.text("error")
    }

    async fn read(answer: reqwest::Response) -> Result<Self, Error> {
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        let body = if text.trim().is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text)
                .map_err(|_| Error(format!("{status}, not JSON: {}", shortened(&text))))?
        };
        Ok(Self { status, body })
    }
}

/// What went wrong, as text; where the server is at fault, with the end of its log.
#[derive(Clone)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// As `Display`, so that a failed `expect` can be read.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self(text)
    }
}

async fn prepare(options: &Options) -> Result<Distribution, Error> {
    let turn = Turn::wait(&options.folder).await?;
    let (folder, version) = (options.folder.clone(), options.version.clone());
    let prepared = blocking(move || Distribution::prepare(&folder, &version)).await;
    drop(turn);
    prepared
}

/// Runs work that waits (for a child process, for a lock) beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.expect("the work does not panic")
}

/// Writes a line past the test runner, which would keep what a passing test prints.
fn say(line: &str) {
    // Nobody to tell if the stream is closed.
    let _ = writeln!(io::stderr(), "keycloak: {line}");
}
