//! What the preset sends, beside what the USNAN SDK 0.3 sent.
//!
//! The forms of the SDK were recorded; each of ours must have the same fields with the same values. What differs is in
//! [`DIFFERENCES`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use keyfob_auth_core::{
    Acquired, Context, CredentialProvider as _, Interaction, LoginRequest, Presentation, Prompt,
    TokenRequest, async_trait, registry::SecretSource,
};
use keyfob_idp::{
    person::Person,
    server::{
        AuthorizationIss, AuthorizationServer, AutoApprove, Client, IdTokenHook, RecordedRequest, Settings,
    },
};
use keyfob_provider_keycloak::{
    Keycloak, KeycloakBuilder,
    usnan::{CLIENT_ID, ISSUER},
};
use keyfob_provider_oidc::Flow;
use serde_json::Value;

/// What ours has and theirs has not, by request, and why.
const DIFFERENCES: [(&str, &str); 1] = [
    // Binds the ID token to this sign-in (OpenID Connect Core section 3.1.2.1). Theirs does not read the ID token.
    ("authorization", "nonce"),
];

/// Values that are another one each time.
const RANDOM: [&str; 7] =
    ["code", "code_challenge", "code_verifier", "device_code", "nonce", "refresh_token", "state"];

fn recorded() -> Value {
    serde_json::from_str(include_str!("data/usnan-wire.json")).unwrap()
}

/// The embedded server in the place of NMRhub's, in whose name it speaks.
async fn server() -> AuthorizationServer {
    let settings = Settings {
        device_interval: Duration::from_secs(1),
        auto_approve: Some(AutoApprove { user: "alice".into(), after_polls: 1 }),
        authorization_iss: AuthorizationIss::Wrong(ISSUER.into()),
        id_token: IdTokenHook::new(|token| token.claims["iss"] = ISSUER.into()),
        ..Settings::default()
    };
    AuthorizationServer::start(settings.with_client(Client::public(CLIENT_ID))).await
}

fn preset(server: &AuthorizationServer) -> KeycloakBuilder {
    let at = |path: &str| server.url(path);
    Keycloak::usnan().oidc(|oidc| {
        oidc.open_browser(false)
            .authorization_endpoint(at("/authorize"))
            .token_endpoint(at("/token"))
            .device_authorization_endpoint(at("/device_authorization"))
            .revocation_endpoint(at("/revoke"))
            .jwks_uri(at("/jwks"))
    })
}

/// Compares the fields of a request with those that the SDK sent.
#[track_caller]
fn assert_same(name: &str, fields: &[(String, String)], theirs: &Value) {
    let ours: BTreeMap<&str, &str> =
        fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(ours.len(), fields.len(), "{name}: a field is sent twice");
    let theirs = theirs.as_object().unwrap();
    for (field, value) in theirs {
        let ours = ours.get(field.as_str()).unwrap_or_else(|| panic!("{name}: there is no {field}"));
        match field.as_str() {
            "redirect_uri" => {
                let port =
                    ours.strip_prefix("http://localhost:").and_then(|uri| uri.strip_suffix("/callback"));
                assert!(port.is_some_and(|port| port.parse::<u16>().is_ok()), "{name}: {ours}");
                assert_eq!(value, "http://localhost:<os-assigned port>/callback");
            }
            "token" => assert!(!ours.is_empty(), "{name}"),
            field if RANDOM.contains(&field) => assert!(!ours.is_empty(), "{name}: {field}"),
            field => assert_eq!(*ours, value.as_str().unwrap(), "{name}: {field}"),
        }
    }
    let more: Vec<_> =
        ours.keys().filter(|field| !theirs.contains_key(**field)).map(|field| (name, *field)).collect();
    let known: Vec<_> = DIFFERENCES.into_iter().filter(|(request, _)| *request == name).collect();
    assert_eq!(more, known, "{name}: ours has more");
}

/// The requests to a path since the last look.
fn sent(server: &AuthorizationServer, path: &str) -> Vec<RecordedRequest> {
    server.requests().into_iter().filter(|request| request.path == path).collect()
}

#[derive(Debug)]
struct Browser;

