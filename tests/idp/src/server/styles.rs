//! How answers are written.

use std::time::Duration;

/// What access tokens are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTokenFormat {
    /// Random text that begins with `at-`.
    Opaque,
    /// A JWT of RFC 9068, signed with ES256.
    Jwt,
}

/// How a lifetime becomes whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiresInRounding {
    /// 2.6 s is 2.
    Down,
    /// 2.6 s is 3, 2.4 s is 2.
    Nearest,
    /// 2.4 s is 3.
    Up,
}

/// How `expires_in` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiresInStyle {
    /// `"expires_in": 60`.
    Number,
    /// `"expires_in": "60"`, as some servers do.
    Text,
    /// No `expires_in`.
    Missing,
}

/// How `token_type` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenTypeStyle {
    /// `"Bearer"`.
    Bearer,
    /// `"bearer"`.
    LowerCase,
    /// No `token_type`.
    Missing,
}

/// The whole seconds of a duration.
pub(super) trait Whole {
    fn whole(&self, rounding: ExpiresInRounding) -> u64;
}

impl Whole for Duration {
    fn whole(&self, rounding: ExpiresInRounding) -> u64 {
        let up = match rounding {
            ExpiresInRounding::Down => false,
            ExpiresInRounding::Nearest => self.subsec_millis() >= 500,
            ExpiresInRounding::Up => self.subsec_nanos() > 0,
        };
        self.as_secs() + u64::from(up)
    }
}
