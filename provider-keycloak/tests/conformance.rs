//! `Keycloak` passes the provider suite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use keyfob_auth_core::{
    Context,
    registry::SecretSource,
    testing::provider::{Capabilities, all},
};
use keyfob_idp::server::{AuthorizationServer, Settings};
use keyfob_provider_keycloak::{Keycloak, KeycloakBuilder};
use keyfob_provider_oidc::Flow;

/// A realm of the embedded server's, whose endpoints are where they are.
fn realm(server: &AuthorizationServer, client: &str) -> KeycloakBuilder {
    Keycloak::builder(server.issuer(), "test", client).oidc(|oidc| {
        oidc.token_endpoint(server.token_endpoint())
            .device_authorization_endpoint(server.url("/device_authorization"))
            .revocation_endpoint(server.url("/revoke"))
            .jwks_uri(server.url("/jwks"))
            // The embedded server's have no realm in their issuer.
            .id_tokens(false)
    })
}

#[tokio::test]
async fn a_service_account_conforms() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = realm(&server, "service").client_secret(SecretSource::Literal("service-secret".into()));
    let capabilities = Capabilities::unattended().secrets(["service-secret"]);
    all(&provider.build(&Context::new()).unwrap(), &capabilities).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_login_conforms() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = realm(&server, "cli").flow(Flow::Device).build(&Context::new()).unwrap();
    all(&provider, &Capabilities::attended()).await;
}

#[tokio::test]
async fn a_given_token_conforms() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = realm(&server, "cli").token(SecretSource::Literal("a-given-token".into()));
    let capabilities = Capabilities::unattended().secrets(["a-given-token"]);
    all(&provider.build(&Context::new()).unwrap(), &capabilities).await;
}
