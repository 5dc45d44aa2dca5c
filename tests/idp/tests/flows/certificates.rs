//! TLS, and client authentication by certificates: RFC 8705.

use keyfob_idp::{
    person::Person,
    server::{AccessTokenFormat, Client, ClientCertificate, RegisteredCertificate, Settings, Tls},
};
use serde_json::{Value, json};

use crate::peer::{Peer, fields, part, redemption, request, text};

fn http(peer: &Peer, certificate: Option<&ClientCertificate>) -> reqwest::Client {
    let authority = reqwest::Certificate::from_pem(peer.server.ca_pem().as_bytes()).unwrap();
    let mut http = reqwest::Client::builder().no_proxy().tls_certs_only([authority]);
    if let Some(certificate) = certificate {
        let pem = format!("{}{}", certificate.certificate, certificate.key);
        http = http.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
    }
    http.build().unwrap()
}

async fn token(peer: &Peer, certificate: Option<&ClientCertificate>, client: &str) -> Value {
    let form = fields(&[("grant_type", "client_credentials"), ("client_id", client)]);
    peer.read(http(peer, certificate).post(peer.server.tls_url("/token")).form(&form)).await.1
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate() {
    let own = ClientCertificate::self_signed("self.test");
    let settings =
        Settings { tls: Tls::Aliases, access_token_format: AccessTokenFormat::Jwt, ..Settings::default() }
            .with_client(Client::with_certificate(
                "signed",
                RegisteredCertificate::DnsName("robot.test".to_owned()),
            ))
            .with_client(Client::with_certificate(
                "self",
                RegisteredCertificate::Pinned(own.thumbprint.clone()),
            ));
    let peer = Peer::start(settings).await;
    let signed = peer.server.client_certificate("robot.test");
    let (first, _) = signed.certificate.split_once("-----END CERTIFICATE-----\n").unwrap();
    let alone =
        ClientCertificate { certificate: format!("{first}-----END CERTIFICATE-----\n"), ..signed.clone() };
    let other = peer.server.client_certificate("other.test");
    let forged = ClientCertificate::self_signed("robot.test");
    for (client, certificate, good) in [
        ("signed", Some(&signed), true),
        ("signed", Some(&other), false),
        ("signed", Some(&forged), false),
        // The one in between is missing.
        ("signed", Some(&alone), false),
        ("signed", None, false),
        ("self", Some(&own), true),
        ("self", Some(&signed), false),
        ("self", None, false),
    ] {
        let body = token(&peer, certificate, client).await;
        assert_eq!(body["access_token"].is_string(), good, "{client}: {body}");
        assert!(good || body["error"] == "invalid_client", "{client}: {body}");
    }
    let plain = fields(&[("grant_type", "client_credentials"), ("client_id", "signed")]);
    assert_eq!(peer.post_token(&plain).await.1["error"], "invalid_client", "no TLS, no certificate");
    let mixed =
        fields(&[("grant_type", "client_credentials"), ("client_id", "signed"), ("client_secret", "x")]);
    assert_eq!(peer.post_token(&mixed).await.1["error"], "invalid_client");

    let (_, metadata) = peer.read(peer.http.get(peer.server.url("/.well-known/openid-configuration"))).await;
    assert_eq!(metadata["mtls_endpoint_aliases"]["token_endpoint"], peer.server.tls_url("/token"));
    assert_eq!(metadata["token_endpoint"], peer.server.token_endpoint());
    let requests = peer.server.requests();
    assert_eq!(requests[0].certificate.as_ref(), Some(&signed.thumbprint));
    assert_eq!(requests[0].base, peer.server.tls_url(""));
}

#[tokio::test]
async fn a_bound_token_works_with_its_certificate_only() {
    let own = ClientCertificate::self_signed("self.test");
    let client = Client::with_certificate("self", RegisteredCertificate::Pinned(own.thumbprint.clone()));
    let settings =
        Settings { tls: Tls::Aliases, access_token_format: AccessTokenFormat::Jwt, ..Settings::default() };
    let peer = Peer::start(settings.with_client(client)).await;
    let token = text(&token(&peer, Some(&own), "self").await, "access_token");
    assert_eq!(part(&token, 1)["cnf"], json!({ "x5t#S256": own.thumbprint }));
    let other = ClientCertificate::self_signed("self.test");
    for (certificate, status) in [(Some(&own), 200), (Some(&other), 401), (None, 401)] {
        let request = http(&peer, certificate).get(peer.server.tls_url("/api/echo")).bearer_auth(&token);
        assert_eq!(request.send().await.unwrap().status(), status);
    }
    assert!(!peer.api_takes(&token).await, "over plain HTTP");
}

#[tokio::test]
async fn the_issuer_speaks_tls() {
    let peer = Peer::start(Settings { tls: Tls::Issuer, ..Settings::default() }).await;
    assert!(peer.server.issuer().starts_with("https://127.0.0.1:"));
    let url = peer.server.url("/.well-known/openid-configuration");
    peer.http.get(&url).send().await.expect_err("the system does not know the authority");
    let trusting = http(&peer, None);
    let (_, metadata) = peer.read(trusting.get(&url)).await;
    assert_eq!(metadata["issuer"], peer.server.issuer());
    assert!(metadata["mtls_endpoint_aliases"].is_null());
    let localhost = url.replace("127.0.0.1", "localhost");
    assert_eq!(trusting.get(&localhost).send().await.unwrap().status(), 200);

    let mut alice = Person::new("alice").trusting(&peer.server.ca_pem());
    let answer = alice.answer(&peer.authorize_url(&request())).await.unwrap();
    let form = redemption(&answer.parameter("code").unwrap());
    let (status, _) = peer.read(trusting.post(peer.server.token_endpoint()).form(&form)).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn documents_of_other_products_name_the_issuer_and_metadata_can_be_removed() {
    let document = json!({ "issuer": "{issuer}", "oidc": { "endpoints": ["{issuer}/token", 1] } });
    let mut settings = Settings::default();
    settings.documents.insert("/apis/auth/discovery".to_owned(), document);
    settings.metadata.insert("pushed_authorization_request_endpoint".to_owned(), Value::Null);
    let peer = Peer::start(settings).await;
    let (_, served) = peer.read(peer.http.get(peer.server.url("/apis/auth/discovery"))).await;
    let issuer = peer.server.issuer();
    assert_eq!(served, json!({ "issuer": issuer, "oidc": { "endpoints": [format!("{issuer}/token"), 1] } }));
    let (_, metadata) = peer.read(peer.http.get(peer.server.url("/.well-known/openid-configuration"))).await;
    let removed = metadata.get("pushed_authorization_request_endpoint");
    assert!(removed.is_none() && metadata["end_session_endpoint"].is_string(), "{metadata}");
    assert_eq!(peer.http.get(peer.server.url("/elsewhere")).send().await.unwrap().status(), 404);
}
