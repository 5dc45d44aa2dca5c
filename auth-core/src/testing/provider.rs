//! The conformance suite for providers: what every [`CredentialProvider`] must do, whatever it speaks to.
//!
//! Each function checks one requirement, is named like it, and panics where it is not met; [`all`] runs them all. A
//! provider's own test is one call. It may run on any Tokio runtime with timers; a provider that speaks to a server needs
//! one that answers. New requirements may be added in any release.
//!
//! # Examples
//! ```
//! use keyfob_auth_core::{
//!     AccessToken, Acquired, AuthError, CredentialProvider, Identity, Login, TokenRequest, async_trait,
//!     testing::provider::{Capabilities, all},
//! };
//!
//! #[derive(Debug)]
//! struct Fixed;
//!
//! #[async_trait]
//! impl CredentialProvider for Fixed {
//!     fn identity(&self) -> Identity {
//!         Identity::new("fixed")
//!     }
//!
//!     async fn acquire(&self, _: &TokenRequest, _: Option<&Login>) -> Result<Acquired, AuthError> {
//!         Ok(Acquired::token(AccessToken::new("s3cret")))
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! all(&Fixed, &Capabilities::unattended().secrets(["s3cret"])).await;
//! # });
//! ```
#![allow(clippy::panic, reason = "a failed requirement is a failed test")]

use std::{
    fmt::Debug,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use secrecy::ExposeSecret;
use tokio::time::timeout;

use crate::{
    AccessToken, Acquired, AuthError, CredentialProvider, ErrorKind, Login, LoginRequest, NoInteraction,
    Presentation, TokenRequest,
};

/// The longest that a call may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How many acquires are made at once.
const AT_ONCE: usize = 16;
/// A refresh token that no server gave.
const UNKNOWN: &str = "keyfob-conformance-unknown-refresh-token";

/// What a provider says it can do, and what must not be seen of it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Capabilities {
    /// Whether it gets tokens without a person and without a login.
    pub unattended: bool,
    /// Secrets that it was configured with, or that its server gives: none of them may be shown.
    pub secrets: Vec<String>,
}

impl Capabilities {
    /// Of a provider that gets tokens by itself: client credentials, a literal.
    pub fn unattended() -> Self {
        Self { unattended: true, ..Self::default() }
    }

    /// Of a provider where a person has to log in first.
    pub fn attended() -> Self {
        Self::default()
    }

    /// Adds secrets that must not be shown.
    #[must_use]
    pub fn secrets<S: Into<String>>(mut self, secrets: impl IntoIterator<Item = S>) -> Self {
        self.secrets.extend(secrets.into_iter().map(Into::into));
        self
    }
}

/// Checks every requirement that applies.
pub async fn all(provider: &dyn CredentialProvider, capabilities: &Capabilities) {
    let secrets: Vec<&str> = capabilities.secrets.iter().map(String::as_str).collect();
    identity_is_stable_and_without_secrets(provider, &secrets);
    what_it_says_of_itself_is_stable(provider);
    a_token_that_fits_no_header_is_an_error(provider);
    if capabilities.unattended {
        acquire_gives_a_token_that_can_be_presented(provider).await;
        login_of_an_unattended_provider_gives_a_token(provider).await;
    } else {
        acquire_without_a_login_says_login_required(provider).await;
        acquire_with_an_empty_login_says_login_required(provider).await;
    }
    acquire_never_interacts(provider).await;
    concurrent_acquires_without_a_login_all_end(provider, capabilities).await;
    dropping_an_acquire_does_no_harm(provider, capabilities).await;
    dropping_a_login_does_no_harm(provider, capabilities).await;
    an_unknown_refresh_token_is_rejected_or_not_used(provider, capabilities).await;
    revoking_an_unknown_login_ends(provider).await;
    errors_have_messages_without_secrets(provider, &secrets).await;
    debug_shows_no_secret(provider, &secrets).await;
}

