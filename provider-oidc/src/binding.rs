//! What binds tokens to a key: DPoP, where this build has it.

#[cfg(feature = "jose")]
use ::http::{Method, StatusCode, Uri};
#[cfg(feature = "jose")]
use keyfob_auth_core::RequestSigner;
use keyfob_auth_core::{AccessToken, AuthError, Login, Presentation, SecretString};

use crate::{
    Oidc,
    client_auth::Headers,
    http::{Endpoint, Form, Reply},
    metadata::Which,
    oauth_error::code_of,
};

#[cfg(feature = "jose")]
pub(crate) use crate::dpop::DpopKey as BindingKey;

/// There is none in this build, and no provider that would want one.
#[cfg(not(feature = "jose"))]
#[derive(Debug)]
pub(crate) enum BindingKey {}

#[cfg(not(feature = "jose"))]
impl BindingKey {
    pub(crate) fn algorithm(&self) -> &str {
        match *self {}
    }

    pub(crate) fn thumbprint(&self) -> String {
        match *self {}
    }

    pub(crate) fn to_secret(&self) -> Result<SecretString, AuthError> {
        match *self {}
    }
}

#[cfg(not(feature = "jose"))]
fn needs_jose() -> AuthError {
    AuthError::configuration(
        "the login's tokens are bound to a key (DPoP), which needs keyfob's feature `jose`",
    )
}

/// A key as a login holds it.
pub(crate) fn to_secret(key: Option<&BindingKey>) -> Result<Option<SecretString>, AuthError> {
    key.map(BindingKey::to_secret).transpose()
}

#[cfg(feature = "jose")]
impl Oidc {
    /// The key for a new login, if its tokens are to be bound.
    pub(crate) fn new_key(&self) -> Result<Option<BindingKey>, AuthError> {
        if self.config.dpop { BindingKey::generate().map(Some) } else { Ok(None) }
    }

    /// The key that a login's tokens are bound to; a new one if it has none yet.
    pub(crate) fn key_of(&self, login: Option<&Login>) -> Result<Option<BindingKey>, AuthError> {
        // What is configured since does not count for a refresh token: it may be bound (RFC 9449 section 5).
        let counts = |login: &&Login| self.config.dpop || login.refresh_token.is_some();
        match login.filter(counts).and_then(|login| login.binding_key.as_ref()) {
            Some(secret) => BindingKey::read(secret).map(Some),
            None => self.new_key(),
        }
    }

    /// The key that a login under way was begun with.
    pub(crate) fn restore_key(&self, secret: Option<&SecretString>) -> Result<Option<BindingKey>, AuthError> {
        secret.map(BindingKey::read).transpose()
    }

    /// How a token that is bound to the login's key goes onto a request: with a proof (RFC 9449 section 7).
    pub(crate) fn present_bound(
        &self,
        token: &AccessToken,
        login: Option<&Login>,
    ) -> Result<Presentation, AuthError> {
        let key = login.and_then(|login| login.binding_key.as_ref()).ok_or_else(|| {
            AuthError::refused("the login no longer holds the key that its token is bound to (DPoP)")
        })?;
        let signer = crate::dpop::DpopSigner::new(self.context(), token, key)?;
        Ok(Presentation::Signed(std::sync::Arc::new(signer)))
    }

    /// Adds a proof for a request to the authorization server (RFC 9449 section 5), if there is a key; the nonce in it is
    /// returned.
    fn prove(
        &self,
        endpoint: &Endpoint,
        key: Option<&BindingKey>,
        headers: &mut Headers,
    ) -> Result<Option<String>, AuthError> {
        use crate::dpop::{About, DPOP, Server};

        let Some(key) = key else { return Ok(None) };
        let nonce = self.nonces()?.get(Server::Authorization, &endpoint.origin());
        let proof = key.proof(&About {
            method: "POST",
            uri: &endpoint.to_string(),
            now: self.http.server_time(endpoint)?,
            nonce: nonce.as_deref(),
            access_token: None,
        })?;
        headers.push((DPOP, proof));
        Ok(nonce)
    }

    /// Keeps the nonce of an answer; whether it is another than the request had. It may be known by now, from the answer to
    /// another request.
    fn learn(&self, endpoint: &Endpoint, reply: &Reply, sent: Option<&str>) -> Result<bool, AuthError> {
        let server = crate::dpop::Server::Authorization;
        let nonces = self.nonces()?;
        let learnt = nonces.learn(server, &endpoint.origin(), &reply.headers);
        Ok(learnt.is_some() && learnt != sent)
    }

    /// Asks a resource of the authorization server's own, with a token that is bound to this key (RFC 9449 section 7); once
    /// more if it demands a nonce.
    pub(crate) async fn get_bound(
        &self,
        endpoint: &Endpoint,
        token: &AccessToken,
        key: &SecretString,
    ) -> Result<Reply, AuthError> {
        let signer = crate::dpop::DpopSigner::new(self.context(), token, key)?;
        let bad =
            |error| AuthError::configuration("the URL of the resource cannot be used").with_source(error);
        let uri: Uri = endpoint.url().as_str().parse().map_err(bad)?;
        let ask = || self.http.get_with(endpoint, || signer.sign(&Method::GET, &uri));
        let again = |reply: &Reply| match StatusCode::from_u16(reply.status) {
            Ok(status) => signer.observe(&uri, status, &reply.headers),
            Err(_) => false,
        };
        let reply = ask().await?;
        if !again(&reply) {
            return Ok(reply);
        }
        let reply = ask().await?;
        again(&reply);
        Ok(reply)
    }

