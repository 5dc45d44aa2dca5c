//! One file per grant.

mod client_credentials;
mod device;
mod refresh;

use keyfob_auth_core::{Acquired, AuthError, Challenge, ExposeSecret, Login, Scopes};

use crate::{
    Oidc,
    id_token::{self, Expected},
    token_endpoint::Exchanged,
};

impl Oidc {
    /// What an ID token must say now.
    fn expected(&self) -> Expected<'_> {
        Expected {
            issuer: &self.config.issuer.text,
            client_id: self.config.client.id(),
            now: self.context.clock().wall(),
        }
    }

    /// The login that a person's sign-in left, for the scopes that were asked for.
    ///
    /// # Errors
    /// Refused if there is an ID token and it does not hold.
    fn signed_in(&self, exchanged: Exchanged, asked: Scopes) -> Result<Acquired, AuthError> {
        let refresh_expires_at = exchanged.refresh_expires_at();
        let answer = exchanged.answer;
        let account = match &answer.id_token {
            Some(token) => Some(id_token::account_of_login(token.expose_secret(), &self.expected())?),
            None => None,
        };
        // Not said is "as asked for" (RFC 6749 section 5.1).
        let scopes = answer.access.scopes().cloned().unwrap_or(asked);
        let login = Login {
            refresh_token: answer.refresh_token,
            refresh_expires_at,
            account,
            id_token: answer.id_token,
            scopes: Some(scopes).filter(|scopes| !scopes.is_empty()),
            ..Login::default()
        };
        Ok(Acquired::with_login(answer.access.with_age(exchanged.sent.elapsed()), login))
    }

    /// The scopes to ask for: the request's, else the configured, and what a challenge demands besides.
    fn scopes_for(&self, requested: &Scopes, challenge: Option<&Challenge>) -> Scopes {
        let scopes = if requested.is_empty() { &self.config.scopes } else { requested };
        let demanded = challenge.and_then(|challenge| challenge.scope.as_ref());
        scopes.iter().chain(demanded.into_iter().flat_map(Scopes::iter)).collect()
    }
}

/// What was asked for, else what was configured.
fn either<'a>(asked: &'a [String], configured: &'a [String]) -> &'a [String] {
    if asked.is_empty() { configured } else { asked }
}

/// For the tests of arbitrary input.
#[cfg(test)]
pub(crate) fn read_device_authorization(reply: &crate::http::Reply) {
    let _ = device::read(reply);
}
