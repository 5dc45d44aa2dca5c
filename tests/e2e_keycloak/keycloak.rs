//! The provider for Keycloak: its logins, and what Keycloak has beyond the standards.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob::{
    Challenge, Context, CredentialProvider as _, ErrorKind, ExposeSecret as _, Login, LoginRequest, Session,
    TokenRequest,
    keycloak::{Keycloak, KeycloakBuilder, Roles},
    oidc::{Flow, claims_of},
    store::MemoryStore,
    store_file::FileStore,
};
use keyfob_idp::{
    keycloak::{Keycloak as Server, client_secret, password},
    server::{Algorithm, SigningKey},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    Turn,
    app::{is_active, sign_in, soon},
    clients::{literal, make},
    set_lifetime,
    support::{Home, assert_fails},
};

/// Where the browser comes back to; nobody listens there.
const CALLBACK: &str = "http://127.0.0.1:54321/cb";

/// A client of the realm's, with the provider's defaults.
pub(crate) fn client(server: &Server, id: &str) -> KeycloakBuilder {
    Keycloak::builder(server.base(), "test", id)
}

/// A session of this provider, in memory, that alice is signed in with by the browser.
pub(crate) async fn of_alice(server: &Server, builder: KeycloakBuilder) -> (Session, Arc<Keycloak>, Login) {
    let context = Context::new();
    let builder = builder.flow(Flow::Browser).oidc(|oidc| oidc.redirect_uri(CALLBACK));
    let provider = Arc::new(builder.build(&context).unwrap());
    let session = Session::new(Arc::clone(&provider) as _, Arc::new(MemoryStore::new()), &context).unwrap();
    let (_, login) = sign_in_anew(server, &session, &provider, &LoginRequest::default()).await;
    (session, provider, login)
}

/// Alice signs in, at a browser that does not know her. Gives the authorization request's URL and the login.
async fn sign_in_anew(
    server: &Server,
    session: &Session,
    provider: &Keycloak,
    request: &LoginRequest,
) -> (String, Login) {
    let (url, pending) = provider.oidc().start(request, None).await.unwrap();
    let redirect = server.authorize(&url, "alice", false).await.unwrap();
    let answer = redirect.split_once('?').unwrap().1;
    let acquired = provider.oidc().finish(pending, answer).await.unwrap();
    let login = acquired.login.clone().unwrap();
    session.adopt(acquired).await.unwrap();
    (url, login)
}

#[tokio::test]
async fn a_device_is_approved_and_denied_with_nothing_but_the_realm_named() {
    let Some(server) = Turn::wait("keycloak: device, approved and denied, restored elsewhere").await else {
        return;
    };
    for discovery in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let session = |store: &Path| {
            let context = Context::new();
            let provider =
                client(&server, "native").discovery(discovery).flow(Flow::Device).build(&context).unwrap();
            Session::new(Arc::new(provider), Arc::new(FileStore::open(store).unwrap()), &context).unwrap()
        };
        let store = folder.path().join("logins");
        let first = session(&store);
        let error = first.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoginRequired, "made without a login: {error}");
        let error = sign_in(&first, &server, "alice", true).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.oauth_error()),
            (ErrorKind::Refused, Some("access_denied")),
            "{error}"
        );
        let token = sign_in(&first, &server, "alice", false).await.unwrap();
        let roles = Roles::of(token.secret()).unwrap();
        assert!(
            roles.in_realm("offline_access") && roles.in_resource("account", "view-profile"),
            "{roles:?}"
        );

        // Another process needs no login, and its renewal spends the refresh token once.
        let second = session(&store);
        assert_eq!(second.token().await.unwrap().secret(), token.secret());
        assert_ne!(second.refresh().await.unwrap().secret(), token.secret());
        assert_eq!(second.status().await.unwrap().account.unwrap().name.as_deref(), Some("alice"));
        let report = second.logout().await.unwrap();
        assert!(report.revoked && report.problems.is_empty(), "{report:?}");
        assert_eq!(server.session_count("alice").await.unwrap(), 0);
        assert_eq!(first.refresh().await.unwrap_err().kind(), ErrorKind::LoginRequired);
    }
}

