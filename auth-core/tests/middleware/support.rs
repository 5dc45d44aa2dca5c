//! A server that records what it is sent, and a provider that does what it is told.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, extract::Request, response::Response};
use http::{HeaderName, StatusCode};
use keyfob_auth_core::{
    AccessToken, Acquired, AuthError, Binding, Challenge, Context, CredentialProvider, Identity, Login,
    Presentation, RequestSigner, Session, TokenRequest, async_trait,
    authorize::Origins,
    middleware::{AuthClient, AuthClientBuilder},
};

/// A request that a server was sent.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: String,
    headers: http::HeaderMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        assert!(self.headers.get_all(name).iter().count() < 2, "{name} came twice");
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.header("authorization").map(|value| value.strip_prefix("Bearer ").unwrap_or(value))
    }
}

pub(crate) struct Server {
    /// `http://127.0.0.1:PORT`
    pub(crate) origin: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Answers every request with what `answer` says.
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let handler = move |request: Request| {
            let (log, answer) = (Arc::clone(&log), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let seen = Seen {
                    method: parts.method.to_string(),
                    path: parts.uri.path_and_query().unwrap().to_string(),
                    body: String::from_utf8(body.to_vec()).unwrap(),
                    headers: parts.headers,
                };
                log.lock().unwrap().push(seen.clone());
                answer(&seen)
            }
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await });
        Self { origin, seen }
    }

    /// Answers every request with 200.
    pub(crate) async fn ok() -> Self {
        Self::start(|_| reply(200, &[])).await
    }

    /// Takes these tokens only; another is answered with a 401 and this challenge.
    pub(crate) async fn accepting(tokens: &'static [&'static str], challenge: &'static str) -> Self {
        Self::start(move |seen| match seen.token() {
            Some(token) if tokens.contains(&token) => reply(200, &[]),
            _ => reply(401, &[("www-authenticate", challenge)]),
        })
        .await
    }

    /// Redirects every request.
    pub(crate) async fn redirecting(status: u16, to: String) -> Self {
        Self::start(move |_| reply(status, &[("location", &to)])).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The tokens that came, in order.
    pub(crate) fn tokens(&self) -> Vec<Option<String>> {
        self.seen().iter().map(|seen| seen.token().map(str::to_owned)).collect()
    }
}

pub(crate) fn reply(status: u16, headers: &[(&str, &str)]) -> Response {
    let mut response = Response::new(Body::from("answer"));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response
            .headers_mut()
            .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    response
}

type Answer = Box<dyn Fn(usize, &TokenRequest) -> Result<AccessToken, AuthError> + Send + Sync>;
type Present = Box<dyn Fn(&AccessToken) -> Result<Presentation, AuthError> + Send + Sync>;

/// A provider that is told what to answer, and remembers what it was asked.
#[derive(Clone)]
pub(crate) struct Scripted(Arc<Script>);

struct Script {
    answer: Answer,
    present: Present,
    asked: Mutex<Vec<Option<Challenge>>>,
}

impl Scripted {
    /// Gives `t1`, `t2`, …, each as a bearer token.
    pub(crate) fn counting() -> Self {
        Self::answering(|count, _| Ok(token(count)))
    }

    pub(crate) fn failing(error: AuthError) -> Self {
        Self::answering(move |_, _| Err(error.clone()))
    }

    /// Answers the first, second, … request as this says.
    pub(crate) fn answering(
        answer: impl Fn(usize, &TokenRequest) -> Result<AccessToken, AuthError> + Send + Sync + 'static,
    ) -> Self {
        Self::presenting(answer, Presentation::bearer)
    }

    /// Gives `t1`, `t2`, … in this header.
    pub(crate) fn in_header(name: &'static str) -> Self {
        let present =
            move |token: &AccessToken| Presentation::header(HeaderName::from_static(name), "", token);
        Self::presenting(|count, _| Ok(token(count)), present)
    }

    /// Gives `t1`, `t2`, …, with this signer.
    pub(crate) fn signing(signer: &Arc<impl RequestSigner + 'static>) -> Self {
        let signer = Arc::clone(signer);
        Self::presenting(
            |count, _| Ok(token(count).with_binding(Binding::Dpop("thumbprint".into()))),
            move |_| Ok(Presentation::Signed(Arc::clone(&signer) as _)),
        )
    }

    fn presenting(
        answer: impl Fn(usize, &TokenRequest) -> Result<AccessToken, AuthError> + Send + Sync + 'static,
        present: impl Fn(&AccessToken) -> Result<Presentation, AuthError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Script {
            answer: Box::new(answer),
            present: Box::new(present),
            asked: Mutex::default(),
        }))
    }

    pub(crate) fn session(&self) -> Session {
        Session::builder(Arc::new(self.clone())).context(&Context::new()).build().unwrap()
    }

    /// A client for these origins.
    pub(crate) fn client(&self, origins: &[&Server]) -> AuthClient {
        self.builder(Origins::parse(origins.iter().map(|server| &server.origin)).unwrap()).build().unwrap()
    }

    pub(crate) fn builder(&self, origins: Origins) -> AuthClientBuilder {
        AuthClient::builder(self.session()).origins(origins).http(reqwest::ClientBuilder::no_proxy)
    }

    /// How often it was asked.
    pub(crate) fn count(&self) -> usize {
        self.0.asked.lock().unwrap().len()
    }

    /// The challenges that it was asked to satisfy.
    pub(crate) fn challenges(&self) -> Vec<Challenge> {
        self.0.asked.lock().unwrap().iter().flatten().cloned().collect()
    }
}

pub(crate) fn token(count: usize) -> AccessToken {
    AccessToken::new(format!("t{count}")).expires_in(3600)
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

#[async_trait]
impl CredentialProvider for Scripted {
    fn identity(&self) -> Identity {
        Identity::new("scripted")
    }

    async fn acquire(&self, request: &TokenRequest, _: Option<&Login>) -> Result<Acquired, AuthError> {
        let count = {
            let mut asked = self.0.asked.lock().unwrap();
            asked.push(request.challenge.clone());
            asked.len()
        };
        (self.0.answer)(count, request).map(Acquired::token)
    }

    fn present(&self, token: &AccessToken, _: Option<&Login>) -> Result<Presentation, AuthError> {
        (self.0.present)(token)
    }

    fn refusal(&self, from: &http::Uri, _: StatusCode, headers: &http::HeaderMap) -> Option<AuthError> {
        let to_login = headers.get("location").is_some_and(|location| location == "/login");
        to_login.then(|| AuthError::refused(format!("sent to the login page from {}", from.path())))
    }
}
