//! [`Callback`]: an application's own way to a token, one call at a time.

use std::{future::Future, pin::Pin, sync::Arc};

use keyfob_auth_core::{AccessToken, AuthError, TokenRequest};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::spawn_blocking,
};

type Answer = Pin<Box<dyn Future<Output = Result<AccessToken, AuthError>> + Send>>;

/// Holds others back until the call is over.
type Turn = OwnedMutexGuard<()>;

#[derive(Clone)]
pub(crate) struct Callback {
    call: Arc<dyn Fn(TokenRequest, Turn) -> Answer + Send + Sync>,
    turn: Arc<Mutex<()>>,
}

impl Callback {
    pub(crate) fn new<C, F>(callback: C) -> Self
    where
        C: Fn(TokenRequest) -> F + Send + Sync + 'static,
        F: Future<Output = Result<AccessToken, AuthError>> + Send + 'static,
    {
        Self::of(move |request, turn| {
            let answer = callback(request);
            Box::pin(async move {
                let _turn = turn;
                answer.await
            })
        })
    }

    pub(crate) fn blocking<C>(callback: C) -> Self
    where
        C: Fn(TokenRequest) -> Result<AccessToken, AuthError> + Send + Sync + 'static,
    {
        let callback = Arc::new(callback);
        Self::of(move |request, turn| {
            let callback = Arc::clone(&callback);
            // The turn goes along: the call may outlive whoever waits for it.
            let running = spawn_blocking(move || {
                let _turn = turn;
                callback(request)
            });
            Box::pin(async {
                running.await.unwrap_or_else(|_| {
                    Err(AuthError::transient("the callback panicked; that is a bug in it"))
                })
            })
        })
    }

    fn of(call: impl Fn(TokenRequest, Turn) -> Answer + Send + Sync + 'static) -> Self {
        Self { call: Arc::new(call), turn: Arc::default() }
    }

    pub(crate) async fn call(&self, request: TokenRequest) -> Result<AccessToken, AuthError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        (self.call)(request, turn).await
    }
}
