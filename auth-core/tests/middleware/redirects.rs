//! Redirects, judged hop by hop.

use keyfob_auth_core::{
    authorize::Origins,
    middleware::{TooManyRedirects, auth_error},
};

use crate::support::{Scripted, Server, reply};

/// Headers that a caller puts on, of which some must not leave the origin.
fn with_secrets(request: reqwest_middleware::RequestBuilder) -> reqwest_middleware::RequestBuilder {
    let mut marked = http::HeaderValue::from_static("marked");
    marked.set_sensitive(true);
    request
        .header("cookie", "session=1")
        .header("proxy-authorization", "Basic eA==")
        .header("x-auth-token", "own")
        .header("x-own-secret", marked)
        .header("host", "name.of.the.first")
        .header("accept", "text/plain")
}

#[tokio::test]
async fn rfc9700_4_9_1_from_listed_to_unlisted_takes_every_credential_off() {
    let other = Server::ok().await;
    let listed = Server::redirecting(302, other.url("/y")).await;
    let client = Scripted::counting().client(&[&listed]);
    let answer = with_secrets(client.get(listed.url("/x"))).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.url().as_str()), (200, other.url("/y").as_str()));
    assert_eq!(listed.tokens(), [Some("t1".into())]);
    let [seen] = &other.seen()[..] else { panic!("one request") };
    for name in ["authorization", "cookie", "proxy-authorization", "x-auth-token", "x-own-secret"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("accept"), Some("text/plain"));
    assert_eq!(seen.header("host"), other.origin.strip_prefix("http://"));
}

#[tokio::test]
async fn from_listed_to_unlisted_takes_other_headers_off_too() {
    for name in ["x-api-key", "x-of-my-own"] {
        let other = Server::ok().await;
        let listed = Server::redirecting(307, other.url("/y")).await;
        let client = Scripted::in_header(name).client(&[&listed]);
        assert_eq!(client.get(listed.url("/x")).send().await.unwrap().status(), 200);
        assert_eq!(listed.seen()[0].header(name), Some("t1"));
        assert_eq!(other.seen()[0].header(name), None);
        // The caller's own, of the same name.
        client.get(listed.url("/x")).header(name, "own").send().await.unwrap();
        assert_eq!(listed.seen()[1].header(name), Some("own"));
        assert_eq!(other.seen()[1].header(name), None);
    }
}

#[tokio::test]
async fn within_one_origin_the_callers_headers_stay_and_the_token_is_put_on_anew() {
    let server = Server::start(|seen| match &*seen.path {
        "/x" => reply(302, &[("location", "/y")]),
        _ => reply(200, &[]),
    })
    .await;
    let client = Scripted::counting().client(&[&server]);
    with_secrets(client.get(server.url("/x"))).send().await.unwrap();
    assert_eq!(server.tokens(), [Some("t1".into()), Some("t1".into())]);
    assert_eq!(server.seen()[1].header("cookie"), Some("session=1"));
    assert_eq!(server.seen()[1].header("x-own-secret"), Some("marked"));
}

#[tokio::test]
async fn from_listed_to_another_listed_attaches_anew() {
    let second = Server::ok().await;
    let first = Server::redirecting(302, second.url("/y")).await;
    let provider = Scripted::counting();
    let client = provider.client(&[&first, &second]);
    client.get(first.url("/x")).send().await.unwrap();
    assert_eq!(first.tokens(), [Some("t1".into())]);
    assert_eq!(second.tokens(), [Some("t1".into())]);
    assert_eq!(provider.count(), 1);
}

#[tokio::test]
async fn from_unlisted_to_listed_attaches_at_that_hop() {
    let listed = Server::ok().await;
    let other = Server::redirecting(302, listed.url("/y")).await;
    let client = Scripted::counting().client(&[&listed]);
    client.get(other.url("/x")).send().await.unwrap();
    assert_eq!(other.tokens(), [None]);
    assert_eq!(listed.tokens(), [Some("t1".into())]);
    // The caller's own credential neither goes along, nor is it replaced by the session's.
    client.get(other.url("/x")).bearer_auth("own").send().await.unwrap();
    assert_eq!(other.tokens(), [None, Some("own".into())]);
    assert_eq!(listed.tokens(), [Some("t1".into()), None]);
    let client = Scripted::in_header("x-api-key").client(&[&listed]);
    client.get(other.url("/x")).header("x-api-key", "own").send().await.unwrap();
    client.get(other.url("/x")).send().await.unwrap();
    let keys: Vec<_> =
        listed.seen()[2..].iter().map(|seen| seen.header("x-api-key").map(str::to_owned)).collect();
    assert_eq!(keys, [None, Some("t1".into())]);
}

