//! Which requests get a token, and which are not sent at all.

use http::{HeaderMap, Method, StatusCode, Uri};
use keyfob_auth_core::{
    AuthError, Binding, ErrorKind,
    authorize::{Attempt, Authorizer, Origins, Verdict},
    middleware::auth_error,
};

use crate::support::{Scripted, Server, token};

#[tokio::test]
async fn only_listed_origins_get_the_token() {
    let (listed, other) = (Server::ok().await, Server::ok().await);
    let provider = Scripted::counting();
    let client = provider.client(&[&listed]);
    assert_eq!(client.get(other.url("/x")).send().await.unwrap().status(), 200);
    assert_eq!(provider.count(), 0, "nobody is asked for a token that goes nowhere");
    for _ in 0..3 {
        assert_eq!(client.get(listed.url("/x")).send().await.unwrap().status(), 200);
    }
    let other_name = listed.origin.replace("127.0.0.1", "localhost");
    assert_eq!(client.get(other_name).send().await.unwrap().status(), 200);
    assert_eq!(listed.tokens(), [Some("t1".into()), Some("t1".into()), Some("t1".into()), None]);
    assert_eq!(other.tokens(), [None]);
    assert_eq!(provider.count(), 1);
}

#[tokio::test]
async fn rfc6750_2_1_the_token_is_in_the_header_and_nowhere_else() {
    let server = Server::ok().await;
    let client = Scripted::counting().client(&[&server]);
    let form = client.post(server.url("/x?a=1")).header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(form.body("b=2").send().await.unwrap().status(), 200);
    assert_eq!(client.get(server.url("/y")).send().await.unwrap().status(), 200);
    let [posted, got] = &server.seen()[..] else { panic!("two requests") };
    assert_eq!((posted.path.as_str(), posted.body.as_str()), ("/x?a=1", "b=2"));
    assert_eq!((got.path.as_str(), got.body.as_str()), ("/y", ""));
    for seen in [posted, got] {
        assert_eq!(seen.header("authorization"), Some("Bearer t1"));
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let server = Server::ok().await;
    for kind in [ErrorKind::LoginRequired, ErrorKind::Transient, ErrorKind::Refused, ErrorKind::NotConfigured]
    {
        let client = Scripted::failing(AuthError::new(kind, "no token today")).client(&[&server]);
        let error = client.get(server.url("/x")).send().await.unwrap_err();
        assert_eq!(auth_error(&error).unwrap().kind(), kind);
        assert!(error.to_string().contains("no token today"), "{error}");
    }
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn public_endpoints_are_used_without_a_login_but_not_in_an_outage() {
    let server = Server::ok().await;
    let origins = || Origins::new().if_logged_in(&server.origin).unwrap();
    for (kind, sent) in [
        (ErrorKind::LoginRequired, true),
        (ErrorKind::NotConfigured, true),
        (ErrorKind::Transient, false),
        (ErrorKind::Refused, false),
    ] {
        let before = server.seen().len();
        let client = Scripted::failing(AuthError::new(kind, "no token")).builder(origins()).build().unwrap();
        assert_eq!(client.get(server.url("/x")).send().await.is_ok(), sent, "{kind:?}");
        assert_eq!(server.seen().len() - before, usize::from(sent), "{kind:?}");
    }
    assert_eq!(server.tokens(), [None, None]);
    let client = Scripted::counting().builder(origins()).build().unwrap();
    client.get(server.url("/x")).send().await.unwrap();
    assert_eq!(server.tokens().last().unwrap().as_deref(), Some("t1"));
}

#[tokio::test]
async fn the_callers_own_credential_wins() {
    let server = Server::accepting(&["t1"], "Bearer error=\"invalid_token\"").await;
    let provider = Scripted::counting();
    let client = provider.client(&[&server]);
    let answer = client.get(server.url("/x")).header("authorization", "Bearer own").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(server.tokens(), [Some("own".into())]);
    assert_eq!(provider.count(), 0);

    let server = Server::ok().await;
    let client = Scripted::in_header("x-api-key").client(&[&server]);
    client.get(server.url("/x")).header("x-api-key", "own").send().await.unwrap();
    client.get(server.url("/x")).send().await.unwrap();
    let keys: Vec<_> =
        server.seen().iter().map(|seen| seen.header("x-api-key").unwrap().to_owned()).collect();
    assert_eq!(keys, ["own", "t1"]);
}

#[tokio::test]
async fn the_callers_own_credential_wins_over_a_token_at_hand() {
    let server = Server::accepting(&["t1"], "Bearer error=\"invalid_token\"").await;
    let provider = Scripted::counting();
    let client = provider.client(&[&server]);
    client.get(server.url("/x")).send().await.unwrap();
    for (name, value, token) in [("authorization", "Bearer own", Some("own")), ("dpop", "own", None)] {
        let answer = client.get(server.url("/x")).header(name, value).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{name}: it is the caller's, and nothing is renewed or sent again");
        let seen = server.seen().pop().unwrap();
        assert_eq!((seen.token(), seen.header(name)), (token, Some(value)));
    }
    client.get(server.url("/x")).send().await.unwrap();
    assert_eq!(server.tokens(), [Some("t1".into()), Some("own".into()), None, Some("t1".into())]);
    assert_eq!(provider.count(), 1);
}

#[tokio::test]
async fn rfc8705_3_a_bound_token_needs_a_client_with_that_certificate() {
    let server = Server::ok().await;
    let provider =
        Scripted::answering(|count, _| Ok(token(count).with_binding(Binding::Certificate("abc".into()))));
    let builder = || provider.builder(Origins::parse([&server.origin]).unwrap());
    for client in [builder(), builder().certificate("abd")] {
        let error = client.build().unwrap().get(server.url("/x")).send().await.unwrap_err();
        let error = auth_error(&error).unwrap();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.message().contains("certificate"), "{error}");
    }
    assert_eq!(server.seen().len(), 0);
    builder().certificate("abc").build().unwrap().get(server.url("/x")).send().await.unwrap();
    assert_eq!(server.tokens(), [Some("t3".into())], "the third client's session is the third to ask");
}

#[tokio::test]
async fn a_client_without_origins_is_refused() {
    let error = Scripted::counting().builder(Origins::new()).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn an_adapter_of_ones_own_needs_no_client() {
    let provider = Scripted::counting();
    let authorizer = Authorizer::new(provider.session(), Origins::new().with("https://api.example").unwrap());
    let (listed, other) =
        (Uri::from_static("https://api.example/x"), Uri::from_static("https://other.example/x"));
    let (mut attempt, none) = (Attempt::new(), HeaderMap::new());
    for (target, sent, from, replayed) in [
        (&other, None, &other, false),
        (&other, None, &listed, false),
        (&listed, Some("Bearer t1"), &other, false),
        (&listed, Some("Bearer t1"), &listed, true),
        (&listed, Some("Bearer t2"), &listed, false),
    ] {
        let mut headers = HeaderMap::new();
        authorizer.authorize(&mut attempt, &Method::GET, target, &mut headers).await.unwrap();
        assert_eq!(headers.get("authorization").map(|value| value.to_str().unwrap()), sent);
        let verdict = authorizer.judge(&mut attempt, from, StatusCode::UNAUTHORIZED, &none);
        assert_eq!(matches!(verdict, Verdict::ReplayAfterRenewal(_)), replayed, "{target} {from}");
        assert_eq!(authorizer.settle(&mut attempt, verdict, true).await.unwrap(), replayed);
    }
    assert_eq!(provider.count(), 2);
}
