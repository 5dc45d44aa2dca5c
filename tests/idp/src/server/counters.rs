//! What the server counts and records.

use std::{collections::BTreeMap, time::Instant};

use serde::{Deserialize, Serialize};

use super::{fault::Endpoint, received::Received};

/// How often what happened. Also at `GET /control/counters` as JSON.
///
/// Requests count when they arrive, whatever fault meets them. What the server did counts when it did it, even
/// if a fault then kept the answer from the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Requests for either metadata document, served or not.
    pub discovery: u64,
    /// Requests for the keys.
    pub jwks: u64,
    /// Requests to the token endpoint.
    pub token: u64,
    /// Requests to the token endpoint by `grant_type`.
    pub token_requests: BTreeMap<String, u64>,
    /// Tokens issued, by `grant_type`.
    pub token_successes: BTreeMap<String, u64>,
    /// Token requests that the server (and not a fault) refused with `invalid_grant`.
    pub invalid_grant: u64,
    /// Requests that the server (and not a fault) refused with `invalid_client`, at any endpoint.
    pub invalid_client: u64,
    /// Refreshes with a spent refresh token, within the grace window or not.
    pub reuse: u64,
    /// Families killed by reuse detection.
    pub families_killed: u64,
    /// Families ended by a revocation or a log-out.
    pub families_revoked: u64,
    /// Requests to the device authorization endpoint.
    pub device_authorization: u64,
    /// Polls with a known device code that the server or the fault `SlowDown` answered; none of another fault.
    pub device_polls: u64,
    /// Those of the polls that the server answered `slow_down`, for they came before the interval was over.
    pub device_polls_too_early: u64,
    /// Requests to the page where users decide.
    pub verification: u64,
    /// Requests to the revocation endpoint.
    pub revocation: u64,
    /// Requests to the introspection endpoint.
    pub introspection: u64,
    /// Requests to the authorization endpoint.
    pub authorization: u64,
    /// Pages on which the server asked a person to sign in.
    pub login_pages: u64,
    /// Authorization requests answered with a code because the person was signed in already.
    pub silent_sign_ins: u64,
    /// Codes issued.
    pub codes_issued: u64,
    /// Codes that were presented again.
    pub code_reuse: u64,
    /// Requests to the endpoint for pushed authorization requests.
    pub pushed_authorization: u64,
    /// Requests for the claims of a user.
    pub user_info: u64,
    /// Requests to the logout page.
    pub end_session: u64,
    /// Sessions that a logout by the browser ended.
    pub sessions_ended: u64,
    /// Access tokens that a revocation request ended, each alone.
    pub access_tokens_revoked: u64,
    /// DPoP proofs that came, good or bad, at any endpoint.
    pub dpop_proofs: u64,
    /// Proofs that were refused for the nonce they lacked, at any endpoint.
    pub dpop_nonce_challenges: u64,
    /// Assertions and proofs refused because their `jti` was used before.
    pub replays: u64,
    /// Answers of the API that asked for a better sign-in (RFC 9470).
    pub step_up_challenges: u64,
    /// Requests to the protected API.
    pub api: u64,
    /// Successful answers of the protected API.
    pub api_ok: u64,
    /// Answers 401 of the protected API, those of faults included.
    pub api_unauthorized: u64,
    /// Answers 403 of the protected API, all of them by faults.
    pub api_forbidden: u64,
    /// Requests to the anonymous API.
    pub public: u64,
    /// Requests to the redirect.
    pub redirect: u64,
    /// Requests that met a fault.
    pub faults: u64,
}

impl Counters {
    /// Token requests with this `grant_type`.
    pub fn requests_of(&self, grant_type: &str) -> u64 {
        self.token_requests.get(grant_type).copied().unwrap_or_default()
    }

    /// Tokens issued for this `grant_type`.
    pub fn successes_of(&self, grant_type: &str) -> u64 {
        self.token_successes.get(grant_type).copied().unwrap_or_default()
    }

    pub(super) fn arrived(&mut self, endpoint: Endpoint, received: &Received) {
        *match endpoint {
            Endpoint::Discovery => &mut self.discovery,
            Endpoint::Jwks => &mut self.jwks,
            Endpoint::Token => &mut self.token,
            Endpoint::DeviceAuthorization => &mut self.device_authorization,
            Endpoint::Verification => &mut self.verification,
            Endpoint::Revocation => &mut self.revocation,
            Endpoint::Introspection => &mut self.introspection,
            Endpoint::Authorization => &mut self.authorization,
            Endpoint::PushedAuthorization => &mut self.pushed_authorization,
            Endpoint::UserInfo => &mut self.user_info,
            Endpoint::EndSession => &mut self.end_session,
            Endpoint::Api => &mut self.api,
            Endpoint::Public => &mut self.public,
            Endpoint::Redirect => &mut self.redirect,
        } += 1;
        if endpoint == Endpoint::Token {
            let grant_type = received.parameter("grant_type").unwrap_or_default();
            *self.token_requests.entry(grant_type.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn issued(&mut self, grant_type: &str) {
        *self.token_successes.entry(grant_type.to_owned()).or_default() += 1;
    }
}

/// A request as it arrived, secrets included.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// When it had arrived.
    pub at: Instant,
    /// The endpoint, if the path is one's.
    pub endpoint: Option<Endpoint>,
    /// The version of HTTP: `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The headers, names in lower case. A value that is not text is left out.
    pub headers: Vec<(String, String)>,
    /// The form, decoded; empty for a body of another type.
    pub form: Vec<(String, String)>,
    /// The length of the body in bytes.
    pub body_length: usize,
    /// Scheme and authority of the listener: the issuer's, or the one that asks for client certificates.
    pub base: String,
    /// The thumbprint of the client's certificate, if it came over TLS with one.
    pub certificate: Option<String>,
}

impl RecordedRequest {
    /// The first value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }

    /// The first value of a parameter of the form.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        first(&self.form, name)
    }

    /// The first value of a parameter of the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        first(&self.query, name)
    }
}

fn first<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}
