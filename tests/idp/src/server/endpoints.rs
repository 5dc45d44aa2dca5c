//! The endpoints beside the token endpoint: metadata, keys, device authorization, revocation, introspection.

use std::time::UNIX_EPOCH;

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{
    client_auth::{authenticate, authenticate_confidential},
    inner::{Server, State},
    received::Received,
    respond::{OAuthError, html_response, json_response},
    settings::{Discovery, ExpiresInRounding, Whole as _},
    token::{GRANT_TYPES, requested},
    tokens::Revoked,
};

/// `GET /.well-known/openid-configuration`.
pub(super) fn openid_configuration(server: &Server, _: &Received) -> Response {
    metadata(server, matches!(server.settings.discovery, Discovery::Both | Discovery::OidcOnly))
}

/// `GET /.well-known/oauth-authorization-server`.
pub(super) fn oauth_authorization_server(server: &Server, _: &Received) -> Response {
    metadata(server, matches!(server.settings.discovery, Discovery::Both | Discovery::Rfc8414Only))
}

fn metadata(server: &Server, served: bool) -> Response {
    if !served {
        return StatusCode::NOT_FOUND.into_response();
    }
    let methods = ["client_secret_basic", "client_secret_post", "none"];
    let mut document = json!({
        "issuer": server.issuer,
        "token_endpoint": server.url("/token"),
        "device_authorization_endpoint": server.url("/device_authorization"),
        "revocation_endpoint": server.url("/revoke"),
        "introspection_endpoint": server.url("/introspect"),
        "jwks_uri": server.url("/jwks"),
        "grant_types_supported": GRANT_TYPES,
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "email", "preferred_username"],
    });
    if let Value::Object(members) = &mut document {
        members.extend(server.settings.metadata.clone());
        members.retain(|_, value| !value.is_null());
    }
    json_response(StatusCode::OK, &document)
}

/// `GET /jwks`.
pub(super) fn jwks(server: &Server, _: &Received) -> Response {
    json_response(StatusCode::OK, &server.signer.jwks())
}

/// `POST /device_authorization`, RFC 8628 section 3.1.
pub(super) fn device_authorization(server: &Server, received: &Received) -> Response {
    answer(server, received, |state| {
        let client = authenticate(&state.clients, received)?;
        let codes = state.devices.begin(&server.settings, requested(received, &client));
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
        let client = authenticate(&state.clients, received)?;
        let revoked = state.tokens.revoke(&client.id, received.required("token")?);
        state.counters.families_revoked += u64::from(revoked == Revoked::Family);
        if revoked == Revoked::NotYours {
            return Err(OAuthError::new("unauthorized_client", "the token is another client's"));
        }
        Ok(StatusCode::OK.into_response())
    })
}

/// `POST /introspect`, RFC 7662, for confidential clients.
pub(super) fn introspect(server: &Server, received: &Received) -> Response {
    answer(server, received, |state| {
        authenticate_confidential(&state.clients, received)?;
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
    Some(json!({
        "active": true,
        "iss": server.issuer,
        "sub": token.grant.subject(),
        "username": token.grant.user.as_ref().map(|user| &user.name),
        "client_id": token.grant.client_id,
        "scope": token.grant.scopes.join(" "),
        "token_type": "Bearer",
        "iat": issued.as_secs(),
        "exp": (issued + token.lifetime).as_secs(),
    }))
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
fn answer(
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
