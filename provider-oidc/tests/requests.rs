//! How many requests the first token costs: one with known endpoints, two with discovery.
//!
//! With an ID token and the feature `jose` the issuer's keys are fetched besides, once per context.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use common::service;
use keyfob_auth_core::{Context, Interaction, Prompt, Session, store::MemoryStore};
use keyfob_idp::{
    person::Person,
    server::{
        Algorithm, AuthorizationServer, AutoApprove, Settings, SigningKey, TrustedIssuer, VerificationKey,
    },
};
use keyfob_provider_oidc::{Flow, OidcBuilder};
use serde_json::json;

const ISSUER: &str = "https://issuer.example";

/// A person whose browser does what it is told.
#[derive(Debug)]
struct Browsing;

impl Interaction for Browsing {
    fn show(&self, prompt: &Prompt) {
        if let Prompt::OpenUrl { url } = prompt {
            let url = url.clone();
            tokio::spawn(async move { Person::new("alice").visit(&url).await.unwrap() });
        }
    }
}

struct Peer {
    server: AuthorizationServer,
    issuer: SigningKey,
}

impl Peer {
    async fn start() -> Self {
        let issuer = SigningKey::generate(Algorithm::Es256);
        let settings = Settings {
            trusted_issuers: vec![TrustedIssuer::new(ISSUER, vec![VerificationKey::jwk(issuer.jwk())])],
            auto_approve: Some(AutoApprove { user: "alice".into(), after_polls: 0 }),
            device_interval: Duration::from_millis(10),
            ..Settings::default()
        };
        Self { server: AuthorizationServer::start(settings).await, issuer }
    }

    fn builder(&self, flow: Flow) -> OidcBuilder {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let id = self.server.requests().len();
        let claims = json!({"iss": ISSUER, "sub": "alice", "aud": self.server.issuer(), "exp": now + 60, "jti": format!("{id}")});
        let assertion = common::literal(&self.issuer.sign("JWT", &claims));
        service(&self.server)
            .flow(flow)
            .username("alice")
            .password(common::literal("alice-password"))
            .assertion(assertion.clone())
            .subject_token(assertion)
            .subject_token_type("urn:ietf:params:oauth:token-type:jwt")
            .open_browser(false)
    }

    /// With all that a login needs.
    fn known(&self, flow: Flow) -> OidcBuilder {
        let server = &self.server;
        self.builder(flow)
            .token_endpoint(server.token_endpoint())
            .device_authorization_endpoint(server.url("/device_authorization"))
            .authorization_endpoint(server.url("/authorize"))
            .jwks_uri(server.url("/jwks"))
    }

    /// Gets the first token, and counts what is asked in this place of the server: a person's browser is not the client.
    async fn first_token(&self, builder: OidcBuilder, person: bool) -> (u64, u64, u64, usize) {
        self.server.reset_counters();
        let context = Context::new();
        let provider = builder.build(&context).unwrap();
        let session = Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap();
        let token = if person { session.login(Arc::new(Browsing)).await } else { session.token().await };
        token.unwrap();
        let counters = self.server.counters();
        let browser = |path: &str| matches!(path, "/authorize" | "/login");
        let clients = self.server.requests().iter().filter(|request| !browser(&request.path)).count();
        (counters.discovery, counters.jwks, counters.token, clients)
    }
}

#[tokio::test]
async fn the_first_token_costs_one_request_with_known_endpoints_and_two_with_discovery() {
    let peer = Peer::start().await;
    let keys = u64::from(cfg!(feature = "jose"));
    for (flow, scopes, id_token, besides) in [
        (Flow::ClientCredentials, "read", 0, 0),
        (Flow::JwtBearer, "read", 0, 0),
        (Flow::TokenExchange, "read", 0, 0),
        (Flow::Password, "read", 0, 0),
        (Flow::Password, "openid read", keys, 0),
        (Flow::Browser, "openid read", keys, 0),
        // One for the code, and a poll.
        (Flow::Device, "read", 0, 1),
        (Flow::Device, "openid read", keys, 1),
    ] {
        let person = matches!(flow, Flow::Browser | Flow::Device);
        let scopes = || scopes.split(' ').map(str::to_owned);
        let all = |requests: u64| usize::try_from(requests + id_token + besides).unwrap();
        let known = peer.first_token(peer.known(flow).scopes(scopes()), person).await;
        assert_eq!(known, (0, id_token, 1, all(1)), "{flow:?}");
        // A browser login would push its request where that is offered: one more, for which the URL gives nothing away.
        let discovering = peer.builder(flow).scopes(scopes()).pushed_authorization_requests(false);
        let discovered = peer.first_token(discovering, person).await;
        assert_eq!(discovered, (1, id_token, 1, all(2)), "{flow:?}");
    }
    let pushed = peer.first_token(peer.builder(Flow::Browser), true).await;
    assert_eq!(pushed, (1, keys, 1, usize::try_from(keys).unwrap() + 3));
}

#[tokio::test]
async fn what_was_discovered_is_shared_and_the_next_token_costs_one_request() {
    let peer = Peer::start().await;
    let context = Context::new();
    let sessions: Vec<_> = ["one", "two", "three"]
        .into_iter()
        .map(|label| {
            let builder = peer.builder(Flow::Password).scopes(["openid", "read"]).label(label);
            let provider = builder.build(&context).unwrap();
            Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap()
        })
        .collect();
    for session in &sessions {
        session.token().await.unwrap();
    }
    for session in &sessions {
        session.refresh().await.unwrap();
    }
    let counters = peer.server.counters();
    let keys = u64::from(cfg!(feature = "jose"));
    assert_eq!((counters.discovery, counters.jwks, counters.token), (1, keys, 6));
    assert_eq!(peer.server.requests().len(), usize::try_from(7 + keys).unwrap());
}

#[tokio::test]
async fn many_that_ask_at_once_discover_once() {
    let peer = Peer::start().await;
    let context = Context::new();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let provider = peer.builder(Flow::ClientCredentials).label(n.to_string()).build(&context).unwrap();
        let session = Session::new(Arc::new(provider), Arc::new(MemoryStore::new()), &context).unwrap();
        tasks.spawn(async move { session.token().await.map(drop) });
    }
    for outcome in tasks.join_all().await {
        outcome.unwrap();
    }
    assert_eq!((peer.server.counters().discovery, peer.server.counters().token), (1, 16));
}
