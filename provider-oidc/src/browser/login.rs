//! The login: with a listener on this machine that the browser comes back to, or by pasting the address that it ends at.

#[cfg(test)]
mod tests;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use keyfob_auth_core::{
    Acquired, AuthError, ErrorKind, ExposeSecret, Interaction, LoginRequest, Prompt, Question, SecretString,
};
use tokio::time::{sleep, timeout};

use super::{
    Pending, callback,
    listener::{Connection, Listener},
    open,
    page::{OwnPage, Page as _},
    surroundings::{Elsewhere, Surroundings},
};
use crate::{Oidc, config::ResponseMode};

/// How often a person may paste something that is not the answer.
const PASTES: usize = 10;
/// The least time between two addresses that are shown.
const SHORTEST: Duration = Duration::from_secs(5);

/// Whether the person may paste the address that the browser ends at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paste {
    /// The browser is here, and comes back by itself.
    No,
    /// The browser may be on another machine.
    Offered,
    /// There is no other way back.
    Needed(Option<Elsewhere>),
}

impl Oidc {
    /// A login with a browser, as it was asked for: whatever else is known of this machine.
    ///
    /// # Cancellation
    /// Closes the listener. A browser that was opened stays open.
    pub(crate) async fn browser_login(
        &self,
        request: &LoginRequest,
        ui: &dyn Interaction,
    ) -> Result<Acquired, AuthError> {
        self.browser_login_at(&Surroundings::look(), request, ui).await
    }

    async fn browser_login_at(
        &self,
        here: &Surroundings,
        request: &LoginRequest,
        ui: &dyn Interaction,
    ) -> Result<Acquired, AuthError> {
        let paste = if here.browser().is_ok() { Paste::No } else { Paste::Offered };
        self.sign_in(here, paste, request, ui).await
    }

    /// With the browser where there is one; else by device login where the server offers that; else by pasting.
    pub(crate) async fn auto_login(
        &self,
        request: &LoginRequest,
        ui: &dyn Interaction,
    ) -> Result<Acquired, AuthError> {
        self.auto_login_at(&Surroundings::look(), request, ui).await
    }

    async fn auto_login_at(
        &self,
        here: &Surroundings,
        request: &LoginRequest,
        ui: &dyn Interaction,
    ) -> Result<Acquired, AuthError> {
        let Err(elsewhere) = here.browser() else { return self.sign_in(here, Paste::No, request, ui).await };
        if self.offers_device_login().await? {
            let denied = match self.device_login(request, ui).await {
                // The server offers it, but not to this client.
                Err(error) if error.oauth_error() == Some("unauthorized_client") => error,
                outcome => return outcome,
            };
            tracing::debug!(error = %denied, "no device login for this client");
        }
        self.sign_in(here, Paste::Needed(Some(elsewhere)), request, ui).await
    }

    async fn sign_in(
        &self,
        here: &Surroundings,
        paste: Paste,
        request: &LoginRequest,
        ui: &dyn Interaction,
    ) -> Result<Acquired, AuthError> {
        let config = &self.config.browser;
        // Before the URL is made: its port is part of it.
        let listener = Listener::bind(&config.redirect_uris).await?;
        let redirect_uri = match (&listener, config.redirect_uris.first()) {
            (Some(listener), _) => listener.redirect_uri().to_owned(),
            (None, uri) => uri.map(|uri| uri.as_str().to_owned()).unwrap_or_default(),
        };
        let paste = match paste {
            Paste::No | Paste::Offered if listener.is_none() => Paste::Needed(None),
            paste => paste,
        };
        if config.response_mode == ResponseMode::FormPost && matches!(paste, Paste::Needed(_)) {
            return Err(AuthError::configuration(format!(
                "{}, and an answer by `response_mode = \"form_post\"` cannot be pasted; leave that out",
                no_way_back(paste)
            )));
        }
        let (url, pending) = self.start_at(request, redirect_uri).await?;
        let pending = Arc::new(pending);
        ui.show(&Prompt::OpenUrl { url: url.clone() });
        let shown = async {
            if config.open_browser && !matches!(paste, Paste::Needed(Some(_))) {
                // One that was opened says nothing.
                let Ok(problem) = open::open(&url, here).await else { return };
                ui.show(&Prompt::Progress(format!("{problem}; open the address above yourself")));
            }
            self.show_anew(request, &pending, ui).await;
        };
        let arrives = async {
            tokio::select! {
                (answer, browser) = come_back(listener.as_ref(), &pending) => Ok((answer, Some(browser))),
                answer = pasted(paste, config.response_mode, &pending, ui) => answer.map(|answer| (answer, None)),
                // Never ends.
                answer = async { shown.await; std::future::pending().await } => answer,
            }
        };
        let arrived = timeout(config.login_timeout, arrives).await;
        drop(listener);
        let (answer, browser) = arrived.map_err(|_| {
            AuthError::refused(format!(
                "nobody signed in within {} s; log in again",
                config.login_timeout.as_secs_f64()
            ))
        })??;
        let outcome = self.finish_with(&pending, answer.expose_secret()).await;
        if let Some(browser) = browser {
            self.show_page(browser, outcome.as_ref().map(|_| ())).await;
        }
        outcome
    }

