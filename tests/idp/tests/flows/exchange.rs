//! RFC 8693 and RFC 7523 section 2.1.

use keyfob_idp::server::{
    Algorithm, JWT_BEARER_GRANT, Settings, SigningKey, TOKEN_EXCHANGE_GRANT, TrustedIssuer, VerificationKey,
};
use serde_json::{Value, json};

use crate::peer::{Fields, Peer, fields, now, part, text, with};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

fn exchange(subject: &str, kind: &str) -> Fields<'static> {
    fields(&[
        ("grant_type", TOKEN_EXCHANGE_GRANT),
        ("client_id", "service"),
        ("client_secret", "service-secret"),
        ("subject_token", subject),
        ("subject_token_type", kind),
    ])
}

/// A server that trusts the issuer of this key.
async fn trusting(key: &SigningKey) -> Peer {
    let issuer = TrustedIssuer::new("https://cluster.test", vec![VerificationKey::jwk(key.jwk())]);
    Peer::start(Settings { trusted_issuers: vec![issuer], ..Settings::default() }).await
}

async fn subject(peer: &Peer, token: &str) -> Value {
    peer.read(peer.http.get(peer.server.api_url()).bearer_auth(token)).await.1["subject"].clone()
}

#[tokio::test]
async fn a_token_is_exchanged_for_its_subject() {
    let peer = Peer::start(Settings::default()).await;
    let signed_in = peer.sign_in("openid read write").await;
    let access = text(&signed_in, "access_token");
    let asked = with(&exchange(&access, ACCESS_TOKEN), "scope", Some("read"));
    let asked =
        [asked, fields(&[("audience", "one"), ("audience", "two"), ("resource", "https://api.test/")])]
            .concat();
    let (status, body) = peer.post_token(&asked).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!((&body["issued_token_type"], &body["token_type"]), (&json!(ACCESS_TOKEN), &json!("Bearer")));
    assert!(body["refresh_token"].is_null() && body["id_token"].is_null());
    assert_eq!(body["scope"], "read");
    let exchanged = text(&body, "access_token");
    assert_eq!(subject(&peer, &exchanged).await, "subject-alice");
    let told = with(&exchange("", ""), "token", Some(&exchanged));
    let (_, told) = peer.post("/introspect", &told).await;
    assert_eq!(told["aud"], json!(["https://api.test/", "one", "two"]));

    let wished = with(&exchange(&access, ACCESS_TOKEN), "requested_token_type", Some(ID_TOKEN));
    let (_, body) = peer.post_token(&wished).await;
    assert_eq!((&body["issued_token_type"], &body["token_type"]), (&json!(ID_TOKEN), &json!("N_A")));
    assert_eq!(part(&text(&body, "access_token"), 1)["sub"], "subject-alice");
    let by_id_token = exchange(&text(&signed_in, "id_token"), ID_TOKEN);
    assert_eq!(peer.post_token(&by_id_token).await.0, 200);

    let service = fields(&[
        ("grant_type", "client_credentials"),
        ("client_id", "service"),
        ("client_secret", "service-secret"),
    ]);
    let actor = text(&peer.post_token(&service).await.1, "access_token");
    let acting = [
        exchange(&access, ACCESS_TOKEN),
        fields(&[("actor_token", &actor), ("actor_token_type", ACCESS_TOKEN)]),
    ]
    .concat();
    let (_, body) = peer.post_token(&acting).await;
    let told = with(&exchange("", ""), "token", Some(&text(&body, "access_token")));
    assert_eq!(peer.post("/introspect", &told).await.1["act"]["sub"], "service");
}

