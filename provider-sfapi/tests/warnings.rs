//! A client id that Iris cannot have given is used with a warning.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::{
    io,
    sync::{Arc, Mutex},
};

use common::Nersc;
use keyfob_auth_core::{Context, CredentialProvider as _, TokenRequest, registry::SecretSource};
use keyfob_idp::server::{Client, VerificationKey};
use keyfob_provider_sfapi::Sfapi;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The only test here: the subscriber is the process's.
#[cfg(unix)]
#[tokio::test]
async fn an_id_of_another_length_is_warned_of_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false);
    subscriber.without_time().init();

    let nersc = Nersc::start().await;
    let keys = vec![VerificationKey::jwk(nersc.key.jwk())];
    let server = Nersc::with(|settings| settings.with_client(Client::with_keys("short", keys))).await.server;
    let file = nersc.file("short.pem", &format!("short\n{}", nersc.pem()));
    // A command's key is read at every exchange.
    let command = SecretSource::Command(vec!["cat".into(), file.to_str().unwrap().into()]);
    for builder in [Sfapi::from_key_file(file.to_str().unwrap()), Sfapi::new("short", command)] {
        let provider = builder.token_url(server.token_endpoint()).build(&Context::new()).unwrap();
        for _ in 0..3 {
            provider.acquire(&TokenRequest::default(), None).await.unwrap();
        }
        let text = String::from_utf8(std::mem::take(&mut *log.0.lock().unwrap())).unwrap();
        let warning = " WARN keyfob_provider_sfapi::provider: the client ids that Iris gives have 13 characters; is it \
                       copied whole? client_id=\"short\"\n";
        assert_eq!(text, warning);
    }
    assert_eq!(server.counters().token, 6);
    nersc.provider().acquire(&TokenRequest::default(), None).await.unwrap();
    assert!(log.0.lock().unwrap().is_empty(), "13 characters");
}
