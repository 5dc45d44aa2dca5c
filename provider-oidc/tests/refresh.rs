//! Renewal by refresh token (RFC 6749 section 6).
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::time::Duration;

use common::{Script, answer, build, device, login};
use keyfob_auth_core::{
    Account, Challenge, CredentialProvider, ErrorKind, ExposeSecret, Login, Scopes, TokenRequest,
};
use keyfob_idp::server::{Algorithm, AuthorizationServer, Endpoint, Fault, Settings, SigningKey};
use keyfob_provider_oidc::{Flow, Oidc};
use serde_json::json;

fn refresh_token(login: &Login) -> &str {
    login.refresh_token.as_ref().unwrap().expose_secret()
}

#[tokio::test]
async fn rfc6749_6_a_new_refresh_token_replaces_the_old_one() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let first = login(&server).await;
    let provider = build(device(&server));
    let request = TokenRequest::default();
    let acquired = provider.acquire(&request, Some(&first)).await.unwrap();
    let second = acquired.login.unwrap();
    assert_ne!(refresh_token(&first), refresh_token(&second));
    assert_eq!(second.account.as_ref().and_then(|a| a.name.as_deref()), Some("alice"), "from the ID token");
    assert_eq!((server.counters().discovery, server.counters().token), (1, 1));

    // The spent one is refused, and reuse detection ends the whole login.
    for spent in [&first, &second] {
        let error = provider.acquire(&request, Some(spent)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoginRejected);
        assert_eq!((error.status(), error.oauth_error()), (Some(400), Some("invalid_grant")));
        assert!(!format!("{error:?}").contains(refresh_token(spent)), "{error:?}");
    }
    assert_eq!((server.counters().token, server.counters().families_killed), (3, 1));
}

#[tokio::test]
async fn rfc6749_6_an_answer_without_a_refresh_token_keeps_the_old_one() {
    let settings = Settings { omit_refresh_token_on_refresh: true, ..Settings::default() };
    let server = AuthorizationServer::start(settings).await;
    let provider = build(device(&server));
    let mut login = login(&server).await;
    let first = refresh_token(&login).to_owned();
    for _ in 0..2 {
        login = provider.acquire(&TokenRequest::default(), Some(&login)).await.unwrap().login.unwrap();
        assert_eq!(refresh_token(&login), first);
    }
}

#[tokio::test]
async fn the_same_token_again_is_no_rotation() {
    let settings = Settings { refresh_token_rotation: false, ..Settings::default() };
    let server = AuthorizationServer::start(settings).await;
    let known = Login { reusable: true, ..login(&server).await };
    let renewed =
        build(device(&server)).acquire(&TokenRequest::default(), Some(&known)).await.unwrap().login.unwrap();
    assert_eq!(refresh_token(&renewed), refresh_token(&known));
    assert!(renewed.reusable, "what is known of it stays known");
}

#[tokio::test]
async fn only_an_explicit_verdict_rejects_the_login() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let login = login(&server).await;
    let provider = build(device(&server).token_endpoint(server.token_endpoint()));
    let invalid_grant =
        |status| Fault::OAuthError { status, error: "invalid_grant".into(), description: None };
    for (fault, kind) in [
        (Fault::status(503), ErrorKind::Transient),
        (invalid_grant(503), ErrorKind::Transient),
        (invalid_grant(500), ErrorKind::Transient),
        (invalid_grant(429), ErrorKind::Transient),
        (Fault::too_many_requests(Some(1)), ErrorKind::Transient),
        (Fault::Html(502), ErrorKind::Transient),
        (Fault::DropBefore, ErrorKind::Transient),
        (Fault::oauth_error("server_error"), ErrorKind::Transient),
        (Fault::status(400), ErrorKind::Refused),
        (Fault::status(401), ErrorKind::Refused),
        (Fault::Html(400), ErrorKind::Refused),
        (Fault::oauth_error("invalid_client"), ErrorKind::Refused),
        (Fault::oauth_error("interaction_required"), ErrorKind::InteractionRequired),
        (Fault::oauth_error("login_required"), ErrorKind::InteractionRequired),
        (Fault::oauth_error("consent_required"), ErrorKind::InteractionRequired),
        (invalid_grant(200), ErrorKind::LoginRejected),
        (invalid_grant(401), ErrorKind::LoginRejected),
        (Fault::oauth_error("invalid_grant"), ErrorKind::LoginRejected),
    ] {
        server.faults().push(Endpoint::Token, fault.clone());
        let error = provider.acquire(&TokenRequest::default(), Some(&login)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}");
        assert_eq!(error.challenge().is_some(), kind == ErrorKind::InteractionRequired, "{fault:?}");
    }
    assert_eq!(server.counters().token, 18, "one request each");
    provider.acquire(&TokenRequest::default(), Some(&login)).await.unwrap();
}