#[tokio::test]
async fn a_given_token_serves_until_it_expires_and_says_so() {
    let Some(server) = Turn::wait("keycloak: a token that was given; a profile of the command").await else {
        return;
    };
    set_lifetime(&server, 3).await;
    let form = [
        ("grant_type", "password"),
        ("client_id", "native"),
        ("username", "alice"),
        ("password", &password("alice").unwrap()),
        ("scope", "openid"),
    ];
    let given = server.post("token", &form).await.unwrap().text("access_token").to_owned();
    let context = Context::new();
    let provider = client(&server, "native").token(literal(&given)).build(&context).unwrap();
    let session = Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap();
    let token = session.token().await.unwrap();
    assert_eq!(token.secret(), given);
    assert!(is_active(&server, token.secret()).await);

    // The command reads it from the environment; without one, nobody is logged in.
    let home = Home::new(&format!(
        "[profile.given]\nprovider = \"keycloak\"\nserver_url = \"{base}/\"\nrealm = \"test\"\nclient_id = \"native\"\n\
         token = {{ env = \"GIVEN\" }}\nstore = \"memory\"\n\
         [profile.person]\nprovider = \"keycloak\"\nserver_url = \"{base}\"\nrealm = \"test\"\nclient_id = \"native\"\n\
         store = \"memory\"\n",
        base = server.base(),
    ));
    let run = |arguments: &str| home.command(arguments).env("GIVEN", &given).output().unwrap().into();
    assert_fails(&run("token --profile person"), 3, &["keyfob login --profile person"]);

    let expires = token.expires_at().unwrap();
    let left = expires.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left + Duration::from_millis(1100)).await;
    let error = soon(session.token()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("cannot be renewed"), "{error}");
    assert_fails(
        &run("token --profile given"),
        1,
        &["expired", "cannot be renewed", "environment variable GIVEN"],
    );
}

#[tokio::test]
async fn a_service_account_has_a_secret_or_signs() {
    let Some(server) = Turn::wait("keycloak: service accounts by secret and by signed JWT").await else {
        return;
    };
    let key = SigningKey::generate(Algorithm::Es256);
    make(&server, json!({
        "clientId": "svc-signed", "enabled": true, "publicClient": false, "clientAuthenticatorType": "client-jwt",
        "standardFlowEnabled": false, "serviceAccountsEnabled": true,
        "attributes": {
            "token.endpoint.auth.signing.alg": "ES256", "use.jwks.string": "true",
            "jwks.string": json!({"keys": [key.jwk()]}).to_string(),
        },
    }))
    .await;
    for builder in [
        client(&server, "svc-basic").client_secret(literal(&client_secret("svc-basic").unwrap())),
        client(&server, "svc-signed").key(literal(&key.pkcs8_pem())),
    ] {
        let provider = builder.build(&Context::new()).unwrap();
        let identity = provider.identity();
        assert_eq!(identity.grant, "client_credentials");
        let token = provider.acquire(&TokenRequest::default(), None).await.unwrap().access;
        let seen = claims(token.secret().expose_secret());
        assert_eq!(seen["azp"], identity.client, "{seen}");
        assert_eq!(seen["preferred_username"], format!("service-account-{}", identity.client), "{seen}");
    }
}

#[tokio::test]
async fn an_offline_session_outlives_the_sso_session() {
    let Some(server) = Turn::wait("keycloak: an offline session, and its end").await else { return };
    let builder = client(&server, "native").oidc(|oidc| oidc.scopes(["openid", "offline_access"]));
    let (session, provider, login) = of_alice(&server, builder).await;
    let token = session.token().await.unwrap();
    assert!(token.scopes().unwrap().contains("offline_access"));

    let url = provider.oidc().end_session_url(Some(&login), None).await.unwrap();
    assert!(reqwest::get(url.expose_secret()).await.unwrap().status().is_success());
    assert_eq!(server.session_count("alice").await.unwrap(), 0);
    for _ in 0..2 {
        session.refresh().await.unwrap();
    }
    // `refresh_expires_in` is 0 with these, which is no expiry.
    assert!(session.status().await.unwrap().refreshable);

    // The person ends it in their account.
    server.forget_consents("alice").await.unwrap();
    let path = format!("/users/{}/consents/native", user_id(&server, "alice").await);
    // Nothing is there to forget if it went with the others.
    let _ = server.admin(Method::DELETE, &path, None).await;
    let error = soon(session.refresh()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired, "{error}");
    assert!(error.to_string().contains("offline session at Keycloak has ended"), "{error}");
}

