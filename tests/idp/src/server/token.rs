//! The token endpoint, and its grants but for those by the tokens of others.

use std::time::Instant;

use axum::{http::StatusCode, response::Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    authorization_request::{check_resources, read_details},
    client_auth::authenticate,
    devices::Poll,
    dpop, exchange,
    inner::{Server, State},
    issue::{Caller, Issuance, issue, issue_family},
    received::Received,
    registration::Client,
    respond::{OAuthError, json_response},
    tokens::{Binding, Grant, Redemption},
};

/// The `grant_type` of the device flow.
pub const DEVICE_CODE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The `grant_type` of RFC 8693.
pub const TOKEN_EXCHANGE_GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// The `grant_type` of RFC 7523.
pub const JWT_BEARER_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The `grant_type`s that the server knows.
pub(super) const GRANT_TYPES: [&str; 7] = [
    "authorization_code",
    "client_credentials",
    "password",
    "refresh_token",
    DEVICE_CODE_GRANT,
    TOKEN_EXCHANGE_GRANT,
    JWT_BEARER_GRANT,
];

/// `POST /token`. The state is locked throughout, so that a refresh token rotates once, whoever races.
pub(super) fn token(server: &Server, received: &Received) -> Response {
    let mut state = server.state();
    let mut response = match answer(server, &mut state, received) {
        Ok(body) => {
            state.counters.issued(received.parameter("grant_type").unwrap_or_default());
            json_response(StatusCode::OK, &body)
        }
        Err(error) => {
            state.counters.invalid_grant += u64::from(error.error == "invalid_grant");
            state.counters.invalid_client += u64::from(error.error == "invalid_client");
            error.response()
        }
    };
    dpop::add_server_nonce(&state, &mut response);
    response
}

fn answer(server: &Server, state: &mut State, received: &Received) -> Result<Value, OAuthError> {
    received.check_form()?;
    let grant_type = received.required("grant_type")?;
    let client = authenticate(server, state, received)?;
    let key = dpop::at_server(state, received, &client)?;
    let certificate = client.certificate.as_ref().and_then(|_| received.certificate_thumbprint());
    let binding = key.map(Binding::Dpop).or(certificate.map(Binding::Certificate));
    let caller = Caller { client, binding };
    match grant_type {
        "authorization_code" => authorization_code(server, state, received, &caller),
        "client_credentials" => client_credentials(server, state, received, &caller),
        "password" => password(server, state, received, &caller),
        "refresh_token" => refresh(server, state, received, &caller),
        DEVICE_CODE_GRANT => device_code(server, state, received, &caller),
        TOKEN_EXCHANGE_GRANT => exchange::token_exchange(server, state, received, &caller),
        JWT_BEARER_GRANT => exchange::jwt_bearer(server, state, received, &caller),
        _ => Err(OAuthError::new("unsupported_grant_type", "the grant type is unknown")),
    }
}

/// RFC 6749 section 4.1.3 with RFC 7636 section 4.6. Whatever comes of it, the code is spent; a second use ends what
/// the first one gave.
fn authorization_code(
    server: &Server,
    state: &mut State,
    received: &Received,
    caller: &Caller,
) -> Result<Value, OAuthError> {
    let value = received.required("code")?;
    let redirect_uri = received.required("redirect_uri")?;
    let verifier = received.required("code_verifier")?;
    let invalid = |description| Err(OAuthError::invalid_grant(description));
    let Some(code) = state.codes.find(value) else { return invalid("the code is unknown") };
    if code.request.client_id != caller.client.id {
        return invalid("the code is another client's");
    }
    if std::mem::replace(&mut code.spent, true) {
        state.counters.code_reuse += 1;
        let killed = code.family.is_some_and(|family| state.tokens.kill(family));
        state.counters.families_killed += u64::from(killed);
        return invalid("the code was used before");
    }
    if Instant::now() >= code.deadline {
        return invalid("the code has expired");
    }
    if code.request.redirection.uri != redirect_uri {
        return invalid("the redirect_uri is not that of the authorization request");
    }
    let unreserved = |letter: u8| letter.is_ascii_alphanumeric() || b"-._~".contains(&letter);
    if !(43..=128).contains(&verifier.len()) || !verifier.bytes().all(unreserved) {
        return invalid("the code_verifier is not 43 to 128 unreserved characters");
    }
    if URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) != code.request.code_challenge {
        return invalid("the code_verifier does not match the code_challenge");
    }
    if let Some(jkt) = &code.request.dpop_jkt
        && caller.binding != Some(Binding::Dpop(jkt.clone()))
    {
        return Err(OAuthError::new("invalid_dpop_proof", "the code is bound to another key"));
    }
    let nonce = code.request.nonce.clone();
    let grant = code.grant.clone().narrowed(resources(received)?)?;
    let (family, body) = issue_family(server, state, caller, grant, nonce);
    if let Some(code) = state.codes.find(value) {
        code.family = Some(family);
    }
    Ok(body)
}

