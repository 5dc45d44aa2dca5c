//! Workload identity: a token that the surroundings give, exchanged for one of the platform's (RFC 8693).

use keyfob_auth_core::{
    Acquired, AuthError, CredentialProvider as _, ExposeSecret as _, SecretString, TokenRequest,
    registry::SecretSource,
};
use keyfob_provider_oidc::Flow;

use crate::{discovery::Discovery, platform::Platform};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// What proves which container asks, where containers are given no JWT.
const DOCKER_PROOF: &str = "urn:nvidia:nemo:params:oauth:token-type:docker-opaque-workload-proof";
/// What such a proof begins with.
const DOCKER_PROOF_PREFIX: &str = "nmp_obo_v1.";

impl Platform {
    /// Exchanges the workload's token, read anew each time: it is replaced while the workload runs.
    pub(crate) async fn exchange_workload(
        &self,
        request: &TokenRequest,
        source: &SecretSource,
    ) -> Result<Acquired, AuthError> {
        let Self { discovery, .. } = self;
        if !discovery.says("workload_token_exchange_enabled") {
            return Err(discovery.refused(
                "the platform exchanges no workload tokens (`workload_token_exchange_enabled`); sign in another way, or \
                 have its administrator turn it on",
            ));
        }
        let subject = source.read().await?;
        let subject = SecretString::from(subject.expose_secret().trim_ascii());
        if subject.expose_secret().is_empty() {
            return Err(AuthError::not_configured("it is empty").with_origin(source.to_string()));
        }
        let kind = subject_token_type(&subject);
        let mut oidc = self
            .oidc(either(discovery, "workload_client_id", "client_id")?)
            .flow(Flow::TokenExchange)
            .token_endpoint(either(discovery, "workload_token_endpoint", "token_endpoint")?)
            .subject_token(subject)
            .subject_token_type(kind)
            .requested_token_type(ACCESS_TOKEN)
            .scopes(discovery.get("workload_scope").unwrap_or_default().split_whitespace());
        if let Some(audience) = discovery.get("workload_audience") {
            oidc = oidc.audience(audience);
        }
        oidc.build(&self.context)?.acquire(request, None).await
    }
}

fn subject_token_type(token: &SecretString) -> &'static str {
    if token.expose_secret().starts_with(DOCKER_PROOF_PREFIX) { DOCKER_PROOF } else { JWT }
}

fn either<'a>(discovery: &'a Discovery, special: &str, general: &str) -> Result<&'a str, AuthError> {
    discovery.get(special).map_or_else(|| discovery.need(general), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_of_dockers_is_told_by_how_it_begins() {
        for (token, kind) in [
            ("nmp_obo_v1.fake.proof", DOCKER_PROOF),
            ("nmp_obo_v1", JWT),
            ("nmp_obo_v10.x", JWT),
            ("eyJhbGciOiJSUzI1NiJ9.e30.x", JWT),
        ] {
            assert_eq!(subject_token_type(&token.into()), kind, "{token}");
        }
    }
}
