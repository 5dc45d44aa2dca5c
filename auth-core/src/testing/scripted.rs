//! [`ScriptedProvider`]: a provider that does what a test says, and counts.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Notify;

use crate::{
    AccessToken, Account, Acquired, AuthError, Binding, CredentialProvider, Identity, Interaction, Keep,
    Lifetime, Login, LoginRequest, TokenRequest,
};

/// A provider and its server in one, without a network: it answers what a test says, and counts.
///
/// Clones share the server, so that several contexts can stand for several processes. Access tokens are `access-N`, refresh
/// tokens `refresh-N`.
///
/// # Examples
/// ```
/// use std::{sync::Arc, time::Duration};
/// use keyfob_auth_core::{Context, Session, store::MemoryStore, testing::ScriptedProvider};
///
/// let provider = ScriptedProvider::unattended().with_lifetime(Duration::from_secs(600));
/// let session = Session::new(Arc::new(provider.clone()), Arc::new(MemoryStore::new()), &Context::new())?;
/// assert_eq!(session.token_blocking()?.secret(), "access-1");
/// assert_eq!(session.token_blocking()?.secret(), "access-1");
/// assert_eq!(provider.exchanges(), 1);
/// # Ok::<_, keyfob_auth_core::AuthError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ScriptedProvider {
    server: Arc<Server>,
    identity: Identity,
    attended: bool,
    keep: Keep,
    lifetime: Lifetime,
    refresh_in: Option<Duration>,
}

/// What the next exchange does instead of succeeding.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// It fails before the server acts.
    Fail(AuthError),
    /// The server acts (rotates), and then it fails: the answer is lost.
    Lose(AuthError),
    /// It answers this.
    Answer(Box<Acquired>),
    /// It panics.
    Panic,
    /// It never ends.
    Hang,
}

#[derive(Debug, Default)]
struct Server {
    script: Mutex<Script>,
    exchanges: AtomicUsize,
    logins: AtomicUsize,
    revocations: AtomicUsize,
    /// Requests with a refresh token that was spent before.
    reuses: AtomicUsize,
    running: AtomicUsize,
    most_at_once: AtomicUsize,
    secret_revision: AtomicU64,
    gate: Notify,
}

#[derive(Debug, Default)]
struct Script {
    steps: VecDeque<Step>,
    always: Option<AuthError>,
    delay: Duration,
    gated: bool,
    /// The refresh token that is valid now; `None` after a reuse, a revocation or a log-out.
    refresh: Option<String>,
    /// The access tokens of the last revocation.
    revoked: Vec<String>,
    issued: usize,
    account: Option<Account>,
    rotate: bool,
    reusable: bool,
    bind: bool,
}

impl ScriptedProvider {
    /// One that needs no person (a client secret).
    pub fn unattended() -> Self {
        Self {
            server: Arc::default(),
            identity: Identity::new("scripted").issuer("https://idp.example").client("client"),
            attended: false,
            keep: Keep::Store,
            lifetime: Lifetime::In(Duration::from_secs(600)),
            refresh_in: None,
        }
    }

    /// One that needs a login, with refresh tokens that rotate strictly: a reuse ends the login.
    pub fn attended() -> Self {
        let provider = Self { attended: true, ..Self::unattended() };
        let mut script = provider.script();
        script.rotate = true;
        script.account = Some(Account { subject: "alice".into(), ..Account::default() });
        drop(script);
        provider
    }

    /// Tokens that live so long.
    #[must_use]
    pub fn with_lifetime(mut self, life: Duration) -> Self {
        self.lifetime = Lifetime::In(life);
        self
    }

