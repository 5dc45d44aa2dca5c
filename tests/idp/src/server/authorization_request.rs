//! Authorization requests, however they came: read and judged.

use serde_json::Value;
use url::{Host, Url};

use super::{registration::Client, respond::OAuthError, settings::Settings, token::split_scopes};

/// A valid authorization request.
#[derive(Clone, Debug)]
pub(super) struct AuthorizationRequest {
    pub(super) client_id: String,
    pub(super) redirection: Redirection,
    pub(super) scopes: Vec<String>,
    pub(super) code_challenge: String,
    pub(super) nonce: Option<String>,
    pub(super) prompt: Vec<String>,
    pub(super) login_hint: Option<String>,
    pub(super) max_age: Option<u64>,
    /// The levels asked for, best first.
    pub(super) acr_values: Vec<String>,
    /// Whether one of the levels has to be reached.
    pub(super) acr_essential: bool,
    pub(super) resources: Vec<String>,
    pub(super) authorization_details: Option<Value>,
    /// The key that the code is bound to (RFC 9449 section 10).
    pub(super) dpop_jkt: Option<String>,
}

/// Where the answer goes.
#[derive(Clone, Debug)]
pub(super) struct Redirection {
    pub(super) uri: String,
    pub(super) state: Option<String>,
    pub(super) form_post: bool,
}

/// The parameters of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters<'a>(pub(super) &'a [(String, String)]);

impl<'a> Parameters<'a> {
    /// A parameter; an empty one counts as missing.
    pub(super) fn get(self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    fn all(self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, value)| key == name && !value.is_empty()).map(|(_, value)| &**value)
    }

    fn required(self, name: &str) -> Result<&'a str, OAuthError> {
        self.get(name).ok_or_else(|| OAuthError::invalid_request(&format!("{name} is missing")))
    }

    /// Refuses what is there twice and may not be.
    fn check_once(self) -> Result<(), OAuthError> {
        let twice = self.0.iter().enumerate().find(|(index, (key, _))| {
            !matches!(key.as_str(), "resource" | "audience")
                && self.0.iter().take(*index).any(|(other, _)| other == key)
        });
        match twice {
            None => Ok(()),
            Some((_, (key, _))) => Err(OAuthError::invalid_request(&format!("{key} is there twice"))),
        }
    }
}

impl Redirection {
    /// Where answers to a request go, if that is a registered place.
    pub(super) fn read(client: &Client, parameters: Parameters<'_>) -> Result<Self, OAuthError> {
        let uri = parameters.required("redirect_uri")?;
        if parameters.all("redirect_uri").count() > 1 || !is_registered(&client.redirect_uris, uri) {
            return Err(OAuthError::invalid_request("the redirect_uri is not registered"));
        }
        Ok(Self {
            uri: uri.to_owned(),
            state: parameters.get("state").map(str::to_owned),
            form_post: parameters.get("response_mode") == Some("form_post"),
        })
    }
}

impl AuthorizationRequest {
    /// Reads a request whose redirection is known to be good.
    pub(super) fn read(
        settings: &Settings,
        client: &Client,
        redirection: Redirection,
        parameters: Parameters<'_>,
    ) -> Result<Self, OAuthError> {
        let wrong = |description: &str| OAuthError::invalid_request(description);
        parameters.check_once()?;
        if parameters.required("response_type")? != "code" {
            return Err(OAuthError::new("unsupported_response_type", "the response type is not code"));
        }
        if parameters.get("response_mode").is_some_and(|mode| !["query", "form_post"].contains(&mode)) {
            return Err(wrong("the response_mode is neither query nor form_post"));
        }
        if parameters.get("request").is_some() {
            return Err(OAuthError::new("request_not_supported", "request objects are not supported"));
        }
        let code_challenge = parameters.required("code_challenge")?;
        if parameters.get("code_challenge_method") != Some("S256") {
            return Err(wrong("the code_challenge_method is not S256"));
        }
        let base64url = |letter: u8| letter.is_ascii_alphanumeric() || b"-_".contains(&letter);
        if code_challenge.len() != 43 || !code_challenge.bytes().all(base64url) {
            return Err(wrong("the code_challenge is not a SHA-256 hash in base64url"));
        }
        let scopes = parameters.get("scope").map(split_scopes).unwrap_or_default();
        let openid = scopes.iter().any(|scope| scope == "openid");
        if settings.strict_authorization {
            parameters.required("state")?;
            if openid {
                parameters.required("nonce")?;
            }
        }
        let max_age = parameters.get("max_age").map(str::parse).transpose();
        let max_age = max_age.map_err(|_| wrong("max_age is not a number of seconds"))?;
        let prompt: Vec<String> = parameters.get("prompt").map(split_scopes).unwrap_or_default();
        let known = ["none", "login", "consent", "select_account", "create"];
        if prompt.iter().any(|word| !known.contains(&word.as_str()))
            || prompt.len() > 1 && prompt.iter().any(|word| word == "none")
        {
            return Err(wrong("the prompt is unknown or contradicts itself"));
        }
        let claims = parameters.get("claims").map(read_claims).transpose()?;
        let (essential, acr_values) = wished_levels(claims.as_ref(), parameters.get("acr_values"));
        Ok(Self {
            client_id: client.id.clone(),
            redirection,
            scopes,
            code_challenge: code_challenge.to_owned(),
            nonce: parameters.get("nonce").map(str::to_owned),
            prompt,
            login_hint: parameters.get("login_hint").map(str::to_owned),
            max_age,
            acr_values,
            acr_essential: essential,
            resources: read_resources(parameters)?,
            authorization_details: parameters.get("authorization_details").map(read_details).transpose()?,
            dpop_jkt: parameters.get("dpop_jkt").map(str::to_owned),
        })
    }

