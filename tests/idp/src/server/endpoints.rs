//! The endpoints for device authorization, revocation and introspection.

use std::time::UNIX_EPOCH;

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{
    client_auth::{authenticate, authenticate_confidential},
    inner::{Server, State},
    issue::{add_sign_in, one_or_many},
    received::Received,
    respond::{OAuthError, html_response, json_response},
    styles::{ExpiresInRounding, Whole as _},
    token::requested,
    tokens::{Binding, Revoked},
};

/// `POST /device_authorization`, RFC 8628 section 3.1.
pub(super) fn device_authorization(server: &Server, received: &Received) -> Response {
    answer(server, received, |state| {
        let client = authenticate(server, state, received)?;
        let codes = state.devices.begin(&server.settings, requested(received, &client)?);
        let page = server.url("/device");
        let body = json!({
            "device_code": codes.device_code,
            "user_code": codes.user_code,
            "verification_uri": page,
            "verification_uri_complete": format!("{page}?user_code={}", codes.user_code),
            "expires_in": server.settings.device_expires_in.whole(ExpiresInRounding::Up),
            "interval": server.settings.device_interval.whole(ExpiresInRounding::Up),
        });
        Ok(json_response(StatusCode::OK, &body))
    })
}

/// `GET /device`: a form that decides.
pub(super) fn verification_page(_: &Server, received: &Received) -> Response {
    let mut user_code = received.query("user_code").unwrap_or_default();
    // What is left needs no escaping.
    user_code.retain(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    let form = format!(
        concat!(
            r#"<form method="post" action="/device">"#,
            r#"<p>Code <input name="user_code" value="{}"></p>"#,
            r#"<p>User <input name="user" value="alice"></p>"#,
            r#"<p><button name="action" value="approve">Approve</button> "#,
            r#"<button name="action" value="deny">Deny</button></p></form>"#
        ),
        user_code
    );
    html_response(StatusCode::OK, &form)
}

/// `POST /device`: the decision of `user` on `user_code`, by `action`.
pub(super) fn decide(server: &Server, received: &Received) -> Response {
    let user_code = received.parameter("user_code").unwrap_or_default();
    let user = received.parameter("user").unwrap_or_default();
    let decided = match received.parameter("action") {
        Some("approve") => server.approve(user_code, user).map(|()| "Approved. Go back to your device."),
        Some("deny") => server.deny(user_code).map(|()| "Denied."),
        _ => return html_response(StatusCode::BAD_REQUEST, "The action is approve or deny."),
    };
    match decided {
        Ok(text) => html_response(StatusCode::OK, text),
        Err(error) => html_response(StatusCode::NOT_FOUND, &error.to_string()),
    }
}

/// `POST /revoke`, RFC 7009: an access token alone, or the family of a refresh token.
pub(super) fn revoke(server: &Server, received: &Received) -> Response {
    answer(server, received, |state| {
        let client = authenticate(server, state, received)?;
        let revoked = state.tokens.revoke(&client.id, received.required("token")?);
        state.counters.families_revoked += u64::from(revoked == Revoked::Family);
        state.counters.access_tokens_revoked += u64::from(revoked == Revoked::AccessToken);
        if revoked == Revoked::NotYours {
            return Err(OAuthError::new("unauthorized_client", "the token is another client's"));
        }
        Ok(StatusCode::OK.into_response())
    })
}

/// `POST /introspect`, RFC 7662, for confidential clients.
pub(super) fn introspect(server: &Server, received: &Received) -> Response {
    answer(server, received, |state| {
        authenticate_confidential(server, state, received)?;
        let token = received.required("token")?;
        let body = introspect_access(server, state, token)
            .or_else(|| introspect_refresh(server, state, token))
            .unwrap_or_else(|| json!({ "active": false }));
        Ok(json_response(StatusCode::OK, &body))
    })
}

fn introspect_access(server: &Server, state: &State, value: &str) -> Option<Value> {
    let token = state.tokens.active(value)?;
    let issued = token.issued.duration_since(UNIX_EPOCH).unwrap_or_default();
    let dpop = matches!(token.binding, Some(Binding::Dpop(_)));
    let mut body = json!({
        "active": true,
        "iss": server.issuer,
        "sub": token.grant.subject(),
        "username": token.grant.user.as_ref().map(|user| &user.name),
        "client_id": token.grant.client_id,
        "scope": token.grant.scopes.join(" "),
        "token_type": if dpop { "DPoP" } else { "Bearer" },
        "iat": issued.as_secs(),
        "exp": (issued + token.lifetime).as_secs(),
    });
    add_sign_in(&token.grant, &mut body);
    if let Some(binding) = &token.binding {
        body["cnf"] = binding.confirmation();
    }
    if !token.grant.audiences.is_empty() {
        let audiences: Vec<&str> = token.grant.audiences.iter().map(String::as_str).collect();
        body["aud"] = one_or_many(&audiences);
    }
    if let Some(details) = &token.grant.authorization_details {
        body["authorization_details"] = details.clone();
    }
    if let Some(actor) = &token.grant.actor {
        body["act"] = json!({ "sub": actor });
    }
    Some(body)
}

fn introspect_refresh(server: &Server, state: &State, value: &str) -> Option<Value> {
    let grant = state.tokens.active_refresh(&server.settings, value)?;
    Some(json!({
        "active": true,
        "iss": server.issuer,
        "sub": grant.subject(),
        "username": grant.user.as_ref().map(|user| &user.name),
        "client_id": grant.client_id,
        "scope": grant.scopes.join(" "),
    }))
}

/// Answers a form while the state is locked.
pub(super) fn answer(
    server: &Server,
    received: &Received,
    act: impl FnOnce(&mut State) -> Result<Response, OAuthError>,
) -> Response {
    let mut state = server.state();
    received.check_form().and_then(|()| act(&mut state)).unwrap_or_else(|error| {
        state.counters.invalid_client += u64::from(error.error == "invalid_client");
        error.response()
    })
}
