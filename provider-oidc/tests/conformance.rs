//! The conformance suite for providers, against the embedded server.

mod common;

use common::{build, device, service};
use keyfob_auth_core::testing::provider::{Capabilities, all};
use keyfob_idp::server::{AuthorizationServer, Settings};
use keyfob_provider_oidc::{ClientAuth, Flow};

#[tokio::test]
async fn client_credentials_conform() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let capabilities = Capabilities::unattended().secrets(["service-secret"]);
    all(&build(service(&server)), &capabilities).await;
    all(&build(service(&server).client_auth(ClientAuth::ClientSecretPost)), &capabilities).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn device_login_conforms() {
    let server = AuthorizationServer::start(Settings::default()).await;
    all(&build(device(&server)), &Capabilities::attended()).await;
    let confidential = service(&server).flow(Flow::Device);
    all(&build(confidential), &Capabilities::attended().secrets(["service-secret"])).await;
}

#[tokio::test]
async fn device_login_conforms_while_the_server_is_away() {
    let server = AuthorizationServer::start(Settings::default()).await;
    server.set_down(true);
    all(&build(device(&server)), &Capabilities::attended()).await;
}