/// The identity is always the same, names a kind, and holds no secret: it is stored and shown.
pub fn identity_is_stable_and_without_secrets(provider: &dyn CredentialProvider, secrets: &[&str]) {
    let identity = provider.identity();
    if identity != provider.identity() {
        panic!("identity() changed from one call to the next: {identity:?}");
    }
    if identity.kind.is_empty() {
        panic!("identity() names no kind: {identity:?}");
    }
    let parts = [
        &identity.kind,
        &identity.grant,
        &identity.issuer,
        &identity.client,
        &identity.tenant,
        &identity.label,
    ];
    for part in parts {
        if part.contains(char::is_control) {
            panic!("identity() has control characters: {part:?}");
        }
        hides("identity()", part, secrets);
    }
}

/// What may be kept, and the secret's revision, do not change by themselves.
pub fn what_it_says_of_itself_is_stable(provider: &dyn CredentialProvider) {
    if provider.keeps() != provider.keeps() {
        panic!("keeps() changed from one call to the next");
    }
    let started = Instant::now();
    if provider.secret_revision() != provider.secret_revision() {
        panic!("secret_revision() changed although nothing did");
    }
    if started.elapsed() > Duration::from_secs(1) {
        panic!("secret_revision() must be quick: it took {:?}", started.elapsed() / 2);
    }
}

/// A token with a line break is an error, not a panic and not two headers.
pub fn a_token_that_fits_no_header_is_an_error(provider: &dyn CredentialProvider) {
    let token = AccessToken::new("a\r\nx-injected: b");
    match provider.present(&token, None) {
        // A signer may put the token elsewhere, and is asked at each request.
        Err(_) | Ok(Presentation::Signed(_)) => {}
        Ok(Presentation::Header(name, _)) => panic!("present() put a line break into the header {name}"),
    }
}

/// A provider that needs no person gives a token without a login, and the token can be put on a request.
pub async fn acquire_gives_a_token_that_can_be_presented(provider: &dyn CredentialProvider) {
    let acquired = must("acquire()", acquire(provider, None).await);
    presentable(provider, "acquire()", &acquired);
}

/// [`login`](CredentialProvider::login) of a provider that needs no person gets a token all the same.
pub async fn login_of_an_unattended_provider_gives_a_token(provider: &dyn CredentialProvider) {
    let request = LoginRequest::default();
    let acquired = in_time("login()", provider.login(&request, None, Arc::new(NoInteraction))).await;
    presentable(provider, "login()", &must("login()", acquired));
}

/// Where only a person can make a login and there is none, the error says so.
pub async fn acquire_without_a_login_says_login_required(provider: &dyn CredentialProvider) {
    must_be_login_required("acquire() without a login", acquire(provider, None).await);
}

/// A login without a refresh token is no login to renew from.
pub async fn acquire_with_an_empty_login_says_login_required(provider: &dyn CredentialProvider) {
    must_be_login_required("acquire() with an empty login", acquire(provider, Some(&Login::default())).await);
}

/// Asking ends by itself: nobody is waited for.
pub async fn acquire_never_interacts(provider: &dyn CredentialProvider) {
    for login in [None, Some(&Login::default())] {
        let _ = acquire(provider, login).await;
    }
}

/// Requests without a login may come in parallel.
pub async fn concurrent_acquires_without_a_login_all_end(
    provider: &dyn CredentialProvider,
    capabilities: &Capabilities,
) {
    let all = (0..AT_ONCE).map(|_| acquire(provider, None)).collect();
    for outcome in join_all(all).await {
        as_before("one of several acquires at once", outcome, capabilities);
    }
}

/// A call that is dropped, at its start or on its way, leaves the provider as it was.
pub async fn dropping_an_acquire_does_no_harm(
    provider: &dyn CredentialProvider,
    capabilities: &Capabilities,
) {
    let request = TokenRequest::default();
    for wait in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(20)] {
        drop(timeout(wait, provider.acquire(&request, None)).await);
        as_before("acquire() after a dropped one", acquire(provider, None).await, capabilities);
    }
}

