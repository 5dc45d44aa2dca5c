//! How a person signs in with a browser, as a program says it.

use std::time::Duration;

use super::OidcBuilder;
use crate::ResponseMode;

impl OidcBuilder {
    /// Where the browser comes back to (RFC 8252 section 7.3): on loopback, with a port or without one for any. Named several
    /// times, the first whose port is free is taken. Unsaid: `http://127.0.0.1/callback`, any port.
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.redirect_uris.push(uri.into());
        self
    }

    /// How the answer of a login with a browser comes back. Unsaid: in the query.
    pub fn response_mode(mut self, mode: ResponseMode) -> Self {
        self.response_mode = Some(mode);
        self
    }

    /// Whether authorization requests are pushed (RFC 9126). Unsaid: where the server offers it.
    pub fn pushed_authorization_requests(mut self, pushed: bool) -> Self {
        self.pushed = Some(pushed);
        self
    }

    /// The account to propose where a login names none (`login_hint`).
    pub fn login_hint(mut self, account: impl Into<String>) -> Self {
        self.login_hint = Some(account.into());
        self
    }

    /// Whether the person is asked again, where a login does not say (`prompt`).
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.prompt = Some(prompt.into());
        self
    }

    /// How the person is to sign in, the best way first (`acr_values`): a wish, which the server may pass over. What a challenge
    /// demands must be borne out by the ID token.
    pub fn acr_values(mut self, values: impl Into<String>) -> Self {
        self.acr_values = Some(values.into());
        self
    }

    /// How long ago the person may have signed in (`max_age`), where no challenge says more.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// The languages of the server's pages, the best first (`ui_locales`).
    pub fn ui_locales(mut self, locales: impl Into<String>) -> Self {
        self.ui_locales = Some(locales.into());
        self
    }

    /// The page that the browser shows in the end, in the place of keyfob's own.
    #[cfg(feature = "browser")]
    pub fn page(mut self, page: std::sync::Arc<dyn crate::browser::Page>) -> Self {
        self.page = Some(page);
        self
    }

    /// Whether a browser is opened at a login (with the feature `browser`), besides showing its URL. Unsaid: yes.
    pub fn open_browser(mut self, open: bool) -> Self {
        self.open_browser = open;
        self
    }

    /// How long a person may take to sign in with a browser. Unsaid: 10 minutes.
    pub fn login_timeout(mut self, timeout: Duration) -> Self {
        self.login_timeout = Some(timeout);
        self
    }
}