fn client_credentials(
    server: &Server,
    state: &mut State,
    received: &Received,
    caller: &Caller,
) -> Result<Value, OAuthError> {
    if caller.client.is_public() {
        return Err(OAuthError::new("unauthorized_client", "a public client has no credentials"));
    }
    Ok(issue(server, state, caller, requested(received, &caller.client)?, Issuance::default()))
}

fn password(
    server: &Server,
    state: &mut State,
    received: &Received,
    caller: &Caller,
) -> Result<Value, OAuthError> {
    let name = received.required("username")?;
    let password = received.required("password")?;
    let user = server.settings.user(name).filter(|user| user.password == password);
    let user = user.ok_or_else(|| OAuthError::invalid_grant("the user name or the password is wrong"))?;
    let grant = Grant { user: Some(user.clone()), ..requested(received, &caller.client)? };
    Ok(issue_family(server, state, caller, grant, None).1)
}

fn device_code(
    server: &Server,
    state: &mut State,
    received: &Received,
    caller: &Caller,
) -> Result<Value, OAuthError> {
    let code = received.required("device_code")?;
    let poll = state.devices.poll(&server.settings, &caller.client.id, code);
    state.counters.device_polls += u64::from(!matches!(poll, Poll::Unknown));
    state.counters.device_polls_too_early += u64::from(matches!(poll, Poll::TooEarly));
    let (error, description) = match poll {
        Poll::Granted(grant) => return Ok(issue_family(server, state, caller, *grant, None).1),
        Poll::Unknown => ("invalid_grant", "the device code is unknown or was redeemed"),
        Poll::Expired => ("expired_token", "the device code has expired"),
        Poll::TooEarly => ("slow_down", "the device polled before its interval was over"),
        Poll::Denied => ("access_denied", "the user denied the request"),
        Poll::Pending => ("authorization_pending", "the user has not decided yet"),
    };
    Err(OAuthError::new(error, description))
}

fn refresh(
    server: &Server,
    state: &mut State,
    received: &Received,
    caller: &Caller,
) -> Result<Value, OAuthError> {
    let wish = Redemption {
        client_id: &caller.client.id,
        value: received.required("refresh_token")?,
        scopes: received.parameter("scope").map(split_scopes),
        resources: resources(received)?,
        binding: caller.binding.as_ref(),
    };
    let redeemed = state.tokens.redeem(&server.settings, wish);
    let reuse = redeemed.as_ref().map_or_else(|refused| refused.reuse, |redeemed| redeemed.reuse);
    state.counters.reuse += u64::from(reuse);
    let redeemed = redeemed.map_err(|refused| {
        state.counters.families_killed += u64::from(refused.killed);
        refused.error
    })?;
    let issuance = Issuance {
        family: Some(redeemed.family),
        refresh_token: redeemed.refresh_token,
        ..Issuance::default()
    };
    Ok(issue(server, state, caller, redeemed.grant, issuance))
}

/// The grant that a request asks for: any scope is granted.
pub(super) fn requested(received: &Received, client: &Client) -> Result<Grant, OAuthError> {
    let mut audiences = resources(received)?;
    audiences.extend(received.all("audience"));
    Ok(Grant {
        scopes: received.parameter("scope").map(split_scopes).unwrap_or_default(),
        audiences,
        authorization_details: received.parameter("authorization_details").map(read_details).transpose()?,
        ..Grant::of(&client.id)
    })
}

fn resources(received: &Received) -> Result<Vec<String>, OAuthError> {
    let resources = received.all("resource");
    check_resources(&resources)?;
    Ok(resources)
}

pub(super) fn split_scopes(scope: &str) -> Vec<String> {
    scope.split_ascii_whitespace().map(str::to_owned).collect()
}
