//! The authorization code grant with PKCE (RFC 6749 section 4.1, RFC 7636, OpenID Connect Core section 3.1), in the two steps
//! that a browser's way from and back to the client leaves.

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keyfob_auth_core::{Acquired, AuthError, ErrorKind, ExposeSecret, LoginRequest, Scopes, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use super::{SignIn, either};
use crate::{
    Oidc,
    assertion::random,
    binding::{self, BindingKey},
    browser::callback::{self, Answer},
    config::{RedirectUri, ResponseMode},
    explain,
    http::{Endpoint, Form, Reply},
    json::{self, Members},
    metadata::{Metadata, Which},
    oauth_error::{Asked, error_in, kind_of_code},
    token_endpoint::GrantRequest,
};

/// A login with a browser that is under way: what [`Oidc::finish`] must know to trust the answer.
///
/// It belongs to the one browser that was sent to the URL: a web application keeps it in that browser's server-side session,
/// or encrypted in its cookie, and uses it once. It is secret: who has it and the code has the login. `Debug` shows none of it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Pending {
    #[serde(with = "secret_text")]
    state: SecretString,
    #[serde(with = "secret_text")]
    code_verifier: SecretString,
    nonce: Option<String>,
    redirect_uri: String,
    issuer: String,
    client_id: String,
    scopes: Scopes,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    resources: Vec<String>,
    max_age: Option<u64>,
    acr_values: Option<String>,
    /// Whether the answer must name its issuer (RFC 9207 section 2.3).
    iss_required: bool,
    #[serde(with = "optional_secret_text", default, skip_serializing_if = "Option::is_none")]
    binding_key: Option<SecretString>,
    /// In seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url_expires_at: Option<u64>,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Pending {
    /// Until when the person must have opened the URL, where the request was pushed (`expires_in`, RFC 9126 section 2.2). After
    /// that, [`start`](Oidc::start) anew. `None` if the URL does not expire, or the server does not say when.
    pub fn url_expires_at(&self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.url_expires_at?))
    }

    /// Whether an answer's `state` is this login's. In constant time, as far as its length is right.
    pub(crate) fn is_answered_by(&self, state: &str) -> bool {
        let expected = self.state.expose_secret().as_bytes();
        expected.len() == state.len()
            && expected.iter().zip(state.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl Oidc {
    /// Begins a login with a browser: the URL to send the person's browser to, and what [`finish`](Self::finish) needs when it
    /// comes back. For web applications; a session's `login` does both itself, with a listener on loopback.
    ///
    /// Without `redirect_uri` the first configured one is taken.
    ///
    /// # Errors
    /// Configuration if the flow is not one that a person signs in by ([`Flow::Browser`](crate::Flow::Browser), to be said
    /// where the client has a secret: unsaid, it would be client credentials). Refused if the server offers no browser login, or refuses the pushed request (RFC 9126 section 2.3).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn start(
        &self,
        request: &LoginRequest,
        redirect_uri: Option<&str>,
    ) -> Result<(String, Pending), AuthError> {
        let redirect_uri = match redirect_uri {
            Some(text) => RedirectUri::parse(text)
                .map(|_| text.to_owned())
                .map_err(|what| self.named(AuthError::configuration(format!("the redirect URI {what}"))))?,
            None => self
                .config
                .browser
                .redirect_uris
                .first()
                .map(|uri| uri.as_str().to_owned())
                .unwrap_or_default(),
        };
        let request = request.clone();
        self.run(|this| async move { this.start_at(&request, redirect_uri).await }).await
    }

    /// Ends a login with a browser: checks what came back to the redirect URI (its query, or the form that was posted), and
    /// gets the tokens. [`Session::adopt`](keyfob_auth_core::Session::adopt) takes the result.
    ///
    /// # Errors
    /// Refused if the answer is not this login's, not the issuer's, or says that the person or the server said no, or if the
    /// ID token does not hold; what the token endpoint says.
    ///
    /// # Cancellation
    /// The code is spent all the same, and what it brought is lost: the person signs in again.
    pub async fn finish(&self, pending: Pending, answer: &str) -> Result<Acquired, AuthError> {
        let answer = Zeroizing::new(answer.to_owned());
        self.run(|this| async move { this.finish_with(&pending, &answer).await }).await
    }

    pub(crate) async fn start_at(
        &self,
        request: &LoginRequest,
        redirect_uri: String,
    ) -> Result<(String, Pending), AuthError> {
        Self::check(&request.token)?;
        if !self.config.flow.is_personal() {
            // The session would have the client's own tokens in the place of the person's.
            return Err(AuthError::configuration(format!(
                "nobody signs in with the flow {:?}: set the flow \"browser\"",
                self.config.flow.as_str()
            )));
        }
        let (_, offers) = self.authorization_endpoint().await?;
        let says = |member: &str| offers.as_ref().is_some_and(|metadata| metadata.says(member));
        let mode = self.config.browser.response_mode;
        if mode == ResponseMode::FormPost
            && let Some(modes) = offers.as_ref().and_then(|offers| offers.list("response_modes_supported"))
            && !modes.contains(&mode.as_str())
        {
            return Err(AuthError::configuration(format!(
                "the server's `response_modes_supported` does not name {:?}; leave `response_mode` out",
                mode.as_str()
            )));
        }
        let scopes = self.scopes_for(&request.token.scopes, request.token.challenge.as_ref());
        let key = self.new_key()?;
        let challenge = request.token.challenge.as_ref();
        let demanded_age = challenge.and_then(|challenge| challenge.max_age);
        let mut pending = Pending {
            state: random(32)?.into(),
            code_verifier: random(32)?.into(),
            nonce: if scopes.contains("openid") { Some(random(32)?) } else { None },
            redirect_uri,
            issuer: self.config.issuer.text.clone(),
            client_id: self.config.client.id().to_owned(),
            max_age: demanded_age.or(self.config.browser.max_age).map(|age| age.as_secs()),
            acr_values: challenge.and_then(|challenge| challenge.acr_values.clone()),
            scopes,
            resources: either(&request.token.resources, &self.config.resources).to_vec(),
            iss_required: says("authorization_response_iss_parameter_supported"),
            binding_key: binding::to_secret(key.as_ref())?,
            url_expires_at: None,
        };
        let (url, expires_at) = Box::pin(self.authorization_url(request, &pending)).await?;
        pending.url_expires_at = expires_at;
        Ok((url, pending))
    }

    /// Where the browser is sent, and what is known of the server there, if it is needed.
    async fn authorization_endpoint(&self) -> Result<(Endpoint, Option<Arc<Metadata>>), AuthError> {
        match self.config.endpoint(Which::Authorization) {
            // There may be no metadata.
            Some(known) if self.config.endpoint(Which::Token).is_some() => Ok((known.clone(), None)),
            // Where the metadata is needed anyway, what it demands of a login counts.
            known => {
                let metadata = self.metadata().await?;
                let endpoint = match known {
                    Some(known) => known.clone(),
                    // No certificate is shown here: it is the person's browser that goes there.
                    None => metadata.endpoint(Which::Authorization, false)?,
                };
                Ok((endpoint, Some(metadata)))
            }
        }
    }

    /// The URL to send the browser to, and until when it is good, if that is said: in seconds since 1970. Asked for again, the
    /// same request is pushed anew: a `request_uri` is used once, and expires.
    pub(crate) async fn authorization_url(
        &self,
        request: &LoginRequest,
        pending: &Pending,
    ) -> Result<(String, Option<u64>), AuthError> {
        let (endpoint, offers) = self.authorization_endpoint().await?;
        let key = self.restore_key(pending.binding_key.as_ref())?;
        let form = self.authorization_request(request, pending, key.as_ref());
        let required =
            offers.as_ref().is_some_and(|metadata| metadata.says("require_pushed_authorization_requests"));
        let offered = self.config.endpoint(Which::PushedAuthorization).is_some()
            || offers.as_ref().is_some_and(|metadata| metadata.names(Which::PushedAuthorization));
        let (query, expires_at) = match self.config.browser.pushed {
            Some(false) if required => {
                return Err(AuthError::configuration(
                    "the server takes pushed authorization requests only; leave `pushed_authorization_requests` out",
                ));
            }
            Some(true) => self.push(form, key.as_ref()).await?,
            None if required => self.push(form, key.as_ref()).await?,
            None if offered => self.push(form, key.as_ref()).await.map_err(|error| {
                if error.kind() != ErrorKind::Refused {
                    return error;
                }
                let message = format!(
                    "{}; the server does not demand it: `pushed_authorization_requests = false` goes without",
                    error.message()
                );
                error.with_message(message)
            })?,
            Some(false) | None => {
                let mut form = form;
                form.push("client_id", self.config.client.id());
                for (name, value) in &self.config.extra {
                    form.push(name, value);
                }
                (form, None)
            }
        };
        explain::sent_to(self.context(), &endpoint, &query);
        let mut url = endpoint.url().clone();
        let query = match url.query() {
            Some(own) if !own.is_empty() => format!("{own}&{}", query.as_str()),
            _ => query.as_str().to_owned(),
        };
        url.set_query(Some(&query));
        Ok((url.into(), expires_at))
    }

    /// The parameters of an authorization request (RFC 6749 section 4.1.1, OpenID Connect Core section 3.1.2.1), but for the
    /// client's id and the product's own.
    fn authorization_request(
        &self,
        request: &LoginRequest,
        pending: &Pending,
        key: Option<&BindingKey>,
    ) -> Form {
        let config = &self.config.browser;
        let challenge = request.token.challenge.as_ref();
        let first = |asked: Option<&String>, configured: &Option<String>| {
            asked.or(configured.as_ref()).cloned().unwrap_or_default()
        };
        let mut form = Form::default();
        form.push("response_type", "code");
        form.push("redirect_uri", &pending.redirect_uri);
        form.push_some("scope", &pending.scopes.to_string());
        form.push("state", pending.state.expose_secret());
        form.push_some("nonce", pending.nonce.as_deref().unwrap_or_default());
        form.push("code_challenge", &code_challenge(&pending.code_verifier));
        form.push("code_challenge_method", "S256");
        if config.response_mode == ResponseMode::FormPost {
            form.push("response_mode", config.response_mode.as_str());
        }
        form.push_some("login_hint", &first(request.account_hint.as_ref(), &config.login_hint));
        form.push_some("prompt", &first(request.prompt.as_ref(), &config.prompt));
        let acr_values = challenge.and_then(|challenge| challenge.acr_values.as_ref());
        form.push_some("acr_values", &first(acr_values, &config.acr_values));
        form.push_some("max_age", &pending.max_age.map(|age| age.to_string()).unwrap_or_default());
        form.push_some("ui_locales", config.ui_locales.as_deref().unwrap_or_default());
        form.push_some("claims", challenge.and_then(|c| c.claims.as_deref()).unwrap_or_default());
        form.push_some(
            "authorization_details",
            self.config.authorization_details.as_deref().unwrap_or_default(),
        );
        for audience in either(&request.token.audiences, &self.config.audiences) {
            form.push("audience", audience);
        }
        for resource in &pending.resources {
            form.push("resource", resource);
        }
        form.push_some("dpop_jkt", &key.map(BindingKey::thumbprint).unwrap_or_default());
        form
    }

    /// Pushes the request (RFC 9126 section 2); what is left for the URL, and until when that is good.
    async fn push(&self, mut form: Form, key: Option<&BindingKey>) -> Result<(Form, Option<u64>), AuthError> {
        let endpoint = self.endpoint(Which::PushedAuthorization).await?;
        if !self.config.client.names_itself_in_forms() {
            form.push("client_id", self.config.client.id());
        }
        let sent = self.now();
        let reply = self.post_bound(&endpoint, form, key).await?;
        let (uri, life) = read_pushed(&reply)?;
        let ends = life.and_then(|life| sent.checked_add(life)?.duration_since(UNIX_EPOCH).ok());
        let mut form = Form::default();
        form.push("client_id", self.config.client.id());
        form.push("request_uri", &uri);
        Ok((form, ends.map(|ends| ends.as_secs())))
    }

    pub(crate) async fn finish_with(&self, pending: &Pending, answer: &str) -> Result<Acquired, AuthError> {
        explain::came_back(self.context(), answer);
        if pending.issuer != self.config.issuer.text || pending.client_id != self.config.client.id() {
            return Err(AuthError::refused("the login under way is another provider's, or another client's"));
        }
        let code = match callback::read(answer)? {
            Answer { state: Some(state), .. } if !pending.is_answered_by(&state) => {
                return Err(AuthError::refused(
                    "the answer belongs to another login (`state`); start again, in one browser window",
                ));
            }
            Answer { state: None, .. } => {
                return Err(AuthError::refused(
                    "the answer does not say to which login it belongs (`state`)",
                ));
            }
            answer => self.judge(pending, answer)?,
        };
        let key = self.restore_key(pending.binding_key.as_ref())?;
        let grant = GrantRequest::new("authorization_code", "the browser login")
            .parameter("code", code.expose_secret())
            .parameter("redirect_uri", &pending.redirect_uri)
            .parameter("code_verifier", pending.code_verifier.expose_secret())
            .parameters("resource", &pending.resources)
            .granting(&pending.scopes)
            .bound_to(key.as_ref());
        // A code is spent once, whatever comes of it (RFC 6749 section 4.1.2); what `exchange` sends again was not acted on.
        let exchanged = self.exchange(grant).await.map_err(AuthError::once)?;
        let sign_in = SignIn {
            nonce: pending.nonce.as_deref(),
            code: Some(code.expose_secret()),
            max_age: pending.max_age.map(Duration::from_secs),
            acr_values: pending.acr_values.as_deref(),
        };
        self.signed_in(exchanged, &pending.scopes, key.as_ref(), sign_in).await
    }

    /// The code, if the answer is the issuer's and says yes (RFC 9207 section 2.4, RFC 6749 section 4.1.2.1).
    fn judge(&self, pending: &Pending, answer: Answer) -> Result<SecretString, AuthError> {
        match &answer.iss {
            Some(iss) if *iss != pending.issuer => {
                // What it says is not in the message: that is on the page.
                let iss: String = iss.chars().take(200).collect();
                return Err(AuthError::refused(
                    "the answer is of another issuer (`iss`); nothing was sent to it",
                )
                .with_source(io::Error::other(format!("it names {iss:?}"))));
            }
            None if pending.iss_required => {
                return Err(AuthError::refused(
                    "the answer does not name its issuer (`iss`), as the server's metadata says it must",
                ));
            }
            _ => {}
        }
        if let Some(code) = answer.error {
            let kind = kind_of_code(&code);
            let message = match code.as_str() {
                "access_denied" => "the sign-in was denied",
                _ if kind == ErrorKind::Transient => "the server cannot sign anybody in at the moment",
                _ => "the server refused the browser login",
            };
            let mut error = AuthError::new(kind, message).with_oauth(code, answer.error_description);
            if let Some(page) = answer.error_uri {
                error = error.with_oauth_uri(page);
            }
            return Err(error.with_origin(self.config.issuer.text.clone()));
        }
        answer.code.ok_or_else(|| AuthError::refused("the answer holds neither a code nor an error"))
    }
}

/// `S256` of a verifier (RFC 7636 section 4.2).
fn code_challenge(verifier: &SecretString) -> String {
    URL_SAFE_NO_PAD.encode(hmac_sha256::Hash::hash(verifier.expose_secret().as_bytes()))
}

/// The `request_uri` of an answer, and for how long it is good (RFC 9126 section 2.2).
pub(crate) fn read_pushed(reply: &Reply) -> Result<(String, Option<Duration>), AuthError> {
    let what = "the pushed authorization request";
    if let Some(error) = error_in(reply, &Asked { what, ..Asked::default() }) {
        return Err(error);
    }
    let mut members = Members::read(&reply.body, &["request_uri", "expires_in"]);
    match members.as_mut().and_then(|members| members.take("request_uri")?) {
        Some(uri) if Url::parse(uri.expose_secret()).is_ok() => {
            let life = members.as_ref().and_then(|members| json::seconds(members.get("expires_in")));
            Ok((uri.expose_secret().to_owned(), life))
        }
        _ => {
            Err(reply
                .error(AuthError::refused(format!("{what}: the server's answer holds no `request_uri`"))))
        }
    }
}

mod secret_text {
    use keyfob_auth_core::{ExposeSecret, SecretString};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &SecretString, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.expose_secret())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SecretString, D::Error> {
        String::deserialize(from).map(SecretString::from)
    }
}

mod optional_secret_text {
    use keyfob_auth_core::{ExposeSecret, SecretString};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => to.serialize_some(secret.expose_secret()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretString>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(SecretString::from))
    }
}

#[cfg(test)]
mod tests {
    use zeroize::ZeroizeOnDrop;

    use super::*;

    #[test]
    fn rfc7636_appendix_b_the_challenge_of_the_example() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into();
        assert_eq!(code_challenge(&verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn rfc7636_7_1_the_verifier_is_wiped_and_never_shown() {
        fn is_wiped(_: &impl ZeroizeOnDrop) {}

        let pending = Pending {
            state: "marker-state".into(),
            code_verifier: "marker-verifier".into(),
            nonce: Some("marker-nonce".into()),
            redirect_uri: String::new(),
            issuer: "https://idp.example".into(),
            client_id: "cli".into(),
            scopes: Scopes::none(),
            resources: Vec::new(),
            max_age: None,
            acr_values: None,
            iss_required: false,
            binding_key: None,
            url_expires_at: None,
        };
        is_wiped(&pending.code_verifier);
        for shown in [format!("{pending:?}"), format!("{pending:#?}")] {
            assert!(!shown.contains("marker") && shown.contains("https://idp.example"), "{shown}");
        }
    }
}
