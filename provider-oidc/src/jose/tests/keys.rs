use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::{jwk::Jwk, jws, jwt};
use keyfob_auth_core::ExposeSecret as _;
use openssl::{sha::sha256, symm::Cipher};
use serde_json::{Map, Value, json};

use super::*;
use crate::{Signer, jose::HmacKey, signer::sign_jwt};

const ID_LINE: &str = "randmstrngzid\n";
const EC_PARAMETERS: &str = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
/// The key of RFC 8037 appendix A.1.
const RFC_8037: &str = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

/// Everything that must be read as this key: what it is called, and its text.
fn forms(key: &PKey<Private>) -> Vec<(&'static str, String)> {
    let pem = pkcs8(key);
    let private = jwk(key, &json!({}));
    let other = jwk(&p256(), &json!({"d": null, "kid": "public"}));
    let mut forms = vec![
        ("PKCS#8", pem.clone()),
        ("leading text", format!("{ID_LINE}{pem}")),
        ("CRLF", format!("{ID_LINE}{pem}").replace('\n', "\r\n")),
        ("byte order mark", format!("\u{feff}{pem}")),
        ("trailing blanks", pem.replace('\n', "  \t\n") + "\n \n"),
        ("indented", format!("  {}", pem.replace('\n', "\n    "))),
        ("on one line", pem.replace('\n', " ")),
        ("line ends written out", pem.replace('\n', "\\n")),
        ("certificate before", certificate_pem(key) + &pem),
        ("certificates after", pem.clone() + &certificate_pem(key) + &certificate_pem(&p256())),
        ("public key besides", pem.clone() + &String::from_utf8(key.public_key_to_pem().unwrap()).unwrap()),
        ("JWK", private.to_string()),
        ("JWK over lines", format!("\u{feff}\n{private:#}\r\n")),
        ("JWK set of one", json!({"keys": [private]}).to_string()),
        (
            "JWK set with odd keys",
            json!({"keys": [{"d": "x", "use": "enc"}, 7, null, "text", [], {"kty": ["EC"]}, other, private], "x": 1e99})
                .to_string(),
        ),
    ];
    if let Ok(rsa) = key.rsa() {
        let pem = String::from_utf8(rsa.private_key_to_pem().unwrap()).unwrap();
        assert!(pem.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
        forms.push(("PKCS#1", pem));
        let bare = json!({"p": null, "q": null, "dp": null, "dq": null, "qi": null});
        forms.push(("JWK without primes", jwk(key, &bare).to_string()));
    }
    if let Ok(ec) = key.ec_key() {
        let pem = String::from_utf8(ec.private_key_to_pem().unwrap()).unwrap();
        assert!(pem.starts_with("-----BEGIN EC PRIVATE KEY-----"));
        forms.push(("SEC1", pem.clone()));
        forms.push(("SEC1 after its parameters", EC_PARAMETERS.to_owned() + &pem));
    }
    forms
}

#[test]
fn every_form_of_a_key_is_the_same_key() {
    for (kind, key) in [("RSA", rsa()), ("P-256", p256()), ("Ed25519", ed25519())] {
        let thumbprint = read(&pkcs8(&key), &KeyOptions::default()).unwrap().thumbprint();
        for (form, text) in forms(&key) {
            let read = read(&text, &KeyOptions::default());
            assert_eq!(read.map(|key| key.thumbprint()).ok(), Some(thumbprint.clone()), "{kind}: {form}");
        }
    }
}

#[test]
fn an_encrypted_key_is_opened_by_its_passphrase() {
    let secret = "pass phrase ä";
    let cipher = Cipher::aes_256_cbc();
    for key in [rsa(), p256(), ed25519()] {
        let thumbprint = read(&pkcs8(&key), &KeyOptions::default()).unwrap().thumbprint();
        let mut encrypted = vec![key.private_key_to_pem_pkcs8_passphrase(cipher, secret.as_bytes()).unwrap()];
        if let Ok(rsa) = key.rsa() {
            encrypted.push(rsa.private_key_to_pem_passphrase(cipher, secret.as_bytes()).unwrap());
        }
        if let Ok(ec) = key.ec_key() {
            encrypted.push(ec.private_key_to_pem_passphrase(cipher, secret.as_bytes()).unwrap());
        }
        for pem in encrypted {
            let pem = String::from_utf8(pem).unwrap();
            for text in
                [pem.clone(), pem.replace('\n', "\r\n"), format!("{ID_LINE}{pem}{}", certificate_pem(&key))]
            {
                let read = read(&text, &with_passphrase(secret)).unwrap();
                assert_eq!(read.thumbprint(), thumbprint, "{}", pem.lines().next().unwrap());
            }
        }
    }
    let plain = pkcs8(&p256());
    assert!(read(&plain, &with_passphrase(secret)).is_ok(), "a passphrase that is not needed does no harm");
}

/// Each algorithm with each kind of key that it fits, the usual one of the kind first.
fn algorithms() -> Vec<(PKey<Private>, Vec<&'static str>)> {
    vec![
        (rsa(), vec!["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
        (rsa_pss(), vec!["PS256", "PS384", "PS512"]),
        (p256(), vec!["ES256"]),
        (ec(Nid::SECP384R1), vec!["ES384"]),
        (ec(Nid::SECP521R1), vec!["ES512"]),
        (ed25519(), vec!["EdDSA"]),
    ]
}

#[tokio::test]
async fn every_algorithm_signs_what_another_library_accepts() {
    let claims = json!({"iss": "client"}).as_object().cloned().unwrap();
    for (key, names) in algorithms() {
        let usual = read(&pkcs8(&key), &KeyOptions::default()).unwrap();
        assert_eq!(usual.algorithm(), names[0]);
        for name in names {
            let options = KeyOptions { key_id: Some("k1".into()), ..with_algorithm(name) };
            let signer = read(&pkcs8(&key), &options).unwrap();
            let token = sign_jwt(&signer, "JWT", Map::new(), &claims).await.unwrap();
            let public = Jwk::from_map(signer.public_jwk()).unwrap();
            let verifier: Box<dyn jws::JwsVerifier> = match name {
                "RS256" => Box::new(jws::RS256.verifier_from_jwk(&public).unwrap()),
                "RS384" => Box::new(jws::RS384.verifier_from_jwk(&public).unwrap()),
                "RS512" => Box::new(jws::RS512.verifier_from_jwk(&public).unwrap()),
                "PS256" => Box::new(jws::PS256.verifier_from_jwk(&public).unwrap()),
                "PS384" => Box::new(jws::PS384.verifier_from_jwk(&public).unwrap()),
                "PS512" => Box::new(jws::PS512.verifier_from_jwk(&public).unwrap()),
                "ES256" => Box::new(jws::ES256.verifier_from_jwk(&public).unwrap()),
                "ES384" => Box::new(jws::ES384.verifier_from_jwk(&public).unwrap()),
                "ES512" => Box::new(jws::ES512.verifier_from_jwk(&public).unwrap()),
                _ => Box::new(jws::EdDSA.verifier_from_jwk(&public).unwrap()),
            };
            let (payload, header) = jwt::decode_with_verifier(token.expose_secret(), &*verifier).unwrap();
            assert_eq!(payload.claims_set(), &claims);
            let said = json!({"alg": name, "typ": "JWT", "kid": "k1"});
            assert_eq!(Value::Object(header.claims_set().clone()), said);
        }
    }
}

#[test]
fn rfc8037_appendix_a_4_the_signature() {
    let key = read(RFC_8037, &KeyOptions::default()).unwrap();
    let signature = key.signature(b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc").unwrap();
    assert_eq!(
        URL_SAFE_NO_PAD.encode(signature),
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
    assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "appendix A.3");
}

#[test]
fn rfc7638_3_a_thumbprint_is_of_the_required_members_in_order() {
    for (key, members) in [
        (rsa(), &["e", "kty", "n"][..]),
        (ec(Nid::SECP521R1), &["crv", "kty", "x", "y"]),
        (ed25519(), &["crv", "kty", "x"]),
    ] {
        let options = KeyOptions { key_id: Some("k1".into()), ..KeyOptions::default() };
        let key = read(&pkcs8(&key), &options).unwrap();
        let public = key.public_jwk();
        let mut names: Vec<&str> = public.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, members);
        let canonical: Vec<String> =
            members.iter().map(|name| format!("\"{name}\":{}", public[*name])).collect();
        let canonical = format!("{{{}}}", canonical.join(","));
        assert_eq!(key.thumbprint(), URL_SAFE_NO_PAD.encode(sha256(canonical.as_bytes())));
    }
}

#[test]
fn rfc7518_6_2_coordinates_are_as_long_as_the_curve() {
    // About one key in 128 has a coordinate that begins with a zero.
    for _ in 0..300 {
        let public = SigningKey::generate_p256().unwrap().public_jwk();
        for name in ["x", "y"] {
            assert_eq!(public[name].as_str().unwrap().len(), 43);
        }
    }
}

#[test]
fn a_key_that_is_kept_is_the_same_when_it_is_read() {
    for (key, names) in algorithms() {
        for name in names {
            let options = KeyOptions { key_id: Some("the \"1st\"".into()), ..with_algorithm(name) };
            let key = read(&pkcs8(&key), &options).unwrap();
            let kept = SigningKey::from_text(&key.to_jwk_secret().unwrap(), &KeyOptions::default()).unwrap();
            assert_eq!(kept.thumbprint(), key.thumbprint());
            assert_eq!((kept.algorithm(), kept.key_id()), (name, Some("the \"1st\"")));
        }
    }
    let generated = SigningKey::generate_p256().unwrap();
    assert_eq!(generated.algorithm(), "ES256");
    assert_ne!(generated.thumbprint(), SigningKey::generate_p256().unwrap().thumbprint());
}

#[test]
fn what_is_set_goes_before_what_the_jwk_says() {
    let text = jwk(&rsa(), &json!({"alg": "PS384", "kid": "own"})).to_string();
    let own = read(&text, &KeyOptions::default()).unwrap();
    assert_eq!((own.algorithm(), own.key_id()), ("PS384", Some("own")));
    let set = read(&text, &KeyOptions { key_id: Some("set".into()), ..with_algorithm("RS512") }).unwrap();
    assert_eq!((set.algorithm(), set.key_id()), ("RS512", Some("set")));
}

#[test]
fn a_key_of_a_set_is_chosen_by_its_id() {
    let (a, b) = (p256(), ed25519());
    let set = json!({"keys": [jwk(&a, &json!({"kid": "a"})), jwk(&b, &json!({"kid": "b"}))]}).to_string();
    let chosen = read(&set, &with_key_id("b")).unwrap();
    assert_eq!((chosen.algorithm(), chosen.key_id()), ("EdDSA", Some("b")));
    let signing = json!({"keys": [
        jwk(&a, &json!({"use": "enc"})),
        jwk(&a, &json!({"key_ops": ["deriveKey"]})),
        jwk(&b, &json!({"use": "sig", "key_ops": ["verify", "sign"]})),
    ]});
    assert_eq!(read(&signing.to_string(), &KeyOptions::default()).unwrap().algorithm(), "EdDSA");
}

#[test]
fn rfc7515_4_1_8_the_certificate_is_named_by_its_hash() {
    let key = rsa();
    let own = certificate(&key);
    let pem = certificate_pem(&p256()) + &String::from_utf8(own.to_pem().unwrap()).unwrap();
    let options = KeyOptions { certificate: Some(pem.into()), ..KeyOptions::default() };
    let header = read(&pkcs8(&key), &options).unwrap().header_parameters();
    let hash = URL_SAFE_NO_PAD.encode(sha256(&own.to_der().unwrap()));
    assert_eq!(Value::Object(header), json!({"x5t#S256": hash}));
    assert!(read(&pkcs8(&key), &KeyOptions::default()).unwrap().header_parameters().is_empty());
}

#[tokio::test]
async fn rfc7518_3_2_a_secret_signs_if_it_is_as_long_as_the_hash() {
    for (name, hmac, least) in
        [("HS256", jws::HS256, 32), ("HS384", jws::HS384, 48), ("HS512", jws::HS512, 64)]
    {
        let secret = "s".repeat(least);
        let key = HmacKey::new(name, &secret.as_str().into()).unwrap();
        assert_eq!((key.algorithm(), key.key_id()), (name, None));
        let signature = key.sign(b"input").await.unwrap();
        jws::JwsVerifier::verify(&hmac.verifier_from_bytes(&secret).unwrap(), b"input", &signature).unwrap();
        let error = HmacKey::new(name, &secret[1..].into()).unwrap_err().to_string();
        assert!(error.contains(&format!("{least} bytes")) && error.contains("7518"), "{error}");
    }
    for name in ["RS256", "none", ""] {
        let error = HmacKey::new(name, &"s".repeat(64).into()).unwrap_err().to_string();
        assert!(error.contains("`signing_alg`"), "{error}");
    }
}

#[test]
fn debug_shows_no_key() {
    let key = read(RFC_8037, &with_key_id("k1")).unwrap();
    let shown = format!("{key:?} {:?}", HmacKey::new("HS256", &"marker".repeat(8).into()).unwrap());
    assert!(shown.contains("EdDSA") && shown.contains("k1") && shown.contains("HS256"), "{shown}");
    assert!(!shown.contains("nWGxne") && !shown.contains("marker"), "{shown}");
    assert!(!format!("{:?}", with_passphrase("marker")).contains("marker"));
}
