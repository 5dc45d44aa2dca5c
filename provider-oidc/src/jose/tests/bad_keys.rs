use keyfob_auth_core::ErrorKind;
use openssl::{dsa::Dsa, symm::Cipher};
use serde_json::json;

use super::*;

/// Refused with these words, and with nothing of the key.
#[track_caller]
fn refused(text: &str, options: &KeyOptions, words: &str) {
    let error = read(text, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains(words), "{error}");
    let mut all = format!("{error} {error:?}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        all += &format!("{cause} {cause:?}");
        source = cause.source();
    }
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/-_".contains(c);
    for piece in text.split(|c| !base64(c)).filter(|piece| piece.len() >= 20) {
        assert!(!all.contains(&piece[..12]), "{all}");
    }
}

#[track_caller]
fn bad(text: &str, words: &str) {
    refused(text, &KeyOptions::default(), words);
}

fn encrypted(key: &PKey<Private>) -> [String; 2] {
    let cipher = Cipher::aes_128_cbc();
    let pem = [
        key.private_key_to_pem_pkcs8_passphrase(cipher, b"right").unwrap(),
        key.rsa().unwrap().private_key_to_pem_passphrase(cipher, b"right").unwrap(),
    ];
    pem.map(|pem| String::from_utf8(pem).unwrap())
}

#[test]
fn empty() {
    for text in ["", "  \r\n", "\u{feff}\n"] {
        bad(text, "is empty");
    }
}

#[test]
fn neither_pem_nor_jwk() {
    for text in [
        "secret",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGdpYmJlcmlzaA me@here",
        "BEGIN PRIVATE KEY",
        "\"text\"",
    ] {
        bad(text, "neither PEM");
    }
}

#[test]
fn the_public_half_or_a_certificate() {
    for key in [rsa(), p256(), ed25519()] {
        bad(&String::from_utf8(key.public_key_to_pem().unwrap()).unwrap(), "is the public one");
        bad(&certificate_pem(&key), "is a certificate");
        bad(&jwk(&key, &json!({"d": null})).to_string(), "public half alone (no `d`)");
    }
    bad(
        &String::from_utf8(rsa().rsa().unwrap().public_key_to_pem_pkcs1().unwrap()).unwrap(),
        "is the public one",
    );
}

#[test]
fn two_keys() {
    bad(&(pkcs8(&rsa()) + &pkcs8(&p256())), "two private keys");
    let set =
        json!({"keys": [jwk(&p256(), &json!({"kid": "a"})), jwk(&p256(), &json!({"kid": "b"}))]}).to_string();
    bad(&set, "2 keys fit (a, b); say with `key_id`");
    refused(&set, &with_key_id("c"), "without the private key \"c\"; it has a, b");
    let twins = json!({"keys": [jwk(&p256(), &json!({"kid": "a"})), jwk(&p256(), &json!({"kid": "a"}))]});
    refused(&twins.to_string(), &with_key_id("a"), "2 keys fit");
    let nameless = json!({"keys": [jwk(&p256(), &json!({})), jwk(&p256(), &json!({}))]}).to_string();
    bad(&nameless, "none with a `kid`");
}

#[test]
fn encrypted_without_its_passphrase() {
    for pem in encrypted(&rsa()) {
        bad(&pem, "is encrypted; give its passphrase");
        refused(&pem, &with_passphrase(""), "is encrypted; give its passphrase");
    }
}

#[test]
fn a_wrong_passphrase() {
    for pem in encrypted(&rsa()) {
        for wrong in ["wrong", "right ", "r\0ght", &"x".repeat(1024)] {
            refused(&pem, &with_passphrase(wrong), "the passphrase is wrong");
        }
        refused(&pem, &with_passphrase(&"x".repeat(1025)), "more than 1024 bytes");
        let error = read(&pem, &with_passphrase("marker")).unwrap_err();
        assert!(!format!("{error:?}").contains("marker"));
    }
}

#[test]
fn a_key_that_is_restricted_to_another_algorithm() {
    let pem = josekit::jws::PS384.generate_key_pair(2048).unwrap().to_pem_private_key();
    let pem = String::from_utf8(pem).unwrap();
    bad(&pem, "restricted to another algorithm (`signing_alg`)");
    assert!(read(&pem, &with_algorithm("PS384")).is_ok());
}

#[test]
fn encrypted_with_a_cipher_that_is_gone() {
    // A key for this test alone, encrypted with single DES and MD5.
    let pem = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
        MFcwGwYJKoZIhvcNAQUDMA4ECH4gMnniHZsxAgIIAAQ4zI9ta4Kt2kwTax6TFzZq\n\
        8R8iWv9j2ofRxgBSZBkpWofCFNuJAItBtJPCwtaqpHfqO8mY0J8lq0s=\n\
        -----END ENCRYPTED PRIVATE KEY-----";
    if openssl::version::number() >= 0x3000_0000 {
        refused(pem, &with_passphrase("right"), "openssl pkcs8 -topk8 -v2 aes-256-cbc");
    }
}

#[test]
fn truncated_wherever_it_is_cut() {
    for key in [rsa(), p256(), ed25519()] {
        let pem = pkcs8(&key);
        let start = pem.find('\n').unwrap();
        let end = pem.rfind("-----END").unwrap();
        for at in [start, start + 1, start + 30, end - 1, end, end + 5] {
            bad(&pem[..at], "is cut off");
        }
        // Whole lines are missing in the middle.
        let lines: Vec<&str> = pem.lines().collect();
        bad(&[lines[0], &lines[1][..24], lines[lines.len() - 1]].join("\n"), "is cut off");
        let jwk = jwk(&key, &json!({})).to_string();
        bad(&jwk[..jwk.len() / 2], "is it cut off?");
    }
    let [pem, traditional] = encrypted(&rsa());
    for pem in [pem, traditional] {
        refused(&pem[..pem.len() / 2], &with_passphrase("right"), "is cut off");
    }
    let two = pkcs8(&p256());
    let joined = two[..two.len() / 2].to_owned() + "\n" + &two;
    bad(&joined, "is cut off");
}

