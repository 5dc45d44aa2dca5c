//! Signing in with a browser (RFC 8252): with a listener on this machine that the browser comes back to, or by pasting the
//! address that it ends at.
//!
//! [`Session::login`](keyfob_auth_core::Session::login) does it with `flow = "browser"` or `"auto"`, where the feature
//! `browser` is on. A web application uses [`Oidc::start`](crate::Oidc::start) and [`Oidc::finish`](crate::Oidc::finish),
//! and does not need that feature.

#[cfg(not(feature = "browser"))]
mod absent;
pub(crate) mod callback;
#[cfg(feature = "browser")]
mod listener;
#[cfg(feature = "browser")]
mod login;
#[cfg(feature = "browser")]
mod open;
#[cfg(feature = "browser")]
mod page;
#[cfg(feature = "browser")]
mod request;
#[cfg(feature = "browser")]
mod surroundings;

use keyfob_auth_core::AuthError;

#[cfg(feature = "browser")]
pub use self::page::{Page, escape_html};
pub use crate::grant::authorization_code::Pending;
use crate::{Oidc, metadata::Which};

impl Oidc {
    /// Whether `flow = "auto"` may show a code.
    async fn offers_device_login(&self) -> Result<bool, AuthError> {
        match self.endpoint_if_any(Which::DeviceAuthorization).await {
            Ok(endpoint) => Ok(endpoint.is_some()),
            // A server without metadata, whose endpoints are configured.
            Err(_) if self.config.endpoint(Which::Authorization).is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
