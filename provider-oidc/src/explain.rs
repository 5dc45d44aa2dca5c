//! What was sent and what came back, in the standards' words and without the secrets: for people who must find out why
//! their provider says no.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{AuthError, Context};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::form_urlencoded;

use crate::{
    browser::callback,
    http::{Endpoint, Form, Reply},
    json,
    metadata::Which,
};

/// The longest value that is shown.
const LONGEST: usize = 300;

/// Is told of every exchange with an authorization server.
///
/// It is called on the task that made the exchange, after the answer: it must not block. If it panics, that is logged, and the
/// answer is not lost.
pub trait Observer: Send + Sync {
    /// One exchange has ended.
    fn exchanged(&self, exchange: &Exchange);
}

/// From now on, tells this observer of every exchange that this context's providers make. Only one is told.
///
/// # Errors
/// None that an ordinary context has.
pub fn explain(context: &Context, observer: Arc<dyn Observer>) -> Result<(), AuthError> {
    let told = context.shared(|| Ok(Observed::default()))?;
    *told.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(observer);
    Ok(())
}

/// Who is told, in a context.
#[derive(Default)]
struct Observed(Mutex<Option<Arc<dyn Observer>>>);

/// One request to an authorization server and its answer. Secrets are left out of it when it is made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exchange {
    /// What it was for, and where that is written: `Token request, grant client_credentials (RFC 6749 section 4.4.2)`.
    pub what: String,
    /// The method and the URL, without its query. Empty for what the person's browser brings back.
    pub request_line: String,
    /// What was sent, in order: parameters and headers, by name.
    pub sent: Vec<(String, String)>,
    /// The HTTP status, if there was an answer. What the person's browser is sent to has none here.
    pub status: Option<u16>,
    /// What came back: the answer's members, by name; else what went wrong. Of a discovery document those that keyfob uses, and
    /// last how many there are besides.
    pub received: Vec<(String, String)>,
    /// How long the answer took.
    pub elapsed: Duration,
}

impl fmt::Display for Exchange {
    /// Some lines, indented: for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        if !self.request_line.is_empty() {
            writeln!(f, "  > {}", self.request_line)?;
        }
        for (name, value) in &self.sent {
            writeln!(f, "  >   {name}: {value}")?;
        }
        match self.status {
            Some(status) => writeln!(f, "  < HTTP {status} after {} ms", self.elapsed.as_millis())?,
            None if self.elapsed.is_zero() => {}
            None => writeln!(f, "  < no answer after {} ms", self.elapsed.as_millis())?,
        }
        for (name, value) in &self.received {
            writeln!(f, "  <   {name}: {value}")?;
        }
        Ok(())
    }
}

/// An exchange under way that an observer is to be told of.
pub(crate) struct Told {
    observer: Arc<dyn Observer>,
    exchange: Exchange,
    /// Whether the answer is what the server says of itself.
    discovers: bool,
}

