//! Keys from the environment and from the home folder, each in a process of its own.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::{env, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use common::{CLIENT, Nersc, private_jwk};
use keyfob_auth_core::{Context, CredentialProvider as _, TokenRequest};
use keyfob_provider_sfapi::Sfapi;
use serde_json::json;

/// What the other process is to do: a nickname, or nothing for the environment.
const ROLE: &str = "KEYFOB_TEST_SFAPI_KEY";
const URL: &str = "KEYFOB_TEST_SFAPI_URL";

/// What a process says that gets a token with these variables: what its logins are told apart by, or the error.
async fn said(nersc: &Nersc, key: &str, home: &Path, variables: &[(&str, &str)]) -> String {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "gets_a_token", "--nocapture"]).env(ROLE, key).env("HOME", home);
    child.env(URL, nersc.server.token_endpoint());
    child.env_remove("SFAPI_CLIENT_ID").env_remove("SFAPI_SECRET").envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let said = printed.lines().find_map(|line| line.split_once("SAID=")).map(|(_, said)| said.to_owned());
    said.unwrap_or_else(|| panic!("{printed}{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test]
async fn the_environment_says_client_and_key() {
    let nersc = Nersc::start().await;
    let home = nersc.folder.path();
    let (pem, jwk) = (nersc.pem(), private_jwk(&nersc.key).to_string());
    let file = json!({"client_id": CLIENT, "secret": private_jwk(&nersc.key)}).to_string();
    let id = ("SFAPI_CLIENT_ID", CLIENT);
    let got = format!("got it: {CLIENT:?}");
    for (variables, expected) in [
        (vec![id, ("SFAPI_SECRET", &pem)], got.as_str()),
        (vec![id, ("SFAPI_SECRET", &jwk)], &got),
        (vec![id, ("SFAPI_SECRET", &file)], &got),
        // The file says which client it is; no process knows that before it reads it.
        (vec![("SFAPI_SECRET", &file)], "got it: \"\""),
        (
            vec![("SFAPI_CLIENT_ID", "otherclient01"), ("SFAPI_SECRET", &pem)],
            "does not accept the key of client otherclient01",
        ),
        (vec![("SFAPI_SECRET", &pem)], "does not say which client"),
        (vec![id], "set the environment variables SFAPI_CLIENT_ID and SFAPI_SECRET"),
        (vec![], "name one (`key`)"),
    ] {
        let said = said(&nersc, "", home, &variables).await;
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(nersc.server.counters().token, 5);
}

#[tokio::test]
async fn a_nickname_is_looked_up_in_the_home_folder() {
    let nersc = Nersc::start().await;
    let home = nersc.folder.path();
    let folder = home.join(".superfacility");
    let pem = format!("{CLIENT}\n{}", nersc.pem());
    fs::create_dir(&folder).unwrap();
    for name in ["prod.pem", "test-a.pem", "test-b.pem"] {
        fs::write(folder.join(name), &pem).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    for (key, expected) in [
        ("prod", "got it: \"prod\""),
        ("test-b", "got it: \"test-b\""),
        ("~/.superfacility/prod.pem", "/.superfacility/prod.pem\""),
        ("test", "test-a.pem, test-b.pem"),
        ("live", "there are: prod.pem, test-a.pem, test-b.pem"),
    ] {
        let said = said(&nersc, key, home, &[]).await;
        assert!(said.contains(expected), "{key}: {said}");
    }
    assert_eq!(nersc.server.counters().token, 3);
}

/// A part for the other process, and no test.
#[tokio::test]
async fn gets_a_token() {
    let (Ok(key), Ok(url)) = (env::var(ROLE), env::var(URL)) else { return };
    let builder = if key.is_empty() { Sfapi::from_env() } else { Sfapi::from_key_file(key) };
    let provider = builder.token_url(url).build(&Context::new()).unwrap();
    match provider.acquire(&TokenRequest::default(), None).await {
        Ok(_) => {
            let identity = provider.identity();
            println!("SAID=got it: {:?}", identity.client + &identity.tenant);
        }
        Err(error) => println!("SAID={error}"),
    }
}
