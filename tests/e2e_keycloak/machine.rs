//! A client for itself: client credentials.

use std::{fs, path::Path, sync::Arc};

use keyfob::{
    Context, ErrorKind, Session,
    oidc::{ClientAuth, Oidc},
    registry::SecretSource,
    store::MemoryStore,
};
use keyfob_idp::keycloak::{Keycloak, client_secret};

use crate::Turn;

fn session(keycloak: &Keycloak, client: &str, auth: ClientAuth, secret: SecretSource) -> Session {
    let context = Context::new();
    let builder = Oidc::builder(keycloak.issuer(), client).client_secret(secret).client_auth(auth);
    let provider = builder.scopes(["api:read"]).build(&context).unwrap();
    Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap()
}

fn literal(secret: &str) -> SecretSource {
    SecretSource::Literal(secret.into())
}

fn file(path: &Path) -> SecretSource {
    SecretSource::File(path.to_owned())
}

#[tokio::test]
async fn a_service_gets_a_token_with_either_way_to_send_its_secret() {
    let Some(keycloak) = Turn::wait("client credentials, basic and post; a wrong secret").await else {
        return;
    };
    for (client, auth) in
        [("svc-basic", ClientAuth::ClientSecretBasic), ("svc-post", ClientAuth::ClientSecretPost)]
    {
        let secret = client_secret(client).unwrap();
        let session_of = |secret: &str| session(&keycloak, client, auth, literal(secret));
        let session = session_of(&secret);
        let token = session.token().await.unwrap();
        let seen = keycloak.introspect(token.secret()).await.unwrap();
        assert_eq!((&seen["active"], &seen["client_id"]), (&true.into(), &client.into()), "{seen}");
        assert!(seen["scope"].as_str().unwrap().contains("api:read"), "{seen}");
        assert_eq!(session.token().await.unwrap().secret(), token.secret());
        assert_ne!(session.refresh().await.unwrap().secret(), token.secret());

        let error = session_of("wrong-marker").token().await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Refused, Some(401)), "{error}");
        assert!(error.to_string().contains("HTTP 401"), "{error}");
        assert!(!format!("{error} {error:?}").contains("marker"), "{error}");
    }
}

#[tokio::test]
async fn a_replaced_client_secret_is_seen_at_once() {
    let Some(keycloak) = Turn::wait("a client secret is replaced").await else { return };
    let old = client_secret("svc-basic").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, &old).unwrap();
    let session = session(&keycloak, "svc-basic", ClientAuth::ClientSecretBasic, file(&path));
    let token = session.token().await.unwrap();

    keycloak.set_client_secret("svc-basic", "another-secret").await.unwrap();
    let error = session.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert_eq!(session.token().await.unwrap().secret(), token.secret(), "the token at hand serves on");
    assert!(session.invalidate(&token));
    session.token().await.unwrap_err();

    fs::write(&path, "another-secret\n").unwrap();
    let renewed = session.token().await;
    keycloak.set_client_secret("svc-basic", &old).await.unwrap();
    assert_ne!(renewed.unwrap().secret(), token.secret());
}
