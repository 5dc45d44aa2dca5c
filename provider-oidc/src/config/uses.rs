//! Which keys of a file have a use with which flow and which client: one without any is a mistake, and is told.

use keyfob_auth_core::{AuthError, registry::Settings};

use super::{Config, Flow};
use crate::client_auth::Proof;

/// Of which flows a key is. Keys that are not here are of all: an endpoint, too, is a fact about the server, whoever asks.
const OF_FLOWS: [(&str, &[Flow]); 23] = [
    ("username", &[Flow::Password]),
    ("password", &[Flow::Password]),
    ("assertion", &[Flow::JwtBearer]),
    ("subject", &[Flow::JwtBearer]),
    ("subject_token", &[Flow::TokenExchange]),
    ("subject_token_type", &[Flow::TokenExchange]),
    // Of a service that acts for its callers, too.
    ("actor_token", &[Flow::TokenExchange, Flow::ClientCredentials]),
    ("actor_token_type", &[Flow::TokenExchange, Flow::ClientCredentials]),
    ("requested_token_type", &[Flow::TokenExchange, Flow::ClientCredentials]),
    ("redirect_uri", &BROWSER),
    ("response_mode", &BROWSER),
    ("pushed_authorization_requests", &BROWSER),
    ("login_hint", &BROWSER),
    ("prompt", &BROWSER),
    ("acr_values", &BROWSER),
    ("max_age", &BROWSER),
    ("ui_locales", &BROWSER),
    ("open_browser", &BROWSER),
    ("login_timeout", &BROWSER),
    ("id_token_signing_alg", &SIGN_INS),
    ("any_scope_on_refresh", &SIGN_INS),
    ("id_token_audiences", &SIGN_INS),
    ("end_session", &SIGN_INS),
];

const BROWSER: [Flow; 2] = [Flow::Browser, Flow::Auto];
const SIGN_INS: [Flow; 4] = [Flow::Browser, Flow::Device, Flow::Auto, Flow::Password];

/// Checks that every key of the table has a use.
///
/// # Errors
/// Configuration, for the first that has none, with where it would have one.
pub(super) fn check(settings: &Settings, config: &Config) -> Result<(), AuthError> {
    let flow = config.flow;
    // What says no asks for nothing.
    let is_said = |key: &str| settings.has(key) && !matches!(settings.bool(key), Ok(Some(false)));
    for (key, flows) in OF_FLOWS {
        if is_said(key) && !flows.contains(&flow) {
            let names: Vec<_> = flows.iter().map(|flow| format!("{:?}", flow.as_str())).collect();
            let unsaid = if settings.has("flow") { "" } else { ", which is taken if `flow` says none" };
            let what = format!(
                "has no use with the flow {:?}{unsaid}: it is of {}; leave it out, or set `flow`",
                flow.as_str(),
                names.join(" and ")
            );
            return Err(settings.bad(key, &what));
        }
    }
    let signs = signs_with_key(config);
    #[cfg(feature = "jose")]
    let makes = signs || matches!(config.client.proof, Proof::SecretJwt { .. });
    #[cfg(not(feature = "jose"))]
    let makes = signs;
    let needs = [
        ("key", signs, "here: nothing is signed with it"),
        ("key_passphrase", signs, "without a `key` that signs"),
        ("key_id", signs, "without a `key` that signs"),
        ("signing_alg", makes, "where nothing is signed: it goes with `key`, or with \"client_secret_jwt\""),
        ("assertion_audience", makes, "where keyfob makes no assertion: it goes with `key`"),
        ("assertion_lifetime", makes, "where keyfob makes no assertion: it goes with `key`"),
        ("subject", config.jwt_bearer.given.is_none(), "beside `assertion`, which says it"),
        ("subject_token_type", config.exchange.subject_token.is_some(), "without `subject_token`"),
        ("actor_token_type", config.exchange.actor_token.is_some(), "without `actor_token`"),
    ];
    match needs.into_iter().find(|(key, has_use, _)| settings.has(key) && !has_use) {
        Some((key, _, why)) => Err(settings.bad(key, &format!("has no use {why}"))),
        None => Ok(()),
    }
}

/// Whether the key signs: an assertion of the client, or one that is the grant.
fn signs_with_key(config: &Config) -> bool {
    let grant = config.flow == Flow::JwtBearer && config.jwt_bearer.given.is_none();
    matches!(config.client.proof, Proof::KeyJwt { .. }) || grant && config.jwt_bearer.keys.is_some()
}
