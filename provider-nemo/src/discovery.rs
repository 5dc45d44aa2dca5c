//! What a platform says of how to sign in to it. Asked for at run time, and never stored.

use std::{sync::Arc, time::Duration};

use keyfob_auth_core::AuthError;
use keyfob_provider_oidc::Oidc;
use serde_json::{Map, Value};

use crate::scopes::ScopeRules;

/// How long an answer is used: as long as the platform itself remembers what its identity provider says.
const FRESH: Duration = Duration::from_secs(300);

/// A platform that asks for credentials, and where they come from.
#[derive(Debug)]
pub(crate) struct Discovery {
    url: String,
    document: Arc<Map<String, Value>>,
}

impl Discovery {
    /// Asks the platform, or remembers what it said.
    ///
    /// # Errors
    /// Not configured if the platform asks for no credentials; those of [`Oidc::document`].
    pub(crate) async fn of(base_url: &str, network: &Oidc) -> Result<Self, AuthError> {
        let url = format!("{}/apis/auth/discovery", base_url.trim_end_matches('/'));
        let document = network.document(&url, FRESH).await?;
        match document.get("auth_enabled").and_then(Value::as_bool) {
            Some(true) => Ok(Self { url, document }),
            Some(false) => Err(AuthError::not_configured(
                "authentication is off at this platform: it asks for no credentials, and none are sent to it",
            )
            .with_origin(url)),
            None => Err(AuthError::configuration(
                "the answer does not say whether authentication is on (`auth_enabled`); is this a NeMo Platform?",
            )
            .with_origin(url)),
        }
    }

    /// A member of what the platform says of its identity provider.
    pub(crate) fn get(&self, member: &str) -> Option<&str> {
        self.value(member).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// A member that a flow cannot do without.
    ///
    /// # Errors
    /// Refused, with what can be done instead, if the platform does not say it.
    pub(crate) fn need(&self, member: &str) -> Result<&str, AuthError> {
        self.get(member).ok_or_else(|| {
            let instead = match (member, self.has_identity_provider()) {
                ("device_authorization_endpoint", true) => {
                    "sign in with a user name and a password (`flow = \"password\"`)"
                }
                (_, true) => "its administrator has to complete it",
                (_, false) => {
                    "it has no identity provider, and knows unsigned tokens at most (`flow = \"unsigned\"`)"
                }
            };
            self.refused(&format!("the platform names no `{member}`: {instead}"))
        })
    }

    /// Whether people can sign in.
    pub(crate) fn has_identity_provider(&self) -> bool {
        self.get("token_endpoint").is_some() && self.get("client_id").is_some()
    }

    /// Whether a member is `true`.
    pub(crate) fn says(&self, member: &str) -> bool {
        self.value(member).and_then(Value::as_bool) == Some(true)
    }

    pub(crate) fn scopes(&self) -> ScopeRules {
        ScopeRules::new(self.get("default_scopes"), self.get("scope_prefix"))
    }

    /// An error that this answer is the reason of.
    pub(crate) fn refused(&self, message: &str) -> AuthError {
        AuthError::refused(message).with_origin(self.url.clone())
    }

    fn value(&self, member: &str) -> Option<&Value> {
        self.document.get("oidc").and_then(|oidc| oidc.get(member))
    }
}
