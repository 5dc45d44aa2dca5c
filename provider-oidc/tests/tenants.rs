//! Providers of one issuer in one context: what one has heard of it by its own way, no other believes.
#![allow(clippy::unwrap_used, reason = "it is a test")]

mod common;

use std::time::Duration;

use common::service;
use keyfob_auth_core::{Context, CredentialProvider, TokenRequest};
use keyfob_idp::server::{AuthorizationServer, Settings};
use keyfob_provider_oidc::Oidc;
use serde_json::json;

async fn works(provider: &Oidc) -> bool {
    provider.acquire(&TokenRequest::default(), None).await.is_ok()
}

#[cfg(feature = "jose")]
#[tokio::test]
async fn each_keys_endpoint_has_keys_of_its_own() {
    use keyfob_provider_oidc::Flow;

    for stranger_first in [true, false] {
        let server = AuthorizationServer::start(Settings::default()).await;
        let stranger = AuthorizationServer::start(Settings::default()).await;
        let context = Context::new();
        let provider = |keys_of: &AuthorizationServer| {
            common::device(&server)
                .flow(Flow::Password)
                .username("alice")
                .password(common::literal("alice-password"))
                .jwks_uri(format!("{}/jwks", keys_of.issuer()))
                .build(&context)
                .unwrap()
        };
        let (own, strange) = (provider(&server), provider(&stranger));
        for (asked, holds) in
            if stranger_first { [(&strange, false), (&own, true)] } else { [(&own, true), (&strange, false)] }
        {
            assert_eq!(works(asked).await, holds, "stranger first: {stranger_first}");
        }
        assert_eq!((server.counters().jwks, stranger.counters().jwks), (1, 1));
    }
}

#[tokio::test]
async fn each_network_has_metadata_and_documents_of_its_own() {
    let mut settings = Settings::default();
    settings.documents.insert("/about".into(), json!({"x": 1}));
    let server = AuthorizationServer::start(settings).await;
    let context = Context::new();
    let url = format!("{}/about", server.issuer());
    for (proxy, label, asked) in
        [(None, "a", 1), (Some("none"), "a", 2), (None, "b", 2), (Some("none"), "b", 2)]
    {
        let builder = service(&server).label(label);
        let builder = if let Some(proxy) = proxy { builder.proxy(proxy) } else { builder };
        let provider = builder.build(&context).unwrap();
        assert!(works(&provider).await);
        provider.document(&url, Duration::from_secs(3600)).await.unwrap();
        let documents = server.requests().iter().filter(|request| request.path == "/about").count();
        assert_eq!((server.counters().discovery, documents), (asked, asked as usize), "{proxy:?} {label}");
    }
}

#[cfg(feature = "rustls")]
#[tokio::test]
async fn who_trusts_other_authorities_does_not_say_where_secrets_go() {
    use keyfob_idp::server::Tls;

    let elsewhere = AuthorizationServer::start(Settings::default()).await;
    let mut settings = Settings { tls: Tls::Issuer, ..Settings::default() };
    settings.metadata.insert("token_endpoint".into(), json!(elsewhere.token_endpoint()));
    let server = AuthorizationServer::start(settings).await;
    let context = Context::new();
    let trusting = service(&server).ca_file(common::literal(&server.ca_pem())).build(&context).unwrap();
    assert!(works(&trusting).await);
    assert_eq!((server.counters().discovery, elsewhere.counters().token), (1, 1));
    let ordinary = service(&server).build(&context).unwrap();
    assert!(!works(&ordinary).await, "the server's certificate is of no authority that it trusts");
    assert_eq!((server.counters().discovery, elsewhere.counters().token), (1, 1), "nothing was sent there");
}
