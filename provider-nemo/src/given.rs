//! An access token that somebody else got: used as long as it lasts, and never renewed.

use keyfob_auth_core::{
    AccessToken, Acquired, AuthError, Clock, ExposeSecret as _, jwt_expiry, registry::SecretSource,
};

/// The token, read anew at each exchange.
pub(crate) async fn acquire(source: &SecretSource, clock: &Clock) -> Result<Acquired, AuthError> {
    let token = source.read().await?;
    let token = AccessToken::new(token.expose_secret().trim_ascii());
    let expiry = jwt_expiry(token.secret().expose_secret());
    if let Some(ago) = expiry.and_then(|expiry| clock.wall().duration_since(expiry).ok()) {
        return Err(AuthError::refused(format!(
            "the access token that was given expired {} s ago, and cannot be renewed: give a new one, or take it away and \
             log in",
            ago.as_secs()
        ))
        .with_origin(source.to_string()));
    }
    Ok(Acquired::token(token))
}
