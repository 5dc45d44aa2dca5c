//! Client authentication by signed assertions: RFC 7521, RFC 7523.

use std::time::Duration;

use keyfob_idp::server::{
    Algorithm, AssertionAudience, Client, Settings, SigningKey, TokenEndpointAuthMethod, TrustedIssuer,
    VerificationKey,
};
use serde_json::{Value, json};

use crate::peer::{Fields, Peer, fields, now, text};

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn form(assertion: &str) -> Fields<'static> {
    fields(&[
        ("grant_type", "client_credentials"),
        ("client_assertion_type", TYPE),
        ("client_assertion", assertion),
    ])
}

/// Good claims of the client `robot`.
fn claims(peer: &Peer) -> Value {
    json!({
        "iss": "robot", "sub": "robot", "aud": peer.server.issuer(), "iat": now(), "exp": now() + 60,
        "jti": format!("jti-{}", fastrand::u64(..)),
    })
}

async fn accepted(peer: &Peer, assertion: &str) -> bool {
    peer.post_token(&form(assertion)).await.0 == 200
}

async fn refused(peer: &Peer, assertion: &str, reason: &str) {
    let (status, body) = peer.post_token(&form(assertion)).await;
    assert_eq!((status.as_u16(), &body["error"]), (401, &json!("invalid_client")), "{reason}");
    assert!(text(&body, "error_description").contains(reason), "{reason}: {body}");
}

#[tokio::test]
async fn each_algorithm_is_verified_with_the_registered_key() {
    for algorithm in [
        Algorithm::Rs384,
        Algorithm::Ps256,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::Es512,
        Algorithm::EdDsa,
    ] {
        let (key, stranger) = (SigningKey::generate(algorithm), SigningKey::generate(Algorithm::Es256));
        let keys = VerificationKey::jwks(&json!({ "keys": [stranger.jwk(), key.jwk()] }));
        let peer = Peer::start(Settings::default().with_client(Client::with_keys("robot", keys))).await;
        assert!(accepted(&peer, &key.sign("JWT", &claims(&peer))).await, "{algorithm:?}");
        let forged = SigningKey::generate(Algorithm::Es256).sign_with_header(
            &json!({ "alg": algorithm.name(), "kid": key.key_id(), "typ": "JWT" }),
            &claims(&peer),
        );
        refused(&peer, &forged, "signature is wrong").await;
    }
}

#[tokio::test]
async fn a_claim_out_of_order_is_refused() {
    let key = SigningKey::generate(Algorithm::Es256);
    let client = Client::with_keys("robot", vec![VerificationKey::jwk(key.jwk())]);
    let peer = Peer::start(Settings::default().with_client(client)).await;
    let table = [
        ("sub", json!("somebody"), "sub is"),
        ("iss", json!("nobody"), "no client is registered"),
        ("aud", json!("https://other.test"), "aud is"),
        ("aud", json!([peer.server.issuer(), "https://other.test"]), "not one audience"),
        ("aud", Value::Null, "aud is missing"),
        ("exp", json!(now() - 6), "exp was"),
        ("exp", json!(now() + 400), "away"),
        ("exp", Value::Null, "exp is missing"),
        ("iat", json!(now() + 60), "iat is in the future"),
        ("nbf", json!(now() + 60), "nbf is in the future"),
        ("jti", Value::Null, "jti is missing"),
    ];
    for (claim, value, reason) in table {
        let mut claims = claims(&peer);
        claims[claim] = value;
        refused(&peer, &key.sign("JWT", &claims), reason).await;
    }
    refused(&peer, &key.sign("dpop+jwt", &claims(&peer)), "typ is").await;
    let none = json!({ "alg": "none" });
    refused(&peer, &key.sign_with_header(&none, &claims(&peer)), "is not one of").await;
    let unknown = json!({ "alg": "ES256", "kid": "another" });
    refused(&peer, &key.sign_with_header(&unknown, &claims(&peer)), "no key is registered").await;
    refused(&peer, "nonsense", "three parts").await;

    let assertion = key.sign("JWT", &claims(&peer));
    assert!(accepted(&peer, &assertion).await);
    refused(&peer, &assertion, "used before").await;
    let fresh = || key.sign("JWT", &claims(&peer));
    let error = async |form: Fields<'static>| peer.post_token(&form).await.1["error"].clone();
    assert_eq!(error([form(&fresh()), fields(&[("client_secret", "x")])].concat()).await, "invalid_request");
    assert_eq!(error([form(&fresh()), fields(&[("client_id", "cli")])].concat()).await, "invalid_client");
    let untyped = form(&fresh()).into_iter().filter(|(name, _)| *name != "client_assertion_type").collect();
    assert_eq!(error(untyped).await, "invalid_request");
    assert_eq!(
        error(fields(&[("grant_type", "client_credentials"), ("client_id", "robot")])).await,
        "invalid_client"
    );
    assert_eq!(peer.server.counters().replays, 1);
}

