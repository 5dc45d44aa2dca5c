//! User info: what the server says of the person that signed in (OpenID Connect Core section 5.3).

use keyfob_auth_core::{AccessToken, AuthError, Login, Presentation, SecretString};
use serde_json::{Map, Value};

use crate::{
    Oidc,
    http::Reply,
    json,
    metadata::Which,
    oauth_error::{Asked, error_in},
};

impl Oidc {
    /// The claims of the person whose access token it is. `login` is the one it hangs below: the answer must be about the same
    /// person (OpenID Connect Core section 5.3.2), and a token that is bound to its key (DPoP) needs it.
    ///
    /// # Errors
    /// Refused if the server does not take the token, or answers about somebody else, or the token is bound and `login` has
    /// not its key; transient if it cannot answer.
    ///
    /// # Cancellation
    /// Changes nothing.
    pub async fn user_info(
        &self,
        token: &SecretString,
        login: Option<&Login>,
    ) -> Result<Map<String, Value>, AuthError> {
        let (token, login) = (token.clone(), login.cloned());
        self.run(|this| async move { this.claims_at_server(&token, login.as_ref()).await }).await
    }

    async fn claims_at_server(
        &self,
        token: &SecretString,
        login: Option<&Login>,
    ) -> Result<Map<String, Value>, AuthError> {
        let endpoint = self.endpoint(Which::UserInfo).await?;
        let token = AccessToken::new(token.clone());
        let reply = match login.and_then(|login| login.binding_key.as_ref()) {
            Some(key) => self.get_bound(&endpoint, &token, key).await?,
            None if self.config.dpop => {
                return Err(AuthError::refused(
                    "the access token is bound to the login's key (DPoP), so the login is needed to ask for the user info",
                ));
            }
            None => {
                let Presentation::Header(name, value) = Presentation::bearer(&token)? else {
                    return Err(AuthError::refused("the access token fits no header"));
                };
                self.http
                    .get_with(&endpoint, || Ok([(name.clone(), value.clone())].into_iter().collect()))
                    .await?
            }
        };
        let claims = read(&reply)?;
        let known = login.and_then(|login| login.account.as_ref());
        match (known, claims.get("sub").and_then(Value::as_str)) {
            (Some(account), Some(subject)) if account.subject != subject => {
                Err(reply.error(AuthError::refused("the user info is about somebody else (`sub`)")))
            }
            _ => Ok(claims),
        }
    }
}

pub(crate) fn read(reply: &Reply) -> Result<Map<String, Value>, AuthError> {
    let what = "the user info request";
    if let Some(error) = error_in(reply, &Asked { what, ..Asked::default() }) {
        return Err(error);
    }
    let refuse = |why: &str| Err(reply.error(AuthError::refused(format!("{what}: {why}"))));
    let Some(claims) = json::object(&reply.body) else {
        // A signed answer is a JWT (OpenID Connect Core section 5.3.2).
        return refuse("the server's answer is no JSON object; is it set to sign or encrypt it?");
    };
    if json::text(claims.get("sub")).is_none() {
        return refuse("the server's answer names no subject (`sub`)");
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use keyfob_auth_core::ErrorKind;

    use super::*;
    use crate::oauth_error::tests::reply;

    #[test]
    fn oidc_core_5_3_2_the_answer_names_its_subject() {
        assert_eq!(
            read(&reply(200, r#"{"sub":"1","email":"a@b.example"}"#)).unwrap()["email"],
            "a@b.example"
        );
        for (status, body, kind) in [
            (200, "{}", ErrorKind::Refused),
            (200, r#"{"sub":""}"#, ErrorKind::Refused),
            (200, "a.b.c", ErrorKind::Refused),
            (401, "", ErrorKind::Refused),
            (503, "", ErrorKind::Transient),
        ] {
            assert_eq!(read(&reply(status, body)).unwrap_err().kind(), kind, "{status} {body}");
        }
    }
}
