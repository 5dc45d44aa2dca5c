//! Refreshing an access token (RFC 6749 section 6, OpenID Connect Core section 12).

use std::time::Duration;

use keyfob_auth_core::{Acquired, AuthError, Challenge, ExposeSecret, Login, Scopes, TokenRequest};
use tokio::time::timeout;

use crate::{
    Oidc, binding,
    id_token::{self, Expected},
    token_endpoint::{Exchanged, GrantRequest},
    warnings::asked_scopes,
};

/// The longest that an ID token's signature may keep the tokens that came with it from being saved.
const PATIENCE: Duration = Duration::from_secs(5);

impl Oidc {
    /// Whether the login's refresh token cannot be spent for want of the key that its tokens are to be bound to. The server
    /// would bind nothing (RFC 9449 section 5), and a refresh token that rotates would be lost with its answer.
    pub(crate) fn lacks_key(&self, login: &Login) -> bool {
        self.config.dpop && login.binding_key.is_none()
    }

    /// Spends the login's refresh token, once.
    pub(crate) async fn refresh(&self, request: &TokenRequest, login: &Login) -> Result<Acquired, AuthError> {
        let Some(token) = &login.refresh_token else {
            // The server gave none, or has refused it since.
            return Err(AuthError::login_required(
                "the login has no refresh token to renew it with; log in again",
            ));
        };
        if self.lacks_key(login) {
            return Err(AuthError::login_required("the login was made without a key (DPoP); log in again"));
        }
        let challenge = request.challenge.as_ref();
        if let Some(challenge) = challenge.filter(|challenge| needs_a_person(challenge, login)) {
            return Err(AuthError::interaction_required("the resource wants a person to sign in again")
                .with_challenge(challenge.clone()));
        }
        // None by itself: the same scopes as before, and never more.
        let scopes = if request.scopes.is_empty() {
            Scopes::none()
        } else {
            self.scopes_for(&request.scopes, challenge)
        };
        if !self.config.any_scope_on_refresh && !never_asked(&scopes, login).is_empty() {
            return Err(wider(&scopes, login, challenge));
        }
        let granted = if scopes.is_empty() { login.scopes.as_ref() } else { Some(&scopes) };
        let key = self.key_of(Some(login))?;
        // Written before: nothing must fail once the refresh token is spent.
        let binding_key = binding::to_secret(key.as_ref())?;
        let grant = GrantRequest::new("refresh_token", "the refresh")
            .spends_login()
            .bound_to(key.as_ref())
            .parameter("refresh_token", token.expose_secret())
            .parameter("scope", &scopes.to_string())
            .granting(granted.unwrap_or(&Scopes::none()))
            .parameters("audience", &request.audiences)
            .parameters("resource", &request.resources)
            .challenge(challenge);
        let exchanged = self.exchange(grant).await?;
        let mut answer = self.renewal(&exchanged, login).await?;
        answer.binding_key = binding_key;
        Ok(Acquired::with_login(exchanged.answer.access, login.renewed_by(answer)))
    }

    /// What the answer says of the login. An ID token that cannot be checked is no reason to throw away the refresh token that
    /// came with it: both came straight from the server, over TLS (OpenID Connect Core section 3.1.3.7, point 6). The login
    /// keeps the one it has.
    ///
    /// # Errors
    /// Refused if the ID token is of another issuer or of somebody else.
    async fn renewal(&self, exchanged: &Exchanged, login: &Login) -> Result<Login, AuthError> {
        let answer = &exchanged.answer;
        let mut renewed = Login {
            refresh_token: answer.refresh_token.clone(),
            refresh_expires_at: exchanged.refresh_expires_at(),
            ..Login::default()
        };
        let Some(token) = &answer.id_token else { return Ok(renewed) };
        let expected = Expected {
            access_token: Some(answer.access.secret().expose_secret()),
            former: login.id_token.as_ref().map(|token| token.expose_secret()),
            ..self.expected()
        };
        let account = id_token::account_of_renewal(token.expose_secret(), &expected, login.account.as_ref())?;
        let Some(account) = account else { return Ok(renewed) };
        let late = |_| Err(AuthError::transient("the server's keys took too long"));
        match timeout(PATIENCE, self.check_signature(token)).await.unwrap_or_else(late) {
            Ok(()) => {
                renewed.id_token = Some(token.clone());
                renewed.account = Some(account);
            }
            Err(error) => {
                tracing::warn!(%error, "the signature of a renewal's ID token could not be checked; the old one stays");
            }
        }
        Ok(renewed)
    }
}

