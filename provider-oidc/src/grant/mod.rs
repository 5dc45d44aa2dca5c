//! One file per grant.

pub(crate) mod authorization_code;
mod client_credentials;
mod device;
mod jwt_bearer;
mod password;
mod refresh;
mod token_exchange;

use std::time::Duration;

use keyfob_auth_core::{Acquired, AuthError, Challenge, ExposeSecret, Login, Scopes, SecretString};

use crate::{
    Oidc, binding,
    binding::BindingKey,
    id_token::{self, Expected},
    token_endpoint::{Exchanged, GrantRequest},
    warnings,
};

/// What a sign-in asked for, as far as the answer must bear it out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SignIn<'a> {
    pub(crate) nonce: Option<&'a str>,
    pub(crate) code: Option<&'a str>,
    pub(crate) max_age: Option<Duration>,
    /// Only what a challenge demanded: what was merely wished for need not be.
    pub(crate) acr_values: Option<&'a str>,
}

impl<'a> SignIn<'a> {
    /// What a challenge demanded.
    pub(crate) fn satisfying(challenge: Option<&'a Challenge>) -> Self {
        Self {
            max_age: challenge.and_then(|challenge| challenge.max_age),
            acr_values: challenge.and_then(|challenge| challenge.acr_values.as_deref()),
            ..Self::default()
        }
    }
}

impl Oidc {
    /// What every ID token must say now.
    pub(crate) fn expected(&self) -> Expected<'_> {
        Expected {
            audiences: &self.config.id_token_audiences,
            ..Expected::new(&self.config.issuer.text, self.config.client.id(), self.now())
        }
    }

    /// Checks an ID token's signature, where this build can. Elsewhere the connection that it came by vouches for it (OpenID
    /// Connect Core section 3.1.3.7, point 6).
    #[cfg(feature = "jose")]
    pub(crate) async fn check_signature(&self, token: &SecretString) -> Result<(), AuthError> {
        use crate::metadata::Which;

        let endpoint = self.endpoint(Which::Keys).await?;
        let keys = self.http.network.heard_of(endpoint.url().as_str());
        let fetch = async {
            let reply = self.http.get(&endpoint).await?;
            if reply.is_success() {
                Ok(reply.body)
            } else {
                Err(reply.bare_error("the server's keys could not be fetched"))
            }
        };
        let registered = self.config.id_token_signing_alg.as_deref();
        crate::jose::verify_id_token(self.context(), &keys, registered, token.expose_secret(), fetch).await
    }

    #[cfg(not(feature = "jose"))]
    #[expect(clippy::unused_async, reason = "it waits for keys in the other build")]
    pub(crate) async fn check_signature(&self, _: &SecretString) -> Result<(), AuthError> {
        Ok(())
    }

    /// The login that a person's sign-in left, for the scopes that were asked for.
    ///
    /// # Errors
    /// Refused if there is an ID token and it does not hold.
    pub(crate) async fn signed_in(
        &self,
        exchanged: Exchanged,
        asked: &Scopes,
        key: Option<&BindingKey>,
        sign_in: SignIn<'_>,
    ) -> Result<Acquired, AuthError> {
        let refresh_expires_at = exchanged.refresh_expires_at();
        let answer = exchanged.answer;
        let account = match &answer.id_token {
            Some(token) => {
                self.check_signature(token).await?;
                let expected = Expected {
                    nonce: sign_in.nonce,
                    code: sign_in.code,
                    access_token: Some(answer.access.secret().expose_secret()),
                    max_age: sign_in.max_age,
                    acr_values: sign_in.acr_values,
                    ..self.expected()
                };
                Some(id_token::account_of_login(token.expose_secret(), &expected)?)
            }
            None if sign_in.max_age.is_some() || sign_in.acr_values.is_some() => {
                return Err(AuthError::refused(
                    "the server gave no ID token, so how the person signed in cannot be told; ask for the scope openid",
                ));
            }
            None => {
                if self.config.id_tokens && asked.contains("openid") {
                    tracing::warn!(
                        "the scope openid was asked for and no ID token came: who signed in is not known"
                    );
                }
                None
            }
        };
        let login = Login {
            refresh_token: answer.refresh_token,
            refresh_expires_at,
            account,
            id_token: answer.id_token,
            scopes: answer.access.scopes().cloned(),
            binding_key: binding::to_secret(key)?,
            fields: [warnings::asked(asked)].into(),
            ..Login::default()
        };
        Ok(Acquired::with_login(answer.access.with_age(exchanged.sent.elapsed()), login))
    }

    /// What a grant without a login brought: with a key of its own, a login that holds just that.
    fn without_login(exchanged: Exchanged, key: Option<&BindingKey>) -> Result<Acquired, AuthError> {
        let access = exchanged.answer.access;
        Ok(match binding::to_secret(key)? {
            None => Acquired::token(access),
            binding_key => Acquired::with_login(access, Login { binding_key, ..Login::default() }),
        })
    }

    /// What token requests of every grant but refresh have in common.
    fn asking_for<'a>(
        &self,
        grant: GrantRequest<'a>,
        request: &'a keyfob_auth_core::TokenRequest,
    ) -> GrantRequest<'a> {
        let challenge = request.challenge.as_ref();
        let scopes = self.scopes_for(&request.scopes, challenge);
        grant
            .parameter("scope", &scopes.to_string())
            .granting(&scopes)
            .parameters("audience", either(&request.audiences, &self.config.audiences))
            .parameters("resource", either(&request.resources, &self.config.resources))
            .parameter(
                "authorization_details",
                self.config.authorization_details.as_deref().unwrap_or_default(),
            )
            .challenge(challenge)
    }

    /// The scopes to ask for: the request's, else the configured, and what a challenge demands besides.
    pub(crate) fn scopes_for(&self, requested: &Scopes, challenge: Option<&Challenge>) -> Scopes {
        let scopes = if requested.is_empty() { &self.config.scopes } else { requested };
        let demanded = challenge.and_then(|challenge| challenge.scope.as_ref());
        scopes.iter().chain(demanded.into_iter().flat_map(Scopes::iter)).collect()
    }
}

/// What was asked for, else what was configured.
pub(crate) fn either<'a>(asked: &'a [String], configured: &'a [String]) -> &'a [String] {
    if asked.is_empty() { configured } else { asked }
}

/// For the tests of arbitrary input.
#[cfg(test)]
pub(crate) fn read_device_authorization(reply: &crate::http::Reply) {
    let _ = device::read(reply);
}
