//! ID tokens: as they should be, and spoilt.

use aws_lc_rs::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_idp::server::{Algorithm, Client, IdTokenHook, IdTokenSignature, Settings};
use serde_json::{Value, json};

use crate::peer::{Peer, part, text};

#[tokio::test]
async fn an_id_token_is_signed_by_a_published_key_of_each_algorithm() {
    for algorithm in Algorithm::ALL {
        let peer = Peer::start(Settings { signing_algorithms: vec![algorithm], ..Settings::default() }).await;
        let body = peer.sign_in("openid").await;
        let id_token = text(&body, "id_token");
        let header = part(&id_token, 0);
        let key = jwks(&peer).await[0].clone();
        assert_eq!(header, json!({ "alg": algorithm.name(), "kid": key["kid"], "typ": "JWT" }));
        let hash = algorithm.half_hash(&text(&body, "access_token"));
        assert_eq!(part(&id_token, 1)["at_hash"], hash, "{algorithm:?}");
        assert!(is_signed_by(&id_token, &key), "{algorithm:?}");
    }
}

#[tokio::test]
async fn keys_rotate_with_and_without_the_old_ones() {
    let algorithms = vec![Algorithm::Es256, Algorithm::EdDsa];
    let wish = Client { id_token_algorithm: Some(Algorithm::EdDsa), ..Client::public("cli") };
    let odd = json!({ "kid": "odd, without a type" });
    let settings =
        Settings { signing_algorithms: algorithms, extra_jwks: vec![odd.clone()], ..Settings::default() };
    let peer = Peer::start(settings.with_client(wish)).await;
    let first = part(&text(&peer.sign_in("openid").await, "id_token"), 0);
    assert_eq!(first["alg"], "EdDSA", "the client's wish");
    peer.server.rotate_keys(true);
    let keys = jwks(&peer).await;
    assert_eq!((keys.len(), &keys[4]), (5, &odd));
    assert!(keys[2..4].iter().any(|key| key["kid"] == first["kid"]), "the old ones come after the new ones");
    let second = part(&text(&peer.sign_in("openid").await, "id_token"), 0);
    assert_ne!(second["kid"], first["kid"]);
    assert_eq!(peer.post("/control/rotate_keys", &[]).await.0, 204);
    let keys = jwks(&peer).await;
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| key["kid"] != second["kid"] && key["kid"] != first["kid"]));
}

#[tokio::test]
async fn a_hook_spoils_claims_and_signatures() {
    let hook = IdTokenHook::new(|token| token.claims["aud"] = json!("somebody else"));
    let peer = Peer::start(Settings { id_token: hook, ..Settings::default() }).await;
    let spoilt = async || text(&peer.sign_in("openid").await, "id_token");
    assert_eq!(part(&spoilt().await, 1)["aud"], "somebody else");
    let key = jwks(&peer).await[0].clone();
    let hooked = async |signature| {
        peer.server.set_id_token_hook(IdTokenHook::new(move |token| token.signature = signature));
        spoilt().await
    };
    assert!(is_signed_by(&hooked(IdTokenSignature::Right).await, &key));
    assert!(!is_signed_by(&hooked(IdTokenSignature::Stranger).await, &key));
    assert!(hooked(IdTokenSignature::Missing).await.ends_with('.'));
    assert!(!is_signed_by(&hooked(IdTokenSignature::HmacOfPublicKey).await, &key));
    peer.server.set_id_token_hook(IdTokenHook::new(|token| token.instead = Some("a.b.c.d.e".to_owned())));
    assert_eq!(spoilt().await, "a.b.c.d.e");
}

async fn jwks(peer: &Peer) -> Vec<Value> {
    peer.read(peer.http.get(peer.server.url("/jwks"))).await.1["keys"].as_array().unwrap().clone()
}

/// Verifies a JWT with a JWK of its own algorithm.
fn is_signed_by(jwt: &str, jwk: &Value) -> bool {
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let member = |name: &str| decode(&text(jwk, name));
    let (message, signature) = jwt.rsplit_once('.').unwrap();
    let (message, signature) = (message.as_bytes(), decode(signature));
    let plain = |how: &'static dyn VerificationAlgorithm, key: Vec<u8>| {
        UnparsedPublicKey::new(how, key).verify(message, &signature).is_ok()
    };
    let point = || [vec![4], member("x"), member("y")].concat();
    let rsa = |how: &'static RsaParameters| {
        RsaPublicKeyComponents { n: member("n"), e: member("e") }.verify(how, message, &signature).is_ok()
    };
    match jwk["alg"].as_str().unwrap() {
        "ES256" => plain(&signature::ECDSA_P256_SHA256_FIXED, point()),
        "ES384" => plain(&signature::ECDSA_P384_SHA384_FIXED, point()),
        "ES512" => plain(&signature::ECDSA_P521_SHA512_FIXED, point()),
        "EdDSA" => plain(&signature::ED25519, member("x")),
        "RS256" => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        "RS384" => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        "RS512" => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        "PS256" => rsa(&signature::RSA_PSS_2048_8192_SHA256),
        "PS384" => rsa(&signature::RSA_PSS_2048_8192_SHA384),
        "PS512" => rsa(&signature::RSA_PSS_2048_8192_SHA512),
        other => panic!("{other}"),
    }
}
