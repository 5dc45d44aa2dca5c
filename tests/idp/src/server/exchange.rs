//! Grants by the tokens of others: token exchange (RFC 8693) and JWT bearer assertions (RFC 7523 section 2.1).

use serde_json::{Value, json};

use super::{
    assertion::{trusted, verify_of_issuer},
    inner::{Server, State},
    issue::{Caller, Issuance, id_token, issue},
    received::Received,
    registration::User,
    respond::OAuthError,
    token::requested,
    tokens::Grant,
    verify::{Jwt, now},
};

/// What `token_type`s of RFC 8693 section 3 begin with.
const TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:";

/// Exchanges a token of this server, or a JWT of a trusted issuer, for an access token or an ID token.
pub(super) fn token_exchange(
    server: &Server,
    state: &mut State,
    received: &Received,
    caller: &Caller,
) -> Result<Value, OAuthError> {
    let subject = received.required("subject_token")?;
    let subject_type = received.required("subject_token_type")?;
    let subject = exchanged(server, state, subject, subject_type)?;
    let actor = match (received.parameter("actor_token"), received.parameter("actor_token_type")) {
        (None, None) => None,
        (Some(actor), Some(kind)) => Some(exchanged(server, state, actor, kind)?.subject().to_owned()),
        _ => return Err(OAuthError::invalid_request("actor_token and actor_token_type go together")),
    };
    let mut grant = requested(received, &caller.client)?;
    if grant.scopes.is_empty() {
        grant.scopes.clone_from(&subject.scopes);
    } else if !subject.scopes.is_empty() && !grant.scopes.iter().all(|scope| subject.has_scope(scope)) {
        return Err(OAuthError::new("invalid_scope", "an exchange cannot widen the scope"));
    }
    let grant = Grant { user: Some(as_user(&subject)), sign_in: subject.sign_in, actor, ..grant };
    let wished = received.parameter("requested_token_type");
    let wished = wished.map_or(Some("access_token"), |wished| wished.strip_prefix(TOKEN_TYPE));
    match wished {
        Some(kind @ ("access_token" | "jwt")) => {
            let mut body = issue(server, state, caller, grant, Issuance::default());
            body["issued_token_type"] = json!(format!("{TOKEN_TYPE}{kind}"));
            if let Value::Object(members) = &mut body {
                members.remove("id_token");
            }
            Ok(body)
        }
        Some("id_token") => {
            let lifetime = server.settings.access_token_lifetime;
            let token = state.tokens.next_access_token(grant, None, None, lifetime);
            Ok(json!({
                "access_token": id_token(server, caller, &token, None, None),
                "issued_token_type": format!("{TOKEN_TYPE}id_token"),
                "token_type": "N_A",
                "expires_in": lifetime.as_secs(),
            }))
        }
        _ => Err(OAuthError::invalid_request("the requested_token_type is not supported")),
    }
}

/// The grant behind a token of a type.
fn exchanged(server: &Server, state: &State, token: &str, kind: &str) -> Result<Grant, OAuthError> {
    let invalid =
        |reason: &str| OAuthError::invalid_request(&format!("the subject or actor token: {reason}"));
    let found = match kind.strip_prefix(TOKEN_TYPE) {
        Some("access_token") => state.tokens.active(token).map(|token| token.grant.clone()),
        Some("refresh_token") => state.tokens.active_refresh(&server.settings, token).cloned(),
        Some("jwt") if token.contains('.') && state.tokens.active(token).is_some() => {
            state.tokens.active(token).map(|token| token.grant.clone())
        }
        Some("id_token" | "jwt") => Some(of_jwt(server, token).map_err(|reason| invalid(&reason))?),
        _ => return Err(invalid("its type is not supported")),
    };
    found.ok_or_else(|| invalid("it is unknown, expired or revoked"))
}

/// The grant behind an ID token of this server or a JWT of a trusted issuer.
fn of_jwt(server: &Server, token: &str) -> Result<Grant, String> {
    let jwt = Jwt::parse(token)?;
    let subject = jwt.text("sub").ok_or("sub is missing")?;
    if jwt.text("iss") == Some(&server.issuer) {
        if !server.signer().signed(&jwt) || jwt.seconds("exp").is_none_or(|expiry| expiry <= now()) {
            return Err("it is forged or has expired".to_owned());
        }
    } else {
        verify_of_issuer(server, trusted(server, &jwt)?, &jwt)?;
    }
    let client = jwt.text("azp").or(jwt.text("client_id")).unwrap_or(subject);
    Ok(Grant { user: Some(user_of(server, subject)), ..Grant::of(client) })
}

/// RFC 7523 section 2.1: an access token for the subject of a trusted issuer's assertion, and no refresh token.
pub(super) fn jwt_bearer(
    server: &Server,
    state: &mut State,
    received: &Received,
    caller: &Caller,
) -> Result<Value, OAuthError> {
    let invalid = |reason: String| OAuthError::invalid_grant(&format!("the assertion: {reason}"));
    let assertion = Jwt::parse(received.required("assertion")?).map_err(invalid)?;
    let issuer = trusted(server, &assertion).map_err(invalid)?;
    verify_of_issuer(server, issuer, &assertion).map_err(invalid)?;
    let subject = assertion.text("sub").ok_or_else(|| invalid("sub is missing".to_owned()))?;
    if let Some(id) = assertion.text("jti")
        && !state.seen.insert(format!("bearer {} {id}", issuer.issuer))
    {
        state.counters.replays += 1;
        return Err(invalid("the jti was used before".to_owned()));
    }
    let user = Some(user_of(server, subject));
    let grant = Grant { user, ..requested(received, &caller.client)? };
    Ok(issue(server, state, caller, grant, Issuance::default()))
}

/// The user of a subject: the one whose subject or name it is, else one made for it.
fn user_of(server: &Server, subject: &str) -> User {
    let mut users = server.settings.users.iter();
    let known = users.find(|user| user.subject == subject || user.name == subject);
    known.cloned().unwrap_or_else(|| User { subject: subject.to_owned(), ..User::new(subject) })
}

/// The subject of a grant as a user, so that the exchanged token is the subject's and not the client's.
fn as_user(grant: &Grant) -> User {
    let made = || User { subject: grant.subject().to_owned(), ..User::new(grant.subject()) };
    grant.user.clone().unwrap_or_else(made)
}
