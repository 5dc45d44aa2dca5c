//! User info (OpenID Connect Core section 5.3).
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use common::{Script, answer, build, device, last, literal, service};
use keyfob_auth_core::{
    Account, Acquired, CredentialProvider, ErrorKind, ExposeSecret, Login, SecretString, TokenRequest,
};
use keyfob_idp::server::{AuthorizationServer, Endpoint, Fault, Settings};
use keyfob_provider_oidc::{Flow, Oidc, OidcBuilder};

fn person(server: &AuthorizationServer, name: &str) -> OidcBuilder {
    device(server).flow(Flow::Password).username(name).password(literal(&format!("{name}-password")))
}

async fn signed_in(provider: &Oidc) -> Acquired {
    provider.acquire(&TokenRequest::default(), None).await.unwrap()
}

#[tokio::test]
async fn oidc_core_5_3_the_claims_of_the_person_whose_token_it_is() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(person(&server, "alice"));
    let acquired = signed_in(&provider).await;
    let token = acquired.access.secret();
    let claims = provider.user_info(token, acquired.login.as_ref()).await.unwrap();
    assert_eq!((&claims["sub"], &claims["email"]), (&"subject-alice".into(), &"alice@example.test".into()));
    let request = last(&server, "/userinfo");
    assert_eq!(request.method, "GET");
    assert_eq!(request.header("authorization"), Some(format!("Bearer {}", token.expose_secret()).as_str()));
    assert!(request.query.is_empty(), "never in the URL (RFC 6750 section 2.3)");
    assert_eq!(server.counters().user_info, 1);
}

#[tokio::test]
async fn oidc_core_5_3_2_an_answer_about_somebody_else_is_refused() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let [alice, bob] = ["alice", "bob"].map(|name| build(person(&server, name)));
    let (alices, bobs) = (signed_in(&alice).await, signed_in(&bob).await);
    let error = alice.user_info(bobs.access.secret(), alices.login.as_ref()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("somebody else"), "{error}");
    let known = Login {
        account: Some(Account { subject: "subject-bob".into(), ..Account::default() }),
        ..Login::default()
    };
    alice.user_info(bobs.access.secret(), Some(&known)).await.unwrap();
}

#[tokio::test]
async fn oidc_core_5_3_3_what_the_server_does_not_take_is_refused_and_what_it_cannot_do_is_transient() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = build(person(&server, "alice"));
    let token = SecretString::from("marker-unknown");
    let error = provider.user_info(&token, None).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Refused, Some(401)));
    assert!(!format!("{error:?}").contains("marker"), "{error:?}");
    assert_eq!(server.counters().user_info, 1, "a refusal is not asked for again");
    let service = build(service(&server).scopes(["read"]));
    let machine = service.acquire(&TokenRequest::default(), None).await.unwrap().access;
    assert_eq!(service.user_info(machine.secret(), None).await.unwrap_err().status(), Some(403));

    let token = signed_in(&provider).await.access.secret().clone();
    server.reset_counters();
    // A safe request: it is made again.
    server.faults().push(Endpoint::UserInfo, Fault::unavailable(Some(0)));
    server.faults().push(Endpoint::UserInfo, Fault::DropBefore);
    provider.user_info(&token, None).await.unwrap();
    assert_eq!(server.counters().user_info, 3);
    for _ in 0..3 {
        server.faults().push(Endpoint::UserInfo, Fault::unavailable(Some(0)));
    }
    let error = provider.user_info(&token, None).await.unwrap_err();
    assert_eq!((error.kind(), server.counters().user_info), (ErrorKind::Transient, 6));
    let odd = SecretString::from("line\nbreak");
    assert_eq!(provider.user_info(&odd, None).await.unwrap_err().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn oidc_core_5_3_2_a_signed_answer_is_refused_in_words() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/jwt\r\ncontent-length: 5\r\n\r\na.b.c";
    let script = Script::start([answer]).await;
    let provider = build(Oidc::builder(&script.url, "cli").userinfo_endpoint(&script.url));
    let error = provider.user_info(&SecretString::from("t"), None).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("sign"), "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Script::start([answer("200 OK", r#"{"sub":"1"}"#)]).await;
    let url = &elsewhere.url;
    let script =
        Script::start([format!("HTTP/1.1 302 Found\r\nlocation: {url}/\r\ncontent-length: 0\r\n\r\n")]).await;
    let provider = build(Oidc::builder(&script.url, "cli").userinfo_endpoint(&script.url));
    let error = provider.user_info(&SecretString::from("t"), None).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("redirects"), "{error}");
    assert!(elsewhere.requests().is_empty());
}

#[cfg(feature = "jose")]
mod bound {
    use super::*;
    use common::jwt;

    #[tokio::test]
    async fn rfc9449_7_1_a_bound_token_is_shown_with_a_proof() {
        let settings = Settings { dpop_api_nonce_uses: Some(2), ..Settings::default() };
        let server = AuthorizationServer::start(settings).await;
        let provider = build(person(&server, "alice").dpop(true));
        let acquired = signed_in(&provider).await;
        let token = acquired.access.secret();
        for _ in 0..3 {
            let claims = provider.user_info(token, acquired.login.as_ref()).await.unwrap();
            assert_eq!(claims["sub"], "subject-alice");
        }
        // The first was demanded a nonce of, the others used what the answers brought.
        assert_eq!((server.counters().user_info, server.counters().dpop_nonce_challenges), (4, 1));
        let request = last(&server, "/userinfo");
        assert_eq!(request.header("authorization"), Some(format!("DPoP {}", token.expose_secret()).as_str()));
        let [_, claims] = jwt(request.header("dpop").unwrap());
        assert_eq!((&claims["htm"], &claims["htu"]), (&"GET".into(), &server.url("/userinfo").into()));
        assert!(claims["ath"].is_string() && claims["nonce"].is_string());

        // A repeated request has a proof of its own.
        server.faults().push(Endpoint::UserInfo, Fault::DropAfter);
        provider.user_info(token, acquired.login.as_ref()).await.unwrap();
        assert_eq!(server.counters().replays, 0);

        // Without the login there is no key, and the token goes nowhere.
        server.reset_counters();
        let error = provider.user_info(token, None).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("DPoP"), "{error}");
        assert!(server.requests().is_empty());
    }
}
