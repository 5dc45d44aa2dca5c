//! Client authentication: RFC 6749 section 2.3, RFC 7523 section 2.2 and RFC 8705 section 2.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    assertion::{CLIENT_ASSERTION_TYPE, named_client, verify_client},
    inner::{Server, State},
    received::Received,
    registration::{Client, RegisteredCertificate, TokenEndpointAuthMethod},
    respond::OAuthError,
    verify::Jwt,
};

/// The client that a request proves to be from.
pub(super) fn authenticate(
    server: &Server,
    state: &mut State,
    received: &Received,
) -> Result<Client, OAuthError> {
    let assertion = received.parameter("client_assertion");
    let basic = received.authorization("Basic");
    let secret = received.parameter("client_secret");
    if [assertion, basic, secret].into_iter().flatten().count() > 1 {
        return Err(OAuthError::invalid_request("the client authenticates in two ways"));
    }
    match (assertion, basic) {
        (Some(assertion), _) => by_assertion(server, state, received, assertion),
        (None, Some(credentials)) => by_basic(state, received, credentials),
        (None, None) => by_name(server, state, received, secret),
    }
}

/// Like [`authenticate`], for endpoints that want a confidential client.
pub(super) fn authenticate_confidential(
    server: &Server,
    state: &mut State,
    received: &Received,
) -> Result<Client, OAuthError> {
    let client = authenticate(server, state, received)?;
    if client.is_public() {
        return Err(OAuthError::invalid_client("a public client may not do this", false));
    }
    Ok(client)
}

fn by_assertion(
    server: &Server,
    state: &mut State,
    received: &Received,
    assertion: &str,
) -> Result<Client, OAuthError> {
    if received.parameter("client_assertion_type") != Some(CLIENT_ASSERTION_TYPE) {
        return Err(OAuthError::invalid_request("the client_assertion_type is missing or unknown"));
    }
    let refuse = |reason: String| OAuthError::invalid_client(&format!("the assertion: {reason}"), false);
    let assertion = Jwt::parse(assertion).map_err(refuse)?;
    let client = named_client(state, &assertion, received.parameter("client_id")).map_err(refuse)?;
    let method = verify_client(server, state, &client, &assertion).map_err(refuse)?;
    allowed(client, method)
}

fn by_basic(state: &State, received: &Received, credentials: &str) -> Result<Client, OAuthError> {
    let (id, secret) = decode_basic(credentials)
        .ok_or_else(|| OAuthError::invalid_client("the Basic credentials are malformed", true))?;
    if received.parameter("client_id").is_some_and(|named| named != id) {
        return Err(OAuthError::invalid_request("client_id differs from the Basic credentials"));
    }
    by_secret(state, &id, &secret, TokenEndpointAuthMethod::ClientSecretBasic)
}

/// A client that says its name, and its secret or shows its certificate if it has one.
fn by_name(
    server: &Server,
    state: &State,
    received: &Received,
    secret: Option<&str>,
) -> Result<Client, OAuthError> {
    let id = received.parameter("client_id");
    let id = id.ok_or_else(|| OAuthError::invalid_client("the request names no client", false))?;
    if let Some(secret) = secret {
        return by_secret(state, id, secret, TokenEndpointAuthMethod::ClientSecretPost);
    }
    let client = known(state, id, false)?;
    let refuse = |description: &str| Err(OAuthError::invalid_client(description, false));
    let method = match (&client.certificate, received.certificates().first()) {
        (None, _) => TokenEndpointAuthMethod::None,
        (Some(_), None) => return refuse("the client has to show its certificate"),
        (Some(RegisteredCertificate::DnsName(name)), Some(_)) => {
            let tls = server.tls.as_ref().filter(|tls| tls.vouches_for(received.certificates(), name));
            if tls.is_none() {
                return refuse("the certificate is not from the authority, or for another name");
            }
            TokenEndpointAuthMethod::TlsClientAuth
        }
        (Some(RegisteredCertificate::Pinned(thumbprint)), Some(_)) => {
            if received.certificate_thumbprint().as_ref() != Some(thumbprint) {
                return refuse("the certificate is another one");
            }
            TokenEndpointAuthMethod::SelfSignedTlsClientAuth
        }
    };
    allowed(client, method)
}

fn by_secret(
    state: &State,
    id: &str,
    secret: &str,
    method: TokenEndpointAuthMethod,
) -> Result<Client, OAuthError> {
    let basic = method == TokenEndpointAuthMethod::ClientSecretBasic;
    let client = allowed(known(state, id, basic)?, method)?;
    if client.secret.as_deref() != Some(secret) {
        return Err(OAuthError::invalid_client("the client secret is wrong", basic));
    }
    Ok(client)
}

fn known(state: &State, id: &str, basic: bool) -> Result<Client, OAuthError> {
    state.client(id).ok_or_else(|| OAuthError::invalid_client("the client is unknown", basic))
}

fn allowed(client: Client, method: TokenEndpointAuthMethod) -> Result<Client, OAuthError> {
    if client.auth_methods.contains(&method) {
        return Ok(client);
    }
    let basic = method == TokenEndpointAuthMethod::ClientSecretBasic;
    Err(OAuthError::invalid_client("the client may not authenticate like this", basic))
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
