//! The provider that the guide builds, and the tests that it proves it with.
#![cfg(all(feature = "config", feature = "testing"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test may panic; the guide's code is a crate's"
)]

use std::fs;

use keyfob_auth_core::{
    Context,
    registry::{Settings, Value},
    testing::provider::{self, Capabilities},
};

use my_agent::Agent;

const GUIDE: &str = include_str!("../docs/writing-a-provider.md");

/// Step 2.
mod my_agent {
    use std::{fs, path::PathBuf};

    use keyfob_auth_core::{
        AccessToken, Acquired, AuthError, Context, CredentialProvider, Identity, Login, TokenRequest,
        async_trait, registry::Settings,
    };

    /// Tokens from the agent's folder.
    #[derive(Debug)]
    pub struct Agent {
        folder: PathBuf,
        service: String,
    }

    #[async_trait]
    impl CredentialProvider for Agent {
        fn identity(&self) -> Identity {
            Identity::new("agent").issuer(self.folder.display().to_string()).client(&self.service)
        }

        async fn acquire(&self, _: &TokenRequest, _: Option<&Login>) -> Result<Acquired, AuthError> {
            let file = self.folder.join(&self.service);
            let text = fs::read_to_string(&file).map_err(|error| {
                AuthError::not_configured("the agent has no such service")
                    .with_origin(file.display().to_string())
                    .with_source(error)
            })?;
            // A line break at the end is no part of a token, and no header can carry it.
            Ok(Acquired::token(AccessToken::new(text.trim()).expires_in(600)))
        }
    }

    // Step 3, below.
    impl Agent {
        pub fn from_settings(settings: &Settings, _: &Context) -> Result<Self, AuthError> {
            Ok(Self {
                folder: settings.path("folder")?.ok_or_else(|| settings.bad("folder", "is missing"))?,
                service: settings.require_string("service")?,
            })
        }
    }

    /// The unit test of step 4, of a folder as the guide's would be.
    #[tokio::test]
    async fn conformance() {
        use keyfob_auth_core::testing::provider::{self, Capabilities};

        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("billing"), "a-token\n").unwrap();
        let agent = Agent { folder: folder.path().into(), service: "billing".into() };
        provider::all(&agent, &Capabilities::unattended()).await;
    }
}

#[tokio::test]
async fn conformance() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("billing"), "a-token\n").unwrap();
    let settings = Settings::new("profile.test")
        .with("folder", Value::String(folder.path().display().to_string()), None)
        .with("service", Value::String("billing".into()), None);
    let agent = Agent::from_settings(&settings, &Context::new()).unwrap();
    settings.finish().unwrap(); // it has read every key
    provider::all(&agent, &Capabilities::unattended().secrets(["a-token"])).await;
}

#[test]
fn the_guide_has_the_code_that_is_tested() {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let tested = plain(include_str!("config_guide.rs"));
    let block =
        |n: usize, fence: &str| GUIDE.split(fence).nth(n).unwrap().split("```").next().unwrap().to_owned();
    let provider = plain(&block(1, "```rust\n"));
    assert!(provider.contains("impl CredentialProvider for Agent") && tested.contains(&provider), "step 2");
    let integration = block(3, "```rust,ignore\n");
    let test = &integration[integration.find("#[tokio::test]").unwrap()..];
    assert!(test.contains("Agent::from_settings") && tested.contains(&plain(test)), "step 4");
}