/// A login that is dropped leaves nothing half done.
pub async fn dropping_a_login_does_no_harm(provider: &dyn CredentialProvider, capabilities: &Capabilities) {
    let request = LoginRequest::default();
    for wait in [Duration::ZERO, Duration::from_millis(20)] {
        drop(timeout(wait, provider.login(&request, None, Arc::new(NoInteraction))).await);
        as_before("acquire() after a dropped login", acquire(provider, None).await, capabilities);
    }
}

/// A refresh token that the server does not know is rejected as that, so that the engine can act on it; a provider that
/// needs none may pass it over. A server that is away is no verdict.
pub async fn an_unknown_refresh_token_is_rejected_or_not_used(
    provider: &dyn CredentialProvider,
    capabilities: &Capabilities,
) {
    match acquire(provider, Some(&Login::with_refresh_token(UNKNOWN))).await {
        Ok(_) if capabilities.unattended => {}
        Ok(_) => panic!("acquire() gave a token for a refresh token that nobody issued"),
        Err(error) => {
            hides("the error for an unknown refresh token", &printed(&error), &[UNKNOWN]);
            let kinds = [ErrorKind::LoginRejected, ErrorKind::LoginRequired, ErrorKind::Transient];
            if !kinds.contains(&error.kind()) {
                panic!(
                    "an unknown refresh token must be LoginRejected (or Transient if the server is away): {error:?}"
                );
            }
        }
    }
}

/// Revoking what the server does not know, or nothing at all, ends; whatever comes of it, no token is shown.
pub async fn revoking_an_unknown_login_ends(provider: &dyn CredentialProvider) {
    for login in [Login::default(), Login::with_refresh_token(UNKNOWN)] {
        if let Err(error) = in_time("revoke()", provider.revoke(&login, &[])).await {
            hides("the error of revoke()", &printed(&error), &[UNKNOWN]);
        }
    }
}

/// Errors say something, and no secret, their sources included.
pub async fn errors_have_messages_without_secrets(provider: &dyn CredentialProvider, secrets: &[&str]) {
    for login in [None, Some(&Login::with_refresh_token(UNKNOWN))] {
        if let Err(error) = acquire(provider, login).await {
            if error.message().trim().is_empty() {
                panic!("an error without a message: {:?}", error.kind());
            }
            hides("an error", &printed(&error), secrets);
        }
    }
}

/// Neither the provider nor what it returns shows a secret in `Debug`: neither these nor the token it gives.
pub async fn debug_shows_no_secret(provider: &dyn CredentialProvider, secrets: &[&str]) {
    let show = |what: &str, value: &dyn Debug, secrets: &[&str]| {
        hides(what, &format!("{value:?} {value:#?}"), secrets);
    };
    show("Debug of the provider", &provider, secrets);
    if let Ok(acquired) = acquire(provider, None).await {
        let token = acquired.access.secret().expose_secret();
        let secrets = [secrets, &[token]].concat();
        show("Debug of the provider", &provider, &secrets);
        show("Debug of what acquire() returns", &acquired, &secrets);
        if let Ok(presentation) = provider.present(&acquired.access, acquired.login.as_ref()) {
            show("Debug of the presentation", &presentation, &secrets);
        }
    }
}

async fn acquire(provider: &dyn CredentialProvider, login: Option<&Login>) -> Result<Acquired, AuthError> {
    in_time("acquire()", provider.acquire(&TokenRequest::default(), login)).await
}

async fn in_time<T>(what: &str, call: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, call).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("{what} did not end within {DEADLINE:?}: does it wait for a person?"),
    }
}

fn must<T>(what: &str, outcome: Result<T, AuthError>) -> T {
    outcome.unwrap_or_else(|error| panic!("{what} failed: {error:?}"))
}

