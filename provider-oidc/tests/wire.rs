//! Our requests beside those of authlib 1.9.9 (`data/authlib.json`, recorded from it): the same meaningful fields.
//!
//! | Difference | Where | Why |
//! |---|---|---|
//! | `client_id` in the body | assertions | RFC 7521 section 4.2 allows it; servers that look the client up by it (Microsoft Entra, some gateways) want it. `nameless_assertions` leaves it out |
//! | `exp` is `iat` + 300 s, not + 3600 s | assertions | who reads an assertion by chance should not have it for an hour; `assertion_lifetime` makes it longer |
//! | `jti` is new for each request | assertions with claims of one's own | authlib writes the first `jti` into the caller's claims and repeats it, which servers refuse as a replay (RFC 7523 section 3) |
//! | `jti` is 22 characters and not 36 | assertions | 128 random bits either way, in base64url |
//! | id and secret are form-encoded | `client_secret_basic` | RFC 6749 section 2.3.1; `client_secret_basic_raw` sends what authlib sends |
//! | no `charset=UTF-8` | `Content-Type` | the media type has no such parameter (WHATWG URL section 5) |
//! | `User-Agent` | everywhere | each its own |
#![cfg(feature = "jose")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{Script, answer, build, jwt, literal};
use keyfob_auth_core::{
    Context, CredentialProvider, Session, TokenRequest, authorize::Origins, middleware::AuthClient,
    store::MemoryStore,
};
use keyfob_idp::server::{Algorithm, SigningKey};
use keyfob_provider_oidc::{AssertionAudience, ClientAuth, Oidc, OidcBuilder};
use serde_json::{Map, Value, json};

const PATH: &str = "/c2id/token";
const ANSWER: &str = r#"{"access_token":"fake-access","token_type":"Bearer","expires_in":600}"#;

