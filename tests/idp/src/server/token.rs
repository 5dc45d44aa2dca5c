//! The token endpoint.

use std::time::UNIX_EPOCH;

use axum::{http::StatusCode, response::Response};
use serde_json::{Value, json};

use super::{
    client_auth::authenticate,
    devices::Poll,
    inner::{Server, State},
    received::Received,
    respond::{OAuthError, json_response},
    settings::{AccessTokenFormat, Client, ExpiresInStyle, TokenTypeStyle, Whole as _},
    signer::random,
    tokens::{AccessToken, FamilyId, Grant},
};

/// The `grant_type` of the device flow.
pub const DEVICE_CODE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The `grant_type`s that the server knows.
pub(super) const GRANT_TYPES: [&str; 4] =
    ["client_credentials", "password", "refresh_token", DEVICE_CODE_GRANT];

/// `POST /token`. The state is locked throughout, so that a refresh token rotates once, whoever races.
pub(super) fn token(server: &Server, received: &Received) -> Response {
    let mut state = server.state();
    match answer(server, &mut state, received) {
        Ok(body) => {
            state.counters.issued(received.parameter("grant_type").unwrap_or_default());
            json_response(StatusCode::OK, &body)
        }
        Err(error) => {
            state.counters.invalid_grant += u64::from(error.error == "invalid_grant");
            state.counters.invalid_client += u64::from(error.error == "invalid_client");
            error.response()
        }
    }
}

fn answer(server: &Server, state: &mut State, received: &Received) -> Result<Value, OAuthError> {
    received.check_form()?;
    let grant_type = received.required("grant_type")?;
    let client = authenticate(&state.clients, received)?;
    match grant_type {
        "client_credentials" => client_credentials(server, state, received, &client),
        "password" => password(server, state, received, &client),
        "refresh_token" => refresh(server, state, received, &client),
        DEVICE_CODE_GRANT => device_code(server, state, received, &client),
        _ => Err(OAuthError::new("unsupported_grant_type", "the grant type is unknown")),
    }
}

fn client_credentials(
    server: &Server,
    state: &mut State,
    received: &Received,
    client: &Client,
) -> Result<Value, OAuthError> {
    if client.secret.is_none() {
        return Err(OAuthError::new("unauthorized_client", "a public client has no credentials"));
    }
    Ok(issue(server, state, requested(received, client), None, None))
}

fn password(
    server: &Server,
    state: &mut State,
    received: &Received,
    client: &Client,
) -> Result<Value, OAuthError> {
    let name = received.required("username")?;
    let password = received.required("password")?;
    let user = server.settings.user(name).filter(|user| user.password == password);
    let user = user.ok_or_else(|| OAuthError::invalid_grant("the user name or the password is wrong"))?;
    let grant = Grant { user: Some(user.clone()), ..requested(received, client) };
    Ok(issue_family(server, state, grant))
}