    /// Tokens of this life.
    #[must_use]
    pub fn living(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Tokens with this hint when to renew them.
    #[must_use]
    pub fn with_refresh_in(mut self, after: Duration) -> Self {
        self.refresh_in = Some(after);
        self
    }

    /// Another identity.
    #[must_use]
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// What may be kept.
    #[must_use]
    pub fn keeping(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// Refresh tokens that can be used again.
    #[must_use]
    pub fn reusable(self) -> Self {
        let mut script = self.script();
        (script.rotate, script.reusable) = (false, true);
        drop(script);
        self
    }

    /// Logins that hold a binding key.
    #[must_use]
    pub fn binding(self) -> Self {
        self.script().bind = true;
        self
    }

    /// Every exchange takes so long.
    pub fn set_delay(&self, delay: Duration) {
        self.script().delay = delay;
    }

    /// The exchanges to come do this, one each.
    pub fn push(&self, step: Step) {
        self.script().steps.push_back(step);
    }

    /// Every exchange fails so; `None` mends it.
    pub fn fail_always(&self, error: Option<AuthError>) {
        self.script().always = error;
    }

    /// Exchanges wait until [`open_gate`](Self::open_gate).
    pub fn close_gate(&self) {
        self.script().gated = true;
    }

    /// Lets exchanges go on.
    pub fn open_gate(&self) {
        self.script().gated = false;
        self.server.gate.notify_waiters();
    }

    /// The local secret changes.
    pub fn change_secret(&self) {
        self.server.secret_revision.fetch_add(1, Ordering::SeqCst);
    }

    /// The server forgets the login: its refresh token is refused from now on.
    pub fn log_out_at_server(&self) {
        self.script().refresh = None;
    }

    /// Who logs in from now on.
    pub fn set_account(&self, subject: &str) {
        self.script().account = Some(Account { subject: subject.into(), ..Account::default() });
    }

    /// A login made elsewhere, for [`Session::adopt`](crate::Session::adopt).
    pub fn issue(&self) -> Acquired {
        self.answer(&mut self.script(), true)
    }

    /// How often `acquire` was called.
    pub fn exchanges(&self) -> usize {
        self.server.exchanges.load(Ordering::SeqCst)
    }

    /// How often `login` was called.
    pub fn logins(&self) -> usize {
        self.server.logins.load(Ordering::SeqCst)
    }

    /// How often `revoke` was called.
    pub fn revocations(&self) -> usize {
        self.server.revocations.load(Ordering::SeqCst)
    }

    /// The access tokens that the last `revoke` named.
    pub fn revoked_tokens(&self) -> Vec<String> {
        self.script().revoked.clone()
    }

    /// How often a spent refresh token came.
    pub fn reuses(&self) -> usize {
        self.server.reuses.load(Ordering::SeqCst)
    }

    /// How many exchanges ran at once at most.
    pub fn most_at_once(&self) -> usize {
        self.server.most_at_once.load(Ordering::SeqCst)
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.server.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, script: &mut Script, login: bool) -> Acquired {
        script.issued += 1;
        let issued = script.issued;
        let mut access = AccessToken::new(format!("access-{issued}")).with_lifetime(self.lifetime);
        if let Some(after) = self.refresh_in {
            access = access.with_refresh_in(after);
        }
        if !self.attended {
            return Acquired::token(access);
        }
        if login || script.rotate {
            script.refresh = Some(format!("refresh-{issued}"));
        }
        let mut answer =
            Login { account: script.account.clone(), reusable: script.reusable, ..Login::default() };
        answer.refresh_token = script.refresh.clone().map(Into::into);
        if script.bind {
            answer.binding_key = Some("binding-key".to_owned().into());
            access = access.with_binding(Binding::Dpop("thumbprint".into()));
        }
        Acquired::with_login(access, answer)
    }

    /// What the server does with a request; a spent refresh token ends the login.
    fn act(&self, script: &mut Script, login: Option<&Login>) -> Result<Acquired, AuthError> {
        if !self.attended {
            return Ok(self.answer(script, false));
        }
        let Some(sent) = login.and_then(|login| login.refresh_token.as_ref()) else {
            return Err(AuthError::login_required("log in first"));
        };
        if script.refresh.as_deref() != Some(sent.expose_secret()) {
            if script.refresh.take().is_some() {
                self.server.reuses.fetch_add(1, Ordering::SeqCst);
            }
            return Err(AuthError::login_rejected("the refresh token was refused")
                .with_oauth("invalid_grant", None)
                .with_status(400));
        }
        Ok(self.answer(script, false))
    }
}

#[async_trait]
impl CredentialProvider for ScriptedProvider {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    async fn acquire(&self, _: &TokenRequest, login: Option<&Login>) -> Result<Acquired, AuthError> {
        if self.attended && login.is_none_or(|login| login.refresh_token.is_none()) {
            return Err(AuthError::login_required("log in first"));
        }
        self.server.exchanges.fetch_add(1, Ordering::SeqCst);
        let running = Running::begin(&self.server);
        let (delay, gated) = {
            let script = self.script();
            (script.delay, script.gated)
        };
        tokio::time::sleep(delay).await;
        if gated {
            loop {
                let opened = self.server.gate.notified();
                if !self.script().gated {
                    break;
                }
                opened.await;
            }
        }
        let step = {
            let mut script = self.script();
            script.steps.pop_front().or_else(|| script.always.clone().map(Step::Fail))
        };
        let result = match step {
            None => self.act(&mut self.script(), login),
            Some(Step::Fail(error)) => Err(error),
            Some(Step::Lose(error)) => self.act(&mut self.script(), login).and(Err(error.with_answer_lost())),
            Some(Step::Answer(acquired)) => Ok(*acquired),
            #[expect(clippy::panic, reason = "a test asked for it")]
            Some(Step::Panic) => panic!("scripted"),
            Some(Step::Hang) => std::future::pending().await,
        };
        drop(running);
        result
    }

    async fn login(
        &self,
        _: &LoginRequest,
        _: Option<&Login>,
        ui: Arc<dyn Interaction>,
    ) -> Result<Acquired, AuthError> {
        self.server.logins.fetch_add(1, Ordering::SeqCst);
        ui.show(&crate::Prompt::Progress("signing in".into()));
        let (delay, failure) = {
            let script = self.script();
            (script.delay, script.always.clone())
        };
        tokio::time::sleep(delay).await;
        match failure {
            Some(error) => Err(error),
            None => Ok(self.answer(&mut self.script(), true)),
        }
    }

    async fn revoke(&self, login: &Login, tokens: &[SecretString]) -> Result<(), AuthError> {
        self.server.revocations.fetch_add(1, Ordering::SeqCst);
        let mut script = self.script();
        script.revoked = tokens.iter().map(|token| token.expose_secret().to_owned()).collect();
        if login.refresh_token.as_ref().map(|token| token.expose_secret()) == script.refresh.as_deref() {
            script.refresh = None;
        }
        script.always.clone().map_or(Ok(()), Err)
    }

    fn keeps(&self) -> Keep {
        self.keep
    }

    fn binds_logins(&self) -> bool {
        self.script().bind
    }

    fn secret_revision(&self) -> Option<u64> {
        Some(self.server.secret_revision.load(Ordering::SeqCst))
    }
}

struct Running<'a>(&'a Server);

impl<'a> Running<'a> {
    fn begin(server: &'a Server) -> Self {
        let running = server.running.fetch_add(1, Ordering::SeqCst) + 1;
        server.most_at_once.fetch_max(running, Ordering::SeqCst);
        Self(server)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