/// What authlib sent.
fn recorded(name: &str) -> Value {
    let all: Vec<Value> = serde_json::from_str(include_str!("data/authlib.json")).unwrap();
    all.into_iter().find(|recorded| recorded["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

/// A request of ours, taken apart.
struct Sent {
    line: String,
    headers: BTreeMap<String, String>,
    form: BTreeMap<String, String>,
}

impl Sent {
    fn read(request: &str) -> Self {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let line = lines.next().unwrap().to_owned();
        let headers = lines.filter_map(|line| line.split_once(": "));
        Self {
            line,
            headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
            form: url::form_urlencoded::parse(body.as_bytes()).into_owned().collect(),
        }
    }

    fn assertion(&self) -> [Value; 2] {
        jwt(&self.form["client_assertion"])
    }
}

/// What we send `times` times for a token.
async fn ours(
    builder: impl FnOnce(OidcBuilder) -> OidcBuilder,
    id: &str,
    times: usize,
) -> (Vec<Sent>, String) {
    let script = Script::start(vec![answer("200 OK", ANSWER); times]).await;
    let url = format!("{}{PATH}", script.url);
    let provider = build(builder(Oidc::builder(&script.url, id).token_endpoint(&url)));
    for _ in 0..times {
        provider.acquire(&TokenRequest::default(), None).await.unwrap();
    }
    (script.requests().iter().map(|request| Sent::read(request)).collect(), url)
}

/// What is in both, compared; the names of what is in one only.
fn beside(sent: &Sent, recorded: &Value, token_endpoint: &str) -> Vec<String> {
    let mut differences = Vec::new();
    assert_eq!(sent.line, format!("{} {PATH} HTTP/1.1", recorded["method"].as_str().unwrap()));
    assert_eq!(recorded["path"], PATH);
    let headers: BTreeMap<String, String> = serde_json::from_value(recorded["headers"].clone()).unwrap();
    assert_eq!(sent.headers["accept"], headers["accept"]);
    assert_eq!(Some(sent.headers["content-type"].as_str()), headers["content-type"].split(';').next());
    assert_eq!(sent.headers.contains_key("authorization"), headers.contains_key("authorization"));
    let form: BTreeMap<String, String> =
        serde_json::from_value::<Vec<(String, String)>>(recorded["form"].clone())
            .unwrap()
            .into_iter()
            .collect();
    for name in form.keys().filter(|name| !sent.form.contains_key(*name)) {
        differences.push(format!("without {name}"));
    }
    for (name, value) in &sent.form {
        match form.get(name) {
            None => differences.push(format!("with {name}")),
            Some(_) if name == "client_assertion" => {}
            Some(theirs) => assert_eq!(value, theirs, "{name}"),
        }
    }
    let Some(theirs) = recorded.get("assertion") else { return differences };
    let [header, claims] = sent.assertion();
    assert_eq!(header, theirs["header"]);
    let names = |claims: &Value| claims.as_object().map(|claims| claims.keys().cloned().collect::<Vec<_>>());
    let sorted = |claims: &Value| {
        let mut names = names(claims).unwrap();
        names.sort();
        names
    };
    assert_eq!(sorted(&claims), sorted(&theirs["claims"]), "the same claims");
    assert_eq!(theirs["claims"]["aud"], format!("https://oidc.nersc.gov{PATH}"), "the token endpoint");
    assert_eq!(claims["aud"], token_endpoint);
    for name in ["iss", "sub", "extra"] {
        assert_eq!(claims[name], theirs["claims"][name], "{name}");
    }
    let (issued, expires) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    if theirs["claims"]["exp"] != format!("<iat+{}s> (JSON integer)", expires - issued) {
        differences.push(format!("exp is iat + {}", expires - issued));
    }
    let characters = claims["jti"].as_str().unwrap().len();
    if theirs["claims"]["jti"] != format!("<random, {characters} chars>") {
        differences.push(format!("jti of {characters}"));
    }
    differences
}

#[tokio::test]
async fn assertions_have_the_same_fields() {
    let keys = [Algorithm::Rs256, Algorithm::Es256, Algorithm::Rs384].map(SigningKey::generate);
    let [rs256, es256, rs384] = keys.each_ref().map(|key| literal(&key.pkcs8_pem()));
    let secret = literal(&"s".repeat(48));
    let extra: Map<String, Value> = json!({"extra": "claim"}).as_object().unwrap().clone();
    type Configure = Box<dyn FnOnce(OidcBuilder) -> OidcBuilder>;
    let custom = move |builder: OidcBuilder| {
        builder.key(rs384).key_id("my-kid").signing_alg("RS384").assertion_claims(extra).scopes(["a", "b"])
    };
    let again = rs256.clone();
    let cases: [(&str, Configure); 5] = [
        ("private-key-jwt", Box::new(move |builder| builder.key(rs256))),
        ("auto-refetch", Box::new(move |builder| builder.key(again))),
        ("private-key-jwt-es256", Box::new(move |builder| builder.key(es256))),
        ("private-key-jwt-custom", Box::new(custom)),
        (
            "client-secret-jwt",
            Box::new(move |builder| builder.client_secret(secret).client_auth(ClientAuth::ClientSecretJwt)),
        ),
    ];
    for (name, configure) in cases {
        let audience = |builder: OidcBuilder| builder.assertion_audience(AssertionAudience::TokenEndpoint);
        let (sent, url) = ours(|builder| audience(configure(builder)), "fakeclientid1", 2).await;
        for one in &sent {
            let differences = beside(one, &recorded(name), &url);
            assert_eq!(differences, ["with client_id", "exp is iat + 300", "jti of 22"], "{name}");
            assert_eq!(one.form["client_id"], "fakeclientid1");
        }
        assert_ne!(sent[0].assertion()[1]["jti"], sent[1].assertion()[1]["jti"], "{name}: never twice");
    }
}

#[tokio::test]
async fn basic_is_the_same_where_the_server_does_not_decode() {
    let recorded = recorded("client-secret-basic");
    for (auth, pair) in [
        (ClientAuth::ClientSecretBasicRaw, "client id:p@ss:w/rd"),
        (ClientAuth::ClientSecretBasic, "client+id:p%40ss%3Aw%2Frd"),
    ] {
        let configure = |builder: OidcBuilder| {
            builder.client_secret(literal("p@ss:w/rd")).client_auth(auth).scopes(["a", "b"])
        };
        let (sent, url) = ours(configure, "client id", 1).await;
        assert!(beside(&sent[0], &recorded, &url).is_empty());
        let header = format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(sent[0].headers["authorization"], header);
        assert_eq!(recorded["headers"]["authorization"] == header, auth == ClientAuth::ClientSecretBasicRaw);
    }
}

#[tokio::test]
async fn the_api_gets_the_token_in_the_same_header() {
    let recorded = &recorded("private-key-jwt")["api"];
    let script = Script::start([answer("200 OK", ANSWER), answer("200 OK", "{}")]).await;
    let context = Context::new();
    let builder = Oidc::builder(&script.url, "id").token_endpoint(&script.url).client_secret(literal("s"));
    let provider = Arc::new(builder.build(&context).unwrap());
    let session = Session::new(provider, Arc::new(MemoryStore::new()), &context).unwrap();
    let origins = Origins::new().with(&script.url).unwrap();
    let http =
        AuthClient::builder(session).origins(origins).http(reqwest::ClientBuilder::no_proxy).build().unwrap();
    http.get(format!("{}{}", script.url, recorded["path"].as_str().unwrap())).send().await.unwrap();
    let sent = Sent::read(&script.requests()[1]);
    assert_eq!(
        sent.line,
        format!("{} {} HTTP/1.1", recorded["method"].as_str().unwrap(), recorded["path"].as_str().unwrap())
    );
    assert_eq!(sent.headers["accept"], recorded["headers"]["accept"]);
    assert_eq!(sent.headers["authorization"], "Bearer fake-access");
    assert_eq!(recorded["headers"]["authorization"], "Bearer fake-access-1");
}
