//! [`Token`]: a published access token.

use std::{fmt, ops::Range, sync::Arc, time::SystemTime};

use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::{copies::Copies, policy::Times};
use crate::{
    AuthError, Binding, Presentation, Scopes,
    clock::{Now, to_system_time},
    login::Digest,
    token::AccessToken,
};

/// An access token that a session handed out. Cloning is cheap.
///
/// It is told from others by its generation, so that [`Session::invalidate`](crate::Session::invalidate) retires this one
/// only.
#[derive(Clone)]
pub struct Token(pub(crate) Arc<Published>);

/// A token as it is served: everything that a request needs is computed.
pub(crate) struct Published {
    presentation: Presentation,
    text: Text,
    /// To tell the same bytes when they come again.
    pub(crate) digest: Digest,
    /// Given when it is published.
    pub(crate) generation: u64,
    pub(crate) times: Times,
    scopes: Option<Scopes>,
    binding: Binding,
    copies: Copies,
    served: Served,
}

/// When it is served without a second thought, computed once: between these.
struct Served {
    first: u64,
    span: u64,
    until: u64,
}

/// Where the token's text is. The header's bytes are its only copy where they hold it.
enum Text {
    InHeader(Range<usize>),
    Own(SecretString),
}

impl Published {
    pub(crate) fn new(presentation: Presentation, token: &AccessToken, digest: Digest, times: Times) -> Self {
        let secret = token.secret().expose_secret();
        let text = match &presentation {
            Presentation::Header(_, value) if value.as_bytes().ends_with(secret.as_bytes()) => {
                Text::InHeader(value.len() - secret.len()..value.len())
            }
            _ => Text::Own(token.secret().clone()),
        };
        Self {
            presentation,
            text,
            digest,
            generation: 0,
            times,
            scopes: token.scopes().cloned(),
            binding: token.binding().clone(),
            copies: Copies::default(),
            served: Served {
                first: times.first(),
                span: times.refresh_at.wall.saturating_sub(times.first()),
                until: times.refresh_at.mono,
            },
        }
    }

    /// Neither expired nor due: the question of nearly every call.
    #[inline]
    pub(crate) fn is_fresh(&self, now: Now) -> bool {
        // In one comparison for both ends: what is before the first is beyond all in unsigned numbers.
        now.wall.wrapping_sub(self.served.first) < self.served.span && now.mono < self.served.until
    }

    /// A clone of the header, that does not slow down other threads that want one too.
    #[inline]
    pub(crate) fn clone_header(&self, now: Now) -> Option<HeaderValue> {
        Some(self.copies.of(self.header()?, now).clone())
    }

    #[inline]
    pub(crate) fn header(&self) -> Option<&HeaderValue> {
        match &self.presentation {
            Presentation::Header(_, value) => Some(value),
            Presentation::Signed(_) => None,
        }
    }
}

impl Token {
    /// The token itself. It is a secret: put it nowhere but on a request to where it was meant to go.
    pub fn secret(&self) -> &str {
        match &self.0.text {
            Text::Own(secret) => secret.expose_secret(),
            Text::InHeader(range) => {
                // A header made from a `str` is UTF-8, and the range ends where that `str` did.
                let bytes =
                    self.0.header().map(HeaderValue::as_bytes).and_then(|bytes| bytes.get(range.clone()));
                bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
            }
        }
    }

    /// How it goes onto a request.
    pub fn presentation(&self) -> &Presentation {
        &self.0.presentation
    }

    /// The header that it is sent in, unless every request is signed anew.
    pub fn header(&self) -> Option<(&HeaderName, &HeaderValue)> {
        match &self.0.presentation {
            Presentation::Header(name, value) => Some((name, value)),
            Presentation::Signed(_) => None,
        }
    }

    /// When it expires by the wall clock; `None` if not by time.
    pub fn expires_at(&self) -> Option<SystemTime> {
        let wall = self.0.times.expires_at.wall;
        (wall != u64::MAX).then(|| to_system_time(wall))
    }

    /// The granted scopes, where they are known; fewer than were asked for if the server granted no more.
    pub fn scopes(&self) -> Option<&Scopes> {
        self.0.scopes.as_ref()
    }

    /// What it is bound to.
    pub fn binding(&self) -> &Binding {
        &self.0.binding
    }

    /// Which token of its session it is: a later one has a larger number.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    pub(crate) fn is_due(&self, now: Now) -> bool {
        self.0.times.due(now)
    }

    pub(crate) fn signed_error() -> AuthError {
        AuthError::configuration("this token needs every request signed: send it through the middleware")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("generation", &self.0.generation)
            .field("expires_at", &self.expires_at())
            .field("scopes", &self.0.scopes)
            .field("binding", &self.0.binding)
            .finish_non_exhaustive()
    }
}