#[test]
fn damaged() {
    let pem = pkcs8(&rsa());
    let middle = pem.len() / 2;
    bad(&format!("{}%{}", &pem[..middle], &pem[middle + 1..]), "is damaged");
    bad("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----", "cannot be read");
    bad("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----", "is cut off");
    for text in [
        jwk(&rsa(), &json!({"n": "a b"})),
        jwk(&p256(), &json!({"d": "\u{e4}"})),
        jwk(&ed25519(), &json!({"d": "+/+/"})),
    ] {
        bad(&text.to_string(), "is not base64url");
    }
    bad(&jwk(&rsa(), &json!({"p": null})).to_string(), "without `p`");
    bad(&jwk(&p256(), &json!({"x": null})).to_string(), "without `x`");
    bad(&jwk(&p256(), &json!({"x": "AAAA"})).to_string(), "OpenSSL does not take");
    bad(&jwk(&ed25519(), &json!({"d": "AAAA"})).to_string(), "OpenSSL does not take");
}

#[test]
fn halves_of_two_keys() {
    let (one, other) = (p256(), p256());
    let d = jwk(&other, &json!({}))["d"].clone();
    bad(&jwk(&one, &json!({"d": d})).to_string(), "is it damaged?");
    let e = json!({"e": "Aw", "p": null, "q": null, "dp": null, "dq": null, "qi": null});
    bad(&jwk(&rsa(), &e).to_string(), "its public half does not accept");
}

#[test]
fn an_algorithm_that_does_not_fit() {
    for (key, algorithm, words) in [
        (p256(), "RS256", "RS256 needs an RSA key, but the key is an EC key on the curve P-256"),
        (rsa(), "ES256", "set `signing_alg` to RS256"),
        (rsa(), "EdDSA", "EdDSA needs an Ed25519 key"),
        (p256(), "ES384", "ES384 needs an EC key on the curve P-384"),
        (ed25519(), "PS256", "PS256 needs an RSA key"),
        (
            rsa_pss(),
            "RS256",
            "RS256 needs an RSA key, but the key is an RSA key for PSS alone; set `signing_alg` to PS256",
        ),
        (rsa(), "HS256", "signs with a client secret"),
        (rsa(), "none", "does not sign by \"none\""),
        (rsa(), "rs256", "one of RS256"),
        (rsa(), "", "`signing_alg`"),
    ] {
        refused(&pkcs8(&key), &with_algorithm(algorithm), words);
    }
    bad(&jwk(&rsa(), &json!({"alg": "RSA-OAEP"})).to_string(), "does not sign by \"RSA-OAEP\"");
}

#[test]
fn a_kind_that_cannot_sign() {
    let pem = |key: PKey<Private>| pkcs8(&key);
    bad(&pem(PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap()), "1024 bits");
    bad(&pem(ec(Nid::SECP256K1)), "secp256k1");
    bad(&pem(ec(Nid::BRAINPOOL_P256R1)), "brainpoolP256r1");
    bad(&pem(PKey::generate_ed448().unwrap()), "Ed448");
    bad(&pem(PKey::generate_x25519().unwrap()), "key agreement");
    bad(&pem(PKey::from_dsa(Dsa::generate(1024).unwrap()).unwrap()), "no token is signed with");
    bad(
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\n-----END OPENSSH PRIVATE KEY-----",
        "ssh-keygen -p -m PKCS8",
    );
    bad(
        "-----BEGIN DSA PRIVATE KEY-----\nMAA=\n-----END DSA PRIVATE KEY-----",
        "no private key that can sign",
    );
}

#[test]
fn a_jwk_that_is_none_or_not_for_signing() {
    bad("{}", "no JWK (no `kty`)");
    bad("[]", "no JSON object");
    bad(r#"{"type": "service_account", "private_key": "x"}"#, "no JWK (no `kty`)");
    bad(r#"{"keys": 7}"#, "no JSON object that a JWK could be");
    bad(r#"{"keys": []}"#, "without a private key");
    bad(r#"{"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}"#, "symmetric JWK");
    bad(r#"{"kty": "AKP", "d": "AAAA"}"#, "unknown kind");
    bad(&jwk(&p256(), &json!({"crv": "secp256k1"})).to_string(), "P-256, P-384 and P-521 can");
    bad(&jwk(&ed25519(), &json!({"crv": "X25519"})).to_string(), "Ed25519 can");
    bad(&jwk(&p256(), &json!({"use": "enc"})).to_string(), "not for signing");
    bad(&jwk(&p256(), &json!({"key_ops": ["verify"]})).to_string(), "not for signing");
    bad(&json!({"keys": [jwk(&p256(), &json!({"d": null}))]}).to_string(), "without a private key");
}

#[test]
fn a_certificate_of_another_key() {
    let with =
        |certificate: String| KeyOptions { certificate: Some(certificate.into()), ..KeyOptions::default() };
    refused(&pkcs8(&p256()), &with(certificate_pem(&p256())), "is of another key");
    refused(&pkcs8(&p256()), &with("nonsense".into()), "no PEM certificate");
    refused(&pkcs8(&p256()), &with(String::new()), "no PEM certificate");
}
