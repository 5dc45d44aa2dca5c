//! JWTs that clients and other issuers assert something with: RFC 7521 and RFC 7523.

use serde_json::Value;

use super::{
    inner::{Server, State},
    registration::{Client, TokenEndpointAuthMethod, TrustedIssuer},
    settings::AssertionAudience,
    verify::{Jwt, now},
};

/// The only `client_assertion_type`.
pub(super) const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How far clocks may differ, in seconds.
const LEEWAY: f64 = 5.0;

/// The client that an assertion names; nothing is verified yet.
pub(super) fn named_client(
    state: &State,
    assertion: &Jwt,
    client_id: Option<&str>,
) -> Result<Client, String> {
    let issuer = assertion.text("iss").ok_or("iss is missing")?;
    let subject = assertion.text("sub").ok_or("sub is missing")?;
    if let Some(client) = state.client(issuer) {
        if subject != issuer {
            return Err(format!("iss is {issuer:?} and sub is {subject:?}"));
        }
        if client_id.is_some_and(|id| id != issuer) {
            return Err(format!("client_id is {client_id:?} and iss is {issuer:?}"));
        }
        return Ok(client);
    }
    let federated = Some((issuer.to_owned(), subject.to_owned()));
    let client = client_id.and_then(|id| state.client(id)).filter(|client| client.federated == federated);
    client.ok_or_else(|| format!("no client is registered for the iss {issuer:?} and the sub {subject:?}"))
}

/// Verifies the assertion of a client and gives the method that it is.
pub(super) fn verify_client(
    server: &Server,
    state: &mut State,
    client: &Client,
    assertion: &Jwt,
) -> Result<TokenEndpointAuthMethod, String> {
    if assertion.text("iss") != Some(&client.id) {
        let trusted = trusted(server, assertion)?;
        verify_of_issuer(server, trusted, assertion)?;
        return Ok(TokenEndpointAuthMethod::PrivateKeyJwt);
    }
    let name = assertion.algorithm_name();
    if client.assertion_algorithm.as_deref().is_some_and(|only| only != name) {
        return Err(format!("the algorithm is {name} and has to be {:?}", client.assertion_algorithm));
    }
    let method = if name.starts_with("HS") {
        let secret = client.secret.as_deref().ok_or("the client has no secret for an HMAC")?;
        assertion.verify_hmac(secret)?;
        TokenEndpointAuthMethod::ClientSecretJwt
    } else {
        assertion.verify(&client.keys)?;
        TokenEndpointAuthMethod::PrivateKeyJwt
    };
    check_type(assertion)?;
    check_audience(server, assertion, &[])?;
    let expiry = check_times(assertion)?;
    if expiry - now() > server.settings.assertion_longest_lifetime.as_secs_f64() + LEEWAY {
        return Err(format!("exp is {:.0} s away", expiry - now()));
    }
    match assertion.text("jti") {
        None if server.settings.assertion_jti_required => return Err("jti is missing".to_owned()),
        Some(id) if !state.seen.insert(format!("assertion {} {id}", client.id)) => {
            state.counters.replays += 1;
            return Err("the jti was used before".to_owned());
        }
        _ => {}
    }
    Ok(method)
}

/// The trusted issuer that a JWT names.
pub(super) fn trusted<'a>(server: &'a Server, assertion: &Jwt) -> Result<&'a TrustedIssuer, String> {
    let issuer = assertion.text("iss").ok_or("iss is missing")?;
    let mut known = server.settings.trusted_issuers.iter();
    known
        .find(|trusted| trusted.issuer == issuer)
        .ok_or_else(|| format!("the issuer {issuer:?} is not trusted"))
}

/// Verifies a JWT of a trusted issuer.
pub(super) fn verify_of_issuer(
    server: &Server,
    trusted: &TrustedIssuer,
    assertion: &Jwt,
) -> Result<(), String> {
    assertion.verify(&trusted.keys)?;
    check_audience(server, assertion, &trusted.audiences)?;
    check_times(assertion).map(drop)
}

/// A `typ`, if there is one, is a plain JWT's or the one that RFC 7523's revision names.
fn check_type(assertion: &Jwt) -> Result<(), String> {
    let typ = assertion.header.get("typ").map(|typ| typ.as_str().unwrap_or_default());
    match typ.map(str::to_ascii_lowercase).as_deref() {
        None | Some("jwt" | "client-authentication+jwt") => Ok(()),
        Some(other) => Err(format!("typ is {other:?}")),
    }
}

/// `aud` is one audience, and an accepted one.
fn check_audience(server: &Server, assertion: &Jwt, more: &[String]) -> Result<(), String> {
    let audience = match assertion.claims.get("aud") {
        Some(Value::String(audience)) => audience,
        Some(Value::Array(list)) => match list.as_slice() {
            [Value::String(audience)] => audience,
            _ => return Err("aud is not one audience".to_owned()),
        },
        _ => return Err("aud is missing".to_owned()),
    };
    let (issuer, endpoint) = (server.issuer.clone(), server.url("/token"));
    let mut accepted = match server.settings.assertion_audience {
        AssertionAudience::Issuer => vec![issuer],
        AssertionAudience::TokenEndpoint => vec![endpoint],
        AssertionAudience::IssuerOrTokenEndpoint => vec![issuer, endpoint],
    };
    accepted.extend_from_slice(more);
    if accepted.contains(audience) { Ok(()) } else { Err(format!("aud is {audience:?}, not {accepted:?}")) }
}

/// `exp` is ahead and `nbf` and `iat`, if there, are not; gives `exp`.
fn check_times(assertion: &Jwt) -> Result<f64, String> {
    let expiry = assertion.seconds("exp").ok_or("exp is missing")?;
    if expiry <= now() - LEEWAY {
        return Err(format!("exp was {:.0} s ago", now() - expiry));
    }
    match ["nbf", "iat"]
        .into_iter()
        .find(|claim| assertion.seconds(claim).is_some_and(|at| at > now() + LEEWAY))
    {
        None => Ok(expiry),
        Some(claim) => Err(format!("{claim} is in the future")),
    }
}
