//! A provider written outside keyfob: it depends on `keyfob-auth-core` alone.
//!
//! On this company's machines an agent keeps a folder with one file for each service that programs may call. The file's
//! first line is a token for that service, the second says how many seconds it lives. Tokens are asked for by audience:
//! `session.for_request(TokenRequest::default().with_audience("billing"))`.

use std::{fs, io, path::PathBuf};

use keyfob_auth_core::{
    AccessToken, Acquired, AuthError, Context, CredentialProvider, Identity, Login, TokenRequest,
    async_trait, registry::Settings,
};

/// Tokens from the agent's folder.
#[derive(Debug)]
pub struct AgentFolder {
    folder: PathBuf,
    service: String,
}

impl AgentFolder {
    /// Reads `folder`, and `service`: which one is meant where a request names no audience.
    ///
    /// # Errors
    /// If one of the keys is missing or no text.
    pub fn from_settings(settings: &Settings, _: &Context) -> Result<Self, AuthError> {
        Ok(Self {
            folder: settings.path("folder")?.ok_or_else(|| settings.bad("folder", "is missing"))?,
            service: settings.require_string("service")?,
        })
    }
}

#[async_trait]
impl CredentialProvider for AgentFolder {
    fn identity(&self) -> Identity {
        Identity::new("agent").issuer(self.folder.display().to_string()).client(&self.service)
    }

    async fn acquire(&self, request: &TokenRequest, _: Option<&Login>) -> Result<Acquired, AuthError> {
        let service = request.audiences.first().unwrap_or(&self.service);
        if !service.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(AuthError::configuration("a service's name has letters and digits only"));
        }
        let file = self.folder.join(service);
        let text = fs::read_to_string(&file).map_err(|error| {
            let error = match error.kind() {
                io::ErrorKind::NotFound => {
                    AuthError::not_configured("the agent has no such service").with_source(error)
                }
                _ => AuthError::transient("the agent's file cannot be read").with_source(error),
            };
            error.with_origin(file.display().to_string())
        })?;
        let mut lines = text.lines();
        match (lines.next(), lines.next().map(str::parse)) {
            (Some(token), Some(Ok(seconds))) => {
                Ok(Acquired::token(AccessToken::new(token).expires_in(seconds)))
            }
            _ => Err(AuthError::transient("the agent is writing it").with_origin(file.display().to_string())),
        }
    }
}
