//! Pushed authorization requests, RFC 9126.

use axum::{http::StatusCode, response::Response};
use serde_json::json;

use super::{
    authorization_request::{AuthorizationRequest, Parameters, Redirection},
    client_auth::authenticate,
    dpop,
    endpoints::answer,
    inner::Server,
    received::Received,
    respond::{OAuthError, json_response},
    styles::{ExpiresInRounding, Whole as _},
};

/// `POST /par`: keeps a request for one visit of the authorization endpoint.
pub(super) fn par(server: &Server, received: &Received) -> Response {
    let mut response = answer(server, received, |state| {
        let client = authenticate(server, state, received)?;
        let proof = dpop::at_server(state, received, &client)?;
        if received.parameter("request_uri").is_some() {
            return Err(OAuthError::invalid_request("request_uri cannot be pushed"));
        }
        let parameters = Parameters(received.form());
        let redirection = Redirection::read(&client, parameters)?;
        let mut request = AuthorizationRequest::read(&server.settings, &client, redirection, parameters)?;
        if let Some(jkt) = proof
            && request.dpop_jkt.get_or_insert_with(|| jkt.clone()) != &jkt
        {
            return Err(OAuthError::new("invalid_dpop_proof", "dpop_jkt is another key's"));
        }
        let uri = state.codes.push(request, server.settings.pushed_request_lifetime);
        let lifetime = server.settings.pushed_request_lifetime.whole(ExpiresInRounding::Up);
        Ok(json_response(StatusCode::CREATED, &json!({ "request_uri": uri, "expires_in": lifetime })))
    });
    dpop::add_server_nonce(&server.state(), &mut response);
    response
}
