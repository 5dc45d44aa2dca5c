//! What an application calls itself works under any executor, and leaves nothing of it in what is shared.

mod common;

use std::{sync::Arc, time::Duration};

use common::{build, literal, service};
use keyfob_auth_core::{Context, LoginRequest, SecretString, Session, store::MemoryStore};
use keyfob_idp::server::{AuthorizationServer, Settings};
use keyfob_provider_oidc::{Flow, Oidc};

#[test]
fn no_tokio_runtime_is_needed() {
    let server = AuthorizationServer::start_on_own_thread(Settings::default());
    let provider = build(service(&server));
    let nothing = SecretString::from("nothing");
    assert!(!pollster::block_on(provider.introspect(&nothing)).unwrap().active);
    pollster::block_on(provider.revoke_access_token(&nothing)).unwrap();
    pollster::block_on(provider.user_info(&nothing, None)).unwrap_err();
    pollster::block_on(provider.end_session_url(None, None)).unwrap();
    pollster::block_on(provider.document(&server.url("/jwks"), Duration::from_secs(60))).unwrap();
    let app = build(Oidc::builder(server.issuer(), "cli").flow(Flow::Browser));
    let started =
        pollster::block_on(app.start(&LoginRequest::default(), Some("http://127.0.0.1:1/callback")));
    let (_, pending) = started.unwrap();
    pollster::block_on(app.finish(pending, "state=other&code=x")).unwrap_err();
}

#[test]
fn a_callers_runtime_holds_no_connection_that_others_need() {
    let server = AuthorizationServer::start_on_own_thread(Settings::default());
    let context = Context::new();
    let provider = service(&server).timeout(Duration::from_secs(10)).build(&context).unwrap();
    let callers = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    callers.block_on(provider.introspect(&SecretString::from("nothing"))).unwrap();
    // It stands still from now on; its connections would, too.
    let again = service(&server).client_secret(literal("service-secret")).build(&context).unwrap();
    let session = Session::new(Arc::new(again), Arc::new(MemoryStore::new()), &context).unwrap();
    pollster::block_on(session.token_within(Duration::from_secs(5))).unwrap();
    drop(callers);
}
