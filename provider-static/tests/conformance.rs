//! `StaticToken` and `Cave` pass the provider suite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::fs;

use keyfob_auth_core::{
    AccessToken,
    testing::provider::{Capabilities, all},
};
use keyfob_provider_static::{Cave, StaticToken};

const SECRET: &str = "s3cret-token";

fn unattended() -> Capabilities {
    Capabilities::unattended().secrets([SECRET])
}

#[tokio::test]
async fn a_literal_conforms() {
    all(&StaticToken::literal(SECRET), &unattended()).await;
}

#[tokio::test]
async fn a_file_conforms() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!(r#"{{"token": "{SECRET}"}}"#)).unwrap();
    let provider = StaticToken::file(file.path()).json_key("token").header("x-api-key").unwrap();
    all(&provider, &unattended()).await;
}

#[tokio::test]
async fn a_command_conforms() {
    all(&StaticToken::command(["echo", SECRET]), &unattended()).await;
}

#[tokio::test]
async fn callbacks_conform() {
    all(&StaticToken::callback(async |_| Ok(AccessToken::new(SECRET).expires_in(60))), &unattended()).await;
    all(&StaticToken::blocking_callback(|_| Ok(AccessToken::new(SECRET))), &unattended()).await;
}

#[tokio::test]
async fn cave_conforms_with_a_token_and_without() {
    let folder = tempfile::tempdir().unwrap();
    let cave = Cave::new("https://global.daf-apis.com").unwrap().secrets_folder(folder.path());
    all(&cave, &Capabilities::attended()).await;
    fs::write(folder.path().join("cave-secret.json"), format!(r#"{{"token": "{SECRET}"}}"#)).unwrap();
    all(&cave, &unattended()).await;
    all(&cave.token(SECRET), &unattended()).await;
}
