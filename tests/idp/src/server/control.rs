//! Control over HTTP, for the demo and for other processes. It needs no authentication and meets no faults.

use std::{error::Error, fmt, time::Duration};

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    fault::{Endpoint, Fault},
    inner::Server,
    received::Received,
    respond::json_response,
};

/// Why a command to the server came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// No device authorization with this user code is pending.
    UnknownUserCode,
    /// There is no such user.
    UnknownUser,
    /// There is no such client.
    UnknownClient,
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownUserCode => "no device authorization with this user code is pending",
            Self::UnknownUser => "there is no such user",
            Self::UnknownClient => "there is no such client",
        })
    }
}

impl Error for ControlError {}

/// `GET /control/counters`.
pub(super) fn counters(server: &Server, _: &Received) -> Response {
    json_response(StatusCode::OK, &json!(server.state().counters))
}

/// `POST /control/approve` with `user_code` and `user`.
pub(super) fn approve(server: &Server, received: &Received) -> Response {
    done(server.approve(parameter(received, "user_code"), parameter(received, "user")))
}

/// `POST /control/deny` with `user_code`.
pub(super) fn deny(server: &Server, received: &Received) -> Response {
    done(server.deny(parameter(received, "user_code")))
}

/// `POST /control/log_out` with `user`.
pub(super) fn log_out(server: &Server, received: &Received) -> Response {
    json_response(StatusCode::OK, &json!({ "ended": server.log_out(parameter(received, "user")) }))
}

/// `POST /control/secret` with `client_id` and `client_secret`.
pub(super) fn secret(server: &Server, received: &Received) -> Response {
    done(server.set_secret(parameter(received, "client_id"), parameter(received, "client_secret")))
}

/// `POST /control/revoke_access_tokens`.
pub(super) fn revoke_access_tokens(server: &Server, _: &Received) -> Response {
    let revoked = server.state().tokens.revoke_all_access_tokens();
    json_response(StatusCode::OK, &json!({ "revoked": revoked }))
}

/// `POST /control/rotate_keys` with `keep=true` if the old ones are to stay published.
pub(super) fn rotate_keys(server: &Server, received: &Received) -> Response {
    server.signer().rotate(parameter(received, "keep") == "true");
    done(Ok(()))
}

/// `POST /control/down` with `seconds`: nothing answers for so long, this path included.
pub(super) fn down(server: &Server, received: &Received) -> Response {
    match parameter(received, "seconds").parse().map(Duration::try_from_secs_f64) {
        Ok(Ok(duration)) => {
            server.down_for(duration);
            done(Ok(()))
        }
        _ => wrong("seconds is a number"),
    }
}

/// `POST /control/faults` with JSON `{"endpoint": "token", "fault": ..., "always": false}`: adds a fault for one
/// request, or sets the standing one (with `always`); a standing `null` removes it.
pub(super) fn faults(server: &Server, received: &Received) -> Response {
    #[derive(Deserialize)]
    struct Command {
        endpoint: Endpoint,
        fault: Option<Fault>,
        #[serde(default)]
        always: bool,
    }

    let command: Command = match serde_json::from_slice(received.body()) {
        Ok(command) => command,
        Err(error) => return wrong(&error.to_string()),
    };
    match command.fault {
        fault if command.always => server.faults.set_always(command.endpoint, fault),
        Some(fault) => server.faults.push(command.endpoint, fault),
        None => return wrong("a fault is missing"),
    }
    done(Ok(()))
}

/// `DELETE /control/faults`.
pub(super) fn clear_faults(server: &Server, _: &Received) -> Response {
    server.faults.clear();
    done(Ok(()))
}

fn parameter<'a>(received: &'a Received, name: &str) -> &'a str {
    received.parameter(name).unwrap_or_default()
}

fn done(result: Result<(), ControlError>) -> Response {
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => json_response(StatusCode::NOT_FOUND, &json!({ "error": error.to_string() })),
    }
}

fn wrong(description: &str) -> Response {
    json_response(StatusCode::BAD_REQUEST, &json!({ "error": description }))
}
