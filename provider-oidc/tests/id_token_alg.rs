//! The registered algorithm of ID tokens, and no other.
#![cfg(feature = "jose")]

mod common;

use std::time::Duration;

use common::{Shown, build, device};
use keyfob_auth_core::{CredentialProvider, ErrorKind, LoginRequest};
use keyfob_idp::server::{Algorithm, AuthorizationServer, AutoApprove, Settings};

#[tokio::test]
async fn oidc_core_3_1_3_7_alg_is_the_registered_one() {
    let settings = Settings {
        auto_approve: Some(AutoApprove { user: "alice".into(), after_polls: 0 }),
        device_interval: Duration::from_millis(10),
        signing_algorithms: vec![Algorithm::Es256],
        ..Settings::default()
    };
    let server = AuthorizationServer::start(settings).await;
    for (registered, accepted) in [("ES256", true), ("RS256", false)] {
        let provider = build(device(&server).id_token_signing_alg(registered));
        let outcome = provider.login(&LoginRequest::default(), None, Shown::new()).await;
        assert_eq!(outcome.is_ok(), accepted, "{registered}");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.message().contains("signed by ES256, not by RS256"), "{error}");
        }
    }
}
