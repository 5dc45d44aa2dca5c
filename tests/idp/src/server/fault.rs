//! Faults on demand.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What can fail. `/control` never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// Both metadata documents.
    Discovery,
    /// `/jwks`.
    Jwks,
    /// `/token`.
    Token,
    /// `/device_authorization`.
    DeviceAuthorization,
    /// `/device`, where users decide.
    Verification,
    /// `/revoke`.
    Revocation,
    /// `/introspect`.
    Introspection,
    /// `/authorize`. The page where people sign in is no endpoint of its own.
    Authorization,
    /// `/par`.
    PushedAuthorization,
    /// `/userinfo`.
    UserInfo,
    /// `/end_session`.
    EndSession,
    /// `/api/echo` and below, and `/api/step_up`.
    Api,
    /// `/api/public`.
    Public,
    /// `/api/redirect`.
    Redirect,
}

impl Endpoint {
    /// The endpoint of a path.
    pub(super) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server" => {
                Self::Discovery
            }
            "/jwks" => Self::Jwks,
            "/token" => Self::Token,
            "/device_authorization" => Self::DeviceAuthorization,
            "/device" => Self::Verification,
            "/revoke" => Self::Revocation,
            "/introspect" => Self::Introspection,
            "/authorize" => Self::Authorization,
            "/par" => Self::PushedAuthorization,
            "/userinfo" => Self::UserInfo,
            "/end_session" => Self::EndSession,
            "/api/echo" | "/api/step_up" => Self::Api,
            "/api/public" => Self::Public,
            "/api/redirect" => Self::Redirect,
            path if path.starts_with("/api/echo/") => Self::Api,
            _ => return None,
        })
    }
}

/// What goes wrong with one request. Unless it says that the server acts, the server does nothing of what was
/// asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// An answer with this status.
    Status {
        /// The status code.
        status: u16,
        /// The header `Retry-After` verbatim: seconds or an HTTP date.
        retry_after: Option<String>,
        /// A JSON body; empty if `None`.
        body: Option<Value>,
    },
    /// 429 with an empty body.
    TooManyRequests {
        /// The header `Retry-After` verbatim: seconds or an HTTP date.
        retry_after: Option<String>,
    },
    /// The server waits, then acts and answers as ever. If the client gives up before, the server never acts.
    Delay(Duration),
    /// The server acts and then waits before it answers as ever.
    DelayAnswer(Duration),
    /// The server waits, then does the other fault.
    Delayed(Duration, Box<Fault>),
    /// The connection is closed without an answer.
    DropBefore,
    /// The server acts, then the connection is closed without an answer.
    DropAfter,
    /// The server acts; its answer announces the full `Content-Length` and stops halfway.
    Truncated,
    /// The server acts; the status and headers are as ever and the body is not JSON.
    Malformed,
    /// The server acts; the status is as ever and the body is empty.
    EmptyBody,
    /// The server acts; its answer is grown to at least this many bytes, by a member `padding` if it is a JSON
    /// object.
    Oversized(usize),
    /// 400 `slow_down`. To a poll of the device flow, the device code's interval grows by five seconds.
    SlowDown,
    /// An error answer of RFC 6749.
    OAuthError {
        /// The status code.
        status: u16,
        /// The member `error`.
        error: String,
        /// The member `error_description`.
        description: Option<String>,
    },
    /// An HTML page with this status, as a proxy would send.
    Html(u16),
    /// A challenge by a protected resource.
    Challenge {
        /// The status code, 401 or 403.
        status: u16,
        /// The header `WWW-Authenticate`.
        challenge: String,
    },
}

impl Fault {
    /// An empty answer with this status.
    pub fn status(status: u16) -> Self {
        Self::Status { status, retry_after: None, body: None }
    }

    /// 503 with a `Retry-After` in seconds, if any.
    pub fn unavailable(retry_after: Option<u64>) -> Self {
        Self::Status { status: 503, retry_after: retry_after.map(|seconds| seconds.to_string()), body: None }
    }

