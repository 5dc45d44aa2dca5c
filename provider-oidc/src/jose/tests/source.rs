use std::{fs, sync::Arc};

use keyfob_auth_core::{ErrorKind, registry::SecretSource};

use super::*;
use crate::jose::KeySource;

#[tokio::test]
async fn a_replaced_key_file_is_used_and_an_unchanged_one_is_read_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key.pem");
    fs::write(&file, pkcs8(&p256())).unwrap();
    let source = KeySource::new(SecretSource::File(file.clone()));
    let first = source.signer().await.unwrap();
    assert!(Arc::ptr_eq(&first, &source.signer().await.unwrap()));
    assert!(Arc::ptr_eq(&first, &source.clone().signer().await.unwrap()));

    fs::write(&file, pkcs8(&ed25519())).unwrap();
    let second = source.signer().await.unwrap();
    assert_eq!((first.algorithm(), second.algorithm()), ("ES256", "EdDSA"));

    fs::write(&file, "").unwrap();
    assert_eq!(source.signer().await.unwrap_err().kind(), ErrorKind::NotConfigured);
    fs::write(&file, pkcs8(&rsa())).unwrap();
    assert_eq!(source.signer().await.unwrap().algorithm(), "RS256");
}

#[tokio::test]
async fn a_replaced_passphrase_or_certificate_counts_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        fs::write(&file, text).unwrap();
        Some(SecretSource::File(file))
    };
    let key = p256();
    let mut source = KeySource::new(write("key", &pkcs8(&key)).unwrap());
    source.passphrase = write("passphrase", "one");
    source.certificate = write("certificate", &certificate_pem(&key));
    source.key_id = Some("k1".into());
    source.algorithm = Some("ES256".into());
    let first = source.signer().await.unwrap();
    assert_eq!(first.key_id(), Some("k1"));
    assert!(first.header_parameters().contains_key("x5t#S256"));
    write("passphrase", "longer");
    let second = source.signer().await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    write("certificate", &certificate_pem(&rsa()));
    assert!(source.signer().await.unwrap_err().to_string().contains("is of another key"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_command_is_run_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let (key, runs) = (directory.path().join("key"), directory.path().join("runs"));
    fs::write(&key, pkcs8(&p256())).unwrap();
    let script = format!("echo run >> '{}'; cat '{}'", runs.display(), key.display());
    let source = KeySource::new(SecretSource::Command(["sh", "-c", &script].map(str::to_owned).to_vec()));
    for n in 1..=3 {
        source.signer().await.unwrap();
        assert_eq!(fs::read_to_string(&runs).unwrap().lines().count(), n);
    }
}

#[tokio::test]
async fn errors_name_the_source_and_show_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key.pem");
    let mut source =
        KeySource::new(SecretSource::Configured(Box::new(SecretSource::File(file.clone())), "key".into()));
    source.algorithm = Some("ES256".into());
    assert_eq!(source.signer().await.unwrap_err().kind(), ErrorKind::NotConfigured);
    let pem = pkcs8(&rsa());
    fs::write(&file, &pem).unwrap();
    let error = source.signer().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let text = error.to_string();
    assert!(text.contains("key.pem") && text.contains("for key") && text.contains("ES256 needs"), "{text}");
    let literal = KeySource::new(SecretSource::Literal(pem.as_str().into()));
    literal.signer().await.unwrap();
    let shown = format!("{source:?} {literal:?} {error:?}");
    assert!(!shown.contains(&pem[40..80]), "{shown}");
}