#[tokio::test]
async fn rfc6749_6_scopes_are_sent_only_when_asked_for() {
    let settings = Settings { refresh_token_rotation: false, ..Settings::default() };
    let server = AuthorizationServer::start(settings).await;
    let login = login(&server).await;
    let provider = build(device(&server).audience("configured"));
    provider.acquire(&TokenRequest::default(), Some(&login)).await.unwrap();
    let sent = server.requests().pop().unwrap();
    assert_eq!((sent.parameter("scope"), sent.parameter("audience")), (None, None));
    let request = TokenRequest::scopes(["read"]).with_audience("api").with_resource("https://r.example");
    let acquired = provider.acquire(&request, Some(&login)).await.unwrap();
    assert_eq!(acquired.access.scopes().unwrap().to_string(), "read");
    assert!(acquired.login.unwrap().scopes.is_none(), "a narrower token narrows no login");
    let sent = server.requests().pop().unwrap();
    assert_eq!((sent.parameter("scope"), sent.parameter("audience")), (Some("read"), Some("api")));
    assert_eq!(sent.parameter("resource"), Some("https://r.example"));
}

#[tokio::test]
async fn rfc6749_6_no_more_scopes_are_asked_for_than_were_granted() {
    let settings = Settings { refresh_token_rotation: false, ..Settings::default() };
    let server = AuthorizationServer::start(settings).await;
    let login = Login { scopes: Some(Scopes::parse("openid read")), ..login(&server).await };
    let provider = build(device(&server).token_endpoint(server.token_endpoint()));
    for (asked, more) in [
        ("read", None),
        ("read openid", None),
        ("admin", Some("admin")),
        ("read write admin", Some("write admin")),
    ] {
        server.reset_counters();
        let scopes = Scopes::parse(asked);
        match (provider.acquire(&TokenRequest::scopes(scopes.iter()), Some(&login)).await, more) {
            (Ok(acquired), None) => assert_eq!(acquired.access.scopes(), Some(&scopes)),
            (Err(error), Some(more)) => {
                assert_eq!(error.kind(), ErrorKind::InteractionRequired);
                assert!(error.message().contains(&format!("not granted {more},")), "{error}");
                // A login that is to satisfy it asks for them.
                assert_eq!(error.challenge().unwrap().scope.as_ref(), Some(&scopes));
            }
            other => panic!("{asked}: {other:?}"),
        }
        assert_eq!(server.counters().token, u64::from(more.is_none()), "{asked}");
    }
    // For servers that name them otherwise, it is theirs to say.
    server.reset_counters();
    let other = device(&server).token_endpoint(server.token_endpoint()).any_scope_on_refresh(true);
    let error = build(other).acquire(&TokenRequest::scopes(["admin"]), Some(&login)).await.unwrap_err();
    assert_eq!((error.oauth_error(), server.counters().token), (Some("invalid_scope"), 1));
}

#[tokio::test]
async fn oidc_core_12_2_a_renewal_for_somebody_else_is_refused() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let bob = Account { subject: "subject-bob".into(), ..Account::default() };
    let login = Login { account: Some(bob), ..login(&server).await };
    let error = build(device(&server)).acquire(&TokenRequest::default(), Some(&login)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("somebody else"), "{error}");
}

