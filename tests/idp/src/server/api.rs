//! The APIs that tokens are for.

use std::time::SystemTime;

use axum::{
    http::{StatusCode, header},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    access::{Challenge, access_token},
    dpop::add_resource_nonce,
    inner::{Server, State},
    received::Received,
    respond::{empty_response, json_response},
    tokens::{AccessToken, Grant},
};

/// `/api/echo` and below, with any method: tells what a request with a valid token was.
pub(super) fn echo(server: &Server, received: &Received) -> Response {
    guarded(server, received, |_, token| Ok(told(received, token)))
}

/// `/api/step_up?acr_values=gold&max_age=60`, with any method: like `/api/echo` for a token whose user signed in that
/// well and that recently; RFC 9470.
pub(super) fn step_up(server: &Server, received: &Received) -> Response {
    guarded(server, received, |state, token| {
        let levels = received.query("acr_values");
        let most = received.query("max_age");
        if signed_in_well(&token.grant, levels.as_deref(), most.as_deref()) {
            return Ok(told(received, token));
        }
        state.counters.step_up_challenges += 1;
        let mut challenge = concat!(
            r#"Bearer error="insufficient_user_authentication", "#,
            r#"error_description="A better sign-in is required""#
        )
        .to_owned();
        for (name, value) in [("acr_values", levels), ("max_age", most)] {
            if let Some(value) = value {
                challenge += &format!(r#", {name}="{}""#, value.replace(['"', '\\'], "'"));
            }
        }
        Err(Challenge::unauthorized(&challenge))
    })
}

fn signed_in_well(grant: &Grant, levels: Option<&str>, most: Option<&str>) -> bool {
    let Some(sign_in) = &grant.sign_in else { return false };
    let level = levels.is_none_or(|levels| levels.split(' ').any(|level| level == sign_in.acr));
    let age = SystemTime::now().duration_since(sign_in.at).unwrap_or_default().as_secs_f64();
    level && most.is_none_or(|most| most.parse().is_ok_and(|most: f64| age <= most))
}

fn told(received: &Received, token: &AccessToken) -> Value {
    json!({
        "method": received.method(),
        "path": received.path(),
        "subject": token.grant.subject(),
        "client_id": token.grant.client_id,
        "scopes": token.grant.scopes,
        "body_length": received.body().len(),
        "generation": token.generation,
    })
}

/// `/userinfo`, OpenID Connect Core section 5.3.
pub(super) fn user_info(server: &Server, received: &Received) -> Response {
    guarded(server, received, |_, token| match &token.grant.user {
        Some(user) if token.grant.has_scope("openid") => {
            Ok(json!({ "sub": user.subject, "preferred_username": user.name, "email": user.email }))
        }
        _ => Err(Challenge::forbidden(r#"Bearer error="insufficient_scope", scope="openid""#)),
    })
}

/// Answers a request with a valid token.
fn guarded(
    server: &Server,
    received: &Received,
    act: impl FnOnce(&mut State, &AccessToken) -> Result<Value, Challenge>,
) -> Response {
    let mut state = server.state();
    let answer = access_token(&mut state, received).and_then(|token| act(&mut state, &token));
    let mut response = match answer {
        Ok(body) => json_response(StatusCode::OK, &body),
        Err(challenge) => challenge.response(),
    };
    add_resource_nonce(&state, &mut response);
    response
}

/// `/api/public`, with any method: asks for no token and tells whether it got one.
pub(super) fn public(_: &Server, received: &Received) -> Response {
    let body = json!({
        "method": received.method(),
        "path": received.path(),
        "authorization": received.has_header(header::AUTHORIZATION),
        "body_length": received.body().len(),
    });
    json_response(StatusCode::OK, &body)
}

/// `/api/redirect?to=URL&status=302`, with any method: redirects there.
pub(super) fn redirect(_: &Server, received: &Received) -> Response {
    let status = received.query("status").map_or(Ok(302), |status| status.parse());
    let status = status.ok().and_then(|status| StatusCode::from_u16(status).ok());
    match (received.query("to"), status.filter(StatusCode::is_redirection)) {
        (Some(to), Some(status)) if to.bytes().all(|byte| byte.is_ascii_graphic()) => {
            empty_response(status, header::LOCATION, &to)
        }
        _ => json_response(
            StatusCode::BAD_REQUEST,
            &json!({ "error": "to is a URL and status a redirection, if given" }),
        ),
    }
}
