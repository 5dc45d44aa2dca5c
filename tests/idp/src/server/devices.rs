//! Device authorizations of RFC 8628.

use std::time::{Duration, Instant};

use super::{registration::User, settings::Settings, signer::random, tokens::Grant};

/// What `slow_down` adds to the interval.
const SLOWER: Duration = Duration::from_secs(5);

/// The letters of user codes: no vowels and nothing that looks like something else, as RFC 8628 section 6.1
/// proposes.
const LETTERS: &[u8] = b"BCDFGHJKLMNPQRSTVWXZ";

/// The device authorizations of a server, oldest first.
#[derive(Debug, Default)]
pub(super) struct Devices {
    known: Vec<DeviceAuthorization>,
}

/// The codes of a new device authorization.
#[derive(Debug)]
pub(super) struct Codes {
    pub(super) device_code: String,
    pub(super) user_code: String,
}

/// The answer to a poll.
#[derive(Debug)]
pub(super) enum Poll {
    /// There is no such device code, or it was redeemed, or it is another client's.
    Unknown,
    Expired,
    TooEarly,
    Denied,
    Pending,
    /// Approved; the device code is redeemed now.
    Granted(Box<Grant>),
}

#[derive(Debug)]
struct DeviceAuthorization {
    device_code: String,
    user_code: String,
    /// The user is filled in by the approval.
    grant: Grant,
    deadline: Instant,
    interval: Duration,
    last_poll: Option<Instant>,
    pending_polls: u32,
    decision: Decision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Pending,
    Approved,
    Denied,
    Redeemed,
}

impl Devices {
    pub(super) fn begin(&mut self, settings: &Settings, grant: Grant) -> Codes {
        let letters: String = (0..8).map(|_| char::from(LETTERS[fastrand::usize(..LETTERS.len())])).collect();
        let (left, right) = letters.split_at(4);
        let codes = Codes { device_code: random("dc"), user_code: format!("{left}-{right}") };
        self.known.push(DeviceAuthorization {
            device_code: codes.device_code.clone(),
            user_code: codes.user_code.clone(),
            grant,
            deadline: Instant::now() + settings.device_expires_in,
            interval: settings.device_interval,
            last_poll: None,
            pending_polls: 0,
            decision: Decision::Pending,
        });
        codes
    }

    pub(super) fn poll(&mut self, settings: &Settings, client_id: &str, device_code: &str) -> Poll {
        let now = Instant::now();
        let Some(device) = self.find(device_code) else { return Poll::Unknown };
        if device.grant.client_id != client_id || device.decision == Decision::Redeemed {
            return Poll::Unknown;
        }
        let last_poll = device.last_poll.replace(now);
        if now >= device.deadline {
            return Poll::Expired;
        }
        if last_poll.is_some_and(|last| now < last + device.interval) {
            device.interval += SLOWER;
            return Poll::TooEarly;
        }
        if device.decision == Decision::Pending
            && let Some(auto) = &settings.auto_approve
            && device.pending_polls >= auto.after_polls
            && let Some(user) = settings.user(&auto.user)
        {
            device.approve(user);
        }
        match device.decision {
            Decision::Pending => {
                device.pending_polls += 1;
                Poll::Pending
            }
            Decision::Approved => {
                device.decision = Decision::Redeemed;
                Poll::Granted(Box::new(device.grant.clone()))
            }
            Decision::Denied => Poll::Denied,
            Decision::Redeemed => Poll::Unknown,
        }
    }

    /// Counts a poll that a fault answers with `slow_down`, and tells whether the device code is known.
    pub(super) fn slow_down(&mut self, device_code: &str) -> bool {
        let Some(device) = self.find(device_code) else { return false };
        device.last_poll = Some(Instant::now());
        device.interval += SLOWER;
        true
    }

    pub(super) fn approve(&mut self, user_code: &str, user: &User) -> bool {
        self.find_pending(user_code).map(|device| device.approve(user)).is_some()
    }

    pub(super) fn deny(&mut self, user_code: &str) -> bool {
        self.find_pending(user_code).map(|device| device.decision = Decision::Denied).is_some()
    }

    pub(super) fn pending(&self) -> Vec<String> {
        self.known
            .iter()
            .filter(|device| device.is_pending())
            .map(|device| device.user_code.clone())
            .collect()
    }

    fn find(&mut self, device_code: &str) -> Option<&mut DeviceAuthorization> {
        self.known.iter_mut().find(|device| device.device_code == device_code)
    }

    fn find_pending(&mut self, user_code: &str) -> Option<&mut DeviceAuthorization> {
        let typed = normal(user_code);
        self.known.iter_mut().find(|device| device.is_pending() && normal(&device.user_code) == typed)
    }
}

impl DeviceAuthorization {
    fn is_pending(&self) -> bool {
        self.decision == Decision::Pending && Instant::now() < self.deadline
    }

    fn approve(&mut self, user: &User) {
        self.grant.user = Some(user.clone());
        self.decision = Decision::Approved;
    }
}

/// A user code as it is compared: without case and punctuation.
fn normal(user_code: &str) -> String {
    user_code.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_uppercase()).collect()
}
