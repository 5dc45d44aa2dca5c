//! Every bad key has a message that says what it is and what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod common;

use common::{CLIENT, Nersc};
use keyfob_auth_core::{Context, CredentialProvider, TokenRequest};
use keyfob_idp::server::{Algorithm, SigningKey};
use openssl::{pkey::PKey, symm::Cipher};

#[tokio::test]
async fn a_bad_key_file_says_what_is_wrong_with_it() {
    let nersc = Nersc::start().await;
    let pem = nersc.pem();
    let key = PKey::private_key_from_pem(pem.as_bytes()).unwrap();
    let encrypted = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"marker").unwrap();
    let encrypted = String::from_utf8(encrypted).unwrap();
    let public = String::from_utf8(key.public_key_to_pem().unwrap()).unwrap();
    let ec = SigningKey::generate(Algorithm::Es256).pkcs8_pem();
    let cut: String = pem.chars().take(pem.len() / 2).collect();
    for (name, content, said) in [
        ("empty.pem", String::new(), "the key is empty; download it"),
        ("blank.pem", " \n".into(), "the key is empty; download it"),
        ("no-key.pem", format!("{CLIENT}\n"), "neither PEM"),
        ("no-id.pem", pem.clone(), "does not say which client"),
        (
            "two.pem",
            format!("{CLIENT}\n{pem}\n{}", common::pkcs1(&SigningKey::generate(Algorithm::Rs256))),
            "two",
        ),
        ("encrypted.pem", format!("{CLIENT}\n{encrypted}"), "passphrase"),
        ("public.pem", format!("{CLIENT}\n{public}"), "public"),
        ("ec.pem", format!("{CLIENT}\n{ec}"), "RS256 needs an RSA key"),
        ("cut.pem", format!("{CLIENT}\n{cut}"), "END"),
        ("cut.json", "{\"client_id\":".into(), "whole"),
        ("jwk.json", format!("{{\"client_id\":\"{CLIENT}\",\"secret\":{{\"kty\":\"RSA\"}}}}"), "key"),
    ] {
        let path = nersc.file(name, &content);
        let provider = nersc.by_file(&path).build(&Context::new()).unwrap();
        let error = provider.acquire(&TokenRequest::default(), None).await.unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains(said), "{name}: {shown}");
        assert!(
            format!("{:?} {shown}", error.origin()).contains(name),
            "{name}: where it came from: {error:?}"
        );
        assert!(!shown.contains("marker") && !shown.contains("MII"), "{shown}");
    }
    assert_eq!(nersc.server.counters().token, 0);

    let path = nersc.file("encrypted.pem", &format!("{CLIENT}\n{encrypted}"));
    let with = |passphrase: &str| {
        let source = keyfob_auth_core::registry::SecretSource::Literal(passphrase.into());
        nersc.by_file(&path).key_passphrase(source).build(&Context::new()).unwrap()
    };
    with("marker").acquire(&TokenRequest::default(), None).await.unwrap();
    assert!(with("wrong").acquire(&TokenRequest::default(), None).await.is_err());
}

#[cfg(unix)]
#[tokio::test]
async fn a_key_file_that_others_can_read_is_refused_with_what_mends_it() {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    let nersc = Nersc::start().await;
    let path = nersc.key_file();
    let provider = nersc.by_file(&path).build(&Context::new()).unwrap();
    for mode in [0o640, 0o644, 0o666, 0o700] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = provider.acquire(&TokenRequest::default(), None).await.unwrap_err();
        assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{mode:o}: {error}");
    }
    let refused = provider.secret_revision();
    for mode in [0o400, 0o600] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_ne!(provider.secret_revision(), refused, "mended, so worth another try at once");
        provider.acquire(&TokenRequest::default(), None).await.unwrap();
    }
    assert_eq!(nersc.server.counters().token, 2);
}