/// Whether no refresh can satisfy the challenge: it wants a stronger or newer sign-in (RFC 9470), or more than was granted.
fn needs_a_person(challenge: &Challenge, login: &Login) -> bool {
    let more = || challenge.scope.as_ref().is_some_and(|demanded| !beyond(demanded, login).is_empty());
    challenge.acr_values.is_some() || challenge.max_age.is_some() || more()
}

/// Those of the scopes that the sign-in was not granted, as far as that is known.
fn beyond(scopes: &Scopes, login: &Login) -> Scopes {
    let Some(granted) = &login.scopes else { return Scopes::none() };
    scopes.iter().filter(|scope| !granted.contains(scope)).collect()
}

/// Those that the sign-in did not ask for either: what it asked for may have been granted by another name, or not be named.
fn never_asked(scopes: &Scopes, login: &Login) -> Scopes {
    let asked = asked_scopes(login).unwrap_or_else(Scopes::none);
    beyond(scopes, login).iter().filter(|scope| !asked.contains(scope)).collect()
}

/// A refresh must not ask for more than was granted (RFC 6749 section 6); a login may.
fn wider(scopes: &Scopes, login: &Login, challenge: Option<&Challenge>) -> AuthError {
    let mut challenge = challenge.cloned().unwrap_or_default();
    challenge.scope = Some(scopes.clone());
    let more = never_asked(scopes, login);
    let message = format!(
        "the login was not granted {more}, and a renewal cannot ask for it; log in again, and ask for it"
    );
    AuthError::interaction_required(message).with_challenge(challenge)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::warnings;

    #[test]
    fn rfc6749_6_what_the_sign_in_asked_for_may_be_asked_for_by_the_name_that_it_had_then() {
        let asked = Scopes::parse("User.Read offline_access");
        let login = Login {
            scopes: Some(Scopes::parse("https://graph.example/User.Read")),
            fields: [warnings::asked(&asked)].into(),
            ..Login::default()
        };
        for (scopes, more) in [
            ("User.Read", ""),
            ("https://graph.example/User.Read offline_access", ""),
            ("User.Read Mail.Read", "Mail.Read"),
        ] {
            assert_eq!(never_asked(&Scopes::parse(scopes), &login).to_string(), more, "{scopes}");
        }
    }

    #[test]
    fn rfc9470_4_a_stronger_sign_in_or_more_scopes_need_a_person() {
        let login = Login { scopes: Some(Scopes::parse("read write")), ..Login::default() };
        let with = |set: &dyn Fn(&mut Challenge)| {
            let mut challenge = Challenge::default();
            set(&mut challenge);
            challenge
        };
        let scope = |list: &str| with(&|c| c.scope = Some(Scopes::parse(list)));
        for (challenge, needed) in [
            (with(&|_| {}), false),
            (with(&|c| c.claims = Some("{}".into())), false),
            (with(&|c| c.acr_values = Some("gold".into())), true),
            (with(&|c| c.max_age = Some(Duration::ZERO)), true),
            (scope("read"), false),
            (scope("read admin"), true),
        ] {
            assert_eq!(needs_a_person(&challenge, &login), needed, "{challenge:?}");
        }
        assert!(!needs_a_person(&scope("admin"), &Login::default()), "what was granted is not known");
    }
}
