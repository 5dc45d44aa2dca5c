//! A server, and a client to ask it with.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_idp::{
    person::{Callback, Person},
    server::{AuthorizationServer, Settings},
};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Where the answers to authorization requests go; nobody listens there.
pub(crate) const CALLBACK: &str = "http://127.0.0.1:49152/callback";

/// A code verifier.
pub(crate) const VERIFIER: &str = "0123456789-0123456789.0123456789_0123456789~";

pub(crate) struct Peer {
    pub(crate) server: AuthorizationServer,
    pub(crate) http: reqwest::Client,
}

pub(crate) type Fields<'a> = Vec<(&'a str, String)>;

impl Peer {
    pub(crate) async fn start(settings: Settings) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        Self { server: AuthorizationServer::start(settings).await, http: http.build().unwrap() }
    }

    /// Posts a form and gives status and JSON, which is null for another body.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, String)]) -> (StatusCode, Value) {
        self.read(self.http.post(self.server.url(path)).form(form)).await
    }

    pub(crate) async fn read(&self, request: RequestBuilder) -> (StatusCode, Value) {
        let response = request.send().await.unwrap();
        (response.status(), serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
    }

    pub(crate) async fn post_token(&self, form: &[(&str, String)]) -> (StatusCode, Value) {
        self.post("/token", form).await
    }

    /// The URL of an authorization request.
    pub(crate) fn authorize_url(&self, parameters: &[(&str, String)]) -> String {
        let mut url = url::Url::parse(&self.server.url("/authorize")).unwrap();
        url.query_pairs_mut().extend_pairs(parameters);
        url.into()
    }

    /// The answer to an authorization request, which the person approves.
    pub(crate) async fn authorize(&self, parameters: &[(&str, String)]) -> Callback {
        Person::new("alice").answer(&self.authorize_url(parameters)).await.unwrap()
    }

    /// A code for an authorization request.
    pub(crate) async fn code(&self, parameters: &[(&str, String)]) -> String {
        let answer = self.authorize(parameters).await;
        answer.parameter("code").unwrap_or_else(|| panic!("{answer:?}"))
    }

    /// Tokens by the password grant.
    pub(crate) async fn sign_in(&self, scope: &str) -> Value {
        let form = fields(&[
            ("grant_type", "password"),
            ("client_id", "cli"),
            ("username", "alice"),
            ("password", "alice-password"),
            ("scope", scope),
        ]);
        let (status, body) = self.post_token(&form).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Whether the API takes a bearer token.
    pub(crate) async fn api_takes(&self, token: &str) -> bool {
        let request = self.http.get(self.server.api_url()).bearer_auth(token);
        request.send().await.unwrap().status().is_success()
    }
}

pub(crate) fn fields<'a>(fields: &[(&'a str, &str)]) -> Fields<'a> {
    fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

/// Fields with one set, or left out.
pub(crate) fn with<'a>(fields: &Fields<'a>, name: &'a str, value: Option<&str>) -> Fields<'a> {
    let mut changed: Fields<'a> = fields.iter().filter(|(known, _)| *known != name).cloned().collect();
    changed.extend(value.map(|value| (name, value.to_owned())));
    changed
}

/// A good authorization request.
pub(crate) fn request() -> Fields<'static> {
    fields(&[
        ("client_id", "cli"),
        ("response_type", "code"),
        ("redirect_uri", CALLBACK),
        ("scope", "openid offline_access"),
        ("state", "the-state"),
        ("nonce", "the-nonce"),
        ("code_challenge", &challenge(VERIFIER)),
        ("code_challenge_method", "S256"),
    ])
}

/// A good redemption of a code.
pub(crate) fn redemption(code: &str) -> Fields<'static> {
    fields(&[
        ("grant_type", "authorization_code"),
        ("client_id", "cli"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ])
}

pub(crate) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

pub(crate) fn text(body: &Value, member: &str) -> String {
    body[member].as_str().unwrap_or_else(|| panic!("{member} in {body}")).to_owned()
}

/// A part of a JWT, which is not verified.
pub(crate) fn part(jwt: &str, index: usize) -> Value {
    let part = jwt.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs().try_into().unwrap()
}
