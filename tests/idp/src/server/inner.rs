//! What the endpoints share.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::{
    control::ControlError,
    counters::{Counters, RecordedRequest},
    devices::Devices,
    fault::Faults,
    settings::{Client, Settings},
    signer::Signer,
    tokens::Tokens,
};

/// How many requests are kept.
const MOST_REQUESTS: usize = 4096;

/// The server behind its handle.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) issuer: String,
    pub(super) settings: Settings,
    pub(super) signer: Signer,
    pub(super) faults: Faults,
    state: Mutex<State>,
    availability: Mutex<Availability>,
}

/// All that changes. One lock guards it, so that each request is atomic.
#[derive(Debug)]
pub(super) struct State {
    pub(super) clients: Vec<Client>,
    pub(super) tokens: Tokens,
    pub(super) devices: Devices,
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
    pub(super) fn new(settings: Settings, address: SocketAddr) -> Self {
        let state = State {
            clients: settings.clients.clone(),
            tokens: Tokens::default(),
            devices: Devices::default(),
            counters: Counters::default(),
            requests: VecDeque::new(),
        };
        Self {
            issuer: format!("http://{address}"),
            settings,
            signer: Signer::generate(),
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
    pub(super) fn record(&mut self, request: RecordedRequest) {
        if self.requests.len() == MOST_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }
}