fn device_code(
    server: &Server,
    state: &mut State,
    received: &Received,
    client: &Client,
) -> Result<Value, OAuthError> {
    let code = received.required("device_code")?;
    let poll = state.devices.poll(&server.settings, &client.id, code);
    state.counters.device_polls += u64::from(!matches!(poll, Poll::Unknown));
    state.counters.device_polls_too_early += u64::from(matches!(poll, Poll::TooEarly));
    let (error, description) = match poll {
        Poll::Granted(grant) => return Ok(issue_family(server, state, grant)),
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
    client: &Client,
) -> Result<Value, OAuthError> {
    let value = received.required("refresh_token")?;
    let scopes = received.parameter("scope").map(split_scopes);
    let redeemed = state.tokens.redeem(&server.settings, &client.id, value, scopes);
    let reuse = redeemed.as_ref().map_or_else(|refused| refused.reuse, |redeemed| redeemed.reuse);
    state.counters.reuse += u64::from(reuse);
    let redeemed = redeemed.map_err(|refused| {
        state.counters.families_killed += u64::from(refused.killed);
        refused.error
    })?;
    Ok(issue(server, state, redeemed.grant, Some(redeemed.family), redeemed.refresh_token))
}

/// The grant that a request asks for: any scope is granted.
pub(super) fn requested(received: &Received, client: &Client) -> Grant {
    Grant {
        client_id: client.id.clone(),
        user: None,
        scopes: received.parameter("scope").map(split_scopes).unwrap_or_default(),
        audience: received
            .parameter("resource")
            .or_else(|| received.parameter("audience"))
            .map(str::to_owned),
    }
}

fn split_scopes(scope: &str) -> Vec<String> {
    scope.split_ascii_whitespace().map(str::to_owned).collect()
}

fn issue_family(server: &Server, state: &mut State, grant: Grant) -> Value {
    let family = state.tokens.begin_family(grant.clone());
    let refresh_token = server.settings.issue_refresh_token.then(|| state.tokens.issue_refresh_token(family));
    issue(server, state, grant, Some(family), refresh_token)
}

/// Issues an access token, and an ID token if it is for a user and has the scope `openid`.
fn issue(
    server: &Server,
    state: &mut State,
    grant: Grant,
    family: Option<FamilyId>,
    refresh_token: Option<String>,
) -> Value {
    let settings = &server.settings;
    let token = state.tokens.next_access_token(grant, family, settings.access_token_lifetime);
    let value = match settings.access_token_format {
        AccessTokenFormat::Opaque => random("at"),
        AccessTokenFormat::Jwt => access_jwt(server, &token),
    };
    let mut body = json!({ "access_token": value });
    match settings.token_type_style {
        TokenTypeStyle::Bearer => body["token_type"] = json!("Bearer"),
        TokenTypeStyle::LowerCase => body["token_type"] = json!("bearer"),
        TokenTypeStyle::Missing => {}
    }
    let expires_in = settings.access_token_lifetime.whole(settings.expires_in_rounding);
    match settings.expires_in_style {
        ExpiresInStyle::Number => body["expires_in"] = json!(expires_in),
        ExpiresInStyle::Text => body["expires_in"] = json!(expires_in.to_string()),
        ExpiresInStyle::Missing => {}
    }
    if !token.grant.scopes.is_empty() {
        body["scope"] = json!(token.grant.scopes.join(" "));
    }
    if let Some(refresh_token) = refresh_token {
        body["refresh_token"] = json!(refresh_token);
    }
    if let Some(id_token) = id_token(server, &token) {
        body["id_token"] = json!(id_token);
    }
    state.tokens.keep(value, token);
    body
}

/// The claims that both kinds of JWT have.
fn common_claims(server: &Server, token: &AccessToken, audience: &str) -> Value {
    let issued = token.issued.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "iss": server.issuer,
        "sub": token.grant.subject(),
        "aud": audience,
        "iat": issued.as_secs(),
        "exp": (issued + token.lifetime).as_secs(),
    })
}

fn access_jwt(server: &Server, token: &AccessToken) -> String {
    let api = server.url("/api/echo");
    let mut claims = common_claims(server, token, token.grant.audience.as_deref().unwrap_or(&api));
    claims["jti"] = json!(random("jti"));
    claims["client_id"] = json!(token.grant.client_id);
    claims["scope"] = json!(token.grant.scopes.join(" "));
    server.signer.sign("at+jwt", &claims)
}

fn id_token(server: &Server, token: &AccessToken) -> Option<String> {
    let user = token.grant.user.as_ref()?;
    if !token.grant.scopes.iter().any(|scope| scope == "openid") {
        return None;
    }
    let mut claims = common_claims(server, token, &token.grant.client_id);
    claims["email"] = json!(user.email);
    claims["preferred_username"] = json!(user.name);
    Some(server.signer.sign("JWT", &claims))
}