#[async_trait]
impl Interaction for Browser {
    fn show(&self, prompt: &Prompt) {
        if let Prompt::OpenUrl { url } = prompt {
            let url = url.clone();
            tokio::spawn(async move { Person::new("alice").visit(&url).await.unwrap() });
        }
    }
}

async fn login(provider: &Keycloak) -> Acquired {
    provider.login(&LoginRequest::default(), None, Arc::new(Browser)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_login_is_the_sdks_with_a_nonce() {
    let (server, recorded) = (server().await, recorded());
    let provider = preset(&server).flow(Flow::Browser).build(&Context::new()).unwrap();
    login(&provider).await;
    let asked = sent(&server, "/authorize");
    assert_same("authorization", &asked[0].query, &recorded["authorization"]["query"]);
    let exchanged = sent(&server, "/token");
    assert_eq!(exchanged.len(), 1);
    assert_same("code", &exchanged[0].form, &recorded["code"]["form"]);
    // Shorter than theirs of 128 characters, and of the same worth: a SHA-256 is made of it (RFC 7636 section 7.1).
    assert!((43..=128).contains(&exchanged[0].parameter("code_verifier").unwrap().len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_device_login_renewal_and_logout_are_the_sdks() {
    let (server, recorded) = (server().await, recorded());
    let provider = preset(&server).flow(Flow::Device).build(&Context::new()).unwrap();
    let acquired = login(&provider).await;
    let device = sent(&server, "/device_authorization");
    assert_eq!(device.len(), 1);
    assert_same("device", &device[0].form, &recorded["device"]["form"]);
    for poll in sent(&server, "/token") {
        assert_same("poll", &poll.form, &recorded["poll"]["form"]);
        assert_eq!(poll.header("authorization"), None, "a public client");
    }

    let first = acquired.login.unwrap();
    for name in ["refresh", "restore"] {
        server.reset_counters();
        // Each spends its own.
        let from = if name == "refresh" { first.clone() } else { login(&provider).await.login.unwrap() };
        let renewed = provider.acquire(&TokenRequest::default(), Some(&from)).await.unwrap();
        let sent = sent(&server, "/token");
        assert_same(name, &sent.last().unwrap().form, &recorded[name]["form"]);

        let Presentation::Header(header, value) = provider.present(&renewed.access, None).unwrap() else {
            panic!("a header")
        };
        let theirs = recorded["api"].as_str().unwrap().split_once(' ').unwrap().0;
        assert_eq!(header, "authorization");
        assert_eq!(value.to_str().unwrap().split_once(' ').unwrap().0, theirs);

        provider.revoke(&renewed.login.unwrap(), &[]).await.unwrap();
        let logout = crate::sent(&server, "/revoke");
        assert_eq!(logout.len(), 1);
        assert_same("logout", &logout[0].form, &recorded["logout"]["form"]);
    }
}

#[tokio::test]
async fn a_given_token_is_sent_as_the_sdk_sends_it() {
    let (server, recorded) = (server().await, recorded());
    let theirs = recorded["direct"].as_str().unwrap();
    let token = SecretSource::Literal(theirs.split_once(' ').unwrap().1.into());
    let provider = preset(&server).token(token).build(&Context::new()).unwrap();
    let acquired = provider.acquire(&TokenRequest::default(), None).await.unwrap();
    let Presentation::Header(_, value) = provider.present(&acquired.access, None).unwrap() else {
        panic!("a header")
    };
    assert_eq!(value.to_str().unwrap(), theirs);
    assert!(server.requests().is_empty(), "nothing is asked for");
}

/// The constants of the preset are the SDK's: without the embedded server's endpoints, the paths are the recorded ones.
#[tokio::test]
async fn the_endpoints_are_the_sdks() {
    let provider = Keycloak::usnan().flow(Flow::Browser).build(&Context::new()).unwrap();
    let redirect = Some("http://localhost:7777/callback");
    let (url, _) = provider.oidc().start(&LoginRequest::default(), redirect).await.unwrap();
    let host = ISSUER.split_once("/realms").unwrap().0;
    let recorded = recorded();
    let path = |name: &str| recorded[name]["path"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&format!("{host}{}?", path("authorization"))), "{url}");
    let shown = format!("{provider:?}");
    for name in ["device", "code", "logout"] {
        assert!(shown.contains(&format!("{host}{}", path(name))), "{name}: {shown}");
    }
}
