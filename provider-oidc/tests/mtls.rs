//! Certificates: client authentication by them, and tokens that are bound to them (RFC 8705).
#![cfg(feature = "rustls")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::{fs, sync::Arc};

use common::{build, last, literal};
use keyfob_auth_core::{
    AuthError, Binding, Context, CredentialProvider, ErrorKind, ExposeSecret, Session, TokenRequest,
    authorize::Origins, middleware::AuthClient, registry::SecretSource, store::MemoryStore,
};
use keyfob_idp::server::{
    AccessTokenFormat, AuthorizationServer, Client, ClientCertificate, RegisteredCertificate, Settings, Tls,
};
use keyfob_provider_oidc::{ClientAuth, Oidc, OidcBuilder};

/// A server that knows `signed` by a name in its authority's certificates, and `pinned` by this certificate.
async fn start(tls: Tls, own: &ClientCertificate) -> AuthorizationServer {
    let signed = RegisteredCertificate::DnsName("robot.test".into());
    let pinned = RegisteredCertificate::Pinned(own.thumbprint.clone());
    let settings = Settings { tls, access_token_format: AccessTokenFormat::Jwt, ..Settings::default() }
        .with_client(Client::with_certificate("signed", signed))
        .with_client(Client::with_certificate("pinned", pinned));
    AuthorizationServer::start(settings).await
}

fn builder(server: &AuthorizationServer, client: &str, certificate: &ClientCertificate) -> OidcBuilder {
    let auth =
        if client == "signed" { ClientAuth::TlsClientAuth } else { ClientAuth::SelfSignedTlsClientAuth };
    Oidc::builder(server.issuer(), client)
        .client_auth(auth)
        .certificate(literal(&certificate.certificate))
        .certificate_key(literal(&certificate.key))
        .ca_file(literal(&server.ca_pem()))
}

async fn acquire(provider: &Oidc) -> Result<keyfob_auth_core::Acquired, AuthError> {
    provider.acquire(&TokenRequest::default(), None).await
}

#[tokio::test]
async fn rfc8705_2_a_client_is_known_by_its_certificate_and_sends_its_id_and_no_secret() {
    let own = ClientCertificate::self_signed("self.test");
    for tls in [Tls::Issuer, Tls::Aliases] {
        let server = start(tls, &own).await;
        let signed = server.client_certificate("robot.test");
        for (client, certificate) in [("signed", &signed), ("pinned", &own)] {
            let acquired = acquire(&build(builder(&server, client, certificate))).await.unwrap();
            let request = last(&server, "/token");
            assert_eq!(request.certificate.as_ref(), Some(&certificate.thumbprint));
            assert_eq!(request.parameter("client_id"), Some(client));
            assert!(
                request.header("authorization").is_none() && request.parameter("client_secret").is_none()
            );
            // RFC 8705 section 5: the alias, where there is one.
            assert_eq!(request.base, server.tls_url(""));
            assert_eq!(*acquired.access.binding(), Binding::Certificate(certificate.thumbprint.clone()));
        }
    }
}

