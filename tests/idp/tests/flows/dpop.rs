//! RFC 9449.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_idp::server::{AccessTokenFormat, Algorithm, Client, Dpop, Settings, SigningKey};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::peer::{Fields, Peer, fields, now, part, redemption, request, text, with};

/// A client with a key.
struct Prover {
    key: SigningKey,
}

impl Prover {
    fn new() -> Self {
        Self { key: SigningKey::generate(Algorithm::Es256) }
    }

    /// The header and claims of a good proof.
    fn proof(&self, method: &str, url: &str) -> (Value, Value) {
        let mut jwk = self.key.jwk();
        jwk.as_object_mut().unwrap().retain(|name, _| ["kty", "crv", "x", "y"].contains(&name.as_str()));
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk });
        let jti = format!("{:032x}", fastrand::u128(..));
        (header, json!({ "jti": jti, "htm": method, "htu": url, "iat": now() }))
    }

    fn sign(&self, (header, claims): &(Value, Value)) -> String {
        self.key.sign_with_header(header, claims)
    }

    /// A good proof with one more claim.
    fn with(&self, method: &str, url: &str, claim: &str, value: &str) -> String {
        let (header, mut claims) = self.proof(method, url);
        claims[claim] = json!(value);
        self.sign(&(header, claims))
    }
}

fn sign_in() -> Fields<'static> {
    fields(&[
        ("grant_type", "password"),
        ("client_id", "cli"),
        ("username", "alice"),
        ("password", "alice-password"),
        ("scope", "openid"),
    ])
}

async fn post(peer: &Peer, form: &[(&str, String)], proof: &str) -> (Response, Option<String>) {
    let sent =
        peer.http.post(peer.server.token_endpoint()).form(form).header("DPoP", proof).send().await.unwrap();
    let nonce = sent.headers().get("dpop-nonce").map(|nonce| nonce.to_str().unwrap().to_owned());
    (sent, nonce)
}

async fn body(peer: &Peer, form: &[(&str, String)], proof: &str) -> Value {
    post(peer, form, proof).await.0.json().await.unwrap()
}

async fn call(
    peer: &Peer,
    scheme: &str,
    token: &str,
    proof: Option<&str>,
) -> (StatusCode, String, Option<String>) {
    let mut request =
        peer.http.get(peer.server.api_url()).header("Authorization", format!("{scheme} {token}"));
    if let Some(proof) = proof {
        request = request.header("DPoP", proof);
    }
    let answer = request.send().await.unwrap();
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    (answer.status(), header("www-authenticate").unwrap_or_default(), header("dpop-nonce"))
}

fn hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token))
}

#[tokio::test]
async fn a_bad_proof_is_refused_at_the_token_endpoint() {
    let peer = Peer::start(Settings::default()).await;
    let (prover, url) = (Prover::new(), peer.server.token_endpoint());
    let good = || prover.proof("POST", &url);
    let spoilt = |spoil: fn(&mut Value, &mut Value)| {
        let (mut header, mut claims) = good();
        spoil(&mut header, &mut claims);
        prover.sign(&(header, claims))
    };
    let stranger = Prover::new();
    let table = [
        ("typ is", spoilt(|header, _| header["typ"] = json!("JWT"))),
        ("is not one of", spoilt(|header, _| header["alg"] = json!("none"))),
        ("is not one of", spoilt(|header, _| header["alg"] = json!("HS256"))),
        ("signature is wrong", spoilt(|header, _| header["alg"] = json!("ES384"))),
        ("jwk is missing", spoilt(|header, _| header["jwk"] = Value::Null)),
        ("private member d", spoilt(|header, _| header["jwk"]["d"] = json!("AAAA"))),
        ("htm is", spoilt(|_, claims| claims["htm"] = json!("GET"))),
        ("htu is", spoilt(|_, claims| claims["htu"] = json!("http://127.0.0.1:1/token"))),
        ("htu has a query", prover.sign(&prover.proof("POST", &format!("{url}?a=b")))),
        ("htu is no URL", spoilt(|_, claims| claims["htu"] = Value::Null)),
        ("iat is", spoilt(|_, claims| claims["iat"] = json!(now() - 120))),
        ("iat is", spoilt(|_, claims| claims["iat"] = json!(now() + 120))),
        ("iat is missing", spoilt(|_, claims| claims["iat"] = Value::Null)),
        ("jti is missing or short", spoilt(|_, claims| claims["jti"] = json!("short"))),
        ("signature is wrong", stranger.key.sign_with_header(&good().0, &good().1)),
        ("three parts", "nonsense".to_owned()),
    ];
    let count = table.len() as u64;
    for (reason, proof) in table {
        let answer = body(&peer, &sign_in(), &proof).await;
        assert_eq!(answer["error"], "invalid_dpop_proof", "{reason}: {answer}");
        assert!(text(&answer, "error_description").contains(reason), "{reason}: {answer}");
    }
    let proof = prover.sign(&good());
    assert_eq!(body(&peer, &sign_in(), &proof).await["token_type"], "DPoP");
    let replayed = body(&peer, &sign_in(), &proof).await;
    assert_eq!(replayed["error_description"], "the jti was used before");
    let counters = peer.server.counters();
    assert_eq!((counters.dpop_proofs, counters.replays), (count + 2, 1));
}

