//! What the endpoints share.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::{
    codes::Codes,
    control::ControlError,
    counters::{Counters, RecordedRequest},
    devices::Devices,
    fault::Faults,
    nonces::Nonces,
    registration::Client,
    sessions::Sessions,
    settings::{IdTokenHook, Settings},
    signer::Signer,
    tls::Authority,
    tokens::Tokens,
};

/// How many requests are kept.
const MOST_REQUESTS: usize = 4096;

/// The server behind its handle.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) issuer: String,
    /// Scheme and authority of the second listener, if there is one.
    pub(super) aliases: Option<String>,
    pub(super) settings: Settings,
    /// Who certifies server and clients, if TLS is spoken.
    pub(super) tls: Option<Authority>,
    pub(super) faults: Faults,
    signer: Mutex<Signer>,
    id_token_hook: Mutex<IdTokenHook>,
    state: Mutex<State>,
    availability: Mutex<Availability>,
}

/// All that changes. One lock guards it, so that each request is atomic.
#[derive(Debug)]
pub(super) struct State {
    pub(super) clients: Vec<Client>,
    pub(super) tokens: Tokens,
    pub(super) devices: Devices,
    pub(super) codes: Codes,
    pub(super) sessions: Sessions,
    /// What may be seen once: the `jti` of assertions and proofs.
    pub(super) seen: HashSet<String>,
    pub(super) server_nonces: Nonces,
    pub(super) resource_nonces: Nonces,
    pub(super) counters: Counters,
    pub(super) requests: VecDeque<RecordedRequest>,
}

#[derive(Clone, Copy, Debug)]
enum Availability {
    Up,
    Down,
    DownUntil(Instant),
}

impl Server {
    pub(super) fn new(
        settings: Settings,
        issuer: String,
        aliases: Option<String>,
        tls: Option<Authority>,
    ) -> Self {
        let state = State {
            clients: settings.clients.clone(),
            tokens: Tokens::default(),
            devices: Devices::default(),
            codes: Codes::default(),
            sessions: Sessions::default(),
            seen: HashSet::new(),
            server_nonces: Nonces::new(settings.dpop_nonce_uses),
            resource_nonces: Nonces::new(settings.dpop_api_nonce_uses),
            counters: Counters::default(),
            requests: VecDeque::new(),
        };
        Self {
            issuer,
            aliases,
            signer: Mutex::new(Signer::generate(&settings.signing_algorithms)),
            id_token_hook: Mutex::new(settings.id_token.clone()),
            settings,
            tls,
            faults: Faults::default(),
            state: Mutex::new(state),
            availability: Mutex::new(Availability::Up),
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the state panics")
    }

    pub(super) fn signer(&self) -> MutexGuard<'_, Signer> {
        self.signer.lock().expect("no holder of the keys panics")
    }

    pub(super) fn id_token_hook(&self) -> IdTokenHook {
        self.id_token_hook.lock().expect("no holder of the hook panics").clone()
    }

    pub(super) fn set_id_token_hook(&self, hook: IdTokenHook) {
        *self.id_token_hook.lock().expect("no holder of the hook panics") = hook;
    }

    pub(super) fn is_down(&self) -> bool {
        match *self.availability() {
            Availability::Up => false,
            Availability::Down => true,
            Availability::DownUntil(end) => Instant::now() < end,
        }
    }

    pub(super) fn set_down(&self, down: bool) {
        *self.availability() = if down { Availability::Down } else { Availability::Up };
    }

    pub(super) fn down_for(&self, duration: Duration) {
        *self.availability() = Availability::DownUntil(Instant::now() + duration);
    }

    fn availability(&self) -> MutexGuard<'_, Availability> {
        self.availability.lock().expect("no holder of the availability panics")
    }

    pub(super) fn approve(&self, user_code: &str, user: &str) -> Result<(), ControlError> {
        let user = self.settings.user(user).ok_or(ControlError::UnknownUser)?;
        self.state().devices.approve(user_code, user).then_some(()).ok_or(ControlError::UnknownUserCode)
    }

    pub(super) fn deny(&self, user_code: &str) -> Result<(), ControlError> {
        self.state().devices.deny(user_code).then_some(()).ok_or(ControlError::UnknownUserCode)
    }

    pub(super) fn log_out(&self, user: &str) -> usize {
        let mut state = self.state();
        let ended = state.tokens.log_out(user);
        state.sessions.end_all_of(user);
        state.counters.families_revoked += ended as u64;
        ended
    }

    pub(super) fn set_secret(&self, client_id: &str, secret: &str) -> Result<(), ControlError> {
        let mut state = self.state();
        let client = state.clients.iter_mut().find(|client| client.id == client_id);
        client.ok_or(ControlError::UnknownClient)?.secret = Some(secret.to_owned());
        Ok(())
    }
}

impl State {
    /// The client of an id, as it is registered now.
    pub(super) fn client(&self, id: &str) -> Option<Client> {
        self.clients.iter().find(|client| client.id == id).cloned()
    }

    pub(super) fn record(&mut self, request: RecordedRequest) {
        if self.requests.len() == MOST_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }
}
