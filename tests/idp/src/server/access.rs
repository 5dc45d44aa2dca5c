//! How a protected resource judges the access token of a request.

use axum::{
    http::{StatusCode, header},
    response::Response,
};

use super::{
    algorithm::Algorithm,
    dpop::at_resource,
    inner::State,
    received::Received,
    respond::empty_response,
    tokens::{AccessToken, Binding},
};

/// A refusal of a protected resource: the status and the header `WWW-Authenticate`.
#[derive(Debug)]
pub(super) struct Challenge {
    status: StatusCode,
    text: String,
}

impl Challenge {
    /// 401 with a challenge.
    pub(super) fn unauthorized(text: &str) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, text: text.to_owned() }
    }

    /// 403 with a challenge.
    pub(super) fn forbidden(text: &str) -> Self {
        Self { status: StatusCode::FORBIDDEN, text: text.to_owned() }
    }

    pub(super) fn response(&self) -> Response {
        empty_response(self.status, header::WWW_AUTHENTICATE, &self.text)
    }
}

/// The token that a request may act with: active, and shown by whom it is bound to.
pub(super) fn access_token(state: &mut State, received: &Received) -> Result<AccessToken, Challenge> {
    if let Some(value) = received.authorization("DPoP") {
        return dpop_token(state, received, value).map_err(|(error, description)| {
            let algorithms = Algorithm::names().join(" ");
            Challenge::unauthorized(&format!(
                r#"DPoP error="{error}", error_description="{}", algs="{algorithms}""#,
                description.replace(['"', '\\'], "'")
            ))
        });
    }
    let Some(value) = received.authorization("Bearer") else {
        // RFC 6750 section 3.1: no error code for a request without credentials.
        return Err(Challenge::unauthorized("Bearer"));
    };
    let invalid = r#"Bearer error="invalid_token""#;
    let token = state.tokens.active(value).ok_or_else(|| Challenge::unauthorized(invalid))?;
    match &token.binding {
        None => Ok(token.clone()),
        Some(Binding::Dpop(_)) => Err(Challenge::unauthorized(
            r#"DPoP error="invalid_token", error_description="the token is bound by DPoP""#,
        )),
        Some(Binding::Certificate(bound)) => {
            if received.certificate_thumbprint().as_ref() == Some(bound) {
                Ok(token.clone())
            } else {
                let why = "the token is bound to a certificate that the connection does not have";
                Err(Challenge::unauthorized(&format!(r#"{invalid}, error_description="{why}""#)))
            }
        }
    }
}

fn dpop_token(
    state: &mut State,
    received: &Received,
    value: &str,
) -> Result<AccessToken, (&'static str, String)> {
    let invalid = |reason: &str| ("invalid_token", reason.to_owned());
    let token = state.tokens.active(value).cloned().ok_or_else(|| invalid("it is not active"))?;
    let Some(Binding::Dpop(bound)) = &token.binding else {
        return Err(invalid("the token is not bound by DPoP"));
    };
    if &at_resource(state, received, value)? != bound {
        return Err(invalid("the token is bound to another key"));
    }
    Ok(token)
}