fn must_be_login_required(what: &str, outcome: Result<Acquired, AuthError>) {
    match outcome {
        Err(error) if error.kind() == ErrorKind::LoginRequired => {}
        Err(error) => panic!("{what} must be LoginRequired: {error:?}"),
        Ok(_) => panic!("{what} gave a token; if it needs no person, say so: Capabilities::unattended()"),
    }
}

/// What an acquire without a login comes to, whatever happened before.
fn as_before(what: &str, outcome: Result<Acquired, AuthError>, capabilities: &Capabilities) {
    if capabilities.unattended {
        must(what, outcome);
    } else {
        must_be_login_required(what, outcome);
    }
}

fn presentable(provider: &dyn CredentialProvider, what: &str, acquired: &Acquired) {
    if acquired.access.secret().expose_secret().is_empty() {
        panic!("{what} gave an empty token");
    }
    match must("present()", provider.present(&acquired.access, acquired.login.as_ref())) {
        Presentation::Header(name, value) if !value.is_sensitive() => {
            panic!("the header {name} must be marked sensitive, so that no log shows it")
        }
        Presentation::Header(..) | Presentation::Signed(_) => {}
    }
}

fn hides(what: &str, text: &str, secrets: &[&str]) {
    if secrets.iter().any(|secret| !secret.is_empty() && text.contains(secret)) {
        // Not shown here either: test logs are kept.
        panic!("{what} shows a secret");
    }
}

/// An error as it may be printed, sources included.
fn printed(error: &AuthError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text += &format!(" {error} {error:?}");
        source = error.source();
    }
    text
}

/// Polls them all until all have ended.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut pending = false;
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *done = Some(output),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, async_trait};

    /// A provider that is wrong in one way.
    #[derive(Debug)]
    enum Wrong {
        Nothing,
        Attended,
        Shows(#[allow(dead_code, reason = "shown by Debug")] &'static str),
        Interacts,
        NoKind,
        RejectsOddly,
    }

    #[async_trait]
    impl CredentialProvider for Wrong {
        fn identity(&self) -> Identity {
            Identity::new(if matches!(self, Self::NoKind) { "" } else { "test" })
        }

        async fn acquire(&self, _: &TokenRequest, login: Option<&Login>) -> Result<Acquired, AuthError> {
            match self {
                Self::Attended if login.is_some_and(|login| login.refresh_token.is_some()) => {
                    Err(AuthError::login_rejected("it is not known"))
                }
                Self::Attended => Err(AuthError::login_required("log in")),
                Self::Interacts => std::future::pending().await,
                Self::RejectsOddly if login.is_some() => Err(AuthError::refused("it is not known")),
                _ => Ok(Acquired::token(AccessToken::new("marker"))),
            }
        }
    }

    #[tokio::test]
    async fn a_right_provider_passes() {
        all(&Wrong::Nothing, &Capabilities::unattended().secrets(["marker"])).await;
        all(&Wrong::Attended, &Capabilities::attended()).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "does it wait for a person?")]
    async fn who_waits_for_a_person_fails() {
        acquire_never_interacts(&Wrong::Interacts).await;
    }

    #[tokio::test]
    #[should_panic(expected = "shows a secret")]
    async fn who_shows_a_secret_fails() {
        debug_shows_no_secret(&Wrong::Shows("marker"), &["marker"]).await;
    }

    #[tokio::test]
    #[should_panic(expected = "names no kind")]
    async fn who_has_no_identity_fails() {
        all(&Wrong::NoKind, &Capabilities::unattended()).await;
    }

    #[tokio::test]
    #[should_panic(expected = "must be LoginRejected")]
    async fn who_rejects_with_another_kind_fails() {
        an_unknown_refresh_token_is_rejected_or_not_used(&Wrong::RejectsOddly, &Capabilities::unattended())
            .await;
    }

    #[tokio::test]
    #[should_panic(expected = "must be LoginRequired")]
    async fn who_says_nothing_of_the_login_fails() {
        let failing = AuthError::refused("no");
        must_be_login_required("acquire()", Err(failing));
    }
}