    /// 429 with a `Retry-After` in seconds, if any.
    pub fn too_many_requests(retry_after: Option<u64>) -> Self {
        Self::TooManyRequests { retry_after: retry_after.map(|seconds| seconds.to_string()) }
    }

    /// 400 with an error of RFC 6749 and no description.
    pub fn oauth_error(error: &str) -> Self {
        Self::OAuthError { status: 400, error: error.to_owned(), description: None }
    }

    /// 401 `invalid_token` of RFC 6750.
    pub fn invalid_token() -> Self {
        Self::Challenge { status: 401, challenge: r#"Bearer error="invalid_token""#.to_owned() }
    }

    /// 403 `insufficient_scope` of RFC 6750.
    pub fn insufficient_scope(scope: &str) -> Self {
        let challenge = format!(r#"Bearer error="insufficient_scope", scope="{scope}""#);
        Self::Challenge { status: 403, challenge }
    }

    /// 401 `insufficient_user_authentication` of RFC 9470.
    pub fn insufficient_user_authentication(acr_values: Option<&str>, max_age: Option<u64>) -> Self {
        let mut challenge = concat!(
            r#"Bearer error="insufficient_user_authentication", "#,
            r#"error_description="A stronger authentication is required""#
        )
        .to_owned();
        if let Some(acr_values) = acr_values {
            challenge += &format!(r#", acr_values="{acr_values}""#);
        }
        if let Some(max_age) = max_age {
            challenge += &format!(r#", max_age="{max_age}""#);
        }
        Self::Challenge { status: 401, challenge }
    }

    /// 401 `insufficient_claims` with a claims request in base64, as Microsoft's resources challenge.
    pub fn claims_challenge(claims: &Value) -> Self {
        let claims = STANDARD.encode(claims.to_string());
        let challenge = format!(r#"Bearer realm="", error="insufficient_claims", claims="{claims}""#);
        Self::Challenge { status: 401, challenge }
    }

    /// This fault after a wait.
    #[must_use]
    pub fn delayed(self, by: Duration) -> Self {
        Self::Delayed(by, Box::new(self))
    }
}

/// The faults to come, by endpoint: each request takes the first of its endpoint's queue, or else the standing
/// one, if any. Clones share the queues.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    queues: Arc<Mutex<HashMap<Endpoint, Queue>>>,
}

#[derive(Debug, Default)]
struct Queue {
    next: VecDeque<Fault>,
    always: Option<Fault>,
}

impl Faults {
    /// Adds a fault for one request.
    pub fn push(&self, endpoint: Endpoint, fault: Fault) {
        self.queues().entry(endpoint).or_default().next.push_back(fault);
    }

    /// Adds a fault for each of the next `times` requests.
    pub fn push_times(&self, endpoint: Endpoint, fault: &Fault, times: usize) {
        let mut queues = self.queues();
        queues.entry(endpoint).or_default().next.extend(std::iter::repeat_n(fault, times).cloned());
    }

    /// Sets or removes the fault for every request that finds the queue empty.
    pub fn set_always(&self, endpoint: Endpoint, fault: Option<Fault>) {
        self.queues().entry(endpoint).or_default().always = fault;
    }

    /// How many queued faults of an endpoint no request has taken yet.
    pub fn pending(&self, endpoint: Endpoint) -> usize {
        self.queues().get(&endpoint).map_or(0, |queue| queue.next.len())
    }

    /// Removes every fault, queued and standing.
    pub fn clear(&self) {
        self.queues().clear();
    }

    pub(super) fn take(&self, endpoint: Endpoint) -> Option<Fault> {
        let mut queues = self.queues();
        let queue = queues.get_mut(&endpoint)?;
        queue.next.pop_front().or_else(|| queue.always.clone())
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<Endpoint, Queue>> {
        self.queues.lock().expect("no holder of the queues panics")
    }
}
