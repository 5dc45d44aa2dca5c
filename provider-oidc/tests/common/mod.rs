//! What the tests share.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is part of tests")]

use std::sync::{Arc, Mutex};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{Context, Interaction, Login, Prompt, registry::SecretSource, testing::FakeClock};
use keyfob_idp::server::{AuthorizationServer, RecordedRequest};
use keyfob_provider_oidc::{Flow, Oidc, OidcBuilder};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// The public client of the embedded server, by device login.
pub(crate) fn device(server: &AuthorizationServer) -> OidcBuilder {
    Oidc::builder(server.issuer(), "cli").flow(Flow::Device).scopes(["openid", "read"])
}

/// The confidential client of the embedded server, by client credentials.
pub(crate) fn service(server: &AuthorizationServer) -> OidcBuilder {
    Oidc::builder(server.issuer(), "service").client_secret(literal("service-secret"))
}

pub(crate) fn literal(secret: &str) -> SecretSource {
    SecretSource::Literal(secret.into())
}

pub(crate) fn build(builder: OidcBuilder) -> Oidc {
    builder.build(&Context::new()).unwrap()
}

/// A context whose clock says 2030, some time off the server's; the clock can be moved.
pub(crate) fn elsewhen() -> (Arc<FakeClock>, Context) {
    let clock = FakeClock::new();
    let context = Context::builder().clock(clock.clock()).build();
    (clock, context)
}

/// The parts of a JWT: its header and its claims.
pub(crate) fn jwt(text: &str) -> [Value; 2] {
    let part = |index| {
        let part = text.split('.').nth(index).unwrap_or_else(|| panic!("no JWT: {text}"));
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    [part(0), part(1)]
}

/// The last request to a path.
pub(crate) fn last(server: &AuthorizationServer, path: &str) -> RecordedRequest {
    let requests = server.requests();
    requests
        .into_iter()
        .rfind(|request| request.path == path)
        .unwrap_or_else(|| panic!("no request to {path}"))
}

/// The values of a parameter, in order.
pub(crate) fn values(request: &RecordedRequest, name: &str) -> Vec<String> {
    request.form.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
}

/// A login of alice's at the public client, by the password grant: quicker than a device login.
pub(crate) async fn login(server: &AuthorizationServer) -> Login {
    let form = [
        ("grant_type", "password"),
        ("client_id", "cli"),
        ("username", "alice"),
        ("password", "alice-password"),
        ("scope", "openid read"),
    ];
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.post(server.token_endpoint()).form(&form).send().await.unwrap();
    let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    server.reset_counters();
    Login::with_refresh_token(answer["refresh_token"].as_str().unwrap())
}

/// Remembers what a person was shown.
#[derive(Debug, Default)]
pub(crate) struct Shown(Mutex<Vec<Prompt>>);

impl Shown {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn prompts(&self) -> Vec<Prompt> {
        self.0.lock().unwrap().clone()
    }

    /// The user code, once it is shown.
    pub(crate) async fn user_code(&self) -> String {
        loop {
            for prompt in self.prompts() {
                if let Prompt::DeviceCode(code) = prompt {
                    return code.user_code;
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

impl Interaction for Shown {
    fn show(&self, prompt: &Prompt) {
        self.0.lock().unwrap().push(prompt.clone());
    }
}

/// Answers each request with the next of these texts, byte for byte but that `$URL` becomes its own URL, and closes the
/// connection.
pub(crate) struct Script {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Script {
    pub(crate) async fn start<S: Into<String>>(answers: impl IntoIterator<Item = S>) -> Self {
        Self::start_at("127.0.0.1:0", answers).await
    }

    pub(crate) async fn start_at<S: Into<String>>(
        address: &str,
        answers: impl IntoIterator<Item = S>,
    ) -> Self {
        let answers: Vec<String> = answers.into_iter().map(Into::into).collect();
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // Said, or the next request may go out on the connection that is being closed.
        let close = |answer: String| answer.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        let answers: Vec<_> = answers.into_iter().map(|answer| close(answer.replace("$URL", &url))).collect();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !is_whole(&request) {
                    let mut buffer = [0; 4096];
                    let read = stream.read(&mut buffer).await.unwrap_or(0);
                    if read == 0 {
                        break;
                    }
                    request.extend_from_slice(&buffer[..read]);
                }
                recorded.lock().unwrap().push(String::from_utf8(request).unwrap());
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { url, requests, task }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer with this status line and body.
pub(crate) fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}
