//! Tokens as they are issued.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::{
    inner::{Server, State},
    registration::Client,
    settings::Settings,
    signer::random,
    styles::{AccessTokenFormat, ExpiresInStyle, TokenTypeStyle, Whole as _},
    tokens::{AccessToken, Binding, FamilyId, Grant},
};

/// Who asks for a token, and what it has proved to hold.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) client: Client,
    pub(super) binding: Option<Binding>,
}

/// What comes with a token.
#[derive(Debug, Default)]
pub(super) struct Issuance {
    pub(super) family: Option<FamilyId>,
    pub(super) refresh_token: Option<String>,
    /// The claim `nonce` of the ID token.
    pub(super) nonce: Option<String>,
}

/// Issues the first tokens of a new family. A user who signed in by no session has one from now on.
pub(super) fn issue_family(
    server: &Server,
    state: &mut State,
    caller: &Caller,
    mut grant: Grant,
    nonce: Option<String>,
) -> (FamilyId, Value) {
    if let (Some(user), None) = (&grant.user, &grant.sign_in) {
        grant.sign_in = Some(state.sessions.begin(&server.settings, &user.name, &[]).0);
    }
    // RFC 9449 section 5: a confidential client proves itself anyway.
    let bound = caller.binding.clone().filter(|_| caller.client.is_public());
    let family = state.tokens.begin_family(grant.clone(), bound);
    let refresh_token = server.settings.issue_refresh_token.then(|| state.tokens.issue_refresh_token(family));
    let issuance = Issuance { family: Some(family), refresh_token, nonce };
    (family, issue(server, state, caller, grant, issuance))
}

/// Issues an access token, and an ID token if it is for a user and has the scope `openid`.
pub(super) fn issue(
    server: &Server,
    state: &mut State,
    caller: &Caller,
    grant: Grant,
    issuance: Issuance,
) -> Value {
    let settings = &server.settings;
    let lifetime = settings.access_token_lifetime;
    let token = state.tokens.next_access_token(grant, caller.binding.clone(), issuance.family, lifetime);
    let value = match settings.access_token_format {
        AccessTokenFormat::Opaque => random("at"),
        AccessTokenFormat::Jwt => access_jwt(server, &token),
    };
    let mut body = json!({ "access_token": value });
    write_type_and_life(settings, &token, &mut body);
    if !token.grant.scopes.is_empty() {
        body["scope"] = json!(token.grant.scopes.join(" "));
    }
    if let Some(refresh_token) = issuance.refresh_token {
        body["refresh_token"] = json!(refresh_token);
    }
    if let Some(details) = &token.grant.authorization_details {
        body["authorization_details"] = details.clone();
    }
    if token.grant.user.is_some() && token.grant.has_scope("openid") {
        body["id_token"] = json!(id_token(server, caller, &token, Some(&value), issuance.nonce));
    }
    state.tokens.keep(value, token);
    body
}

fn write_type_and_life(settings: &Settings, token: &AccessToken, body: &mut Value) {
    let dpop = matches!(token.binding, Some(Binding::Dpop(_)));
    let token_type = if dpop { "DPoP" } else { "Bearer" };
    match settings.token_type_style {
        TokenTypeStyle::Bearer => body["token_type"] = json!(token_type),
        TokenTypeStyle::LowerCase => body["token_type"] = json!(token_type.to_ascii_lowercase()),
        TokenTypeStyle::Missing => {}
    }
    let expires_in = settings.access_token_lifetime.whole(settings.expires_in_rounding);
    match settings.expires_in_style {
        ExpiresInStyle::Number => body["expires_in"] = json!(expires_in),
        ExpiresInStyle::Text => body["expires_in"] = json!(expires_in.to_string()),
        ExpiresInStyle::Missing => {}
    }
}

/// The claims that both kinds of JWT have.
fn common_claims(server: &Server, token: &AccessToken, audience: &[&str]) -> Value {
    let issued = token.issued.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut claims = json!({
        "iss": server.issuer,
        "sub": token.grant.subject(),
        "aud": one_or_many(audience),
        "iat": issued.as_secs(),
        "exp": (issued + token.lifetime).as_secs(),
    });
    add_sign_in(&token.grant, &mut claims);
    claims
}

/// One audience as text, several as a list.
pub(super) fn one_or_many(audiences: &[&str]) -> Value {
    match audiences {
        [one] => json!(one),
        many => json!(many),
    }
}

/// How the user signed in, as claims.
pub(super) fn add_sign_in(grant: &Grant, claims: &mut Value) {
    if let Some(sign_in) = &grant.sign_in {
        claims["auth_time"] = json!(sign_in.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        claims["acr"] = json!(sign_in.acr);
    }
}

fn access_jwt(server: &Server, token: &AccessToken) -> String {
    let api = server.url("/api/echo");
    let mut audiences: Vec<&str> = token.grant.audiences.iter().map(String::as_str).collect();
    if audiences.is_empty() {
        audiences.push(&api);
    }
    let mut claims = common_claims(server, token, &audiences);
    claims["jti"] = json!(random("jti"));
    claims["client_id"] = json!(token.grant.client_id);
    claims["scope"] = json!(token.grant.scopes.join(" "));
    if let Some(binding) = &token.binding {
        claims["cnf"] = binding.confirmation();
    }
    if let Some(details) = &token.grant.authorization_details {
        claims["authorization_details"] = details.clone();
    }
    if let Some(actor) = &token.grant.actor {
        claims["act"] = json!({ "sub": actor });
    }
    server.signer().sign(None, "at+jwt", &claims)
}

/// An ID token for the user of an access token, which its `at_hash` is over if it is given.
pub(super) fn id_token(
    server: &Server,
    caller: &Caller,
    token: &AccessToken,
    access_token: Option<&str>,
    nonce: Option<String>,
) -> String {
    let signer = server.signer();
    let wish = caller.client.id_token_algorithm;
    let mut claims = common_claims(server, token, &[&token.grant.client_id]);
    if let Some(user) = &token.grant.user {
        claims["email"] = json!(user.email);
        claims["preferred_username"] = json!(user.name);
    }
    if let Some(sign_in) = &token.grant.sign_in {
        claims["sid"] = json!(sign_in.session);
    }
    if let Some(access_token) = access_token {
        claims["at_hash"] = json!(signer.algorithm(wish).half_hash(access_token));
    }
    if let Some(nonce) = nonce {
        claims["nonce"] = json!(nonce);
    }
    let mut draft = signer.draft(wish, claims);
    (server.id_token_hook().0)(&mut draft);
    signer.finish(wish, draft)
}
