//! What binds tokens to a key: DPoP, where this build has it.

use keyfob_auth_core::{AuthError, Login, SecretString};

use crate::{
    Oidc,
    http::{Endpoint, Form, Reply},
};

#[cfg(feature = "jose")]
pub(crate) use crate::dpop::DpopKey as BindingKey;

/// There is none in this build, and no provider that would want one.
#[cfg(not(feature = "jose"))]
#[derive(Debug)]
pub(crate) enum BindingKey {}

#[cfg(not(feature = "jose"))]
impl BindingKey {
    pub(crate) fn thumbprint(&self) -> String {
        match *self {}
    }

    pub(crate) fn to_secret(&self) -> Result<SecretString, AuthError> {
        match *self {}
    }
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
        // A login that has one keeps it, whatever is configured since: its refresh token may be bound (RFC 9449 section 5).
        match login.and_then(|login| login.binding_key.as_ref()) {
            Some(secret) => BindingKey::read(secret).map(Some),
            None => self.new_key(),
        }
    }

    /// The key that a login under way was begun with.
    pub(crate) fn restore_key(&self, secret: Option<&SecretString>) -> Result<Option<BindingKey>, AuthError> {
        secret.map(BindingKey::read).transpose()
    }

    /// Sends a request to an endpoint of the authorization server, authenticated, with a proof if there is a key; once more if
    /// the server demands a nonce for it (RFC 9449 section 8): it has not acted on the first.
    pub(crate) async fn post_bound(
        &self,
        endpoint: &Endpoint,
        form: Form,
        key: Option<&BindingKey>,
    ) -> Result<Reply, AuthError> {
        use crate::{
            dpop::{About, DPOP, Nonces, Server},
            oauth_error::code_of,
        };

        let Some(key) = key else { return self.post_authenticated(endpoint, form).await };
        let nonces = self.context().shared(|| Ok(Nonces::default()))?;
        let origin = endpoint.origin();
        let mut again = true;
        loop {
            let mut form = form.copy();
            let mut headers = self.complete(&mut form).await?;
            let nonce = nonces.get(Server::Authorization, &origin);
            let proof = key.proof(&About {
                method: "POST",
                uri: &endpoint.to_string(),
                now: self.http.server_time(endpoint)?,
                nonce: nonce.as_deref(),
                access_token: None,
            })?;
            headers.push((DPOP, proof));
            let reply = self.http.post(endpoint, form, headers).await?;
            let learnt = nonces.learn(Server::Authorization, &origin, &reply.headers);
            let demanded = code_of(&reply).as_deref() == Some("use_dpop_nonce");
            // Not only if it is new: another request may have learnt it meanwhile.
            if !(again && demanded && learnt.is_some() && learnt != nonce.as_deref()) {
                return Ok(reply);
            }
            again = false;
        }
    }
}

#[cfg(not(feature = "jose"))]
impl Oidc {
    pub(crate) fn new_key(&self) -> Result<Option<BindingKey>, AuthError> {
        Ok(None)
    }

    pub(crate) fn key_of(&self, _: Option<&Login>) -> Result<Option<BindingKey>, AuthError> {
        Ok(None)
    }

    pub(crate) fn restore_key(&self, _: Option<&SecretString>) -> Result<Option<BindingKey>, AuthError> {
        Ok(None)
    }

    pub(crate) async fn post_bound(
        &self,
        endpoint: &Endpoint,
        form: Form,
        _: Option<&BindingKey>,
    ) -> Result<Reply, AuthError> {
        self.post_authenticated(endpoint, form).await
    }
}

impl Oidc {
    /// Sends a request to an endpoint of the authorization server, with what authenticates the client.
    pub(crate) async fn post_authenticated(
        &self,
        endpoint: &Endpoint,
        mut form: Form,
    ) -> Result<Reply, AuthError> {
        let headers = self.complete(&mut form).await?;
        self.http.post(endpoint, form, headers).await
    }

    /// Adds who the client is, and the parameters of the product's own.
    async fn complete(&self, form: &mut Form) -> Result<crate::client_auth::Headers, AuthError> {
        let headers = self.authenticate(form).await?;
        for (name, value) in &self.config.extra {
            form.push(name, value);
        }
        Ok(headers)
    }
}
