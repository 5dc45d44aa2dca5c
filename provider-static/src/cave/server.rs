//! [`Server`]: the CAVE server that a token is for, and what is named after it.

use http::Uri;
use keyfob_auth_core::{AuthError, authorize::Origins};

/// Where CAVE's own clients ask unless they are told otherwise.
pub(super) const GLOBAL: &str = "https://global.daf-apis.com";

#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Scheme, host and port, without a slash at the end.
    pub(super) url: String,
    uri: Uri,
}

impl Server {
    /// The server at this address; https unless it says otherwise.
    pub(super) fn parse(address: &str) -> Result<Self, AuthError> {
        let address = address.trim_end_matches('/');
        let url = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
        let wrong = |why: &str| AuthError::configuration(format!("the CAVE server's address: {why}"));
        Origins::new().with(&url).map_err(|error| wrong(error.message()))?;
        let uri = url.parse().map_err(|_| wrong("it is no URL"))?;
        Ok(Self { url, uri })
    }

    /// Whether these origins have it among them.
    pub(super) fn is_in(&self, origins: &Origins) -> bool {
        origins.covers(&self.uri).is_some()
    }

    pub(super) fn is_global(&self) -> bool {
        Origins::new().with(GLOBAL).is_ok_and(|global| self.is_in(&global))
    }

    /// The name of the file that holds this server's tokens: with host and port as they were written.
    pub(super) fn file_name(&self) -> String {
        let host_and_port = self.url.split_once("://").map_or(&*self.url, |(_, rest)| rest);
        format!("{host_and_port}-cave-secret.json")
    }

    /// Where a new token is made, which ends the one before.
    pub(super) fn new_token_url(&self) -> String {
        format!("{}/auth/api/v1/create_token", self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_caves_own_client_names_them() {
        for (address, name) in [
            ("https://global.daf-apis.com", "global.daf-apis.com-cave-secret.json"),
            ("https://minnie.microns-daf.com/", "minnie.microns-daf.com-cave-secret.json"),
            ("minnie.microns-daf.com", "minnie.microns-daf.com-cave-secret.json"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080-cave-secret.json"),
            ("https://cave.example:443", "cave.example:443-cave-secret.json"),
            ("https://Cave.Example", "Cave.Example-cave-secret.json"),
        ] {
            assert_eq!(Server::parse(address).unwrap().file_name(), name);
        }
    }

    #[test]
    fn the_global_server_is_known_and_no_other_passes_for_it() {
        for (address, global) in [
            ("https://global.daf-apis.com", true),
            ("https://GLOBAL.daf-apis.com:443/", true),
            ("global.daf-apis.com", true),
            ("https://global.daf-apis.com:8443", false),
            ("https://daf-apis.com", false),
            ("https://com", false),
            ("https://evil.example", false),
            ("https://global.daf-apis.com.evil.example", false),
        ] {
            assert_eq!(Server::parse(address).unwrap().is_global(), global, "{address}");
        }
    }

    #[test]
    fn every_bad_address_is_told() {
        for (address, said) in [
            ("http://cave.example", "is plain http"),
            ("https://cave.example/api", "has no path"),
            ("https://user:marker@cave.example", "a user name or a password"),
            ("https://../../etc", "no path"),
            ("..\\x", "a character that no host has"),
            ("", "is no origin"),
            ("ftp://cave.example", "neither https nor http"),
        ] {
            let error = Server::parse(address).unwrap_err().to_string();
            assert!(
                error.starts_with("the CAVE server's address: ") && error.contains(said),
                "{address}: {error}"
            );
            assert!(!error.contains("marker"), "{error}");
        }
    }
}
