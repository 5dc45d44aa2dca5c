//! Clients that authenticate by signed assertions, and the grants of services.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob::{
    Context, CredentialProvider as _, ErrorKind, ExposeSecret as _, SecretString, Session, TokenRequest,
    keycloak::Keycloak,
    oidc::{AssertionAudience, ClientAuth, Flow, Oidc},
    registry::SecretSource,
    sfapi::Sfapi,
    store::MemoryStore,
};
use keyfob_idp::{
    keycloak::{Keycloak as Server, client_secret, password},
    server::{Algorithm, SigningKey},
};
use reqwest::Method;
use serde_json::json;

use crate::Turn;

pub(crate) fn literal(secret: &str) -> SecretSource {
    SecretSource::Literal(secret.into())
}

/// Makes a client for the scenario, in the place of one that an earlier run left.
pub(crate) async fn make(server: &Server, client: serde_json::Value) {
    remove(server, client["clientId"].as_str().unwrap()).await;
    server.admin(Method::POST, "/clients", Some(&client)).await.unwrap();
}

async fn remove(server: &Server, client: &str) {
    let found = server.admin(Method::GET, &format!("/clients?clientId={client}"), None).await.unwrap();
    for old in found.as_array().into_iter().flatten() {
        let path = format!("/clients/{}", old["id"].as_str().unwrap());
        server.admin(Method::DELETE, &path, None).await.unwrap();
    }
}

/// A service account that signs its assertions by this key.
async fn signing(server: &Server, id: &str, algorithm: &str, key: &SigningKey) {
    let attributes = json!({
        "token.endpoint.auth.signing.alg": algorithm,
        "use.jwks.url": "false",
        "use.jwks.string": "true",
        "jwks.string": json!({"keys": [key.jwk()]}).to_string(),
    });
    make(
        server,
        json!({
            "clientId": id, "enabled": true, "publicClient": false, "clientAuthenticatorType": "client-jwt",
            "standardFlowEnabled": false, "directAccessGrantsEnabled": false, "serviceAccountsEnabled": true,
            "attributes": attributes,
        }),
    )
    .await;
}

/// The client that an access token says it was issued to.
fn issued_to(token: &SecretString) -> serde_json::Value {
    let payload = token.expose_secret().split('.').nth(1).unwrap();
    let claims: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    claims["azp"].clone()
}

const ALGORITHMS: [(Algorithm, &str); 10] = [
    (Algorithm::Rs256, "RS256"),
    (Algorithm::Rs384, "RS384"),
    (Algorithm::Rs512, "RS512"),
    (Algorithm::Ps256, "PS256"),
    (Algorithm::Ps384, "PS384"),
    (Algorithm::Ps512, "PS512"),
    (Algorithm::Es256, "ES256"),
    (Algorithm::Es384, "ES384"),
    (Algorithm::Es512, "ES512"),
    (Algorithm::EdDsa, "EdDSA"),
];

#[tokio::test]
async fn a_service_signs_its_assertions_by_every_algorithm() {
    let Some(server) = Turn::wait("private_key_jwt, ten algorithms, two audiences").await else { return };
    for (algorithm, name) in ALGORITHMS {
        let key = SigningKey::generate(algorithm);
        let id = format!("svc-{}", name.to_lowercase());
        signing(&server, &id, name, &key).await;
        for audience in [AssertionAudience::Issuer, AssertionAudience::TokenEndpoint] {
            let provider = Oidc::builder(server.issuer(), &id)
                .key(literal(&key.pkcs8_pem()))
                .signing_alg(name)
                .assertion_audience(audience)
                .build(&Context::new())
                .unwrap();
            let token = provider.acquire(&TokenRequest::default(), None).await.unwrap().access;
            assert_eq!(issued_to(token.secret()), json!(id), "{name}");
        }
        let stranger = SigningKey::generate(algorithm);
        let provider =
            Oidc::builder(server.issuer(), &id).key(literal(&stranger.pkcs8_pem())).signing_alg(name);
        let error = provider.build(&Context::new()).unwrap().acquire(&TokenRequest::default(), None).await;
        let error = error.unwrap_err();
        assert_eq!(
            (error.kind(), error.oauth_error()),
            (ErrorKind::Refused, Some("invalid_client")),
            "{name}"
        );
        remove(&server, &id).await;
    }
}

#[tokio::test]
async fn the_superfacility_provider_is_taken_wherever_its_assertions_are() {
    let Some(server) = Turn::wait("an assertion as NERSC's clients make it").await else { return };
    for (name, algorithm) in
        [("RS256", Algorithm::Rs256), ("PS256", Algorithm::Ps256), ("ES256", Algorithm::Es256)]
    {
        let key = SigningKey::generate(algorithm);
        signing(&server, "fakeclientid1", name, &key).await;
        let provider = Sfapi::new("fakeclientid1", literal(&key.pkcs8_pem()))
            .token_url(server.endpoint("token"))
            .signing_alg(name)
            .build(&Context::new())
            .unwrap();
        let token = provider.acquire(&TokenRequest::default(), None).await.unwrap().access;
        assert_eq!(issued_to(token.secret()), "fakeclientid1", "{name}");
        remove(&server, "fakeclientid1").await;
    }
}

