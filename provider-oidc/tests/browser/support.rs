//! A login under way, and what asks at its listener.

use std::{sync::Arc, time::Duration};

use keyfob_auth_core::{Acquired, AuthError, CredentialProvider, Interaction, LoginRequest, Prompt};
use keyfob_idp::server::{AuthorizationServer, Endpoint, RecordedRequest, Settings};
use keyfob_provider_oidc::{Flow, Oidc, OidcBuilder};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};
use url::Url;

pub(crate) async fn server() -> AuthorizationServer {
    AuthorizationServer::start(Settings::default()).await
}

/// The public client of the embedded server. No window is to open on who runs this.
pub(crate) fn client(server: &AuthorizationServer) -> OidcBuilder {
    Oidc::builder(server.issuer(), "cli").flow(Flow::Browser).scopes(["openid", "read"]).open_browser(false)
}

/// A login under way whose URL has been shown.
pub(crate) struct Login {
    pub(crate) url: Url,
    pub(crate) prompts: UnboundedReceiver<Prompt>,
    pub(crate) task: JoinHandle<Result<Acquired, AuthError>>,
}

#[derive(Debug)]
pub(crate) struct Shown(UnboundedSender<Prompt>);

impl Interaction for Shown {
    fn show(&self, prompt: &Prompt) {
        self.0.send(prompt.clone()).unwrap();
    }
}

impl Login {
    pub(crate) async fn begin(provider: &Oidc) -> Self {
        Self::begin_as(provider, LoginRequest::default()).await
    }

    pub(crate) async fn begin_as(provider: &Oidc, request: LoginRequest) -> Self {
        let (sender, mut prompts) = unbounded_channel();
        let provider = provider.clone();
        let login = async move { provider.login(&request, None, Arc::new(Shown(sender))).await };
        let task = tokio::spawn(login);
        let first = prompts.recv().await;
        let Some(Prompt::OpenUrl { url }) = first else { panic!("{first:?}: {:?}", task.await) };
        Self { url: Url::parse(&url).unwrap(), prompts, task }
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        self.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    pub(crate) fn redirect_uri(&self) -> Url {
        Url::parse(&self.parameter("redirect_uri").unwrap()).unwrap()
    }

    pub(crate) fn port(&self) -> u16 {
        self.redirect_uri().port().unwrap()
    }

    pub(crate) async fn end(mut self) -> Result<Acquired, AuthError> {
        let outcome = self.task.await.unwrap();
        assert_eq!(self.prompts.recv().await, None, "nothing but the URL is shown");
        outcome
    }

    /// Asks for the redirect URI with this query, as a browser does.
    pub(crate) async fn get(&self, query: &str) -> Answer {
        let target = format!("{}?{query}", self.redirect_uri().path());
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", self.port())).await
    }

    pub(crate) async fn send(&self, request: &str) -> Answer {
        send(self.port(), request.as_bytes()).await
    }
}

/// What a listener answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) async fn send(port: u16, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// Whether nobody listens at the port, soon.
pub(crate) async fn is_closed(port: u16) -> bool {
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

pub(crate) fn exchanges(server: &AuthorizationServer) -> u64 {
    server.counters().requests_of("authorization_code")
}

/// The requests to this endpoint.
pub(crate) fn requests(server: &AuthorizationServer, endpoint: Endpoint) -> Vec<RecordedRequest> {
    server.requests().into_iter().filter(|request| request.endpoint == Some(endpoint)).collect()
}

/// The error of a login that shows nothing.
pub(crate) async fn refused(provider: &Oidc) -> AuthError {
    let (sender, mut prompts) = unbounded_channel();
    let error = provider.login(&LoginRequest::default(), None, Arc::new(Shown(sender))).await.unwrap_err();
    assert_eq!(prompts.recv().await, None);
    error
}
