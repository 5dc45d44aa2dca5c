use std::{
    future::{pending, poll_fn, ready},
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{Context, ErrorKind, ExposeSecret as _};
use serde_json::{Map, Value, json};
use tokio::{
    sync::Notify,
    time::{Instant, advance},
};
use zeroize::Zeroizing;

use super::*;
use crate::{jose::verify_id_token, signer::sign_jwt};

const ISSUER: &str = "https://idp.example";

/// An issuer: the body that it answers with, and how often it was asked.
#[derive(Default)]
struct Server {
    body: Mutex<Option<String>>,
    asked: AtomicUsize,
}

impl Server {
    fn publishes(keys: &[&Value]) -> Self {
        let server = Self::default();
        server.publish(keys);
        server
    }

    fn publish(&self, keys: &[&Value]) {
        *self.body.lock().unwrap() = Some(json!({"keys": keys}).to_string());
    }

    fn fail(&self) {
        *self.body.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    fn fetch(&self) -> impl Future<Output = Result<Zeroizing<Vec<u8>>, AuthError>> + Send {
        poll_fn(|_| {
            self.asked.fetch_add(1, SeqCst);
            let body = self.body.lock().unwrap().clone().map(|body| Zeroizing::new(body.into_bytes()));
            Poll::Ready(body.ok_or_else(|| AuthError::transient("it is down")))
        })
    }

    async fn verify(&self, context: &Context, token: &str) -> Result<(), AuthError> {
        verify_id_token(context, ISSUER, None, token, self.fetch()).await
    }
}

/// The public JWK with this id.
fn public(key: &SigningKey, id: &str) -> Value {
    let mut jwk = key.public_jwk();
    jwk.insert("kid".into(), id.into());
    Value::Object(jwk)
}

fn signing_key(key: &PKey<Private>, id: Option<&str>, algorithm: Option<&str>) -> SigningKey {
    let options = KeyOptions {
        key_id: id.map(str::to_owned),
        algorithm: algorithm.map(str::to_owned),
        ..KeyOptions::default()
    };
    read(&pkcs8(key), &options).unwrap()
}

fn new_key(id: &str) -> SigningKey {
    signing_key(&p256(), Some(id), None)
}

async fn token(key: &SigningKey) -> String {
    let claims = json!({"iss": ISSUER, "sub": "1"}).as_object().cloned().unwrap();
    sign_jwt(key, "JWT", Map::new(), &claims).await.unwrap().expose_secret().to_owned()
}

fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

#[track_caller]
fn refused(result: Result<(), AuthError>, why: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains(why), "{error}");
}

#[tokio::test]
async fn oidc_core_3_1_3_7_6_a_signature_of_each_algorithm_holds_and_another_does_not() {
    for (key, names) in [
        (rsa(), &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"][..]),
        (p256(), &["ES256"]),
        (ec(Nid::SECP384R1), &["ES384"]),
        (ec(Nid::SECP521R1), &["ES512"]),
        (ed25519(), &["EdDSA"]),
    ] {
        for name in names {
            let (context, key) = (Context::new(), signing_key(&key, Some("k"), Some(name)));
            let server = Server::publishes(&[&public(&key, "k")]);
            let token = token(&key).await;
            server.verify(&context, &token).await.unwrap();

            let (rest, signature) = token.rsplit_once('.').unwrap();
            let (header, claims) = rest.split_once('.').unwrap();
            let other = if signature.starts_with('A') { "B" } else { "A" };
            refused(server.verify(&context, &format!("{rest}.{other}{}", &signature[1..])).await, "is wrong");
            refused(
                server.verify(&context, &format!("{header}.{}.{signature}", &claims[4..])).await,
                "is wrong",
            );
            refused(server.verify(&context, &format!("{rest}.")).await, "is wrong");
            refused(server.verify(&context, &format!("{rest}.%")).await, "cannot be read");
            assert_eq!(server.asked(), 2, "{name}: the keys, and once whether there are others");
        }
    }
}

#[tokio::test]
async fn oidc_core_3_1_3_7_7_alg_is_one_that_is_allowed() {
    let (context, rsa) = (Context::new(), rsa());
    let key = |alg| signing_key(&rsa, Some("k"), Some(alg));
    let server = Server::publishes(&[&public(&key("RS256"), "k")]);
    let signed_by_rs256 = token(&key("RS256")).await;
    let verify = async |registered, token: &str| {
        verify_id_token(&context, ISSUER, registered, token, server.fetch()).await
    };
    verify(Some("RS256"), &signed_by_rs256).await.unwrap();
    refused(verify(Some("PS256"), &signed_by_rs256).await, "not by PS256 as registered");
    refused(verify(Some("RS256"), &token(&key("PS256")).await).await, "by PS256, not by RS256");

    // The signature of one algorithm under the name of another.
    let (_, rest) = signed_by_rs256.split_once('.').unwrap();
    for (header, why) in [
        (json!({"alg": "none"}), "unsigned"),
        (json!({"alg": "NONE", "kid": "k"}), "unsigned"),
        (json!({"alg": "HS256", "kid": "k"}), "shared secret"),
        (json!({"alg": "HS512"}), "shared secret"),
        (json!({"alg": "RS1", "kid": "k"}), "not known here"),
        (json!({"alg": "rs256", "kid": "k"}), "not known here"),
        (json!({"alg": ["RS256"], "kid": "k"}), "names no `alg`"),
        (json!({"kid": "k"}), "names no `alg`"),
        (json!({"alg": "RS256", "enc": "A256GCM"}), "JWE"),
        (json!({"alg": "RS256", "crit": ["b64"], "b64": false}), "`crit`"),
    ] {
        refused(verify(None, &format!("{}.{rest}", encoded(&header))).await, why);
    }
    assert_eq!(server.asked(), 1, "what is refused by its header asks for no keys");
    refused(verify(None, &token(&signing_key(&p256(), Some("k"), None)).await).await, "does not publish");
}

#[tokio::test]
async fn rfc8725_3_1_hs256_with_the_public_key_for_a_secret_is_refused() {
    use josekit::jws::{HS256, JwsSigner as _};
    let server = Server::publishes(&[&public(&signing_key(&rsa(), Some("k"), None), "k")]);
    let pem = rsa().public_key_to_pem().unwrap();
    let input =
        format!("{}.{}", encoded(&json!({"alg": "HS256", "kid": "k"})), encoded(&json!({"iss": ISSUER})));
    let signature = HS256.signer_from_bytes(&pem).unwrap().sign(input.as_bytes()).unwrap();
    let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature));
    refused(server.verify(&Context::new(), &token).await, "shared secret");
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn oidc_core_10_1_without_kid_several_keys_are_refused() {
    let (key, other) = (p256(), new_key("2"));
    let (one, nameless) = (signing_key(&key, Some("1"), None), signing_key(&key, None, None));
    let token = token(&nameless).await;
    let rsa = public(&signing_key(&rsa(), None, None), "r");
    for (keys, why) in [
        (vec![public(&one, "1")], None),
        (vec![public(&one, "1"), rsa], None),
        (vec![public(&one, "1"), public(&other, "2")], Some("with which of the server's keys")),
        (vec![public(&other, "2")], Some("is wrong")),
        (vec![], Some("publishes no key")),
    ] {
        let server = Server::publishes(&keys.iter().collect::<Vec<_>>());
        match (server.verify(&Context::new(), &token).await, why) {
            (result, None) => result.unwrap(),
            (result, Some(why)) => refused(result, why),
        }
        assert_eq!(server.asked(), 1);
    }
}

#[tokio::test]
async fn rfc7517_4_a_key_is_used_for_what_it_says_and_an_odd_one_is_passed_over() {
    let key = new_key("k");
    let token = token(&key).await;
    let changed = |name: &str, value: Value| {
        let mut jwk = public(&key, "k");
        jwk[name] = value;
        jwk
    };
    for (jwk, good) in [
        (changed("use", json!("sig")), true),
        (changed("use", json!("enc")), false),
        (changed("key_ops", json!(["verify"])), true),
        (changed("key_ops", json!(["sign"])), false),
        (changed("alg", json!("ES256")), true),
        (changed("alg", json!("ES384")), false),
        (changed("kty", json!("RSA")), false),
        (changed("kid", json!(7)), false),
        (changed("crv", json!("P-384")), false),
        (changed("x5t#S256", json!("not base64!")), false),
    ] {
        // As some servers have it: a key without `kty`, and worse.
        let server =
            Server::publishes(&[&json!({"kid": "k"}), &json!(7), &json!(null), &jwk, &json!({"kty": 1})]);
        let result = server.verify(&Context::new(), &token).await;
        if good { result.unwrap() } else { refused(result, "does not publish") }
    }
}

#[tokio::test(start_paused = true)]
async fn oidc_core_10_1_1_an_unknown_kid_fetches_once_and_not_again_for_30_s() {
    let context = Context::new();
    let (old, new, forged) = (new_key("old"), new_key("new"), new_key("forged"));
    let server = Server::publishes(&[&public(&old, "old")]);
    let (by_old, by_new, by_forged) = (token(&old).await, token(&new).await, token(&forged).await);
    for _ in 0..3 {
        server.verify(&context, &by_old).await.unwrap();
    }
    assert_eq!(server.asked(), 1);

    // Rolled over: one request, and both keys hold.
    server.publish(&[&public(&old, "old"), &public(&new, "new")]);
    server.verify(&context, &by_new).await.unwrap();
    server.verify(&context, &by_old).await.unwrap();
    server.verify(&context, &by_new).await.unwrap();
    assert_eq!(server.asked(), 2);

    // It helps nothing, and is not repeated.
    for _ in 0..5 {
        refused(server.verify(&context, &by_forged).await, "does not publish");
    }
    assert_eq!(server.asked(), 3);
    server.verify(&context, &by_new).await.unwrap();
    advance(Duration::from_secs(29)).await;
    refused(server.verify(&context, &by_forged).await, "does not publish");
    assert_eq!(server.asked(), 3);
    advance(Duration::from_secs(2)).await;
    refused(server.verify(&context, &by_forged).await, "does not publish");
    assert_eq!(server.asked(), 4);
    server.publish(&[&public(&new, "new")]);
    server.verify(&context, &by_old).await.unwrap();
    assert_eq!(server.asked(), 4, "what is known is not asked for");
}

#[tokio::test(start_paused = true)]
async fn a_search_that_helps_may_be_repeated_at_once() {
    let context = Context::new();
    let server = Server::publishes(&[]);
    for n in 1..5 {
        let key = new_key(&n.to_string());
        server.publish(&[&public(&key, &n.to_string())]);
        server.verify(&context, &token(&key).await).await.unwrap();
        assert_eq!(server.asked(), n);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_replaced_under_its_name_is_found() {
    let context = Context::new();
    let (old, new) = (new_key("k"), new_key("k"));
    let server = Server::publishes(&[&public(&old, "k")]);
    server.verify(&context, &token(&old).await).await.unwrap();
    server.publish(&[&public(&new, "k")]);
    server.verify(&context, &token(&new).await).await.unwrap();
    assert_eq!(server.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_search_that_fails_says_so_and_is_not_repeated() {
    let context = Context::new();
    let (old, new) = (new_key("old"), new_key("new"));
    let server = Server::publishes(&[&public(&old, "old")]);
    server.verify(&context, &token(&old).await).await.unwrap();
    server.fail();
    let by_new = token(&new).await;
    for _ in 0..3 {
        let error = server.verify(&context, &by_new).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "whether it is good is not known");
    }
    server.verify(&context, &token(&old).await).await.unwrap();
    assert_eq!(server.asked(), 2);
    server.publish(&[&public(&new, "new")]);
    advance(Duration::from_secs(31)).await;
    server.verify(&context, &by_new).await.unwrap();
    assert_eq!(server.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn oidc_core_10_1_1_keys_are_fetched_each_hour_and_kept_if_that_fails() {
    let context = Context::new();
    let key = new_key("k");
    let server = Server::publishes(&[&public(&key, "k")]);
    let token = token(&key).await;
    server.verify(&context, &token).await.unwrap();
    advance(Duration::from_secs(3599)).await;
    server.verify(&context, &token).await.unwrap();
    assert_eq!(server.asked(), 1);
    advance(Duration::from_secs(2)).await;
    server.fail();
    server.verify(&context, &token).await.unwrap();
    server.verify(&context, &token).await.unwrap();
    assert_eq!(server.asked(), 2, "and not again for a minute");
    advance(Duration::from_secs(61)).await;
    let before = Instant::now();
    verify_id_token(&context, ISSUER, None, &token, pending()).await.unwrap();
    assert_eq!(before.elapsed().as_secs(), 5, "no longer is waited for what may be the same");
    advance(Duration::from_secs(61)).await;
    // A key that was withdrawn is no longer believed.
    server.publish(&[]);
    refused(server.verify(&context, &token).await, "does not publish");
    assert_eq!(server.asked(), 3);
}

#[tokio::test]
async fn without_keys_the_error_is_that_of_the_fetch() {
    let context = Context::new();
    let server = Server::default();
    let token = token(&new_key("k")).await;
    for n in 1..3 {
        let error = server.verify(&context, &token).await.unwrap_err();
        assert_eq!((error.kind(), server.asked()), (ErrorKind::Transient, n));
        assert!(error.to_string().contains("it is down"), "{error}");
    }
    for body in ["", "[]", "<html>", "{}", r#"{"keys":{}}"#, "\u{feff}null"] {
        let body = ready(Ok(Zeroizing::new(body.as_bytes().to_vec())));
        let error = verify_id_token(&context, ISSUER, None, &token, body).await.unwrap_err();
        assert!(error.to_string().contains("no JWK set"), "{error}");
    }
}

/// Fetches when it is let.
async fn held(server: &Server, begun: &Notify, go: &Notify) -> Result<Zeroizing<Vec<u8>>, AuthError> {
    begun.notify_one();
    go.notified().await;
    server.fetch().await
}

/// Whether the token holds, for one who fetches and for 20 who come meanwhile.
async fn together(context: &Context, server: &Server, token: &str) -> (bool, Vec<bool>) {
    let (begun, go) = (Notify::new(), Notify::new());
    let first = async {
        let first = verify_id_token(context, ISSUER, None, token, held(server, &begun, &go)).await;
        // In case it did not fetch, so that nobody waits for ever.
        begun.notify_one();
        first
    };
    let others = async {
        begun.notified().await;
        let mut waiting: Vec<_> = (0..20).map(|_| Box::pin(server.verify(context, token))).collect();
        for one in &mut waiting {
            // Each is at the lock before the fetch ends.
            assert!(now(one.as_mut()).await.is_none());
        }
        go.notify_one();
        let mut results = Vec::new();
        for one in waiting {
            results.push(one.await.is_ok());
        }
        results
    };
    let (first, others) = tokio::join!(first, others);
    (first.is_ok(), others)
}

#[tokio::test]
async fn all_who_ask_meanwhile_share_one_fetch() {
    let (old, new) = (new_key("old"), new_key("new"));
    let (by_old, by_new) = (token(&old).await, token(&new).await);
    let (context, server) = (Context::new(), Server::publishes(&[&public(&old, "old")]));
    assert_eq!(together(&context, &server, &by_old).await, (true, vec![true; 20]));
    assert_eq!(server.asked(), 1);
    server.publish(&[&public(&new, "new")]);
    assert_eq!(together(&context, &server, &by_new).await, (true, vec![true; 20]));
    assert_eq!(server.asked(), 2, "and one search");
    assert_eq!(together(&context, &server, &by_old).await, (false, vec![false; 20]));
    assert_eq!(server.asked(), 3, "also one that helps nothing");

    let (context, server) = (Context::new(), Server::default());
    assert_eq!(together(&context, &server, &by_old).await, (false, vec![false; 20]));
    assert_eq!(server.asked(), 1, "also one that fails");
}

/// What a future has to say when it is polled once.
async fn now<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut future).poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn a_search_holds_up_nobody_whose_key_is_known() {
    let (old, new) = (new_key("old"), new_key("new"));
    let (by_old, by_new) = (token(&old).await, token(&new).await);
    let (context, server) = (Context::new(), Server::publishes(&[&public(&old, "old")]));
    server.verify(&context, &by_old).await.unwrap();
    server.publish(&[&public(&new, "new")]);
    let (begun, go) = (Notify::new(), Notify::new());
    let mut search = Box::pin(verify_id_token(&context, ISSUER, None, &by_new, held(&server, &begun, &go)));
    assert!(now(search.as_mut()).await.is_none());
    assert!(now(Box::pin(server.verify(&context, &by_old))).await.is_some_and(|result| result.is_ok()));
    go.notify_one();
    search.await.unwrap();
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn ed448_is_not_taken_for_ed25519() {
    let (ed25519, ed448) = (signing_key(&ed25519(), Some("k"), None), PKey::generate_ed448().unwrap());
    let x = URL_SAFE_NO_PAD.encode(ed448.raw_public_key().unwrap());
    let server = Server::publishes(&[&json!({"kty": "OKP", "crv": "Ed448", "x": x, "kid": "k"})]);
    refused(server.verify(&Context::new(), &token(&ed25519).await).await, "does not publish");
}

#[tokio::test]
async fn if_who_fetches_is_dropped_the_next_one_fetches() {
    let (context, key) = (Context::new(), new_key("k"));
    let (begun, go) = (Notify::new(), Notify::new());
    let server = Server::publishes(&[&public(&key, "k")]);
    let token = token(&key).await;
    {
        let mut dropped =
            Box::pin(verify_id_token(&context, ISSUER, None, &token, held(&server, &begun, &go)));
        assert!(now(dropped.as_mut()).await.is_none());
    }
    server.verify(&context, &token).await.unwrap();
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn issuers_have_keys_of_their_own() {
    let (context, one, other) = (Context::new(), new_key("k"), new_key("k"));
    let server = Server::publishes(&[&public(&one, "k")]);
    server.verify(&context, &token(&one).await).await.unwrap();
    let elsewhere = Server::publishes(&[&public(&other, "k")]);
    let token = token(&one).await;
    let result = verify_id_token(&context, "https://other.example", None, &token, elsewhere.fetch()).await;
    refused(result, "is wrong");
    assert_eq!((server.asked(), elsewhere.asked()), (1, 1));
}
