//! The sessions of people who signed in: what single sign-on and logout are about.

use std::time::SystemTime;

use super::{settings::Settings, signer::random};

/// The name of the cookie of a session.
pub(super) const COOKIE: &str = "KEYFOB_IDP_SESSION";

/// A sign-in, as tokens tell of it.
#[derive(Clone, Debug)]
pub(super) struct SignIn {
    /// The claim `sid`.
    pub(super) session: String,
    /// The claim `auth_time`.
    pub(super) at: SystemTime,
    /// The claim `acr`.
    pub(super) acr: String,
}

/// The sessions of a server. Nothing is ever forgotten.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    known: Vec<Session>,
}

#[derive(Debug)]
struct Session {
    sign_in: SignIn,
    user: String,
    cookie: String,
    alive: bool,
}

impl Sessions {
    /// Begins a session of a user, with the highest level among those asked for that the server has, else its first.
    pub(super) fn begin(&mut self, settings: &Settings, user: &str, wished: &[String]) -> (SignIn, String) {
        let acr = wished
            .iter()
            .find(|wish| settings.acr_values.contains(wish))
            .or(settings.acr_values.first())
            .cloned()
            .unwrap_or_default();
        let sign_in = SignIn { session: random("sid"), at: SystemTime::now(), acr };
        let cookie = random("session");
        self.known.push(Session {
            sign_in: sign_in.clone(),
            user: user.to_owned(),
            cookie: cookie.clone(),
            alive: true,
        });
        (sign_in, cookie)
    }

    /// The living session of a cookie, and its user.
    pub(super) fn of_cookie(&self, cookie: &str) -> Option<(&SignIn, &str)> {
        let session = self.known.iter().find(|session| session.alive && session.cookie == cookie)?;
        Some((&session.sign_in, &session.user))
    }

    /// Ends a session and tells whether it lived.
    pub(super) fn end(&mut self, id: &str) -> bool {
        let session = self.known.iter_mut().find(|session| session.sign_in.session == id);
        session.is_some_and(|session| std::mem::replace(&mut session.alive, false))
    }

    /// Ends every session of a user.
    pub(super) fn end_all_of(&mut self, user: &str) {
        for session in self.known.iter_mut().filter(|session| session.user == user) {
            session.alive = false;
        }
    }
}
