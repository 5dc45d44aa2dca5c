//! A provider's table of a configuration file.

use keyfob_auth_core::{
    AuthError, Context,
    registry::{SecretSource, Settings},
};

use super::{Config, Flow, OidcBuilder, ResponseMode, Wrong, uses};
use crate::{
    Oidc, assertion::AssertionAudience, callback::SecretCallback, client_auth::ClientAuth, metadata::Which,
};

impl Config {
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self, AuthError> {
        let builder =
            OidcBuilder::new(settings.require_string("issuer")?, settings.require_string("client_id")?);
        Self::read(builder.settings(settings)?, settings)
    }

    fn read(builder: OidcBuilder, settings: &Settings) -> Result<Self, AuthError> {
        let config = Self::check(builder).map_err(|Wrong { key, what }| settings.bad(key, &what))?;
        uses::check(settings, &config)?;
        Ok(config)
    }
}

impl OidcBuilder {
    /// Takes in every key of the table that this crate knows, but for `issuer` and `client_id`: for a product's own provider,
    /// which reads these as its users name them. What was set before stays where the table says nothing.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration), with the key and its line, for what is wrong.
    pub fn settings(mut self, settings: &Settings) -> Result<Self, AuthError> {
        self = self.client_settings(settings)?.person_settings(settings)?.grant_settings(settings)?;
        self.label = settings.label().to_owned();
        if let Some(flow) = settings.one_of("flow", &Flow::NAMES)? {
            self.flow = Flow::from_name(flow);
        }
        if let Some(scopes) = settings.strings("scopes")? {
            self.scopes = scopes.iter().flat_map(|scope| scope.split_whitespace()).collect();
        }
        self.audiences.extend(one_or_more(settings, "audience")?);
        self.resources.extend(one_or_more(settings, "resource")?);
        self.authorization_details = settings.string("authorization_details")?.or(self.authorization_details);
        for which in Which::ALL {
            if let Some(url) = settings.string(which.key())? {
                self = self.endpoint(which, url);
            }
        }
        if let Some(table) = settings.table("extra_parameters")? {
            for name in table.keys() {
                for value in one_or_more(&table, &name)? {
                    self = self.extra_parameter(name.clone(), value);
                }
            }
        }
        self.dpop = settings.bool("dpop")?.unwrap_or(self.dpop);
        self.id_token_signing_alg = settings.string("id_token_signing_alg")?.or(self.id_token_signing_alg);
        self.id_token_audiences.extend(one_or_more(settings, "id_token_audiences")?);
        self.end_session = settings.bool("end_session")?.unwrap_or(self.end_session);
        self.network.authorities =
            settings.path("ca_file")?.map(SecretSource::File).or(self.network.authorities);
        self.network.certificate = settings.secret("certificate")?.or(self.network.certificate);
        self.network.certificate_key = settings.secret("certificate_key")?.or(self.network.certificate_key);
        self.network.proxy = settings.string("proxy")?.or(self.network.proxy);
        self.network.deadline = settings.seconds("timeout")?.or(self.network.deadline);
        Ok(self)
    }

    /// The provider, where settings were read: errors name the key and its line.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) for what cannot work, and for a key of the table that has
    /// no use with its flow or its client.
    pub fn build_from(self, settings: &Settings, context: &Context) -> Result<Oidc, AuthError> {
        Ok(Oidc::of(Config::read(self, settings)?, context))
    }

    fn client_settings(mut self, settings: &Settings) -> Result<Self, AuthError> {
        self.client_secret = settings.secret("client_secret")?.or(self.client_secret);
        if let Some(method) = settings.one_of("client_auth", &ClientAuth::NAMES)? {
            self.client_auth = ClientAuth::from_name(method);
        }
        if let Some(assertion) = settings.secret("client_assertion")? {
            self.client_assertion = Some(SecretCallback::Source(assertion));
        }
        self.key = settings.secret("key")?.or(self.key);
        self.key_passphrase = settings.secret("key_passphrase")?.or(self.key_passphrase);
        self.key_id = settings.string("key_id")?.or(self.key_id);
        self.signing_alg = settings.string("signing_alg")?.or(self.signing_alg);
        match settings.one_of("assertion_audience", &AssertionAudience::NAMES)? {
            None => {}
            Some("issuer") => self.assertion.audience = AssertionAudience::Issuer,
            Some(_) => self.assertion.audience = AssertionAudience::TokenEndpoint,
        }
        if let Some(lifetime) = settings.seconds("assertion_lifetime")? {
            self.assertion.lifetime = lifetime;
        }
        Ok(self)
    }

    fn person_settings(mut self, settings: &Settings) -> Result<Self, AuthError> {
        self.redirect_uris.extend(one_or_more(settings, "redirect_uri")?);
        if let Some(mode) = settings.one_of("response_mode", &ResponseMode::NAMES)? {
            self.response_mode = ResponseMode::from_name(mode);
        }
        self.pushed = settings.bool("pushed_authorization_requests")?.or(self.pushed);
        self.login_hint = settings.string("login_hint")?.or(self.login_hint);
        self.prompt = settings.string("prompt")?.or(self.prompt);
        self.acr_values = settings.string("acr_values")?.or(self.acr_values);
        self.max_age = settings.seconds("max_age")?.or(self.max_age);
        self.ui_locales = settings.string("ui_locales")?.or(self.ui_locales);
        self.open_browser = settings.bool("open_browser")?.unwrap_or(self.open_browser);
        self.any_scope_on_refresh =
            settings.bool("any_scope_on_refresh")?.unwrap_or(self.any_scope_on_refresh);
        self.login_timeout = settings.seconds("login_timeout")?.or(self.login_timeout);
        Ok(self)
    }

    fn grant_settings(mut self, settings: &Settings) -> Result<Self, AuthError> {
        self.username = settings.string("username")?.or(self.username);
        let given = |key: &str| Ok::<_, AuthError>(settings.secret(key)?.map(SecretCallback::Source));
        self.password = given("password")?.or(self.password);
        self.grant_assertion = given("assertion")?.or(self.grant_assertion);
        self.subject = settings.string("subject")?.or(self.subject);
        self.subject_token = given("subject_token")?.or(self.subject_token);
        self.subject_token_type = settings.string("subject_token_type")?.or(self.subject_token_type);
        self.actor_token = given("actor_token")?.or(self.actor_token);
        self.actor_token_type = settings.string("actor_token_type")?.or(self.actor_token_type);
        self.requested_token_type = settings.string("requested_token_type")?.or(self.requested_token_type);
        Ok(self)
    }
}

/// A text, or a list of texts.
fn one_or_more(settings: &Settings, key: &str) -> Result<Vec<String>, AuthError> {
    if settings.is_list(key) {
        return Ok(settings.strings(key)?.unwrap_or_default());
    }
    Ok(settings.string(key)?.filter(|text| !text.is_empty()).into_iter().collect())
}