pub(crate) async fn user_id(server: &Server, name: &str) -> String {
    let found = server.admin(Method::GET, &format!("/users?exact=true&username={name}"), None).await.unwrap();
    found[0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_challenge_takes_the_person_to_a_stronger_sign_in() {
    let Some(server) = Turn::wait("keycloak: step-up by acr").await else { return };
    let flow = two_levels(&server).await;
    make(&server, json!({
        "clientId": "native-levels", "enabled": true, "publicClient": true, "redirectUris": ["http://127.0.0.1/*"],
        "attributes": {"acr.loa.map": json!({"silver": 1, "gold": 2}).to_string()},
        "authenticationFlowBindingOverrides": {"browser": flow},
    }))
    .await;
    let (session, provider, _) = of_alice(&server, client(&server, "native-levels")).await;
    let weak = session.token().await.unwrap();

    let mut challenge = Challenge::default();
    challenge.acr_values = Some("gold".into());
    let error = session.satisfy(challenge).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InteractionRequired, "{error}");
    let challenge = error.challenge().expect("what is to be satisfied").clone();
    let request = LoginRequest::satisfying(challenge.clone());
    let acr = |login: &Login| claims_of(login).unwrap().get("acr").cloned();
    let (url, login) = sign_in_anew(&server, &session, &provider, &request).await;
    assert!(url.contains("acr_values=gold"), "{url}");
    assert_eq!(acr(&login), Some("gold".into()));
    assert_ne!(session.token().await.unwrap().secret(), weak.secret());
    let (_, login) = sign_in_anew(&server, &session, &provider, &LoginRequest::default()).await;
    assert_eq!(acr(&login), Some("silver".into()));

    // Where Keycloak cannot do it, it signs the person in all the same, and says so in the ID token.
    let (_, plain, _) = of_alice(&server, client(&server, "native")).await;
    let (url, pending) = plain.oidc().start(&request, None).await.unwrap();
    let redirect = server.authorize(&url, "alice", false).await.unwrap();
    let error = match redirect.split_once('?').unwrap().1 {
        refused if refused.contains("error=") => refused.to_owned(),
        answer => plain.oidc().finish(pending, answer).await.unwrap_err().to_string(),
    };
    assert!(error.contains("acr"), "{error}");
}

/// A browser flow with two levels of authentication: a password, and more on demand. Gives its id.
async fn two_levels(server: &Server) -> String {
    const FLOW: &str = "two-levels";
    const FLOWS: &str = "/authentication/flows";
    let flows = server.admin(Method::GET, FLOWS, None).await.unwrap();
    let found = |flows: &Value| {
        let flow = flows.as_array().unwrap().iter().find(|flow| flow["alias"] == FLOW)?;
        Some(flow["id"].as_str().unwrap().to_owned())
    };
    if let Some(flow) = found(&flows) {
        return flow;
    }
    let post = async |path: &str, body: Value| {
        server.admin(Method::POST, &format!("{FLOWS}{path}"), Some(&body)).await.unwrap();
    };
    let top = json!({"alias": FLOW, "providerId": "basic-flow", "topLevel": true, "builtIn": false});
    post("", top).await;
    for (level, step) in [("1", "auth-username-password-form"), ("2", "allow-access-authenticator")] {
        let alias = format!("level-{level}");
        post(&format!("/{FLOW}/executions/flow"), json!({"alias": alias, "type": "basic-flow"})).await;
        for provider in ["conditional-level-of-authentication", step] {
            post(&format!("/{alias}/executions/execution"), json!({"provider": provider})).await;
        }
    }
    let path = format!("{FLOWS}/{FLOW}/executions");
    let executions = server.admin(Method::GET, &path, None).await.unwrap();
    let mut level = 0;
    for execution in executions.as_array().unwrap() {
        let mut execution = execution.clone();
        let is_flow = execution["authenticationFlow"] == true;
        execution["requirement"] = if is_flow { "CONDITIONAL" } else { "REQUIRED" }.into();
        server.admin(Method::PUT, &path, Some(&execution)).await.unwrap();
        if execution["providerId"] == "conditional-level-of-authentication" {
            level += 1;
            let config = json!({"loa-condition-level": level.to_string(), "loa-max-age": "300"});
            let config = json!({"alias": format!("of-level-{level}"), "config": config});
            let path = format!("/authentication/executions/{}/config", execution["id"].as_str().unwrap());
            server.admin(Method::POST, &path, Some(&config)).await.unwrap();
        }
    }
    assert_eq!(level, 2, "{executions}");
    found(&server.admin(Method::GET, FLOWS, None).await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_hint_takes_the_person_on_to_their_identity_provider() {
    let Some(server) = Turn::wait("keycloak: kc_idp_hint, login_hint, ui_locales; an organisation").await
    else {
        return;
    };
    let elsewhere = "http://127.0.0.1:9/authorize";
    let _ = server.admin(Method::DELETE, "/identity-provider/instances/corp", None).await;
    let corp = json!({
        "alias": "corp", "providerId": "oidc", "enabled": true,
        "config": {
            "authorizationUrl": elsewhere, "tokenUrl": "http://127.0.0.1:9/token", "clientId": "kc",
            "clientSecret": "s", "clientAuthMethod": "client_secret_post", "loginHint": "true",
        },
    });
    server.admin(Method::POST, "/identity-provider/instances", Some(&corp)).await.unwrap();
    let provider = client(&server, "native")
        .idp_hint("corp")
        .oidc(|oidc| oidc.redirect_uri(CALLBACK).ui_locales("de fr").login_hint("alice"))
        .flow(Flow::Browser)
        .build(&Context::new())
        .unwrap();
    let (url, _) = provider.oidc().start(&LoginRequest::default(), None).await.unwrap();
    let at = server.authorize(&url, "alice", false).await.unwrap();
    assert!(at.starts_with(elsewhere), "{at}");
    assert!(at.contains("login_hint=alice"), "{at}");
    assert!(url.contains("ui_locales=de+fr") && url.contains("kc_idp_hint=corp"), "{url}");
    server.admin(Method::DELETE, "/identity-provider/instances/corp", None).await.unwrap();

    server.set_realm(&json!({"organizationsEnabled": true})).await.unwrap();
    if server.admin(Method::GET, "/organizations", None).await.unwrap().as_array().unwrap().is_empty() {
        let acme = json!({"name": "acme", "alias": "acme", "domains": [{"name": "acme.test"}]});
        server.admin(Method::POST, "/organizations", Some(&acme)).await.unwrap();
    }
    let found = server.admin(Method::GET, "/organizations", None).await.unwrap();
    let members = format!("/organizations/{}/members", found[0]["id"].as_str().unwrap());
    let alice = user_id(&server, "alice").await;
    // She may be one from an earlier run.
    let _ = server.admin(Method::POST, &members, Some(&alice.into())).await;
    let secret = literal(&password("alice").unwrap());
    let provider = client(&server, "native")
        .flow(Flow::Password)
        .oidc(|oidc| oidc.username("alice").password(secret).scopes(["openid", "organization"]))
        .build(&Context::new())
        .unwrap();
    let token = provider.acquire(&TokenRequest::default(), None).await.unwrap().access;
    let seen = claims(token.secret().expose_secret());
    server.set_realm(&json!({"organizationsEnabled": false})).await.unwrap();
    assert!(seen["organization"].to_string().contains("acme"), "{seen}");
}

/// What a JWT says, unverified.
pub(crate) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
