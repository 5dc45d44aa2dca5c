//! [`NetworkSettings`]: how requests leave this machine, as it was said.

use std::time::Duration;

use keyfob_auth_core::registry::SecretSource;

use super::Wrong;
use crate::http::{Certificate, Network, Proxy};

/// What is said of the network.
#[derive(Clone, Default)]
pub(super) struct NetworkSettings {
    pub(super) authorities: Option<SecretSource>,
    pub(super) certificate: Option<SecretSource>,
    pub(super) certificate_key: Option<SecretSource>,
    pub(super) proxy: Option<String>,
    pub(super) deadline: Option<Duration>,
}

impl NetworkSettings {
    pub(super) fn check(self) -> Result<Network, Wrong> {
        if self.certificate.is_none() && self.certificate_key.is_some() {
            return Err(Wrong::new("certificate", "is needed with `certificate_key`"));
        }
        if self.deadline.is_some_and(|deadline| deadline.is_zero()) {
            return Err(Wrong::new("timeout", "must be 1 or more"));
        }
        let proxy = match self.proxy {
            None => Proxy::System,
            Some(none) if none == "none" => Proxy::None,
            Some(url) => match url::Url::parse(&url) {
                Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => Proxy::At(url),
                _ => {
                    return Err(Wrong::new("proxy", "must be the http or https URL of a proxy, or \"none\""));
                }
            },
        };
        Ok(Network {
            authorities: self.authorities,
            certificate: self.certificate.map(|chain| Certificate { chain, key: self.certificate_key }),
            proxy,
            deadline: self.deadline,
        })
    }
}
