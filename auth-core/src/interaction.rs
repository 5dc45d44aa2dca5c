//! [`Interaction`]: how a login reaches the person who signs in.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use secrecy::SecretString;

use crate::AuthError;

/// Shows a person what a login needs of them, and asks.
///
/// An application implements it for its own window, terminal or page; the command's is `keyfob`'s `cli` feature. Only
/// [`Session::login`](crate::Session::login) ever calls it, on the context's executor, so it must not block for long.
///
/// # Cancellation
/// When the login is dropped, so is a pending [`ask`](Self::ask).
#[async_trait]
pub trait Interaction: fmt::Debug + Send + Sync {
    /// Shows something. It must not wait for the person.
    fn show(&self, prompt: &Prompt);

    /// Asks the person for a text: a pasted URL, a secret. By default nobody is there to ask.
    ///
    /// # Errors
    /// [`InteractionRequired`](crate::ErrorKind::InteractionRequired) if nobody can answer.
    async fn ask(&self, question: &Question) -> Result<SecretString, AuthError> {
        Err(AuthError::interaction_required(format!("nobody is here to answer: {}", question.text)))
    }
}

/// What a person is shown during a login.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prompt {
    /// A code to type at a URL (RFC 8628 section 3.3).
    DeviceCode(DeviceCode),
    /// A URL to open in a browser.
    OpenUrl {
        /// The URL. It is no secret, but meant for this person only.
        url: String,
    },
    /// A URL in the place of the one before, which has expired for whoever has not opened it yet (RFC 9126 section 2.2). It
    /// is for the same login. Who has opened the one before goes on there: this one is to be shown, and not opened unasked.
    AnotherUrl {
        /// The URL. It is no secret, but meant for this person only.
        url: String,
    },
    /// How it goes on, in a few words.
    Progress(String),
}

/// A device login as the person sees it (RFC 8628 section 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCode {
    /// Where to type the code.
    pub verification_uri: String,
    /// The same with the code in it, for a QR code or a link. The code is shown all the same.
    pub verification_uri_complete: Option<String>,
    /// The code to type.
    pub user_code: String,
    /// How long it is valid from now.
    pub expires_in: Duration,
}

/// What a person is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The question.
    pub text: String,
    /// Whether the answer must not be seen while it is typed.
    pub secret: bool,
}

/// Shows nothing and answers nothing: for logins that need no person.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoInteraction;

#[async_trait]
impl Interaction for NoInteraction {
    fn show(&self, _: &Prompt) {}
}