#[tokio::test]
async fn a_service_signs_its_assertions_with_its_secret() {
    let Some(server) = Turn::wait("client_secret_jwt, HS256 to HS512").await else { return };
    let secret = "svc-secret-jwt-0123456789abcdef0123456789abcdef0123456789abcdef0123456789";
    for name in ["HS256", "HS384", "HS512"] {
        make(
            &server,
            json!({
                "clientId": "svc-secret-jwt", "enabled": true, "publicClient": false, "secret": secret,
                "clientAuthenticatorType": "client-secret-jwt", "standardFlowEnabled": false,
                "serviceAccountsEnabled": true, "attributes": {"token.endpoint.auth.signing.alg": name},
            }),
        )
        .await;
        let provider = Keycloak::builder(server.base(), "test", "svc-secret-jwt")
            .client_secret(literal(secret))
            .client_auth(ClientAuth::ClientSecretJwt)
            .oidc(|oidc| oidc.signing_alg(name))
            .build(&Context::new())
            .unwrap();
        provider.acquire(&TokenRequest::default(), None).await.unwrap();
    }
    remove(&server, "svc-secret-jwt").await;
}

#[tokio::test]
async fn a_password_signs_in_and_its_login_is_renewed() {
    let Some(server) = Turn::wait("the password grant").await else { return };
    let context = Context::new();
    let with = |secret: &str| {
        let provider = Oidc::builder(server.issuer(), "native")
            .flow(Flow::Password)
            .username("alice")
            .password(literal(secret))
            .scopes(["openid", "api:read"])
            .build(&context)
            .unwrap();
        Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap()
    };
    let session = with(&password("alice").unwrap());
    let token = session.token().await.unwrap();
    assert_eq!(session.status().await.unwrap().account.unwrap().name.as_deref(), Some("alice"));
    assert_ne!(session.refresh().await.unwrap().secret(), token.secret());
    assert_eq!(server.session_count("alice").await.unwrap(), 1, "renewed, not signed in again");

    let error = with("wrong-marker").token().await.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("invalid_grant")), "{error}");
    assert!(error.to_string().contains("\"alice\"") && !error.to_string().contains("marker"), "{error}");
}

/// Alice's access token at the public client, as a caller brings it.
async fn of_caller(server: &Server) -> SecretString {
    let form = [
        ("grant_type", "password"),
        ("client_id", "native"),
        ("username", "alice"),
        ("password", &password("alice").unwrap()),
        ("scope", "openid api:read"),
    ];
    SecretString::from(server.post("token", &form).await.unwrap().text("access_token"))
}

#[tokio::test]
async fn a_service_acts_for_its_callers_by_token_exchange() {
    let Some(server) = Turn::wait("token exchange, per caller and configured").await else { return };
    let caller = of_caller(&server).await;
    let context = Context::new();
    let web = || Oidc::builder(server.issuer(), "web").client_secret(literal(&client_secret("web").unwrap()));
    let provider = web().build(&context).unwrap();
    let session = Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap();
    let subject = keyfob::Subject::access_token(caller.expose_secret().to_owned());
    let exchanged = session.for_subject(subject).token().await.unwrap();
    let seen = server.introspect(exchanged.secret()).await.unwrap();
    assert_eq!((&seen["username"], &seen["client_id"]), (&json!("alice"), &json!("web")), "{seen}");
    assert_ne!(session.token().await.unwrap().secret(), exchanged.secret(), "its own token is another");

    let provider = web()
        .flow(Flow::TokenExchange)
        .subject_token(literal(caller.expose_secret()))
        .requested_token_type("urn:ietf:params:oauth:token-type:access_token")
        .build(&context)
        .unwrap();
    let token = provider.acquire(&TokenRequest::default(), None).await.unwrap().access;
    assert_eq!(server.introspect(token.secret().expose_secret()).await.unwrap()["username"], "alice");
}

#[tokio::test]
async fn tokens_are_introspected_and_their_person_asked_for() {
    let Some(server) = Turn::wait("introspection, user info, roles, revocation of an access token").await
    else {
        return;
    };
    let caller = of_caller(&server).await;
    let secret = literal(&client_secret("resource-server").unwrap());
    let provider = Keycloak::builder(server.base(), "test", "resource-server").client_secret(secret);
    let provider = provider.build(&Context::new()).unwrap();
    let known = provider.oidc().introspect(&caller).await.unwrap();
    assert!(known.active && known.scopes.unwrap().contains("api:read"));
    assert_eq!(known.client_id.as_deref(), Some("native"));
    assert!(!provider.oidc().introspect(&SecretString::from("nothing")).await.unwrap().active);
    let person = provider.oidc().user_info(&caller, None).await.unwrap();
    assert_eq!(person["preferred_username"], "alice");
    let roles = keyfob::keycloak::Roles::of(caller.expose_secret()).unwrap();
    assert!(roles.in_realm("offline_access"), "{roles:?}");

    let native = Keycloak::builder(server.base(), "test", "native").build(&Context::new()).unwrap();
    native.oidc().revoke_access_token(&caller).await.unwrap();
    assert!(!provider.oidc().introspect(&caller).await.unwrap().active);
}