#[tokio::test]
async fn the_settings_say_which_audience_life_and_algorithm() {
    let key = SigningKey::generate(Algorithm::Es256);
    for (rule, issuer, endpoint) in [
        (AssertionAudience::Issuer, true, false),
        (AssertionAudience::TokenEndpoint, false, true),
        (AssertionAudience::IssuerOrTokenEndpoint, true, true),
    ] {
        let settings = Settings {
            assertion_audience: rule,
            assertion_jti_required: false,
            assertion_longest_lifetime: Duration::from_secs(3600),
            ..Settings::default()
        };
        let client = Client::with_keys("robot", vec![VerificationKey::jwk(key.jwk())]);
        let peer = Peer::start(settings.with_client(client)).await;
        // As the seed's recipe makes them: an hour, neither iat nor jti.
        let old = |aud: &str| {
            key.sign("JWT", &json!({ "iss": "robot", "sub": "robot", "aud": aud, "exp": now() + 3600 }))
        };
        assert_eq!(accepted(&peer, &old(peer.server.issuer())).await, issuer, "{rule:?}");
        assert_eq!(accepted(&peer, &old(&peer.server.token_endpoint())).await, endpoint, "{rule:?}");
    }
    let keys = vec![VerificationKey::jwk(key.jwk())];
    let only = Client { assertion_algorithm: Some("PS256".to_owned()), ..Client::with_keys("robot", keys) };
    let peer = Peer::start(Settings::default().with_client(only)).await;
    refused(&peer, &key.sign("JWT", &claims(&peer)), "has to be").await;
}

#[tokio::test]
async fn a_secret_keys_an_hmac() {
    use aws_lc_rs::hmac;
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    let secret = "a secret of at least sixty-four bytes, as HS512 would have it, and more";
    let client = Client::confidential("robot", secret).only(TokenEndpointAuthMethod::ClientSecretJwt);
    let peer = Peer::start(Settings::default().with_client(client)).await;
    let sign = |name: &str, algorithm, secret: &str| {
        let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(json!({ "alg": name, "typ": "JWT" })), encode(claims(&peer)));
        let tag = hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    for (name, algorithm) in
        [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
    {
        assert!(accepted(&peer, &sign(name, algorithm, secret)).await, "{name}");
        refused(&peer, &sign(name, algorithm, "another secret"), "the HMAC is wrong").await;
    }
    let posted =
        fields(&[("grant_type", "client_credentials"), ("client_id", "robot"), ("client_secret", secret)]);
    assert_eq!(peer.post_token(&posted).await.1["error"], "invalid_client", "its method is another");
}

#[tokio::test]
async fn a_trusted_issuer_vouches_for_a_federated_client() {
    let key = SigningKey::generate(Algorithm::EdDsa);
    let cluster = TrustedIssuer::new("https://cluster.test", vec![VerificationKey::jwk(key.jwk())]);
    let settings =
        Settings { trusted_issuers: vec![cluster.for_audience("api://exchange")], ..Settings::default() };
    let robot = Client::federated("robot", "https://cluster.test", "system:serviceaccount:a:b");
    let peer = Peer::start(settings.with_client(robot)).await;
    let token = |issuer: &str, subject: &str, audience: &str| {
        let claims = json!({ "iss": issuer, "sub": subject, "aud": audience, "exp": now() + 3600 });
        key.sign("JWT", &claims)
    };
    let ask = async |token: String| {
        peer.post_token(&[form(&token), fields(&[("client_id", "robot")])].concat()).await.0.as_u16()
    };
    let (issuer, subject) = ("https://cluster.test", "system:serviceaccount:a:b");
    let good = token(issuer, subject, "api://exchange");
    assert_eq!(ask(good.clone()).await, 200);
    assert_eq!(ask(good).await, 200, "a workload's token is used until it expires");
    assert_eq!(ask(token(issuer, subject, peer.server.issuer())).await, 200);
    assert_eq!(ask(token(issuer, subject, "https://other.test")).await, 401);
    assert_eq!(ask(token(issuer, "system:serviceaccount:a:c", "api://exchange")).await, 401);
    assert_eq!(ask(token("https://evil.test", subject, "api://exchange")).await, 401);
}

#[tokio::test]
async fn a_key_is_registered_as_a_certificate() {
    let made = keyfob_idp::server::ClientCertificate::self_signed("robot.test");
    let client = Client::with_keys("robot", vec![VerificationKey::pem(&made.certificate)]);
    let peer = Peer::start(Settings::default().with_client(client)).await;
    let key = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        &pem(&made.key),
    )
    .unwrap();
    let sign = |thumbprint: &str| {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let header = json!({ "alg": "ES256", "x5t#S256": thumbprint });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(&header), encode(&claims(&peer)));
        let signature = key.sign(&aws_lc_rs::rand::SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    assert!(accepted(&peer, &sign(&made.thumbprint)).await);
    refused(&peer, &sign("another"), "signature is wrong").await;
}

#[tokio::test]
async fn public_keys_are_registered_as_pem() {
    for algorithm in
        [Algorithm::Rs256, Algorithm::Ps512, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa]
    {
        let key = SigningKey::generate(algorithm);
        // Another library reads the private key and writes the public one.
        let public = rcgen::KeyPair::from_pem(&key.pkcs8_pem()).unwrap().public_key_pem();
        let client = Client::with_keys("robot", vec![VerificationKey::pem(&public)]);
        let peer = Peer::start(Settings::default().with_client(client)).await;
        assert!(accepted(&peer, &key.sign("JWT", &claims(&peer))).await, "{algorithm:?}");
        let forged = SigningKey::generate(algorithm).sign("JWT", &claims(&peer));
        refused(&peer, &forged, "signature is wrong").await;
    }
}

fn pem(text: &str) -> Vec<u8> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let lines: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(lines).unwrap()
}
