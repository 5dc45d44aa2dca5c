//! Proofs of possession, RFC 9449.

use axum::{
    http::{HeaderName, HeaderValue},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{
    algorithm::thumbprint,
    inner::State,
    received::Received,
    registration::{Client, Dpop},
    respond::OAuthError,
    verify::{Jwt, VerificationKey, now},
};

/// How old or how new a proof may be, in seconds.
const WINDOW: f64 = 60.0;

/// The header of a proof.
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// The header of a nonce.
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The members that a public JWK does not have.
const PRIVATE_MEMBERS: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "k"];

/// Checks the proof of a request to the authorization server, and gives the thumbprint of its key if there is one.
pub(super) fn at_server(
    state: &mut State,
    received: &Received,
    client: &Client,
) -> Result<Option<String>, OAuthError> {
    let refuse = |description: &str| OAuthError::new("invalid_dpop_proof", description);
    if client.dpop == Dpop::Ignored {
        return Ok(None);
    }
    let Some(proof) = received.only_header(&DPOP).map_err(|error| refuse(&error))? else {
        if client.dpop == Dpop::Required {
            return Err(refuse("the client has to send a proof"));
        }
        return Ok(None);
    };
    let proof = Proof::read(state, received, proof).map_err(|error| refuse(&error))?;
    if !state.server_nonces.accept(proof.nonce.as_deref()) {
        state.counters.dpop_nonce_challenges += 1;
        return Err(OAuthError::new("use_dpop_nonce", "the proof needs the nonce of this server"));
    }
    Ok(Some(proof.thumbprint))
}

/// Why a resource refuses a proof: the error code and its reason.
pub(super) type Challenge = (&'static str, String);

/// Checks the proof that comes with an access token at a resource, and gives the thumbprint of its key.
pub(super) fn at_resource(
    state: &mut State,
    received: &Received,
    access_token: &str,
) -> Result<String, Challenge> {
    let refuse = |reason: String| ("invalid_dpop_proof", reason);
    let proof = received.only_header(&DPOP).map_err(refuse)?;
    let proof = proof.ok_or_else(|| refuse("there is no proof".to_owned()))?;
    let proof = Proof::read(state, received, proof).map_err(refuse)?;
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(access_token));
    if proof.access_token_hash.as_deref() != Some(&hash) {
        return Err(refuse("ath is not the hash of the access token".to_owned()));
    }
    if !state.resource_nonces.accept(proof.nonce.as_deref()) {
        state.counters.dpop_nonce_challenges += 1;
        return Err(("use_dpop_nonce", "the proof needs the nonce of this resource".to_owned()));
    }
    Ok(proof.thumbprint)
}

/// Puts the authorization server's nonce on an answer.
pub(super) fn add_server_nonce(state: &State, response: &mut Response) {
    add_nonce(state.server_nonces.current(), response);
}

/// Puts the resource's nonce on an answer.
pub(super) fn add_resource_nonce(state: &State, response: &mut Response) {
    add_nonce(state.resource_nonces.current(), response);
}

fn add_nonce(nonce: Option<&str>, response: &mut Response) {
    if let Some(nonce) = nonce {
        let nonce = HeaderValue::from_str(nonce).expect("a nonce in visible ASCII");
        response.headers_mut().insert(DPOP_NONCE, nonce);
    }
}

/// A proof that is good but for its nonce and its hash.
struct Proof {
    thumbprint: String,
    nonce: Option<String>,
    access_token_hash: Option<String>,
}

impl Proof {
    /// Checks a proof as RFC 9449 section 4.3 says; its `jti` is spent then.
    fn read(state: &mut State, received: &Received, text: &str) -> Result<Self, String> {
        state.counters.dpop_proofs += 1;
        let proof = Jwt::parse(text)?;
        let key = check_header(&proof)?;
        proof.verify(&[VerificationKey::jwk(key.clone())])?;
        check_target(&proof, received)?;
        let issued = proof.seconds("iat").ok_or("iat is missing")?;
        if (now() - issued).abs() > WINDOW {
            return Err(format!("iat is {:.0} s from now", now() - issued));
        }
        let id = proof.text("jti").filter(|id| id.len() >= 16).ok_or("jti is missing or short")?;
        let thumbprint = thumbprint(key);
        if !state.seen.insert(format!("dpop {thumbprint} {id}")) {
            state.counters.replays += 1;
            return Err("the jti was used before".to_owned());
        }
        Ok(Self {
            thumbprint,
            nonce: proof.text("nonce").map(str::to_owned),
            access_token_hash: proof.text("ath").map(str::to_owned),
        })
    }
}

/// The public key in the header.
fn check_header(proof: &Jwt) -> Result<&Value, String> {
    if proof.header.get("typ").and_then(Value::as_str) != Some("dpop+jwt") {
        return Err("typ is not dpop+jwt".to_owned());
    }
    let key = proof.header.get("jwk").filter(|key| key.is_object()).ok_or("jwk is missing")?;
    match PRIVATE_MEMBERS.iter().find(|member| !key[**member].is_null()) {
        Some(member) => Err(format!("jwk has the private member {member}")),
        None => Ok(key),
    }
}

/// `htm` and `htu` are this request's.
fn check_target(proof: &Jwt, received: &Received) -> Result<(), String> {
    let (method, path) = (received.method(), received.path());
    if proof.text("htm") != Some(method) {
        return Err(format!("htm is {:?} and the method {method}", proof.text("htm")));
    }
    let expected = format!("{}{path}", received.base());
    let htu = proof.text("htu").and_then(|htu| Url::parse(htu).ok()).ok_or("htu is no URL")?;
    if htu.query().is_some() || htu.fragment().is_some() {
        return Err("htu has a query or a fragment".to_owned());
    }
    if Url::parse(&expected).ok().as_ref() != Some(&htu) {
        return Err(format!("htu is {htu} and the request is to {expected}"));
    }
    Ok(())
}
