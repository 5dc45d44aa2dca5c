//! Discovery: OpenID Connect Discovery 1.0 section 4, and RFC 8414 section 3.

use std::{sync::Arc, time::Duration};

use keyfob_auth_core::{AuthError, ErrorKind};
use serde_json::{Map, Value};

use crate::{
    document::Remembered,
    http::{Endpoint, Http, Reply},
    json,
    recent::Recent,
};

/// How long a document is used before it is fetched anew.
const FRESH: Duration = Duration::from_secs(3600);

/// What an authorization server says of itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metadata {
    issuer: String,
    on_loopback: bool,
    members: Map<String, Value>,
}

/// An endpoint that a document can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Token,
    Authorization,
    PushedAuthorization,
    DeviceAuthorization,
    Revocation,
    Introspection,
    UserInfo,
    EndSession,
    Keys,
}

impl Which {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Token,
        Self::Authorization,
        Self::PushedAuthorization,
        Self::DeviceAuthorization,
        Self::Revocation,
        Self::Introspection,
        Self::UserInfo,
        Self::EndSession,
        Self::Keys,
    ];

    /// Its name in a document and in the settings.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Token => "token_endpoint",
            Self::Authorization => "authorization_endpoint",
            Self::PushedAuthorization => "pushed_authorization_request_endpoint",
            Self::DeviceAuthorization => "device_authorization_endpoint",
            Self::Revocation => "revocation_endpoint",
            Self::Introspection => "introspection_endpoint",
            Self::UserInfo => "userinfo_endpoint",
            Self::EndSession => "end_session_endpoint",
            Self::Keys => "jwks_uri",
        }
    }

    fn offers(self) -> &'static str {
        match self {
            Self::Token => "tokens",
            Self::Authorization => "browser login",
            Self::PushedAuthorization => "pushed authorization requests",
            Self::DeviceAuthorization => "device login",
            Self::Revocation => "revocation",
            Self::Introspection => "introspection",
            Self::UserInfo => "user info",
            Self::EndSession => "logout",
            Self::Keys => "keys",
        }
    }
}

impl Metadata {
    /// Reads a document; its `issuer` must be the one that was asked for, byte for byte (OpenID Connect Discovery section
    /// 4.3, RFC 8414 section 3.3).
    pub(crate) fn parse(issuer: &str, on_loopback: bool, document: &[u8]) -> Result<Self, AuthError> {
        let Some(members) = json::object(document) else {
            return Err(AuthError::transient(
                "the metadata document is no JSON object; does something answer in the server's place?",
            ));
        };
        match members.get("issuer").and_then(Value::as_str) {
            Some(found) if found == issuer => Ok(Self { issuer: found.to_owned(), on_loopback, members }),
            Some(found) => {
                let found: String = found.chars().take(200).collect();
                Err(AuthError::configuration(format!(
                    "the metadata document is of the issuer {found:?}, not of {issuer:?}; they must be equal to the last character"
                )))
            }
            None => Err(AuthError::configuration("the metadata document names no issuer")),
        }
    }

    /// The endpoint, if the document names it; for a client with a certificate the one that asks for it (RFC 8705 section
    /// 5), if there is one.
    ///
    /// # Errors
    /// If it names none, or one that no secret may be sent to.
    pub(crate) fn endpoint(&self, which: Which, certified: bool) -> Result<Endpoint, AuthError> {
        let key = which.key();
        let bad = |what: &str| {
            AuthError::configuration(format!("the server's `{key}` {what}")).with_origin(self.issuer.clone())
        };
        let alias = self.members.get("mtls_endpoint_aliases").and_then(|aliases| aliases.get(key));
        let text = json::text(alias.filter(|_| certified)).or_else(|| json::text(self.members.get(key)));
        let Some(text) = text else {
            return Err(AuthError::refused(format!(
                "the server offers no {}: its metadata names no `{key}`",
                which.offers()
            ))
            .with_origin(self.issuer.clone()));
        };
        let endpoint = Endpoint::parse(text).map_err(|what| bad(&what))?.being(which);
        if endpoint.is_https() || self.on_loopback {
            Ok(endpoint)
        } else {
            Err(bad("is on this machine, but the issuer is not"))
        }
    }

    /// Whether the document names the endpoint.
    pub(crate) fn names(&self, which: Which) -> bool {
        json::text(self.members.get(which.key())).is_some()
    }

    /// Whether a member is `true`: `require_pushed_authorization_requests`.
    pub(crate) fn says(&self, member: &str) -> bool {
        self.members.get(member).and_then(Value::as_bool) == Some(true)
    }

