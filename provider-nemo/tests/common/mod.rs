//! What the tests share: the embedded server, playing a platform and its identity provider.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is part of tests")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{Interaction, Prompt, SecretString, registry::SecretSource};
use keyfob_idp::server::{AccessTokenFormat, AuthorizationServer, Settings};
use serde_json::{Value, json};

/// Where the platform describes itself.
pub(crate) const DISCOVERY: &str = "/apis/auth/discovery";

/// What the platform says of its identity provider, with these changes.
pub(crate) fn oidc(changes: Value) -> Value {
    let mut oidc = json!({
        "issuer": "{issuer}", "client_id": "cli",
        "token_endpoint": "{issuer}/token", "device_authorization_endpoint": "{issuer}/device_authorization",
        "default_scopes": "openid offline_access platform:read platform:write", "scope_prefix": null,
        "workload_token_exchange_enabled": false,
    });
    let Value::Object(changes) = changes else { panic!("{changes} is no object") };
    oidc.as_object_mut().unwrap().extend(changes);
    oidc
}

/// A platform that answers its discovery like this.
pub(crate) fn describing(document: Value) -> Settings {
    Settings {
        access_token_format: AccessTokenFormat::Jwt,
        documents: BTreeMap::from([(DISCOVERY.to_owned(), document)]),
        ..Settings::default()
    }
}

/// A platform with authentication on and this identity provider.
pub(crate) fn platform(oidc: &Value) -> Settings {
    describing(json!({"auth_enabled": true, "oidc": oidc}))
}

pub(crate) async fn start(oidc: &Value) -> AuthorizationServer {
    AuthorizationServer::start(platform(oidc)).await
}

pub(crate) fn literal(secret: &str) -> SecretSource {
    SecretSource::Literal(SecretString::from(secret))
}

/// A JWT with these claims, which nobody signed.
pub(crate) fn jwt(claims: &Value) -> String {
    format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// How often the platform was asked to describe itself.
pub(crate) fn discoveries(server: &AuthorizationServer) -> usize {
    server.requests().iter().filter(|request| request.path == DISCOVERY).count()
}

/// Remembers what a person was shown.
#[derive(Debug, Default)]
pub(crate) struct Shown(Mutex<Vec<Prompt>>);

impl Shown {
    pub(crate) fn prompts(&self) -> Vec<Prompt> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }
}

impl Interaction for Shown {
    fn show(&self, prompt: &Prompt) {
        self.0.lock().unwrap().push(prompt.clone());
    }
}