#[tokio::test]
async fn an_exchange_is_refused_unless_it_is_whole() {
    let peer = Peer::start(Settings::default()).await;
    let access = text(&peer.sign_in("read").await, "access_token");
    let good = exchange(&access, ACCESS_TOKEN);
    for (name, value, error) in [
        ("subject_token", None, "invalid_request"),
        ("subject_token", Some("nonsense"), "invalid_request"),
        ("subject_token_type", None, "invalid_request"),
        ("subject_token_type", Some("access_token"), "invalid_request"),
        ("subject_token_type", Some(JWT), "invalid_request"),
        ("actor_token", Some(access.as_str()), "invalid_request"),
        ("actor_token_type", Some(ACCESS_TOKEN), "invalid_request"),
        ("requested_token_type", Some("urn:ietf:params:oauth:token-type:saml2"), "invalid_request"),
        ("scope", Some("read admin"), "invalid_scope"),
        ("resource", Some("not a URI"), "invalid_target"),
        ("client_secret", Some("wrong"), "invalid_client"),
    ] {
        assert_eq!(peer.post_token(&with(&good, name, value)).await.1["error"], error, "{name} {value:?}");
    }
    peer.server.revoke_access_token(&access);
    assert_eq!(peer.post_token(&good).await.1["error"], "invalid_request", "revoked");
}

#[tokio::test]
async fn a_workload_exchanges_its_token() {
    let key = SigningKey::generate(Algorithm::Es256);
    let peer = trusting(&key).await;
    let token = |audience: &str, expiry: i64| {
        let claims =
            json!({ "iss": "https://cluster.test", "sub": "workload", "aud": audience, "exp": expiry });
        key.sign("JWT", &claims)
    };
    let ask = async |token: &str| {
        let asked = with(&exchange(token, JWT), "client_secret", None);
        peer.post_token(&with(&asked, "client_id", Some("cli"))).await
    };
    let (status, body) = ask(&token(peer.server.issuer(), now() + 60)).await;
    assert_eq!((status.as_u16(), &body["issued_token_type"]), (200, &json!(ACCESS_TOKEN)), "{body}");
    assert_eq!(subject(&peer, &text(&body, "access_token")).await, "workload");
    assert_eq!(ask(&token("https://other.test", now() + 60)).await.0, 400);
    assert_eq!(ask(&token(peer.server.issuer(), now() - 60)).await.0, 400);
    let forged = SigningKey::generate(Algorithm::Es256).sign_with_header(
        &json!({ "alg": "ES256" }),
        &json!({ "iss": "https://cluster.test", "sub": "workload", "aud": peer.server.issuer(), "exp": now() + 60 }),
    );
    assert_eq!(ask(&forged).await.0, 400);
}

#[tokio::test]
async fn an_assertion_grants_access_to_its_subject() {
    let key = SigningKey::generate(Algorithm::EdDsa);
    let peer = trusting(&key).await;
    let claims = || {
        json!({
            "iss": "https://cluster.test", "sub": "alice", "aud": peer.server.token_endpoint(), "exp": now() + 60,
            "jti": format!("{:032x}", fastrand::u128(..)),
        })
    };
    let ask = async |assertion: &str| {
        let form = [
            ("grant_type", JWT_BEARER_GRANT),
            ("client_id", "service"),
            ("client_secret", "service-secret"),
            ("assertion", assertion),
            ("scope", "read"),
        ];
        peer.post_token(&fields(&form)).await
    };
    let good = key.sign("JWT", &claims());
    let (status, body) = ask(&good).await;
    assert_eq!((status.as_u16(), &body["scope"]), (200, &json!("read")), "{body}");
    assert!(body["refresh_token"].is_null());
    assert_eq!(subject(&peer, &text(&body, "access_token")).await, "subject-alice");
    assert_eq!(ask(&good).await.1["error_description"], "the assertion: the jti was used before");
    for (claim, value) in [
        ("iss", json!("https://evil.test")),
        ("sub", Value::Null),
        ("aud", json!("https://other.test")),
        ("exp", json!(now() - 60)),
        ("nbf", json!(now() + 60)),
    ] {
        let mut claims = claims();
        claims[claim] = value;
        assert_eq!(ask(&key.sign("JWT", &claims)).await.1["error"], "invalid_grant", "{claim}");
    }
    assert_eq!(
        ask(&SigningKey::generate(Algorithm::EdDsa).sign("JWT", &claims())).await.1["error"],
        "invalid_grant"
    );
}
