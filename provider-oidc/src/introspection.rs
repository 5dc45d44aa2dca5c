//! Introspection: what the server knows of a token (RFC 7662).

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use keyfob_auth_core::{AuthError, ExposeSecret, Scopes, SecretString};
use serde_json::{Map, Value};

use crate::{
    Oidc,
    http::{Form, Reply},
    json,
    metadata::Which,
    oauth_error::{Asked, error_in},
};

/// What a server says of a token (RFC 7662 section 2.2).
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Introspection {
    /// Whether the token is one of the server's, and valid now. If it is not, nothing else is said.
    pub active: bool,
    /// The scopes that it was granted.
    pub scopes: Option<Scopes>,
    /// Whom it was granted by (`sub`).
    pub subject: Option<String>,
    /// The client that it was issued to (`client_id`).
    pub client_id: Option<String>,
    /// Until when it is valid (`exp`): no answer may be kept for longer.
    pub expires_at: Option<SystemTime>,
    /// Every member of the answer. `Debug` shows their names alone.
    pub members: Map<String, Value>,
}

impl fmt::Debug for Introspection {
    /// Who the token is of is left out, and what the server says besides.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection")
            .field("active", &self.active)
            .field("scopes", &self.scopes)
            .field("client_id", &self.client_id)
            .field("expires_at", &self.expires_at)
            .field("members", &self.members.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Oidc {
    /// Asks the server about a token (RFC 7662 section 2.1). The client must prove who it is.
    ///
    /// # Errors
    /// Refused or transient if the server did not answer the question: that is no verdict on the token. Configuration for a
    /// public client.
    ///
    /// # Cancellation
    /// Changes nothing.
    pub async fn introspect(&self, token: &SecretString) -> Result<Introspection, AuthError> {
        let token = token.clone();
        self.run(|this| async move { this.ask_about(&token).await }).await
    }

    async fn ask_about(&self, token: &SecretString) -> Result<Introspection, AuthError> {
        if !self.config.client.is_confidential() {
            return Err(AuthError::configuration(
                "the server tells only a client that proves who it is about tokens (RFC 7662 section 2.1); set a `client_secret` or a `key`",
            ));
        }
        let endpoint = self.endpoint(Which::Introspection).await?;
        let mut form = Form::default();
        form.push("token", token.expose_secret());
        let headers = self.authenticate(&endpoint, &mut form).await?;
        let reply = self.http.post(&endpoint, form, headers).await?;
        read(&reply)
    }
}

pub(crate) fn read(reply: &Reply) -> Result<Introspection, AuthError> {
    let what = "the introspection";
    if let Some(error) = error_in(reply, &Asked { what, ..Asked::default() }) {
        return Err(error);
    }
    let Some(members) = json::object(&reply.body) else {
        return Err(reply.error(AuthError::transient(format!("{what}: the server's answer cannot be read"))));
    };
    let Some(active) = members.get("active").and_then(Value::as_bool) else {
        let error =
            AuthError::refused(format!("{what}: the server's answer does not say `active`: true or false"));
        return Err(reply.error(error));
    };
    if !active {
        // Whatever else it says does not count (RFC 7662 section 2.2).
        return Ok(Introspection {
            active,
            scopes: None,
            subject: None,
            client_id: None,
            expires_at: None,
            members: Map::new(),
        });
    }
    let text = |member: &str| json::text(members.get(member)).map(str::to_owned);
    Ok(Introspection {
        active,
        scopes: text("scope").map(|scopes| Scopes::parse(&scopes)),
        subject: text("sub"),
        client_id: text("client_id"),
        expires_at: json::seconds(members.get("exp")).and_then(|exp: Duration| UNIX_EPOCH.checked_add(exp)),
        members,
    })
}

#[cfg(test)]
mod tests {
    use keyfob_auth_core::ErrorKind;

    use super::*;
    use crate::oauth_error::tests::reply;

    #[test]
    fn rfc7662_2_2_active_is_a_boolean_and_must_be_there() {
        for body in ["{}", r#"{"active":"true"}"#, r#"{"active":1}"#, r#"{"active":null}"#] {
            assert_eq!(read(&reply(200, body)).unwrap_err().kind(), ErrorKind::Refused, "{body}");
        }
        let answer = read(&reply(200, r#"{"active":true,"scope":"a b","sub":"1","client_id":"c","exp":60}"#));
        let answer = answer.unwrap();
        assert!(answer.active);
        assert_eq!(answer.scopes, Some(Scopes::parse("a b")));
        assert_eq!((answer.subject.as_deref(), answer.client_id.as_deref()), (Some("1"), Some("c")));
        assert_eq!(answer.expires_at, Some(UNIX_EPOCH + Duration::from_secs(60)));
    }

    #[test]
    fn debug_tells_of_nobody() {
        let answer = read(&reply(200, r#"{"active":true,"sub":"marker","email":"marker","client_id":"c"}"#));
        let shown = format!("{:?}", answer.unwrap());
        assert!(!shown.contains("marker") && shown.contains("email") && shown.contains("\"c\""), "{shown}");
    }

    #[test]
    fn rfc7662_2_2_nothing_else_is_said_of_an_inactive_token() {
        let answer = read(&reply(200, r#"{"active":false,"scope":"a","sub":"1"}"#)).unwrap();
        assert!(!answer.active && answer.scopes.is_none() && answer.members.is_empty());
    }

    #[test]
    fn rfc7662_2_3_a_failure_is_not_inactive() {
        for (status, body, kind) in [
            (401, r#"{"error":"invalid_client"}"#, ErrorKind::Refused),
            (500, "", ErrorKind::Transient),
            (404, "", ErrorKind::Refused),
            (200, "<html>", ErrorKind::Transient),
        ] {
            assert_eq!(read(&reply(status, body)).unwrap_err().kind(), kind, "{status} {body}");
        }
    }
}