    /// The texts of a list: `response_modes_supported`. `None` if there is no such list.
    pub(crate) fn list(&self, member: &str) -> Option<Vec<&str>> {
        Some(self.members.get(member)?.as_array()?.iter().filter_map(Value::as_str).collect())
    }
}

/// The documents that a context's providers share, by issuer and network.
type Documents = Recent<Remembered<Metadata>>;

/// The metadata of the issuer: remembered, or fetched once for everybody who asks meanwhile.
///
/// # Cancellation
/// If who fetches is dropped, the next one fetches.
pub(crate) async fn discover(http: &Http, issuer: &Issuer) -> Result<Arc<Metadata>, AuthError> {
    let documents = http.context.shared(|| Ok(Documents::default()))?;
    let document = documents.get(&http.network.heard_of(&issuer.text));
    document.get(&issuer.text, FRESH, fetch(http, issuer)).await
}

/// The identifier of an authorization server: compared as text, fetched from as a URL.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    pub(crate) text: String,
    url: Endpoint,
}

impl Issuer {
    /// Checks an issuer (OpenID Connect Discovery section 3, RFC 8414 section 2); the error is the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let url = Endpoint::parse(text)?;
        if url.has_query() {
            return Err("must have no query".into());
        }
        Ok(Self { text: text.to_owned(), url })
    }

    /// Where OpenID Connect Discovery section 4.1 has the document: below the issuer's path.
    fn openid_configuration(&self) -> Endpoint {
        self.url.with_path(&format!("{}/.well-known/openid-configuration", self.path()))
    }

    /// Where RFC 8414 section 3.1 has the document: between host and path.
    fn oauth_authorization_server(&self) -> Endpoint {
        self.url.with_path(&format!("/.well-known/oauth-authorization-server{}", self.path()))
    }

    fn path(&self) -> &str {
        let path = self.url.path();
        path.strip_suffix('/').unwrap_or(path)
    }
}

async fn fetch(http: &Http, issuer: &Issuer) -> Result<Metadata, AuthError> {
    let first = match try_fetch(http, issuer, &issuer.openid_configuration()).await? {
        Ok(document) => return Ok(document),
        Err(absent) => absent,
    };
    let second = issuer.oauth_authorization_server();
    match try_fetch(http, issuer, &second).await? {
        Ok(document) => Ok(document),
        // One that answers for every path has no status to go by.
        Err(absent) if first.status() == absent.status() && absent.kind() == ErrorKind::Configuration => {
            let message = format!("{} (nor at {second})", first.message());
            Err(first.with_message(message))
        }
        Err(_) => Err(first),
    }
}

/// `Ok(Err)` where there is no document, so that it may be elsewhere.
async fn try_fetch(
    http: &Http,
    issuer: &Issuer,
    from: &Endpoint,
) -> Result<Result<Metadata, AuthError>, AuthError> {
    let reply = http.get(from).await?;
    judge(issuer, &reply)
}

