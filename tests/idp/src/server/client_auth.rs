//! Client authentication of RFC 6749 section 2.3.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    received::Received,
    respond::OAuthError,
    settings::{Client, TokenEndpointAuthMethod},
};

/// The client that a request proves to be from.
pub(super) fn authenticate(clients: &[Client], received: &Received) -> Result<Client, OAuthError> {
    let presented = present(received)?;
    let basic = presented.method == TokenEndpointAuthMethod::ClientSecretBasic;
    let refuse = |description| Err(OAuthError::invalid_client(description, basic));
    let Some(client) = clients.iter().find(|client| client.id == presented.id) else {
        return refuse("the client is unknown");
    };
    if !client.auth_methods.contains(&presented.method) {
        return refuse("the client may not authenticate like this");
    }
    if presented.method != TokenEndpointAuthMethod::None && client.secret != presented.secret {
        return refuse("the client secret is wrong");
    }
    Ok(client.clone())
}

/// Like [`authenticate`], for endpoints that want a confidential client.
pub(super) fn authenticate_confidential(
    clients: &[Client],
    received: &Received,
) -> Result<Client, OAuthError> {
    let client = authenticate(clients, received)?;
    if client.secret.is_none() {
        return Err(OAuthError::invalid_client("a public client may not do this", false));
    }
    Ok(client)
}

/// What a request says of its client.
struct Presented {
    method: TokenEndpointAuthMethod,
    id: String,
    secret: Option<String>,
}

fn present(received: &Received) -> Result<Presented, OAuthError> {
    let id = received.parameter("client_id");
    let secret = received.parameter("client_secret");
    if let Some(credentials) = received.authorization("Basic") {
        if secret.is_some() {
            return Err(OAuthError::invalid_request("the client authenticates in two ways"));
        }
        let (basic_id, secret) = decode_basic(credentials)
            .ok_or_else(|| OAuthError::invalid_client("the Basic credentials are malformed", true))?;
        if id.is_some_and(|id| id != basic_id) {
            return Err(OAuthError::invalid_request("client_id differs from the Basic credentials"));
        }
        let method = TokenEndpointAuthMethod::ClientSecretBasic;
        return Ok(Presented { method, id: basic_id, secret: Some(secret) });
    }
    let id = id.ok_or_else(|| OAuthError::invalid_client("the request names no client", false))?.to_owned();
    let method = match secret {
        Some(_) => TokenEndpointAuthMethod::ClientSecretPost,
        None => TokenEndpointAuthMethod::None,
    };
    Ok(Presented { method, id, secret: secret.map(str::to_owned) })
}

/// Both halves of Basic credentials, each form-decoded.
fn decode_basic(credentials: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((form_decode(id), form_decode(secret)))
}

fn form_decode(text: &str) -> String {
    // The only value of a form; an ampersand that the client left as it is must not end it.
    let form = format!("value={}", text.replace('&', "%26"));
    url::form_urlencoded::parse(form.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}
