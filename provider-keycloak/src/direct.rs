//! A token that somebody else got: used as long as it lasts, never renewed.

use std::time::SystemTime;

use keyfob_auth_core::{
    AccessToken, Acquired, AuthError, Clock, ExposeSecret, jwt_expiry, registry::SecretSource,
};

/// The token, read anew at each exchange.
pub(crate) async fn acquire(source: &SecretSource, clock: &Clock) -> Result<Acquired, AuthError> {
    let token = source.read().await?;
    let expiry = jwt_expiry(token.expose_secret());
    if expiry.is_some_and(|expiry| expiry <= clock.wall()) {
        return Err(expired(expiry, clock.wall()).with_origin(source.to_string()));
    }
    Ok(Acquired::token(AccessToken::new(token)))
}

fn expired(expiry: Option<SystemTime>, now: SystemTime) -> AuthError {
    let ago = expiry.and_then(|expiry| now.duration_since(expiry).ok()).unwrap_or_default();
    AuthError::refused(format!(
        "the token that was given expired {} s ago, and cannot be renewed: give a new one, or leave `token` out and log in",
        ago.as_secs()
    ))
}