fn judge(issuer: &Issuer, reply: &Reply) -> Result<Result<Metadata, AuthError>, AuthError> {
    if reply.is_overload() {
        return Err(reply.bare_error("the metadata could not be fetched"));
    }
    if !reply.is_success() {
        let why = if (300..400).contains(&reply.status) {
            "the issuer's metadata is said to be elsewhere, and redirects are not followed; is the issuer spelt right?"
        } else {
            "the server has no metadata of this issuer; look at `issuer`: its host, its realm or tenant, and a base path (as \
             /auth) that it lacks or has too much"
        };
        return Ok(Err(reply.error(AuthError::configuration(why))));
    }
    match Metadata::parse(&issuer.text, issuer.url.is_loopback(), &reply.body) {
        Ok(document) => Ok(Ok(document)),
        // A page that answers for every path.
        Err(error) if json::object(&reply.body).is_none() => Ok(Err(reply.error(error))),
        Err(error) => Err(reply.error(error)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://idp.example/realm";

    fn parse(document: &Value) -> Result<Metadata, AuthError> {
        Metadata::parse(ISSUER, false, document.to_string().as_bytes())
    }

    #[test]
    fn rfc8414_3_3_the_issuer_is_the_one_that_was_asked_for() {
        assert!(parse(&json!({"issuer": ISSUER})).is_ok());
        for other in [
            json!({"issuer": "https://idp.example/realm/"}),
            json!({"issuer": "https://IDP.example/realm"}),
            json!({"issuer": "https://idp.example:443/realm"}),
            json!({"issuer": "http://idp.example/realm"}),
            json!({"issuer": " https://idp.example/realm"}),
            json!({"issuer": ""}),
            json!({"issuer": [ISSUER]}),
            json!({"issuer": null}),
            json!({}),
        ] {
            assert_eq!(parse(&other).unwrap_err().kind(), ErrorKind::Configuration, "{other}");
        }
    }

    #[test]
    fn another_issuers_name_is_shown_in_part() {
        let long = format!("https://{}.example", "x".repeat(100_000));
        let error = parse(&json!({"issuer": long})).unwrap_err();
        assert!(error.message().contains("https://xxx") && error.message().len() < 600, "{error}");
    }

    #[test]
    fn no_json_object_is_no_verdict() {
        for body in ["", "null", "[]", "<html></html>", "{\"issuer\":"] {
            let error = Metadata::parse(ISSUER, false, body.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Transient, "{body:?}");
        }
    }

    #[test]
    fn rfc8414_2_endpoints_and_keys_are_https_unless_the_issuer_is_on_loopback() {
        for which in Which::ALL {
            let document = |url: &str| json!({"issuer": ISSUER, which.key(): url});
            let alias = |url: &str| json!({"issuer": ISSUER, "mtls_endpoint_aliases": {which.key(): url}});
            let plain = |url: &str| parse(&document(url)).unwrap().endpoint(which, false);
            let certified = |url: &str| parse(&alias(url)).unwrap().endpoint(which, true);
            assert!(plain("https://elsewhere.example/token?tenant=1").is_ok());
            assert!(certified("https://elsewhere.example/token?tenant=1").is_ok());
            for bad in ["http://idp.example/t", "http://127.0.0.1/t", "https://idp.example/t#f", "token"] {
                for outcome in [plain(bad), certified(bad)] {
                    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Configuration, "{which:?} {bad}");
                }
            }
        }
        let local = json!({"issuer": "http://127.0.0.1:1", "token_endpoint": "http://127.0.0.1:1/token"});
        let local = Metadata::parse("http://127.0.0.1:1", true, local.to_string().as_bytes()).unwrap();
        assert!(local.endpoint(Which::Token, false).is_ok());
    }

    #[test]
    fn rfc8705_5_an_alias_comes_first_where_there_is_one_and_a_certificate_is_shown() {
        let document = parse(&json!({
            "issuer": ISSUER,
            "token_endpoint": "https://idp.example/token",
            "revocation_endpoint": "https://idp.example/revoke",
            "mtls_endpoint_aliases": {"token_endpoint": "https://mtls.idp.example/token"},
        }))
        .unwrap();
        for (which, certified, url) in [
            (Which::Token, true, "https://mtls.idp.example/token"),
            (Which::Token, false, "https://idp.example/token"),
            (Which::Revocation, true, "https://idp.example/revoke"),
            (Which::Revocation, false, "https://idp.example/revoke"),
        ] {
            assert_eq!(
                document.endpoint(which, certified).unwrap().to_string(),
                url,
                "{which:?} {certified}"
            );
        }
    }

    #[test]
    fn a_bad_endpoint_that_is_not_used_does_no_harm() {
        let document = parse(&json!({
            "issuer": ISSUER,
            "token_endpoint": "https://idp.example/token",
            "revocation_endpoint": 7,
            "device_authorization_endpoint": "",
            "grant_types_supported": "what?",
        }))
        .unwrap();
        assert!(document.endpoint(Which::Token, false).is_ok());
        let error = document.endpoint(Which::Revocation, false).unwrap_err();
        assert!(error.to_string().contains("offers no revocation"), "{error}");
        let error = document.endpoint(Which::DeviceAuthorization, false).unwrap_err();
        assert!(error.to_string().contains("offers no device login"), "{error}");
    }

    #[test]
    fn rfc8414_3_1_well_known_paths_handle_a_terminating_slash_once() {
        for (issuer, oidc, oauth) in [
            (
                "https://a.example",
                "/.well-known/openid-configuration",
                "/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example/",
                "/.well-known/openid-configuration",
                "/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example/r/x",
                "/r/x/.well-known/openid-configuration",
                "/.well-known/oauth-authorization-server/r/x",
            ),
            (
                "https://a.example/r/",
                "/r/.well-known/openid-configuration",
                "/.well-known/oauth-authorization-server/r",
            ),
        ] {
            let issuer = Issuer::parse(issuer).unwrap();
            assert_eq!(issuer.openid_configuration().path(), oidc);
            assert_eq!(issuer.oauth_authorization_server().path(), oauth);
        }
    }

    #[test]
    fn rfc8414_2_an_issuer_has_neither_query_nor_fragment() {
        for bad in ["https://a.example?x", "https://a.example/#x", "http://a.example", "a.example", ""] {
            assert!(Issuer::parse(bad).is_err(), "{bad}");
        }
    }
}
