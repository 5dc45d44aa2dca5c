//! The APIs that tokens are for.

use axum::{
    http::{StatusCode, header},
    response::Response,
};
use serde_json::json;

use super::{
    inner::Server,
    received::Received,
    respond::{empty_response, json_response},
};

/// `/api/echo` and below, with any method: tells what a request with a valid token was.
pub(super) fn echo(server: &Server, received: &Received) -> Response {
    let Some(value) = received.authorization("Bearer") else {
        // RFC 6750 section 3.1: no error code for a request without credentials.
        return unauthorized("Bearer");
    };
    let state = server.state();
    let Some(token) = state.tokens.active(value) else {
        return unauthorized(r#"Bearer error="invalid_token""#);
    };
    let body = json!({
        "method": received.method(),
        "path": received.path(),
        "subject": token.grant.subject(),
        "client_id": token.grant.client_id,
        "scopes": token.grant.scopes,
        "body_length": received.body().len(),
        "generation": token.generation,
    });
    json_response(StatusCode::OK, &body)
}

fn unauthorized(challenge: &str) -> Response {
    empty_response(StatusCode::UNAUTHORIZED, header::WWW_AUTHENTICATE, challenge)
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