#[tokio::test]
async fn rfc8705_2_another_certificate_is_refused_in_the_servers_words() {
    let own = ClientCertificate::self_signed("self.test");
    let server = start(Tls::Aliases, &own).await;
    let signed = server.client_certificate("robot.test");
    let (first, _) = signed.certificate.split_once("-----END CERTIFICATE-----\n").unwrap();
    let alone = format!("{first}-----END CERTIFICATE-----\n");
    for (client, certificate, why) in [
        ("signed", server.client_certificate("other.test"), "another name"),
        ("signed", ClientCertificate::self_signed("robot.test"), "not from the authority"),
        // The whole chain is sent: without the one in between the server cannot follow it.
        ("signed", ClientCertificate { certificate: alone, ..signed.clone() }, "not from the authority"),
        ("pinned", signed, "another one"),
    ] {
        let error = acquire(&build(builder(&server, client, &certificate))).await.unwrap_err();
        assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::Refused, Some("invalid_client")));
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(server.counters().token, 4);
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_named_and_nothing_is_sent() {
    let own = ClientCertificate::self_signed("self.test");
    let server = start(Tls::Issuer, &own).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        SecretSource::File(path)
    };
    let other = ClientCertificate::self_signed("other.test");
    let good = || builder(&server, "pinned", &own);
    for (builder, said) in [
        (good().certificate(path("no.pem", "marker")), "no.pem"),
        (good().certificate(path("key-only.pem", &own.key)), "key-only.pem"),
        (good().certificate_key(path("no.key", "marker")), "certificate"),
        (good().certificate_key(literal(&other.key)), "certificate"),
        (good().ca_file(path("no-ca.pem", "marker")), "no-ca.pem"),
        (good().certificate(SecretSource::File(folder.path().join("absent.pem"))), "absent.pem"),
    ] {
        let error = acquire(&build(builder)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Configuration | ErrorKind::NotConfigured), "{error:?}");
        assert!(error.to_string().contains(said), "{said}: {error}");
        assert!(!format!("{error:?}").contains("marker"), "{error:?}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_is_told_from_a_server_that_is_away() {
    let own = ClientCertificate::self_signed("self.test");
    let server = start(Tls::Issuer, &own).await;
    let provider = build(Oidc::builder(server.issuer(), "service").client_secret(literal("service-secret")));
    let error = acquire(&provider).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    let mut causes = vec![error.to_string()];
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        causes.push(next.to_string());
        cause = next.source();
    }
    assert!(causes.iter().any(|cause| cause.to_lowercase().contains("certificate")), "{causes:?}");
    assert!(server.requests().is_empty());
    let trusting = Oidc::builder(server.issuer(), "service").client_secret(literal("service-secret"));
    acquire(&build(trusting.ca_file(literal(&server.ca_pem())))).await.unwrap();
}

#[tokio::test]
async fn rfc8705_3_a_bound_token_is_used_with_its_certificate_only() {
    let own = ClientCertificate::self_signed("self.test");
    let server = start(Tls::Issuer, &own).await;
    let context = Context::new();
    let provider = builder(&server, "pinned", &own).build(&context).unwrap();
    let session = Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap();
    let authority = || reqwest::Certificate::from_pem(server.ca_pem().as_bytes()).unwrap();
    let pem = format!("{}{}", own.certificate, own.key);
    let client = |shown: bool| {
        let builder = AuthClient::builder(session.clone())
            .origins(Origins::new().with(server.issuer()).unwrap())
            .http(|http| {
                let http = http.tls_certs_only([authority()]).no_proxy();
                http.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap())
            });
        if shown { builder.certificate(own.thumbprint.clone()) } else { builder }.build().unwrap()
    };
    assert_eq!(client(true).get(server.api_url()).send().await.unwrap().status(), 200);
    let error = client(false).get(server.api_url()).send().await.unwrap_err();
    let error = keyfob_auth_core::middleware::auth_error(&error).unwrap();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(server.counters().api, 1, "it was not sent without");
}

#[tokio::test]
async fn rfc8705_3_tokens_of_a_replaced_certificate_are_dropped() {
    let own = ClientCertificate::self_signed("self.test");
    let server = start(Tls::Issuer, &own).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.pem");
    let write = |certificate: &ClientCertificate| {
        fs::write(&file, format!("{}{}", certificate.certificate, certificate.key)).unwrap();
    };
    let (first, second) = (server.client_certificate("robot.test"), server.client_certificate("robot.test"));
    write(&first);
    let store = Arc::new(MemoryStore::new());
    // The key may be in the same file.
    let session = || {
        let context = Context::new();
        let builder = Oidc::builder(server.issuer(), "signed").client_auth(ClientAuth::TlsClientAuth);
        let builder =
            builder.certificate(SecretSource::File(file.clone())).ca_file(literal(&server.ca_pem()));
        Session::new(Arc::new(builder.build(&context).unwrap()), Arc::clone(&store) as _, &context).unwrap()
    };
    let token = session().token().await.unwrap();
    assert_eq!(
        session().token().await.unwrap().secret(),
        token.secret(),
        "another process has it of the store"
    );
    assert_eq!(server.counters().token, 1);
    write(&second);
    let renewed = session().token().await.unwrap();
    assert_eq!(*renewed.binding(), Binding::Certificate(second.thumbprint.clone()));
    assert_eq!(server.counters().token, 2);
}

