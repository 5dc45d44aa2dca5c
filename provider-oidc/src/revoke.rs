//! Revocation (RFC 7009).

use keyfob_auth_core::{AuthError, ErrorKind, ExposeSecret, Login, SecretString};

use crate::{
    Oidc,
    http::{Form, Reply},
    metadata::Which,
    oauth_error::{Asked, error_in},
};

impl Oidc {
    /// Revokes the login's refresh token, and the access tokens (RFC 7009 section 2.1); ends the person's session where that is
    /// configured.
    ///
    /// # Errors
    /// What of this could not be done, all of it in one. Refused if there was nothing to do.
    pub(crate) async fn revoke_login(&self, login: &Login, tokens: &[SecretString]) -> Result<(), AuthError> {
        let refresh = match &login.refresh_token {
            Some(token) => Some(self.revoke_token(token, "refresh_token").await),
            None => None,
        };
        let session = if self.config.end_session { Some(self.end_session(login).await) } else { None };
        let access = match &refresh {
            // Nobody was there to be told.
            Some(Err(error)) if error.status().is_none() || error.kind() == ErrorKind::Transient => None,
            _ => self.revoke_access_tokens(tokens, matches!(refresh, Some(Ok(())))).await,
        };
        let (mut done, mut problem) = (Vec::new(), None::<AuthError>);
        for (what, outcome) in [
            ("the refresh token was revoked", refresh),
            ("the session at the provider was ended", session),
            ("the access tokens were revoked", access),
        ] {
            match (outcome, &problem) {
                (None, _) => {}
                (Some(Ok(())), _) => done.push(what),
                (Some(Err(error)), None) => problem = Some(error),
                (Some(Err(error)), Some(first)) => {
                    problem = Some(first.clone().with_message(format!("{}; and {error}", first.message())));
                }
            }
        }
        match problem {
            None if done.is_empty() => Err(AuthError::refused(
                "there was nothing to revoke: the login holds no refresh token, and no access token is at hand; those that are \
                 elsewhere are good until they expire",
            )),
            None => Ok(()),
            Some(error) if done.is_empty() => Err(error),
            Some(error) => {
                let message = format!("{}, but {}", done.join(" and "), error.message());
                Err(error.with_message(message))
            }
        }
    }

    /// `None` if there are none, or they ended with the refresh token as far as this server ends any.
    async fn revoke_access_tokens(
        &self,
        tokens: &[SecretString],
        login_is_over: bool,
    ) -> Option<Result<(), AuthError>> {
        let mut problem = None;
        for token in tokens {
            match self.revoke_token(token, "access_token").await {
                Ok(()) => {}
                Err(error) if login_is_over && error.oauth_error() == Some("unsupported_token_type") => {
                    tracing::debug!("the server revokes no access tokens; they are good until they expire");
                    return None;
                }
                Err(error) => {
                    let message =
                        format!("{} (of an access token, which is good until it expires)", error.message());
                    // A refusal may be of that one only; the rest is of all that follow.
                    let goes_on = error.kind() != ErrorKind::Transient && error.status().is_some();
                    problem = Some(error.with_message(message));
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        match problem {
            Some(problem) => Some(Err(problem)),
            None => (!tokens.is_empty()).then_some(Ok(())),
        }
    }

    /// Ends the person's session at the provider without their browser, where the ID token says which it is (OpenID Connect
    /// RP-Initiated Logout section 2): the next login asks them again.
    async fn end_session(&self, login: &Login) -> Result<(), AuthError> {
        let Some(id_token) = &login.id_token else {
            return Err(AuthError::refused(
                "the person's session at the provider goes on: without an ID token it cannot be named",
            ));
        };
        let endpoint = self.endpoint(Which::EndSession).await?;
        // Posted, so that the ID token is in no URL, and so in no log of the server's.
        let mut form = Form::default();
        form.push("client_id", self.config.client.id());
        form.push("id_token_hint", id_token.expose_secret());
        let reply = self.http.post(&endpoint, form, Vec::new()).await?;
        // Where it goes on to is the browser's business.
        if reply.is_success() || (300..400).contains(&reply.status) {
            return Ok(());
        }
        Err(reply.bare_error("the logout"))
    }

    /// Revokes an access token (RFC 7009 section 2.1), for servers that let it live on after its login is gone.
    ///
    /// # Errors
    /// What kept the server from revoking it. A token that it does not know, or no longer, is none.
    pub async fn revoke_access_token(&self, token: &SecretString) -> Result<(), AuthError> {
        let token = token.clone();
        self.run(|this| async move { this.revoke_token(&token, "access_token").await }).await
    }

    async fn revoke_token(&self, token: &SecretString, hint: &str) -> Result<(), AuthError> {
        let endpoint = self.endpoint(Which::Revocation).await?;
        let mut form = Form::default();
        form.push("token", token.expose_secret());
        form.push("token_type_hint", hint);
        let headers = self.authenticate(&endpoint, &mut form).await?;
        let reply = self.http.post(&endpoint, form, headers).await?;
        tracing::debug!(%endpoint, status = reply.status, "the revocation endpoint answered");
        judge(&reply)
    }
}

/// A success is one whatever the body says; unknown tokens are successes too (RFC 7009 section 2.2).
fn judge(reply: &Reply) -> Result<(), AuthError> {
    if reply.is_success() {
        return Ok(());
    }
    match error_in(reply, &Asked { what: "the revocation", ..Asked::default() }) {
        // What some servers say of a token that is no longer valid: what was wanted.
        Some(error) if error.oauth_error() == Some("invalid_token") && !reply.is_overload() => Ok(()),
        Some(error) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use keyfob_auth_core::ErrorKind;

    use super::*;
    use crate::oauth_error::tests::reply;

    #[test]
    fn rfc7009_2_2_ok_is_ok_whatever_the_body() {
        for (status, body, kind) in [
            (200, "", None),
            (200, "{}", None),
            (200, "<html></html>", None),
            (200, r#"{"error":"unsupported_token_type"}"#, None),
            (204, "", None),
            (400, r#"{"error":"invalid_token"}"#, None),
            (400, r#"{"error":"unsupported_token_type"}"#, Some(ErrorKind::Refused)),
            (401, r#"{"error":"invalid_client"}"#, Some(ErrorKind::Refused)),
            (400, r#"{"error":"invalid_grant"}"#, Some(ErrorKind::Refused)),
            (404, "", Some(ErrorKind::Refused)),
            (302, "", Some(ErrorKind::Refused)),
            (503, "", Some(ErrorKind::Transient)),
            (503, r#"{"error":"invalid_token"}"#, Some(ErrorKind::Transient)),
            (429, "", Some(ErrorKind::Transient)),
        ] {
            assert_eq!(judge(&reply(status, body)).err().map(|error| error.kind()), kind, "{status} {body}");
        }
    }
}
