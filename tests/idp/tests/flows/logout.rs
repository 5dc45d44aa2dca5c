//! Logout by the browser, the claims of a user, revocation, and step-up (RFC 9470).

use keyfob_idp::{
    person::Person,
    server::{Algorithm, Settings, SigningKey},
};
use serde_json::{Value, json};

use crate::peer::{Peer, fields, part, redemption, request, text, with};

#[tokio::test]
async fn a_logout_ends_session_and_refresh_tokens() {
    let peer = Peer::start(Settings::default()).await;
    let mut alice = Person::new("alice");
    let code = alice.answer(&peer.authorize_url(&request())).await.unwrap().parameter("code").unwrap();
    let (_, tokens) = peer.post_token(&redemption(&code)).await;
    let other = peer.sign_in("openid").await;
    let url = |parameters: &[(&str, &str)]| {
        let mut url = url::Url::parse(&peer.server.url("/end_session")).unwrap();
        url.query_pairs_mut().extend_pairs(parameters);
        String::from(url)
    };
    let id_token = text(&tokens, "id_token");
    let target = "http://127.0.0.1:9/signed-out";
    let forged = SigningKey::generate(Algorithm::Es256).sign("JWT", &part(&id_token, 1));
    for parameters in [
        &[("id_token_hint", forged.as_str())][..],
        &[("id_token_hint", "nonsense")],
        &[("id_token_hint", &id_token), ("client_id", "service")],
        &[("id_token_hint", &id_token), ("post_logout_redirect_uri", "https://evil.test/")],
        &[("post_logout_redirect_uri", target)],
    ] {
        let refused = alice.answer(&url(parameters)).await.unwrap_err();
        assert!(refused.starts_with("400"), "{parameters:?}: {refused}");
    }
    let silent = peer.authorize_url(&with(&request(), "prompt", Some("none")));
    assert!(alice.answer(&silent).await.unwrap().parameter("code").is_some(), "still signed in");

    let parameters =
        [("id_token_hint", id_token.as_str()), ("post_logout_redirect_uri", target), ("state", "a&b")];
    let answer = alice.answer(&url(&parameters)).await.unwrap();
    assert_eq!(answer.url.as_str(), "http://127.0.0.1:9/signed-out?state=a%26b");
    let answer = alice.answer(&silent).await.unwrap();
    assert_eq!(answer.parameter("error").as_deref(), Some("login_required"));
    let refresh = async |tokens: &Value| {
        let token = text(tokens, "refresh_token");
        let form = [("grant_type", "refresh_token"), ("client_id", "cli"), ("refresh_token", &token)];
        peer.post_token(&fields(&form)).await.0.as_u16()
    };
    assert_eq!((refresh(&tokens).await, refresh(&other).await), (400, 200), "this session's only");
    let counters = peer.server.counters();
    assert_eq!((counters.end_session, counters.sessions_ended, counters.families_revoked), (6, 1, 1));

    let page = alice.visit(&url(&[])).await.unwrap();
    assert_eq!((page.status, page.words.as_str()), (200, "keyfob-idp Signed out"));
}

#[tokio::test]
async fn a_cookie_alone_ends_the_session_too() {
    let peer = Peer::start(Settings::default()).await;
    let mut bob = Person::new("bob");
    bob.answer(&peer.authorize_url(&request())).await.unwrap();
    bob.visit(&peer.server.url("/end_session")).await.unwrap();
    assert_eq!(peer.server.counters().sessions_ended, 1);
    assert_eq!(peer.server.log_out("bob"), 0, "no token was issued");
}

#[tokio::test]
async fn user_info_is_for_tokens_with_openid() {
    let peer = Peer::start(Settings::default()).await;
    let ask =
        async |token: &str| peer.read(peer.http.get(peer.server.url("/userinfo")).bearer_auth(token)).await;
    let (_, claims) = ask(&text(&peer.sign_in("openid").await, "access_token")).await;
    let expected =
        json!({ "sub": "subject-alice", "preferred_username": "alice", "email": "alice@example.test" });
    assert_eq!(claims, expected);
    assert_eq!(ask(&text(&peer.sign_in("read").await, "access_token")).await.0, 403);
    assert_eq!(ask("nonsense").await.0, 401);
    assert_eq!(peer.server.counters().user_info, 3);
}

#[tokio::test]
async fn an_access_token_is_revoked_alone() {
    let peer = Peer::start(Settings::default()).await;
    let tokens = peer.sign_in("read").await;
    let access = text(&tokens, "access_token");
    let revoke = fields(&[("client_id", "cli"), ("token", &access), ("token_type_hint", "access_token")]);
    assert_eq!(peer.post("/revoke", &revoke).await.0, 200);
    assert!(!peer.api_takes(&access).await);
    let refresh = text(&tokens, "refresh_token");
    let form = [("grant_type", "refresh_token"), ("client_id", "cli"), ("refresh_token", &refresh)];
    assert_eq!(peer.post_token(&fields(&form)).await.0, 200);
    let counters = peer.server.counters();
    assert_eq!((counters.access_tokens_revoked, counters.families_revoked), (1, 0));
}

#[tokio::test]
async fn a_step_up_is_demanded_until_the_sign_in_is_good() {
    let peer = Peer::start(Settings { sign_in_as: Some("alice".to_owned()), ..Settings::default() }).await;
    let ask = async |token: &str, levels: Option<&str>, age: Option<u64>| {
        let answer =
            peer.http.get(peer.server.step_up_url(levels, age)).bearer_auth(token).send().await.unwrap();
        let challenge =
            answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), challenge.unwrap_or_default())
    };
    let token = async |levels: Option<&str>| {
        let code = peer.code(&with(&request(), "acr_values", levels)).await;
        text(&peer.post_token(&redemption(&code)).await.1, "access_token")
    };
    let bronze = token(None).await;
    assert_eq!(ask(&bronze, Some("bronze"), Some(60)).await.0, 200);
    let (status, challenge) = ask(&bronze, Some("silver gold"), None).await;
    assert_eq!(status, 401);
    assert!(challenge.starts_with(r#"Bearer error="insufficient_user_authentication""#), "{challenge}");
    assert!(challenge.ends_with(r#"acr_values="silver gold""#), "{challenge}");
    assert_eq!(ask(&token(Some("gold")).await, Some("silver gold"), None).await.0, 200);
    let (status, challenge) = ask(&bronze, None, Some(0)).await;
    assert_eq!(status, 401);
    assert!(challenge.ends_with(r#"max_age="0""#), "{challenge}");
    let service =
        [("grant_type", "client_credentials"), ("client_id", "service"), ("client_secret", "service-secret")];
    let service = text(&peer.post_token(&fields(&service)).await.1, "access_token");
    assert_eq!(ask(&service, None, None).await.0, 401, "nobody signed in");
    let counters = peer.server.counters();
    assert_eq!((counters.step_up_challenges, counters.api, counters.api_ok), (3, 5, 2));
}
