//! Token exchange (RFC 8693).

use keyfob_auth_core::{Acquired, AuthError, ExposeSecret, Login, SecretString, TokenRequest};

use crate::{
    Oidc,
    config::Flow,
    token_endpoint::{Exchanged, GrantRequest},
};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

impl Oidc {
    /// Exchanges the configured token.
    pub(crate) async fn token_exchange(
        &self,
        request: &TokenRequest,
        login: Option<&Login>,
    ) -> Result<Acquired, AuthError> {
        let config = &self.config.exchange;
        let Some(subject) = &config.subject_token else {
            return Err(AuthError::not_configured(
                "there is no token to exchange: name a subject in the request, or set `subject_token`",
            ));
        };
        let subject = subject.get().await?;
        self.exchange_token(request, &subject, &config.subject_token_type, login).await
    }

    /// Exchanges the token of a caller, on whose behalf this client acts.
    pub(crate) async fn exchange_for_subject(&self, request: &TokenRequest) -> Result<Acquired, AuthError> {
        match &request.subject {
            Some(subject) if matches!(self.config.flow, Flow::TokenExchange | Flow::ClientCredentials) => {
                self.exchange_token(request, &subject.token, &subject.token_type, None).await
            }
            _ => Err(AuthError::configuration(format!(
                "a token on behalf of a subject cannot be had by the {} flow; use token_exchange or client_credentials",
                self.config.flow.as_str()
            ))),
        }
    }

    async fn exchange_token(
        &self,
        request: &TokenRequest,
        subject: &SecretString,
        subject_type: &str,
        login: Option<&Login>,
    ) -> Result<Acquired, AuthError> {
        let config = &self.config.exchange;
        let actor = match &config.actor_token {
            Some(actor) => Some(actor.get().await?),
            None => None,
        };
        let key = self.key_of(login)?;
        let mut grant = GrantRequest::new(GRANT_TYPE, "the token exchange")
            .parameter("subject_token", subject.expose_secret())
            .parameter("subject_token_type", subject_type)
            .parameter("requested_token_type", config.requested_token_type.as_deref().unwrap_or_default());
        if let Some(actor) = &actor {
            grant = grant
                .parameter("actor_token", actor.expose_secret())
                .parameter("actor_token_type", &config.actor_token_type);
        }
        let exchanged = self.exchange(self.asking_for(grant, request).bound_to(key.as_ref())).await?;
        issued(&exchanged)?;
        Self::without_login(exchanged, key.as_ref())
    }
}

/// The answer must say what it issued (RFC 8693 section 2.2.1).
fn issued(exchanged: &Exchanged) -> Result<(), AuthError> {
    match &exchanged.answer.issued_token_type {
        Some(_) => Ok(()),
        None => Err(AuthError::refused(
            "the token exchange: the server's answer does not say what it issued (`issued_token_type`)",
        )),
    }
}