#[tokio::test]
async fn a_bound_token_is_shown_with_a_proof_only() {
    let format = AccessTokenFormat::Jwt;
    let peer = Peer::start(Settings { access_token_format: format, ..Settings::default() }).await;
    let (prover, api) = (Prover::new(), peer.server.api_url());
    let answer =
        body(&peer, &sign_in(), &prover.sign(&prover.proof("POST", &peer.server.token_endpoint()))).await;
    let token = text(&answer, "access_token");
    assert_eq!(part(&token, 1)["cnf"]["jkt"], prover.key.key_id());
    let introspection =
        fields(&[("client_id", "service"), ("client_secret", "service-secret"), ("token", &token)]);
    let (_, told) = peer.post("/introspect", &introspection).await;
    assert_eq!((&told["token_type"], &told["cnf"]["jkt"]), (&json!("DPoP"), &json!(prover.key.key_id())));

    let good = || prover.with("GET", &api, "ath", &hash(&token));
    assert_eq!(call(&peer, "DPoP", &token, Some(&good())).await.0, 200);
    let (status, challenge, _) = call(&peer, "Bearer", &token, Some(&good())).await;
    assert_eq!(status, 401);
    assert!(challenge.starts_with(r#"DPoP error="invalid_token""#), "{challenge}");
    let stranger = Prover::new().with("GET", &api, "ath", &hash(&token));
    let bearer = text(&peer.sign_in("openid").await, "access_token");
    for (reason, token, proof) in [
        ("there is no proof", &token, None),
        ("ath is not the hash", &token, Some(prover.with("GET", &api, "ath", &hash("another")))),
        ("ath is not the hash", &token, Some(prover.sign(&prover.proof("GET", &api)))),
        ("htm is", &token, Some(prover.with("POST", &api, "ath", &hash(&token)))),
        ("htu is", &token, Some(prover.with("GET", &peer.server.token_endpoint(), "ath", &hash(&token)))),
        ("bound to another key", &token, Some(stranger)),
        ("not bound by DPoP", &bearer, Some(prover.with("GET", &api, "ath", &hash(&bearer)))),
    ] {
        let (status, challenge, _) = call(&peer, "DPoP", token, proof.as_deref()).await;
        assert_eq!(status, 401, "{reason}");
        assert!(challenge.starts_with("DPoP error=") && challenge.contains(reason), "{reason}: {challenge}");
    }
    let url = peer.server.url("/userinfo");
    let proof = prover.with("GET", &url, "ath", &hash(&token));
    let request = peer.http.get(&url).header("Authorization", format!("DPoP {token}")).header("DPoP", proof);
    assert_eq!(peer.read(request).await.1["sub"], "subject-alice");
}

#[tokio::test]
async fn nonces_of_server_and_api_are_two_and_rotate() {
    let settings = Settings { dpop_nonce_uses: Some(2), dpop_api_nonce_uses: Some(1), ..Settings::default() };
    let peer = Peer::start(settings).await;
    let (prover, url, api) = (Prover::new(), peer.server.token_endpoint(), peer.server.api_url());
    let (refused, nonce) = post(&peer, &sign_in(), &prover.sign(&prover.proof("POST", &url))).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(refused.json::<Value>().await.unwrap()["error"], "use_dpop_nonce");
    let first = nonce.unwrap();
    let (answer, kept) = post(&peer, &sign_in(), &prover.with("POST", &url, "nonce", &first)).await;
    assert_eq!((answer.status().as_u16(), kept.as_ref()), (200, Some(&first)));
    let token = text(&answer.json().await.unwrap(), "access_token");
    let (answer, second) = post(&peer, &sign_in(), &prover.with("POST", &url, "nonce", &first)).await;
    let second = second.unwrap();
    assert_eq!(answer.status(), 200);
    assert_ne!(second, first, "it was good for two");
    assert_eq!(post(&peer, &sign_in(), &prover.with("POST", &url, "nonce", &first)).await.0.status(), 400);

    let proof = |nonce: &str| {
        let (header, mut claims) = prover.proof("GET", &api);
        claims["ath"] = json!(hash(&token));
        claims["nonce"] = json!(nonce);
        prover.sign(&(header, claims))
    };
    let (status, challenge, nonce) = call(&peer, "DPoP", &token, Some(&proof(&second))).await;
    assert_eq!(status, 401, "the token endpoint's nonce is not the API's");
    assert!(challenge.starts_with(r#"DPoP error="use_dpop_nonce""#), "{challenge}");
    let nonce = nonce.unwrap();
    let (status, _, next) = call(&peer, "DPoP", &token, Some(&proof(&nonce))).await;
    assert_eq!(status, 200);
    let next = next.unwrap();
    assert_ne!(next, nonce);
    peer.server.rotate_dpop_nonces();
    assert_eq!(call(&peer, "DPoP", &token, Some(&proof(&next))).await.0, 401);
    assert_eq!(peer.server.counters().dpop_nonce_challenges, 4);
}

#[tokio::test]
async fn codes_and_refresh_tokens_are_bound_to_the_key() {
    let peer = Peer::start(Settings::default()).await;
    let (prover, stranger, url) = (Prover::new(), Prover::new(), peer.server.token_endpoint());
    let proof = || prover.sign(&prover.proof("POST", &url));
    let strange = || stranger.sign(&stranger.proof("POST", &url));
    let bound = with(&request(), "dpop_jkt", Some(prover.key.key_id()));
    let code = peer.code(&bound).await;
    assert_eq!(body(&peer, &redemption(&code), &strange()).await["error"], "invalid_dpop_proof");
    let code = peer.code(&bound).await;
    assert_eq!(peer.post_token(&redemption(&code)).await.1["error"], "invalid_dpop_proof");
    let code = peer.code(&bound).await;
    let tokens = body(&peer, &redemption(&code), &proof()).await;
    let refresh = fields(&[
        ("grant_type", "refresh_token"),
        ("client_id", "cli"),
        ("refresh_token", &text(&tokens, "refresh_token")),
    ]);
    assert_eq!(peer.post_token(&refresh).await.1["error"], "invalid_grant", "no proof");
    assert_eq!(body(&peer, &refresh, &strange()).await["error"], "invalid_grant", "another key's proof");
    assert_eq!(body(&peer, &refresh, &proof()).await["token_type"], "DPoP");

    let par = peer.server.url("/par");
    let pushed = peer.http.post(&par).form(&request());
    let (_, pushed) = peer.read(pushed.header("DPoP", prover.sign(&prover.proof("POST", &par)))).await;
    let visit = fields(&[("client_id", "cli"), ("request_uri", &text(&pushed, "request_uri"))]);
    let code = peer.code(&visit).await;
    assert_eq!(body(&peer, &redemption(&code), &strange()).await["error"], "invalid_dpop_proof");
}

#[tokio::test]
async fn a_client_must_may_or_need_not_prove() {
    for (dpop, without, with) in [
        (Dpop::Optional, "Bearer", "DPoP"),
        (Dpop::Required, "invalid_dpop_proof", "DPoP"),
        (Dpop::Ignored, "Bearer", "Bearer"),
    ] {
        let peer =
            Peer::start(Settings::default().with_client(Client { dpop, ..Client::public("cli") })).await;
        let prover = Prover::new();
        let said = |body: Value| body["token_type"].as_str().or(body["error"].as_str()).unwrap().to_owned();
        assert_eq!(said(peer.post_token(&sign_in()).await.1), without, "{dpop:?}");
        let proof = prover.sign(&prover.proof("POST", &peer.server.token_endpoint()));
        assert_eq!(said(body(&peer, &sign_in(), &proof).await), with, "{dpop:?}");
    }
}
