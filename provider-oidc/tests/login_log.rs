//! What the log says of a login with a browser. In a program of its own: there is one log to a process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is a test")]

mod common;

use std::{
    io,
    sync::{Arc, Mutex},
};

use common::device;
use keyfob_auth_core::{Context, ExposeSecret, LoginRequest};
use keyfob_idp::{
    person::Person,
    server::{AuthorizationServer, Endpoint, Fault, Settings},
};
use keyfob_provider_oidc::Flow;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn rfc7636_7_1_neither_verifier_nor_code_is_logged_or_in_an_error() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_env_filter("off,keyfob=trace")
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    let server = AuthorizationServer::start(Settings::default()).await;
    let provider = device(&server).flow(Flow::Browser).open_browser(false).build(&Context::new()).unwrap();
    let mut secrets = Vec::new();
    let mut told = String::new();
    for fault in
        [None, Some(Fault::oauth_error("invalid_grant")), Some(Fault::status(503)), Some(Fault::DropAfter)]
    {
        let (url, pending) = provider.start(&LoginRequest::default(), None).await.unwrap();
        let kept = serde_json::to_value(&pending).unwrap();
        let callback = Person::new("alice").answer(&url).await.unwrap();
        for name in ["code_verifier", "state", "nonce"] {
            secrets.push(kept[name].as_str().unwrap().to_owned());
        }
        secrets.push(callback.parameter("code").unwrap());
        told += &format!("{pending:?}");
        let fails = fault.is_some();
        fault.into_iter().for_each(|fault| server.faults().push(Endpoint::Token, fault));
        match provider.finish(pending, callback.url.as_str()).await {
            Ok(acquired) => {
                assert!(!fails);
                secrets.push(acquired.access.secret().expose_secret().to_owned());
                told += &format!("{acquired:?}");
            }
            Err(error) => {
                assert!(fails, "{error}");
                told += &format!("{error} {error:?} {:?}", std::error::Error::source(&error));
            }
        }
    }
    assert_eq!(server.counters().requests_of("authorization_code"), 4);
    told += &String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(told.contains("the token endpoint answered") && secrets.len() == 17, "{told}");
    for secret in &secrets {
        assert!(!told.contains(secret), "{secret} is in {told}");
    }
    let sent: Vec<_> =
        server.requests().into_iter().filter(|it| it.endpoint == Some(Endpoint::Token)).collect();
    let verifiers = sent.iter().filter_map(|request| request.parameter("code_verifier"));
    assert!(verifiers.eq(secrets.iter().filter(|it| it.len() == 43).step_by(3).map(String::as_str)));
}
