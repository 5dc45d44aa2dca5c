//! [`Roles`]: what a token of Keycloak's says its bearer may do.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

/// The roles in an access token of Keycloak's (Server Administration Guide, "Assigning permissions using roles and groups").
///
/// Read, not verified: they tell an application what it may try, and a resource server nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Of the realm (`realm_access`).
    pub realm: Vec<String>,
    /// Of each client (`resource_access`).
    pub resources: BTreeMap<String, Vec<String>>,
}

impl Roles {
    /// The roles that an access token holds; `None` if it is no JWT.
    pub fn of(access_token: &str) -> Option<Self> {
        #[derive(Default, Deserialize)]
        struct Access {
            #[serde(default)]
            roles: Vec<String>,
        }
        #[derive(Deserialize)]
        struct Claims {
            #[serde(default)]
            realm_access: Access,
            #[serde(default)]
            resource_access: BTreeMap<String, Access>,
        }
        let mut parts = access_token.split('.');
        let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
        // Serde would fill a struct from an array as well.
        let claims: Claims = serde_json::from_slice(payload.strip_prefix(b"{").map(|_| &**payload)?).ok()?;
        Some(Self {
            realm: claims.realm_access.roles,
            resources: claims
                .resource_access
                .into_iter()
                .map(|(client, access)| (client, access.roles))
                .collect(),
        })
    }

    /// Whether the realm gave this role.
    pub fn in_realm(&self, role: &str) -> bool {
        self.realm.iter().any(|held| held == role)
    }

    /// Whether this client's roles hold it.
    pub fn in_resource(&self, client: &str, role: &str) -> bool {
        self.resources.get(client).is_some_and(|roles| roles.iter().any(|held| held == role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_of_realm_and_resources_are_read() {
        let token = |claims: &str| format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims));
        let roles = Roles::of(&token(
            r#"{"realm_access":{"roles":["a"]},"resource_access":{"account":{"roles":["view-profile"]},"b":{}}}"#,
        ))
        .unwrap();
        assert!(roles.in_realm("a") && !roles.in_realm("view-profile"));
        assert!(roles.in_resource("account", "view-profile") && !roles.in_resource("b", "view-profile"));
        assert_eq!(Roles::of(&token("{}")), Some(Roles::default()));
        for odd in ["", "opaque", "a.b", "a.b.c", &token("[]"), &token(r#"{"realm_access":7}"#)] {
            assert_eq!(Roles::of(odd), None, "{odd}");
        }
    }
}
