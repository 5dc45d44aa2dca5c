//! What Keycloak itself has counted: every refresh token it took, and every one it refused.

use std::collections::BTreeSet;

use keyfob_idp::keycloak::Keycloak;
use reqwest::Method;
use serde_json::{Value, json};

/// The refresh requests of the client `native`.
#[derive(Debug)]
pub(crate) struct Refreshes {
    /// The id of each refresh token that was taken.
    spent: Vec<String>,
    /// Why others were refused.
    pub(crate) refused: Vec<String>,
}

impl Refreshes {
    /// How many refresh tokens were taken, each once and none refused.
    #[track_caller]
    pub(crate) fn each_once(&self) -> usize {
        assert!(self.refused.is_empty(), "refused: {:?}", self.refused);
        let distinct = self.spent.iter().collect::<BTreeSet<_>>();
        assert_eq!(distinct.len(), self.spent.len(), "a refresh token was spent twice");
        assert!(!distinct.contains(&String::new()), "an event names no refresh token");
        self.spent.len()
    }
}

/// Begins to count anew.
pub(crate) async fn begin(keycloak: &Keycloak) {
    let recorded = json!({
        "eventsEnabled": true,
        "enabledEventTypes": ["REFRESH_TOKEN", "REFRESH_TOKEN_ERROR"],
    });
    keycloak.set_realm(&recorded).await.unwrap();
    keycloak.admin(Method::DELETE, "/events", None).await.unwrap();
}

/// What was counted since [`begin`].
pub(crate) async fn refreshes(keycloak: &Keycloak) -> Refreshes {
    let spent = events(keycloak, "REFRESH_TOKEN").await;
    let refused = events(keycloak, "REFRESH_TOKEN_ERROR").await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Refreshes {
        spent: spent.iter().map(|event| text(&event["details"]["refresh_token_id"])).collect(),
        refused: refused.iter().map(|event| format!("{} {}", event["error"], event["details"])).collect(),
    }
}

async fn events(keycloak: &Keycloak, kind: &str) -> Vec<Value> {
    let path = format!("/events?client=native&type={kind}&max=10000");
    let found = keycloak.admin(Method::GET, &path, None).await.unwrap();
    found.as_array().cloned().unwrap_or_default()
}