impl Told {
    pub(crate) fn post(
        context: &Context,
        endpoint: &Endpoint,
        form: &Form,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Option<Self> {
        let observer = observer(context)?;
        let mut sent: Vec<_> = headers.iter().map(|(name, value)| header(name, value)).collect();
        let mut grant = String::new();
        for (name, value) in parameters(form.as_str()) {
            if name == "grant_type" {
                grant.clone_from(&value);
            }
            sent.push((name, value));
        }
        let what = what(endpoint, &grant);
        let exchange = exchange(what, format!("POST {endpoint}"), sent);
        Some(Self { observer, exchange, discovers: false })
    }

    pub(crate) fn get(context: &Context, endpoint: &Endpoint, headers: &HeaderMap) -> Option<Self> {
        let observer = observer(context)?;
        let what = what(endpoint, "");
        let sent = headers.iter().map(|(name, value)| header(name, value)).collect();
        let discovers = what.starts_with(DISCOVERY);
        Some(Self { observer, exchange: exchange(what, format!("GET {endpoint}"), sent), discovers })
    }

    /// Tells of the answer.
    pub(crate) fn answered(mut self, answer: &Result<Reply, AuthError>, elapsed: Duration) {
        self.exchange.elapsed = elapsed;
        match answer {
            Err(error) => self.exchange.received.push(("error".into(), shortened(&error.to_string()))),
            Ok(reply) => {
                self.exchange.status = Some(reply.status);
                if reply.headers.contains_key("dpop-nonce") {
                    self.exchange.received.push(("DPoP-Nonce".into(), "(a nonce for the next proof)".into()));
                }
                match json::Members::all(&reply.body) {
                    Some(members) => {
                        let is_used =
                            |name: &str| !self.discovers || !reply.is_success() || is_metadata(name);
                        let (used, others): (Vec<_>, Vec<_>) =
                            members.iter().partition(|(name, _)| is_used(name));
                        let shown = used.iter().map(|(name, value)| (shortened(name), member(name, value)));
                        self.exchange.received.extend(shown);
                        if !others.is_empty() {
                            let others = format!("{} members that keyfob does not use", others.len());
                            self.exchange.received.push(("(besides)".into(), others));
                        }
                    }
                    None if reply.body.is_empty() => {}
                    None => {
                        let body = format!("{} bytes that are no JSON object", reply.body.len());
                        self.exchange.received.push(("body".into(), body));
                    }
                }
            }
        }
        tell(&*self.observer, &self.exchange);
    }
}

fn tell(observer: &dyn Observer, exchange: &Exchange) {
    if catch_unwind(AssertUnwindSafe(|| observer.exchanged(exchange))).is_err() {
        tracing::warn!("an observer of exchanges panicked; that is a bug in it");
    }
}

/// Tells where a person's browser is sent (RFC 6749 section 4.1.1).
pub(crate) fn sent_to(context: &Context, endpoint: &Endpoint, query: &Form) {
    let Some(observer) = observer(context) else { return };
    let sent = parameters(query.as_str());
    let what = format!("{}, by the person's browser", what(endpoint, ""));
    tell(&*observer, &exchange(what, format!("GET {endpoint}"), sent));
}

/// Tells what a person's browser brought back (RFC 6749 section 4.1.2), as a query or a form.
pub(crate) fn came_back(context: &Context, answer: &str) {
    let Some(observer) = observer(context) else { return };
    let what = "Authorization response, by the person's browser (RFC 6749 section 4.1.2)";
    let mut exchange = exchange(what.into(), String::new(), Vec::new());
    exchange.received = brought_back(answer);
    tell(&*observer, &exchange);
}

/// The parameters of an answer: of a query, a form, or a URL as a person pastes it. What does not look like a parameter may
/// be a code that was pasted by itself.
fn brought_back(answer: &str) -> Vec<(String, String)> {
    let is_name = |name: &str| name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_'));
    let parts = callback::query_of(answer).split('&').filter(|part| !part.is_empty());
    let shown = parts.flat_map(|part| match part.split_once('=') {
        Some((name, _)) if is_name(name) => parameters(part),
        _ => vec![("(no name)".to_owned(), hidden(part))],
    });
    shown.collect()
}

fn parameters(form: &str) -> Vec<(String, String)> {
    let pairs = form_urlencoded::parse(form.as_bytes());
    pairs.map(|(name, value)| (shortened(&name), parameter(&name, &value))).collect()
}

fn observer(context: &Context) -> Option<Arc<dyn Observer>> {
    let observed = context.shared(|| Ok(Observed::default())).ok()?;
    observed.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn exchange(what: String, request_line: String, sent: Vec<(String, String)>) -> Exchange {
    Exchange { what, request_line, sent, status: None, received: Vec::new(), elapsed: Duration::ZERO }
}

/// How a request for a server's metadata is called.
const DISCOVERY: &str = "Discovery";

/// Whether something here depends on this member of a server's metadata.
fn is_metadata(name: &str) -> bool {
    const OTHERS: [&str; 6] = [
        "issuer",
        "mtls_endpoint_aliases",
        "authorization_response_iss_parameter_supported",
        "dpop_signing_alg_values_supported",
        "require_pushed_authorization_requests",
        "response_modes_supported",
    ];
    OTHERS.contains(&name) || Which::ALL.iter().any(|which| which.key() == name)
}

/// What a request is for, by its endpoint and its grant.
fn what(endpoint: &Endpoint, grant: &str) -> String {
    let what = match endpoint.which() {
        Some(Which::Token) => return token_request(grant),
        Some(Which::Authorization) => "Authorization request (RFC 6749 section 4.1.1)",
        Some(Which::PushedAuthorization) => "Pushed authorization request (RFC 9126 section 2.1)",
        Some(Which::DeviceAuthorization) => "Device authorization request (RFC 8628 section 3.1)",
        Some(Which::Revocation) => "Revocation request (RFC 7009 section 2.1)",
        Some(Which::Introspection) => "Introspection request (RFC 7662 section 2.1)",
        Some(Which::UserInfo) => "UserInfo request (OpenID Connect Core section 5.3)",
        Some(Which::EndSession) => "Logout request (OpenID Connect RP-Initiated Logout section 2)",
        Some(Which::Keys) => "Keys of the issuer (RFC 7517 section 5)",
        None if endpoint.path().ends_with("/.well-known/openid-configuration") => {
            return format!("{DISCOVERY} (OpenID Connect Discovery section 4)");
        }
        None if endpoint.path().starts_with("/.well-known/oauth-authorization-server") => {
            return format!("{DISCOVERY} (RFC 8414 section 3)");
        }
        None => "Request for a document of the product's own",
    };
    what.into()
}

fn token_request(grant: &str) -> String {
    let section = match grant {
        "authorization_code" => "RFC 6749 section 4.1.3",
        "client_credentials" => "RFC 6749 section 4.4.2",
        "password" => "RFC 6749 section 4.3.2",
        "refresh_token" => "RFC 6749 section 6",
        "urn:ietf:params:oauth:grant-type:device_code" => "RFC 8628 section 3.4",
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => "RFC 7523 section 2.1",
        "urn:ietf:params:oauth:grant-type:token-exchange" => "RFC 8693 section 2.1",
        _ => return format!("Token request, grant {}", shortened(grant)),
    };
    format!("Token request, grant {grant} ({section})")
}

fn header(name: &HeaderName, value: &HeaderValue) -> (String, String) {
    let text = value.to_str().unwrap_or_default();
    let shown = match text.split_once(' ') {
        Some((scheme, rest)) if name == "authorization" => format!("{scheme} {}", hidden(rest)),
        _ if name == "dpop" => jwt(text).unwrap_or_else(|| hidden(text)),
        _ => hidden(text),
    };
    // The name as the standards write it.
    (if name == "dpop" { "DPoP".into() } else { "Authorization".into() }, shown)
}

/// Parameters whose values are no secrets. Everything else is left out.
const OPEN: [&str; 25] = [
    "grant_type",
    "client_id",
    "scope",
    "audience",
    "resource",
    "redirect_uri",
    "response_type",
    "response_mode",
    "code_challenge_method",
    "token_type_hint",
    "client_assertion_type",
    "subject_token_type",
    "actor_token_type",
    "requested_token_type",
    "acr_values",
    "max_age",
    "prompt",
    "ui_locales",
    "claims",
    "authorization_details",
    "dpop_jkt",
    // Of answers.
    "error",
    "error_description",
    "error_uri",
    "iss",
];

/// Whether a parameter's value is no secret.
pub(crate) fn is_open(name: &str) -> bool {
    OPEN.contains(&name)
}

pub(crate) fn parameter(name: &str, value: &str) -> String {
    match name {
        _ if is_open(name) => shortened(value),
        "client_assertion" => jwt(value).unwrap_or_else(|| hidden(value)),
        _ => hidden(value),
    }
}

/// Members of answers that are secrets, or lead to some: shown as what they are.
pub(crate) fn member(name: &str, value: &Value) -> String {
    match (name, value) {
        ("id_token", Value::String(text)) => jwt(text).unwrap_or_else(|| hidden(text)),
        (
            "token_type" | "scope" | "error" | "error_description" | "error_uri" | "issuer"
            | "issued_token_type" | "verification_uri" | "verification_url" | "iss" | "client_id",
            Value::String(text),
        ) => shortened(text),
        (_, Value::String(text)) if name.ends_with("_endpoint") || name == "jwks_uri" => shortened(text),
        (_, Value::String(text)) => hidden(text),
        (_, Value::Number(_) | Value::Bool(_) | Value::Null) => value.to_string(),
        (_, Value::Array(list)) if name.ends_with("_supported") => {
            let names: Vec<_> = list.iter().filter_map(Value::as_str).collect();
            shortened(&names.join(" "))
        }
        (_, Value::Array(list)) => format!("(a list of {})", list.len()),
        (_, Value::Object(members)) => format!("(an object of {})", members.len()),
    }
}

/// What a JWT says of itself: its header, and the claims that errors are about. Without its signature it is of no use.
fn jwt(text: &str) -> Option<String> {
    const CLAIMS: [&str; 14] = [
        "iss",
        "sub",
        "aud",
        "azp",
        "exp",
        "iat",
        "nbf",
        "typ",
        "acr",
        "auth_time",
        "htm",
        "htu",
        "scope",
        "amr",
    ];
    let mut parts = text.split('.');
    let mut part = || json::object(&URL_SAFE_NO_PAD.decode(parts.next()?).ok()?);
    let (mut header, mut claims) = (part()?, part()?);
    header.retain(|name, _| matches!(name.as_str(), "alg" | "kid" | "typ" | "x5t" | "x5t#S256"));
    claims.retain(|name, _| CLAIMS.contains(&name.as_str()));
    Some(shortened(&format!("JWT {} {}", Value::Object(header), Value::Object(claims))))
}

fn hidden(text: &str) -> String {
    format!("({} bytes, not shown)", text.len())
}

fn shortened(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = plain.clone().take(LONGEST).collect();
    if plain.count() > LONGEST {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_to_be_open_is_not_shown() {
        for (name, value, shown) in [
            ("grant_type", "client_credentials", "client_credentials"),
            ("client_secret", "marker", "(6 bytes, not shown)"),
            ("code", "marker", "(6 bytes, not shown)"),
            ("code_verifier", "marker", "(6 bytes, not shown)"),
            ("password", "marker", "(6 bytes, not shown)"),
            ("refresh_token", "marker", "(6 bytes, not shown)"),
            ("never_heard_of_it", "marker", "(6 bytes, not shown)"),
            ("client_assertion", "marker", "(6 bytes, not shown)"),
            ("scope", "a\u{1b}[31mb", "a [31mb"),
        ] {
            assert_eq!(parameter(name, value), shown, "{name}");
        }
        for (name, value) in [
            ("access_token", Value::from("marker")),
            ("refresh_token", "marker".into()),
            ("device_code", "marker".into()),
            ("whatever", "marker".into()),
            ("list", vec!["marker"].into()),
            ("object", serde_json::json!({"marker": "marker"})),
        ] {
            assert!(!member(name, &value).contains("marker"), "{name}");
        }
    }

    #[test]
    fn a_jwt_is_shown_without_its_signature() {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let token = format!(
            "{}.{}.{}",
            part(r#"{"alg":"RS256","kid":"k"}"#),
            part(r#"{"iss":"app","aud":"https://idp.example","jti":"marker"}"#),
            part("marker-signature")
        );
        let shown = parameter("client_assertion", &token);
        for part in [r#""alg":"RS256""#, r#""kid":"k""#, r#""iss":"app""#, r#""aud":"https://idp.example""#] {
            assert!(shown.contains(part), "{shown}");
        }
        assert!(!shown.contains("marker") && !shown.contains(&part("marker-signature")), "{shown}");
    }
}