    pub(super) fn prompts(&self, word: &str) -> bool {
        self.prompt.iter().any(|prompt| prompt == word)
    }
}

/// Whether a URI is among the registered ones.
pub(super) fn is_registered(registered: &[String], uri: &str) -> bool {
    let Ok(asked) = Url::parse(uri) else { return false };
    if asked.fragment().is_some() {
        return false;
    }
    registered.iter().any(|known| known == uri || is_same_on_another_port(known, &asked, uri))
}

/// The rule of RFC 8252 section 7.3 for a registered loopback URI without a port.
fn is_same_on_another_port(known: &str, asked: &Url, asked_text: &str) -> bool {
    let Ok(known) = Url::parse(known) else { return false };
    let loopback = match known.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if known.scheme() != "http" || !loopback || known.port().is_some() {
        return false;
    }
    let mut without_port = asked.clone();
    // The text has to be what the parser makes of it: no credentials, no dots in the path.
    without_port.set_port(None).is_ok() && without_port == known && asked.as_str() == asked_text
}

fn read_claims(text: &str) -> Result<Value, OAuthError> {
    let claims: Option<Value> = serde_json::from_str(text).ok().filter(Value::is_object);
    claims.ok_or_else(|| OAuthError::invalid_request("claims is not a JSON object"))
}

/// The levels that a request asks for, and whether one of them is essential (OpenID Connect Core section 5.5.1.1).
fn wished_levels(claims: Option<&Value>, acr_values: Option<&str>) -> (bool, Vec<String>) {
    let acr = claims.map(|claims| &claims["id_token"]["acr"]).filter(|acr| acr.is_object());
    let Some(acr) = acr else { return (false, acr_values.map(split_scopes).unwrap_or_default()) };
    let one = acr["value"].as_str().map(str::to_owned);
    let many = acr["values"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    (acr["essential"] == true, one.into_iter().chain(many).collect())
}

fn read_resources(parameters: Parameters<'_>) -> Result<Vec<String>, OAuthError> {
    let resources: Vec<String> = parameters.all("resource").map(str::to_owned).collect();
    check_resources(&resources)?;
    Ok(resources)
}

/// Refuses what RFC 8707 section 2 does not take for a resource.
pub(super) fn check_resources(resources: &[String]) -> Result<(), OAuthError> {
    let bad =
        resources.iter().find(|text| Url::parse(text).map_or(true, |resource| resource.fragment().is_some()));
    match bad {
        None => Ok(()),
        Some(bad) => Err(OAuthError::new(
            "invalid_target",
            &format!("the resource {bad:?} is not an absolute URI without a fragment"),
        )),
    }
}

/// Reads `authorization_details` as RFC 9396 section 2 has them.
pub(super) fn read_details(text: &str) -> Result<Value, OAuthError> {
    let details: Option<Value> = serde_json::from_str(text).ok();
    let is_good = |details: &Value| {
        let list = details.as_array().filter(|list| !list.is_empty());
        list.is_some_and(|list| list.iter().all(|detail| detail["type"].is_string()))
    };
    details.filter(is_good).ok_or_else(|| {
        let description = "authorization_details is not a list of objects with a type";
        OAuthError::new("invalid_authorization_details", description)
    })
}
