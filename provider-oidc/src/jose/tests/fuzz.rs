//! No input panics, whatever a file or a server holds.

use openssl::symm::Cipher;
use proptest::prelude::*;

use super::*;
use crate::jose::{algorithm::Algorithm, jwks};

/// Keys and what looks like them, cut and mixed up.
fn texts() -> impl Strategy<Value = String> {
    let encrypted = p256().private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"right").unwrap();
    let traditional = p256().ec_key().unwrap();
    let traditional = traditional.private_key_to_pem_passphrase(Cipher::aes_128_cbc(), b"right").unwrap();
    let whole: Vec<String> = vec![
        pkcs8(&p256()),
        pkcs8(&ed25519()),
        String::from_utf8(encrypted).unwrap(),
        String::from_utf8(traditional).unwrap(),
        certificate_pem(&p256()),
        jwk(&p256(), &serde_json::json!({})).to_string(),
        jwk(&ed25519(), &serde_json::json!({})).to_string(),
        jwk(&rsa(), &serde_json::json!({})).to_string(),
    ];
    let pieces = prop_oneof![
        prop::sample::select(whole).prop_flat_map(|text| {
            let length = text.len();
            (Just(text), 0..=length, 0..=length).prop_map(|(text, a, b)| text[a.min(b)..a.max(b)].to_owned())
        }),
        prop::sample::select(vec![
            "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----",
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n",
            "-----BEGIN ",
            "-----END ",
            "-----",
            "\\n",
            "{\"keys\":[",
            "]}",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    prop::collection::vec(pieces, 0..4).prop_map(|pieces| pieces.concat())
}

/// JWKs and JWK sets with members that are known and values that are not expected.
fn sets() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "kty", "crv", "alg", "use", "key_ops", "kid", "n", "e", "d", "p", "q", "dp", "dq", "qi", "x", "y",
        "k", "x5c",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "\"RSA\"",
            "\"EC\"",
            "\"OKP\"",
            "\"oct\"",
            "\"P-256\"",
            "\"P-521\"",
            "\"Ed25519\"",
            "\"Ed448\"",
            "\"sig\"",
            "\"enc\"",
            "[\"sign\",\"verify\"]",
            "[7]",
            "\"AQAB\"",
            "\"\"",
            "\"AA\"",
            "null",
            "{}",
            "1e999",
        ])
        .prop_map(str::to_owned),
        "[A-Za-z0-9_-]{0,400}".prop_map(|text| format!("\"{text}\"")),
        any::<i64>().prop_map(|n| n.to_string()),
    ];
    let object = prop::collection::vec((name, value), 0..10).prop_map(|members| {
        let members: Vec<String> =
            members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    });
    let set = prop::collection::vec(object.clone(), 0..4)
        .prop_map(|keys| format!("{{\"keys\":[{}]}}", keys.join(",")));
    prop_oneof![object, set]
}

proptest! {
    #[test]
    fn no_key_panics(text in prop_oneof![texts(), sets()], passphrase in "[a-z\0]{0,6}|right") {
        for options in [KeyOptions::default(), with_passphrase(&passphrase), with_key_id("a"), with_algorithm("PS256")] {
            let _ = read(&text, &options);
        }
    }

    #[test]
    fn no_key_set_panics(text in prop_oneof![sets(), any::<String>()], signature in prop::collection::vec(any::<u8>(), 0..140)) {
        for key in jwks::parse(text.as_bytes()).unwrap_or_default() {
            for algorithm in Algorithm::ALL {
                if let Some(verifier) = algorithm.verifier(&key) {
                    let _ = verifier.verify(b"input", &signature);
                }
            }
        }
    }
}

#[test]
fn a_huge_or_deep_key_set_is_bounded() {
    let key = r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#;
    let many = format!("{{\"keys\":[{}]}}", vec![key; 5000].join(","));
    assert_eq!(jwks::parse(many.as_bytes()).unwrap().len(), 100);
    let deep = format!("{{\"keys\":{}", "[".repeat(100_000));
    assert!(jwks::parse(deep.as_bytes()).is_err());
    assert!(read(&deep, &KeyOptions::default()).is_err());
    let large = format!(r#"{{"keys":[{{"kty":"RSA","e":"AQAB","n":"{}"}}]}}"#, "f".repeat(900_000));
    let [key] = &jwks::parse(large.as_bytes()).unwrap()[..] else { panic!() };
    let start = std::time::Instant::now();
    if let Some(verifier) = Algorithm::Rs256.verifier(key) {
        assert!(verifier.verify(b"input", &[1; 256]).is_err());
    }
    assert!(start.elapsed().as_secs() < 5);
}
