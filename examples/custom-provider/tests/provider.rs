//! The provider passes the suite, and works by its name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::fs;

use keyfob::{
    Config, Context, ErrorKind, TokenRequest,
    registry::{Settings, Value},
    testing::provider::{Capabilities, all},
};
use keyfob_example_custom_provider::AgentFolder;

/// What the agent leaves, and a configuration file beside it.
fn agent() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("billing"), "token-for-billing\n600\n").unwrap();
    fs::write(folder.path().join("stock"), "token-for-stock\n600\n").unwrap();
    folder
}

#[tokio::test]
async fn it_conforms() {
    let folder = agent();
    let settings = Settings::new("profile.work")
        .with("folder", Value::String(folder.path().display().to_string()), None)
        .with("service", Value::String("billing".into()), None);
    let provider = AgentFolder::from_settings(&settings, &Context::new()).unwrap();
    all(&provider, &Capabilities::unattended().secrets(["token-for-billing"])).await;
}

#[tokio::test]
async fn its_name_works_in_the_configuration_file() {
    let folder = agent();
    let text =
        "[profile.work]\nprovider = \"agent\"\nfolder = \".\"\nservice = \"billing\"\nstore = \"memory\"\n";
    let registry = keyfob::registry().provider("agent", AgentFolder::from_settings);
    let config = Config::parse(text, folder.path().join("keyfob.toml")).unwrap();
    let session = config.profile(None, &registry, &Context::new()).unwrap().session;
    assert_eq!(session.token().await.unwrap().secret(), "token-for-billing");
    let stock = session.for_request(TokenRequest::default().with_audience("stock"));
    assert_eq!(stock.token().await.unwrap().secret(), "token-for-stock");
    let unknown = session.for_request(TokenRequest::default().with_audience("absent"));
    assert_eq!(unknown.token().await.unwrap_err().kind(), ErrorKind::NotConfigured);
    let misspelt = Config::parse(&text.replace("service", "servise"), "keyfob.toml").unwrap();
    let error = misspelt.profile(None, &registry, &Context::new()).unwrap_err().to_string();
    assert!(error.contains("`service` is missing"), "{error}");
}