    /// Shows another address each time that the one before expires (RFC 9126 section 4), for a person who has opened none yet.
    async fn show_anew(&self, request: &LoginRequest, pending: &Pending, ui: &dyn Interaction) {
        let mut ends = pending.url_expires_at();
        while let Some(left) = ends.map(|ends| ends.duration_since(self.now()).unwrap_or_default()) {
            sleep(left.max(SHORTEST)).await;
            match Box::pin(self.authorization_url(request, pending)).await {
                Ok((url, expires_at)) => {
                    ui.show(&Prompt::AnotherUrl { url });
                    ends = expires_at.and_then(|at| UNIX_EPOCH.checked_add(Duration::from_secs(at)));
                }
                // Tried again: it has expired all the same.
                Err(error) if error.kind() == ErrorKind::Transient => {
                    tracing::debug!(%error, "no other address could be had yet");
                }
                Err(error) => {
                    let why = error.message();
                    ui.show(&Prompt::Progress(format!(
                        "The address has expired, unless you have opened it, and no other can be had: {why}"
                    )));
                    return;
                }
            }
        }
    }

    async fn show_page(&self, browser: Connection, outcome: Result<(), &AuthError>) {
        let own = || OwnPage.render(outcome);
        let page = match &self.config.browser.page {
            // The login does not go down with an application's page.
            Some(page) => catch_unwind(AssertUnwindSafe(|| page.render(outcome))).unwrap_or_else(|_| own()),
            None => own(),
        };
        let status = if outcome.is_ok() { "200 OK" } else { "400 Bad Request" };
        browser.answer(status, &page).await;
    }
}

/// The browser that brings the answer.
async fn come_back(listener: Option<&Listener>, pending: &Arc<Pending>) -> (SecretString, Connection) {
    match listener {
        Some(listener) => listener.wait(pending).await,
        None => std::future::pending().await,
    }
}

/// The answer that the person pastes.
async fn pasted(
    paste: Paste,
    mode: ResponseMode,
    pending: &Pending,
    ui: &dyn Interaction,
) -> Result<SecretString, AuthError> {
    let needed = match paste {
        Paste::Needed(_) => true,
        Paste::Offered if mode == ResponseMode::Query => false,
        Paste::Offered | Paste::No => return std::future::pending().await,
    };
    let what = "paste the address that it ends at, even if the page there cannot be reached";
    let when = if needed { "When you have signed in there" } else { "If the browser is on another machine" };
    let question = Question { text: format!("{when}, {what}"), secret: false };
    for _ in 0..PASTES {
        let answer = match ui.ask(&question).await {
            Ok(answer) => answer,
            Err(error) if needed && error.kind() == ErrorKind::InteractionRequired => {
                return Err(AuthError::interaction_required(format!(
                    "{}, so the address that the browser ends at must be pasted, but nobody can be asked; set `BROWSER` \
                     to a program that opens URLs, or use another `flow`",
                    no_way_back(paste)
                ))
                .with_source(error));
            }
            Err(error) if needed => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "nothing can be pasted");
                return std::future::pending().await;
            }
        };
        if callback::state_of(&answer).is_some_and(|state| pending.is_answered_by(&state)) {
            return Ok(answer);
        }
        let what = "That is not the address that this login ends at: it holds `state=` and what follows it. Try again.";
        ui.show(&Prompt::Progress(what.into()));
    }
    if needed {
        return Err(AuthError::refused("what was pasted was not the address that the login ended at"));
    }
    std::future::pending().await
}

/// Why the answer must be pasted, as the beginning of a sentence.
fn no_way_back(paste: Paste) -> String {
    match paste {
        Paste::Needed(Some(elsewhere)) => {
            format!("no browser can be opened here ({elsewhere}) and the server offers no device login")
        }
        _ => "no redirect URI is on this machine".to_owned(),
    }
}
