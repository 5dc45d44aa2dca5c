//! What tells two providers' logins and tokens apart besides issuer, client, grant and label.

use super::{Flow, OidcBuilder};
use crate::callback::SecretCallback;

/// Who and what was configured, as the tenant of an identity: another user name, subject, audience or resource is another
/// login; where no person signs in, other scopes are too. Empty where nothing of it was.
pub(super) fn tenant(builder: &OidcBuilder, flow: Flow) -> String {
    let mut parts = Vec::new();
    let mut part = |name: &str, value: String| {
        if !value.is_empty() {
            parts.push(format!("{name}={value}"));
        }
    };
    let of = |given: &Option<SecretCallback>| given.as_ref().map(SecretCallback::name).unwrap_or_default();
    match flow {
        Flow::Password => part("user", builder.username.clone().unwrap_or_default()),
        Flow::JwtBearer => {
            part("subject", builder.subject.clone().unwrap_or_default());
            part("assertion", of(&builder.grant_assertion));
        }
        Flow::TokenExchange => {
            part("subject_token", of(&builder.subject_token));
            part("actor_token", of(&builder.actor_token));
            part("requested", builder.requested_token_type.clone().unwrap_or_default());
        }
        Flow::Browser | Flow::Device | Flow::Auto | Flow::ClientCredentials => {}
    }
    let list = |texts: &[String]| texts.join(" ");
    part("audience", list(&builder.audiences));
    part("resource", list(&builder.resources));
    part("authorization_details", builder.authorization_details.clone().unwrap_or_default());
    if !flow.is_personal() && flow != Flow::Password {
        part("scope", builder.scopes.to_string());
        if !builder.extra.is_empty() {
            // Their values may be secret.
            let mut hash = hmac_sha256::Hash::new();
            for text in builder.extra.iter().flat_map(|(name, value)| [name, value]) {
                hash.update(text.len().to_le_bytes());
                hash.update(text);
            }
            part("extra", hash.finalize()[..4].iter().map(|byte| format!("{byte:02x}")).collect());
        }
    }
    parts.join(" ")
}