#[tokio::test]
async fn rfc9470_4_a_step_up_is_no_refresh_and_needs_a_person() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let login = login(&server).await;
    let provider = build(device(&server));
    let mut acr = Challenge::default();
    acr.acr_values = Some("gold".into());
    let mut age = Challenge::default();
    age.max_age = Some(Duration::from_secs(5));
    for challenge in [acr, age] {
        let request = TokenRequest::default().with_challenge(challenge.clone());
        let error = provider.acquire(&request, Some(&login)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InteractionRequired);
        assert_eq!(error.challenge(), Some(&challenge));
    }
    assert!(server.requests().is_empty());

    let mut claims = Challenge::default();
    claims.claims = Some("{}".into());
    provider.acquire(&TokenRequest::default().with_challenge(claims), Some(&login)).await.unwrap();
    let sent = server.requests();
    let sent = sent.iter().find(|request| request.path == "/token").unwrap();
    assert_eq!(sent.parameter("claims"), Some("{}"));
}

#[tokio::test]
async fn refresh_expires_in_and_odd_id_tokens() {
    let issuer = "https://idp.example";
    let key = SigningKey::generate(Algorithm::Es256);
    let id_token = |claims: &serde_json::Value| key.sign("JWT", claims);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims =
        json!({"iss": issuer, "sub": "1", "aud": "cli", "iat": now, "exp": now + 60, "name": "Alice"});
    let changed = |name: &str, value: serde_json::Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        json!({"access_token": "at", "refresh_token": "rt2", "id_token": id_token(&claims)})
    };
    let ok = json!({"access_token": "at", "refresh_token": "rt2", "id_token": id_token(&claims), "refresh_expires_in": "1800"});
    let mut answers = vec![
        ok,
        json!({"access_token": "at", "refresh_token": "rt2", "refresh_expires_in": 0}),
        changed("exp", json!(now - 1000)),
        changed("iss", json!("https://other.example")),
        changed("aud", json!("other")),
        changed("sub", json!("2")),
        json!({"access_token": "at", "refresh_token": "rt2", "id_token": "marker"}),
    ];
    if cfg!(feature = "jose") {
        // Fetched for the first ID token, and remembered.
        answers.insert(1, json!({"keys": [key.jwk()]}));
    }
    let script = Script::start(answers.iter().map(|body| answer("200 OK", &body.to_string()))).await;
    let builder = Oidc::builder(issuer, "cli")
        .flow(Flow::Device)
        .token_endpoint(format!("{}/token", script.url))
        .jwks_uri(format!("{}/jwks", script.url));
    let provider = build(builder);
    let account = Account { subject: "1".into(), name: Some("alice".into()), issuer: None };
    let login = Login { account: Some(account), ..Login::with_refresh_token("rt1") };
    let request = TokenRequest::default();

    let first = provider.acquire(&request, Some(&login)).await.unwrap().login.unwrap();
    let left = first.refresh_expires_at.unwrap().duration_since(std::time::SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(1790) && left <= Duration::from_secs(1800), "{left:?}");
    assert_eq!(first.account.unwrap().name.as_deref(), Some("Alice"));

    let offline = provider.acquire(&request, Some(&login)).await.unwrap().login.unwrap();
    assert_eq!((refresh_token(&offline), offline.refresh_expires_at), ("rt2", None));

    let late = provider.acquire(&request, Some(&login)).await.unwrap().login.unwrap();
    assert_eq!(refresh_token(&late), "rt2", "a clock that is ahead loses no rotated token");
    assert!(late.id_token.is_none());

    // Another issuer, another audience, somebody else, no JWT: only whose login it is counts.
    for somebody_else in [true, false, true, false] {
        match provider.acquire(&request, Some(&login)).await {
            Err(error) if somebody_else => assert_eq!(error.kind(), ErrorKind::Refused),
            Ok(acquired) if !somebody_else => {
                let renewed = acquired.login.unwrap();
                assert_eq!((refresh_token(&renewed), renewed.id_token.is_none()), ("rt2", true));
                assert_eq!(renewed.account, login.account);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(script.requests().len(), 7 + usize::from(cfg!(feature = "jose")));
}