#[tokio::test]
async fn rfc8705_3_a_client_with_the_new_certificate_gets_a_token_of_its_own_at_once() {
    let own = ClientCertificate::self_signed("self.test");
    let server = start(Tls::Issuer, &own).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.pem");
    let pem = |of: &ClientCertificate| format!("{}{}", of.certificate, of.key);
    let (first, second) = (server.client_certificate("robot.test"), server.client_certificate("robot.test"));
    fs::write(&file, pem(&first)).unwrap();
    let context = Context::new();
    let builder = Oidc::builder(server.issuer(), "signed").client_auth(ClientAuth::TlsClientAuth);
    let builder = builder.certificate(SecretSource::File(file.clone())).ca_file(literal(&server.ca_pem()));
    let provider = Arc::new(builder.build(&context).unwrap());
    let session = Session::new(provider, Arc::new(MemoryStore::new()), &context).unwrap();
    let client = |shown: &ClientCertificate, said: &str| {
        let identity = reqwest::Identity::from_pem(pem(shown).as_bytes()).unwrap();
        let authority = reqwest::Certificate::from_pem(server.ca_pem().as_bytes()).unwrap();
        AuthClient::builder(session.clone())
            .origins(Origins::new().with(server.issuer()).unwrap())
            .http(|http| http.tls_certs_only([authority]).no_proxy().identity(identity))
            .certificate(said)
            .build()
            .unwrap()
    };
    let counts = || (server.counters().token, server.counters().api);
    let (old, new) = (client(&first, &first.thumbprint), client(&second, &second.thumbprint));
    assert_eq!(old.get(server.api_url()).send().await.unwrap().status(), 200);
    let refused = async |client: &AuthClient| {
        let error = client.get(server.api_url()).send().await.unwrap_err();
        let error = keyfob_auth_core::middleware::auth_error(&error).unwrap();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.message().contains("build the HTTP client anew"), "{error}");
    };
    // The provider has the first one still: another token would be bound to it too.
    refused(&new).await;
    assert_eq!(counts(), (1, 1));
    fs::write(&file, pem(&second)).unwrap();
    assert_eq!(old.get(server.api_url()).send().await.unwrap().status(), 200, "its connection has the first");
    assert_eq!(counts(), (1, 2));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let request = new.get(server.api_url());
        tasks.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    assert_eq!(tasks.join_all().await, [200; 5]);
    assert_eq!(counts(), (2, 7), "one renewal for all");
    // Who has not followed is told what to do, and takes nothing from those who have.
    for _ in 0..3 {
        refused(&old).await;
        refused(&client(&second, "mistyped")).await;
    }
    assert_eq!(new.get(server.api_url()).send().await.unwrap().status(), 200);
    assert_eq!(counts(), (2, 8));
}

#[tokio::test]
async fn rfc8705_5_the_alias_is_for_who_shows_a_certificate_and_for_nobody_else() {
    let own = ClientCertificate::self_signed("self.test");
    let server = start(Tls::Aliases, &own).await;
    let signed = server.client_certificate("robot.test");
    let certified = build(builder(&server, "signed", &signed));
    let secret = build(Oidc::builder(server.issuer(), "service").client_secret(literal("service-secret")));
    for (provider, base) in [(certified, server.tls_url("")), (secret, server.issuer().to_owned())] {
        let token = acquire(&provider).await.unwrap().access.secret().clone();
        assert!(provider.introspect(&token).await.unwrap().active);
        provider.revoke_access_token(&token).await.unwrap();
        for path in ["/token", "/introspect", "/revoke"] {
            assert_eq!(last(&server, path).base, base, "{path}");
        }
    }
    let counters = server.counters();
    assert_eq!((counters.token, counters.introspection, counters.revocation), (2, 2, 2));
}

#[tokio::test]
async fn rfc8705_3_1_a_token_is_bound_if_it_says_so_and_not_because_a_certificate_was_shown() {
    let own = ClientCertificate::self_signed("self.test");
    let server = start(Tls::Issuer, &own).await;
    // This client proves who it is by its secret, and its server binds the tokens of the others only.
    let builder = Oidc::builder(server.issuer(), "service").client_secret(literal("service-secret"));
    let builder = builder.certificate(literal(&own.certificate)).certificate_key(literal(&own.key));
    let acquired = acquire(&build(builder.ca_file(literal(&server.ca_pem())))).await.unwrap();
    assert_eq!(last(&server, "/token").certificate.as_ref(), Some(&own.thumbprint), "it was shown");
    let [_, claims] = common::jwt(acquired.access.secret().expose_secret());
    assert!(claims.get("cnf").is_none());
    assert_eq!(*acquired.access.binding(), Binding::None);
}
