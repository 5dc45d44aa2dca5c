//! What logins come to where the feature `browser` is off.

use keyfob_auth_core::{Acquired, AuthError, Interaction, LoginRequest};

use crate::Oidc;

impl Oidc {
    #[expect(clippy::unused_async, reason = "in the shape of the one that asks a person")]
    pub(crate) async fn browser_login(
        &self,
        _: &LoginRequest,
        _: &dyn Interaction,
    ) -> Result<Acquired, AuthError> {
        Err(AuthError::configuration(
            "`flow = \"browser\"` needs the feature `browser`, which is not compiled in: turn it on, or use \
             `flow = \"device\"`",
        ))
    }

    /// By device login: there is no other way.
    pub(crate) async fn auto_login(
        &self,
        request: &LoginRequest,
        ui: &dyn Interaction,
    ) -> Result<Acquired, AuthError> {
        if self.offers_device_login().await? {
            return self.device_login(request, ui).await;
        }
        Err(AuthError::configuration(
            "the server offers no device login, and logins with a browser need the feature `browser`, which is not \
             compiled in: turn it on",
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyfob_auth_core::{Context, CredentialProvider as _, ErrorKind, NoInteraction};
    use keyfob_idp::server::{AuthorizationServer, AutoApprove, Settings};

    use super::*;
    use crate::Flow;

    #[tokio::test]
    async fn a_browser_that_is_not_compiled_in_is_told_with_what_helps() {
        for (flow, offered, said, requests) in [
            (Flow::Browser, true, "use `flow = \"device\"`", 0),
            (
                Flow::Auto,
                false,
                "offers no device login, and logins with a browser need the feature `browser`",
                1,
            ),
        ] {
            let mut settings = Settings::default();
            if !offered {
                settings.metadata.insert("device_authorization_endpoint".into(), serde_json::Value::Null);
            }
            let server = AuthorizationServer::start(settings).await;
            let provider = Oidc::builder(server.issuer(), "cli").flow(flow).build(&Context::new()).unwrap();
            let request = LoginRequest::default();
            let error = provider.login(&request, None, Arc::new(NoInteraction)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.message().contains(said), "{error}");
            assert_eq!(server.requests().len(), requests);
        }
    }

    #[tokio::test]
    async fn the_way_there_is_is_taken_by_itself() {
        let alice = AutoApprove { user: "alice".into(), after_polls: 1 };
        let server =
            AuthorizationServer::start(Settings { auto_approve: Some(alice), ..Settings::default() }).await;
        let provider = Oidc::builder(server.issuer(), "cli").flow(Flow::Auto).build(&Context::new()).unwrap();
        let request = LoginRequest::default();
        let acquired = provider.login(&request, None, Arc::new(Silent)).await.unwrap();
        assert!(acquired.login.is_some());
        assert_eq!(server.counters().device_authorization, 1);
    }

    #[derive(Debug)]
    struct Silent;

    impl Interaction for Silent {
        fn show(&self, _: &keyfob_auth_core::Prompt) {}
    }
}
