//! The realm: its file, and what is filled in.

use std::time::Duration;

use serde_json::{Value, json};

use super::options::Options;

/// The audience of the imagined API, in every access token.
pub const API_AUDIENCE: &str = "https://api.example.test";

/// The scopes of the imagined API: optional for every client.
pub const API_SCOPES: [&str; 2] = ["api:read", "api:write"];

/// The realm's name.
pub(super) const NAME: &str = "test";

/// The bootstrap administrator.
pub(super) const ADMIN: &str = "admin";

/// The bootstrap administrator's password.
pub(super) const ADMIN_PASSWORD: &str = "admin";

/// The client that introspects.
pub(super) const RESOURCE_SERVER: &str = "resource-server";

/// The client that may exchange tokens.
const EXCHANGER: &str = "web";

/// The secret the realm file gives a confidential client.
pub fn client_secret(client: &str) -> Option<String> {
    let file = file();
    let found = file["clients"].as_array()?.iter().find(|entry| entry["clientId"] == client)?;
    found["secret"].as_str().map(str::to_owned)
}

/// The password of a person of the realm: alice or bob.
pub fn password(user: &str) -> Option<String> {
    let file = file();
    let found = file["users"].as_array()?.iter().find(|entry| entry["username"] == user)?;
    found["credentials"][0]["value"].as_str().map(str::to_owned)
}

/// The names of the realm's clients.
pub(super) fn clients() -> Vec<String> {
    let file = file();
    let clients = file["clients"].as_array().into_iter().flatten();
    clients.filter_map(|client| client["clientId"].as_str()).map(str::to_owned).collect()
}

/// The realm to import.
///
/// It names no client scopes: Keycloak makes its own (`profile`, `email`, `roles` and so on) only for a realm that
/// brings none, so those of the API are made afterwards.
pub(super) fn realm(options: &Options) -> Value {
    let mut realm = file();
    let changes = json!({
        "accessTokenLifespan": seconds(options.access_token_lifetime),
        "ssoSessionIdleTimeout": seconds(options.refresh_idle),
        "oauth2DevicePollingInterval": seconds(options.device_interval),
    });
    merge_realm(&mut realm, &changes);
    for client in realm["clients"].as_array_mut().into_iter().flatten() {
        let name = client["clientId"].as_str().unwrap_or_default();
        let mut mappers = vec![
            audience("api", "included.custom.audience", API_AUDIENCE),
            audience("resource-server", "included.client.audience", RESOURCE_SERVER),
        ];
        // Only a client in the audience of a token may exchange it.
        if ![EXCHANGER, RESOURCE_SERVER].contains(&name) {
            mappers.push(audience("web", "included.client.audience", EXCHANGER));
        }
        client["protocolMappers"] = mappers.into();
    }
    realm
}

/// Merges changes into a realm, as a JSON merge patch does.
///
/// A setting that Keycloak also keeps among the realm's attributes, as text, is changed there too.
pub(super) fn merge_realm(realm: &mut Value, changes: &Value) {
    merge(realm, changes);
    let (Some(attributes), Some(changes)) = (realm["attributes"].as_object_mut(), changes.as_object()) else {
        return;
    };
    for (name, value) in changes {
        if let Some(attribute) = attributes.get_mut(name) {
            *attribute = value.as_str().map_or_else(|| value.to_string(), str::to_owned).into();
        }
    }
}

/// A JSON merge patch.
pub(super) fn merge(target: &mut Value, changes: &Value) {
    let Some(changes) = changes.as_object() else {
        *target = changes.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in changes {
        if value.is_null() {
            target.as_object_mut().and_then(|members| members.remove(name));
        } else {
            merge(&mut target[name], value);
        }
    }
}

fn file() -> Value {
    serde_json::from_str(include_str!("../../keycloak/realm.json")).expect("the realm file is JSON")
}

/// A whole number of seconds, at least one: Keycloak takes 0 as "not set".
fn seconds(duration: Duration) -> u64 {
    duration.as_secs().max(1)
}

fn audience(name: &str, kind: &str, value: &str) -> Value {
    json!({
        "name": name,
        "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": {
            kind: value,
            "access.token.claim": "true",
            "id.token.claim": "false",
            "introspection.token.claim": "true",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_reach_the_realm() {
        let options = Options {
            access_token_lifetime: Duration::from_secs(7),
            device_interval: Duration::from_millis(1500),
            ..Options::default()
        };
        let realm = realm(&options);
        assert_eq!(realm["accessTokenLifespan"], 7);
        assert_eq!(realm["oauth2DevicePollingInterval"], 1);
        assert_eq!(realm["attributes"]["oauth2DevicePollingInterval"], "1");
        assert_eq!(realm["revokeRefreshToken"], true);
        assert_eq!(realm["refreshTokenMaxReuse"], 0);
        assert!(realm.get("clientScopes").is_none());
        assert!(clients().contains(&"native".to_owned()));
    }

    #[test]
    fn secrets_and_passwords_are_those_of_the_file() {
        assert!(client_secret("svc-basic").is_some_and(|secret| secret.starts_with("svc-basic-secret-")));
        assert_eq!(client_secret("native"), None);
        assert_eq!(password("alice").as_deref(), Some("alice-pw"));
        assert_eq!(password("carol"), None);
    }

    #[test]
    fn changes_merge() {
        let mut target = json!({"a": 1, "b": {"c": 2, "d": 3}, "attributes": {"a": "1"}});
        merge_realm(&mut target, &json!({"a": 5, "b": {"c": null}}));
        assert_eq!(target, json!({"a": 5, "b": {"d": 3}, "attributes": {"a": "5"}}));
    }
}