#[tokio::test]
async fn a_307_sends_method_and_body_again() {
    let second = Server::ok().await;
    for status in [307, 308] {
        let first = Server::redirecting(status, second.url("/y")).await;
        let client = Scripted::counting().client(&[&first]);
        client.post(first.url("/x")).header("content-type", "text/x").body("body").send().await.unwrap();
        let seen = second.seen().pop().unwrap();
        assert_eq!((&*seen.method, &*seen.body), ("POST", "body"));
        assert_eq!((seen.header("content-type"), seen.token()), (Some("text/x"), None));
    }
    assert_eq!(second.seen().len(), 2);
}

#[tokio::test]
async fn a_303_becomes_a_get_and_so_does_a_post_at_a_302() {
    let second = Server::ok().await;
    for (method, status, becomes, body) in [
        ("POST", 303, "GET", ""),
        ("PUT", 303, "GET", ""),
        ("HEAD", 303, "HEAD", ""),
        ("POST", 301, "GET", ""),
        ("POST", 302, "GET", ""),
        ("PUT", 302, "PUT", "body"),
    ] {
        let first = Server::redirecting(status, second.url("/y")).await;
        let client = Scripted::counting().client(&[&first]);
        let request = client.request(method.parse().unwrap(), first.url("/x"));
        request.header("content-type", "text/x").body("body").send().await.unwrap();
        let seen = second.seen().pop().unwrap();
        assert_eq!((&*seen.method, &*seen.body), (becomes, body), "{method} {status}");
        assert_eq!(seen.header("content-type").is_some(), !body.is_empty(), "{method} {status}");
    }
    assert_eq!(second.seen().len(), 6);
}

#[tokio::test]
async fn a_stream_follows_where_no_body_is_needed_and_else_the_redirect_is_delivered() {
    let second = Server::ok().await;
    let stream = || reqwest::Body::from(reqwest::Response::from(http::Response::new("stream")));
    for (status, delivered) in [(303, 200), (302, 200), (307, 307), (308, 308)] {
        let first = Server::redirecting(status, second.url("/y")).await;
        let client = Scripted::counting().client(&[&first]);
        let answer = client.post(first.url("/x")).body(stream()).send().await.unwrap();
        assert_eq!(answer.status(), delivered);
        assert_eq!(first.seen()[0].body, "stream");
    }
    assert_eq!(second.seen().len(), 2);
}

#[tokio::test]
async fn a_circle_ends_with_a_clear_error() {
    let server = Server::redirecting(302, "/x".into()).await;
    let error = Scripted::counting().client(&[&server]).get(server.url("/x")).send().await.unwrap_err();
    let reqwest_middleware::Error::Middleware(inner) = &error else { panic!("{error}") };
    assert_eq!(inner.downcast_ref::<TooManyRedirects>().unwrap().followed, 10);
    assert!(error.to_string().contains("more than 10 times"), "{error}");
    assert!(auth_error(&error).is_none());
    assert_eq!(server.seen().len(), 11);
}

#[tokio::test]
async fn the_limit_can_be_set_and_none_delivers_the_redirect() {
    let server = Server::redirecting(302, "/x".into()).await;
    let origins = || Origins::parse([&server.origin]).unwrap();
    let client = Scripted::counting().builder(origins()).redirects(2).build().unwrap();
    assert!(client.get(server.url("/x")).send().await.is_err());
    assert_eq!(server.seen().len(), 3);
    for replay in [true, false] {
        let client = Scripted::counting().builder(origins()).redirects(0).replay(replay).build().unwrap();
        assert_eq!(client.get(server.url("/x")).send().await.unwrap().status(), 302);
    }
    assert_eq!(server.seen().len(), 5);
    // The redirects of the reqwest client stay off, whatever it was told.
    let follow = |http: reqwest::ClientBuilder| http.redirect(reqwest::redirect::Policy::limited(5));
    let client = Scripted::counting().builder(origins()).redirects(0).http(follow).build().unwrap();
    assert_eq!(client.get(server.url("/x")).send().await.unwrap().status(), 302);
    assert_eq!(server.seen().len(), 6);
}

#[tokio::test]
async fn a_location_that_leads_nowhere_is_delivered() {
    for location in ["ftp://127.0.0.1/", "http://[", "file:///etc/passwd"] {
        let server = Server::redirecting(302, location.into()).await;
        let answer = Scripted::counting().client(&[&server]).get(server.url("/x")).send().await.unwrap();
        assert_eq!(answer.status(), 302, "{location}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn credentials_in_a_location_are_not_sent() {
    let other = Server::ok().await;
    let listed = Server::redirecting(302, other.url("/y").replace("http://", "http://user:pass@")).await;
    Scripted::counting().client(&[&listed]).get(listed.url("/x")).send().await.unwrap();
    assert_eq!(other.tokens(), [None]);
}
