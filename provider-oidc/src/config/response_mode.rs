//! [`ResponseMode`]: how a browser brings the answer of a login.

/// How the answer of a login with a browser comes back (`response_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseMode {
    /// In the redirect's query (RFC 6749 section 4.1.2).
    #[default]
    Query,
    /// In a form that the browser posts (OAuth 2.0 Form Post Response Mode): the code is in no history and in no log.
    FormPost,
}

impl ResponseMode {
    pub(crate) const NAMES: [&'static str; 2] = ["query", "form_post"];

    #[cfg(feature = "config")]
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Query, Self::FormPost].into_iter().find(|mode| mode.as_str() == name)
    }

    pub(crate) fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}
