//! The metadata documents, the keys, and documents of other products.

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{
    algorithm::Algorithm,
    inner::Server,
    received::Received,
    respond::json_response,
    settings::{AuthorizationIss, Discovery, Tls},
    token::GRANT_TYPES,
};

/// The methods of clients that are not public; the last two take TLS.
const PROVING_METHODS: [&str; 6] = [
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
];

/// The endpoints with client authentication, by the names of their metadata.
const WITH_CLIENT: [(&str, &str); 5] = [
    ("token_endpoint", "/token"),
    ("pushed_authorization_request_endpoint", "/par"),
    ("device_authorization_endpoint", "/device_authorization"),
    ("revocation_endpoint", "/revoke"),
    ("introspection_endpoint", "/introspect"),
];

/// `GET /.well-known/openid-configuration`.
pub(super) fn openid_configuration(server: &Server, _: &Received) -> Response {
    answer(server, matches!(server.settings.discovery, Discovery::Both | Discovery::OidcOnly))
}

/// `GET /.well-known/oauth-authorization-server`.
pub(super) fn oauth_authorization_server(server: &Server, _: &Received) -> Response {
    answer(server, matches!(server.settings.discovery, Discovery::Both | Discovery::Rfc8414Only))
}

fn answer(server: &Server, served: bool) -> Response {
    if !served {
        return StatusCode::NOT_FOUND.into_response();
    }
    let mut document = document(server);
    if let Value::Object(members) = &mut document {
        members.extend(server.settings.metadata.clone());
        members.retain(|_, value| !value.is_null());
    }
    json_response(StatusCode::OK, &document)
}

fn document(server: &Server) -> Value {
    let settings = &server.settings;
    let proving = if settings.tls == Tls::None { &PROVING_METHODS[..4] } else { &PROVING_METHODS[..] };
    let methods: Vec<&str> = proving.iter().copied().chain(["none"]).collect();
    let assertion_algorithms: Vec<&str> =
        ["HS256", "HS384", "HS512"].into_iter().chain(Algorithm::names()).collect();
    let id_token_algorithms: Vec<&str> = settings.signing_algorithms.iter().map(|one| one.name()).collect();
    let mut document = json!({
        "issuer": server.issuer,
        "authorization_endpoint": server.url("/authorize"),
        "userinfo_endpoint": server.url("/userinfo"),
        "end_session_endpoint": server.url("/end_session"),
        "jwks_uri": server.url("/jwks"),
        "grant_types_supported": GRANT_TYPES,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login", "consent", "select_account", "create"],
        "acr_values_supported": settings.acr_values,
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": id_token_algorithms,
        "dpop_signing_alg_values_supported": Algorithm::names(),
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": assertion_algorithms,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": assertion_algorithms,
        "introspection_endpoint_auth_methods_supported": proving,
        "introspection_endpoint_auth_signing_alg_values_supported": assertion_algorithms,
        "require_pushed_authorization_requests": settings.require_pushed_authorization_requests,
        "authorization_response_iss_parameter_supported": settings.authorization_iss != AuthorizationIss::Missing,
        "claims_parameter_supported": true,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "claims_supported": [
            "iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "sid", "email", "preferred_username",
        ],
        "tls_client_certificate_bound_access_tokens": settings.tls != Tls::None,
    });
    for (name, path) in WITH_CLIENT {
        document[name] = json!(server.url(path));
    }
    if let Some(base) = &server.aliases {
        let with_client = WITH_CLIENT.into_iter().chain([("userinfo_endpoint", "/userinfo")]);
        for (name, path) in with_client {
            document["mtls_endpoint_aliases"][name] = json!(format!("{base}{path}"));
        }
    }
    document
}

/// `GET /jwks`.
pub(super) fn jwks(server: &Server, _: &Received) -> Response {
    let mut keys = server.signer().jwks();
    keys.extend(server.settings.extra_jwks.iter().cloned());
    json_response(StatusCode::OK, &json!({ "keys": keys }))
}

/// `GET` of any other path: a document of the settings, if it is one's.
pub(super) fn other(server: &Server, received: &Received) -> Response {
    match server.settings.documents.get(received.path()) {
        Some(document) if received.method() == "GET" => {
            json_response(StatusCode::OK, &filled(document, &server.issuer))
        }
        Some(_) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The document with the issuer in its texts.
fn filled(document: &Value, issuer: &str) -> Value {
    match document {
        Value::String(text) => json!(text.replace("{issuer}", issuer)),
        Value::Array(list) => list.iter().map(|item| filled(item, issuer)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), filled(value, issuer))).collect()
        }
        other => other.clone(),
    }
}