    fn nonces(&self) -> Result<std::sync::Arc<crate::dpop::Nonces>, AuthError> {
        self.context().shared(|| Ok(crate::dpop::Nonces::default()))
    }
}

#[cfg(not(feature = "jose"))]
impl Oidc {
    pub(crate) fn new_key(&self) -> Result<Option<BindingKey>, AuthError> {
        Ok(None)
    }

    /// There is none, and a refresh token that is bound to one is not spent without it.
    pub(crate) fn key_of(&self, login: Option<&Login>) -> Result<Option<BindingKey>, AuthError> {
        let login = login.filter(|login| login.refresh_token.is_some());
        self.restore_key(login.and_then(|login| login.binding_key.as_ref()))
    }

    #[expect(clippy::unused_self, reason = "it reads the key in the other build")]
    pub(crate) fn restore_key(&self, secret: Option<&SecretString>) -> Result<Option<BindingKey>, AuthError> {
        secret.map_or(Ok(None), |_| Err(needs_jose()))
    }

    #[expect(clippy::unused_self, reason = "it signs in the other build")]
    pub(crate) fn present_bound(
        &self,
        _: &AccessToken,
        _: Option<&Login>,
    ) -> Result<Presentation, AuthError> {
        Err(needs_jose())
    }

    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "it can fail in the other build")]
    fn prove(
        &self,
        _: &Endpoint,
        key: Option<&BindingKey>,
        _: &mut Headers,
    ) -> Result<Option<String>, AuthError> {
        match key {
            Some(key) => match *key {},
            None => Ok(None),
        }
    }

    #[expect(clippy::unused_async, reason = "it sends a request in the other build")]
    pub(crate) async fn get_bound(
        &self,
        _: &Endpoint,
        _: &AccessToken,
        _: &SecretString,
    ) -> Result<Reply, AuthError> {
        Err(needs_jose())
    }

    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "it can fail in the other build")]
    fn learn(&self, _: &Endpoint, _: &Reply, _: Option<&str>) -> Result<bool, AuthError> {
        Ok(false)
    }
}

impl Oidc {
    /// Sends a request to an endpoint of the authorization server, authenticated, with a proof if there is a key.
    ///
    /// It is sent once more, with another assertion and another proof, where the server has refused to act on it and what it
    /// wanted is known now: a nonce (RFC 9449 section 8), or its clock, which its answer shows to be off this machine's.
    pub(crate) async fn post_bound(
        &self,
        endpoint: &Endpoint,
        form: Form,
        key: Option<&BindingKey>,
    ) -> Result<Reply, AuthError> {
        if let Some(key) = key {
            self.check_algorithm(key).await?;
        }
        let timed = key.is_some() || self.config.client.proof.names_audience();
        let (mut nonce_again, mut clock_again) = (key.is_some(), timed);
        loop {
            let mut form = form.copy();
            let mut headers = self.complete(endpoint, &mut form).await?;
            let nonce = self.prove(endpoint, key, &mut headers)?;
            let known = self.http.skew(endpoint)?;
            let reply = self.http.post(endpoint, form, headers).await?;
            let news = key.is_some() && self.learn(endpoint, &reply, nonce.as_deref())?;
            let again = match code_of(&reply).as_deref() {
                Some("use_dpop_nonce") if news => &mut nonce_again,
                Some("invalid_client" | "invalid_dpop_proof")
                    if self.http.clock_has_moved(endpoint, known)? =>
                {
                    &mut clock_again
                }
                _ => return Ok(reply),
            };
            if !std::mem::take(again) {
                return Ok(reply);
            }
        }
    }

    /// Whether the server takes proofs by this key's algorithm, as far as its metadata tell (RFC 9449 section 5.1).
    async fn check_algorithm(&self, key: &BindingKey) -> Result<(), AuthError> {
        if self.config.endpoint(Which::Token).is_some() {
            // There may be no metadata.
            return Ok(());
        }
        let metadata = self.metadata().await?;
        match metadata.list("dpop_signing_alg_values_supported") {
            Some(taken) if !taken.is_empty() && !taken.contains(&key.algorithm()) => {
                Err(AuthError::configuration(format!(
                    "the server takes no proofs (DPoP) that are signed by {}, but by {} \
                     (`dpop_signing_alg_values_supported`); `dpop = false` goes without",
                    key.algorithm(),
                    taken.join(", ")
                ))
                .with_origin(self.config.issuer.text.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Sends a request to an endpoint of the authorization server, with what authenticates the client.
    pub(crate) async fn post_authenticated(
        &self,
        endpoint: &Endpoint,
        form: Form,
    ) -> Result<Reply, AuthError> {
        self.post_bound(endpoint, form, None).await
    }

    /// Adds who the client is, and the parameters of the product's own.
    async fn complete(&self, endpoint: &Endpoint, form: &mut Form) -> Result<Headers, AuthError> {
        let headers = self.authenticate(endpoint, form).await?;
        for (name, value) in &self.config.extra {
            form.push(name, value);
        }
        Ok(headers)
    }
}
