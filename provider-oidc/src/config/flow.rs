//! [`Flow`]: how tokens are got.

/// How tokens are got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// A person signs in with a browser (RFC 6749 section 4.1, RFC 7636, RFC 8252).
    Browser,
    /// A person signs in elsewhere, with a code shown here (RFC 8628).
    Device,
    /// With a browser where there is one; with a code, or by pasting the redirect's URL, where there is none.
    Auto,
    /// The client acts for itself, without a person (RFC 6749 section 4.4).
    ClientCredentials,
    /// With a person's user name and password (RFC 6749 section 4.3): what RFC 9700 section 2.4 says must not be used. For
    /// servers that leave no choice.
    Password,
    /// With an assertion about whom the client acts for (RFC 7523 section 2.1).
    JwtBearer,
    /// In exchange for another token (RFC 8693).
    TokenExchange,
}

impl Flow {
    #[cfg(any(test, feature = "config"))]
    const ALL: [Self; 7] = [
        Self::Browser,
        Self::Device,
        Self::Auto,
        Self::ClientCredentials,
        Self::Password,
        Self::JwtBearer,
        Self::TokenExchange,
    ];

    pub(crate) const NAMES: [&'static str; 7] =
        ["browser", "device", "auto", "client_credentials", "password", "jwt_bearer", "token_exchange"];

    #[cfg(any(test, feature = "config"))]
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flow| flow.as_str() == name)
    }

    /// The name in configuration files: `device`.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The name of the grant in an [`Identity`](keyfob_auth_core::Identity). However a person signs in with `auto`, the
    /// login is the same.
    pub(crate) fn grant(self) -> &'static str {
        match self {
            Self::Browser | Self::Auto => "authorization_code",
            Self::Device => "device_code",
            Self::ClientCredentials => "client_credentials",
            Self::Password => "password",
            Self::JwtBearer => "jwt_bearer",
            Self::TokenExchange => "token_exchange",
        }
    }

    /// Whether a person signs in.
    pub(crate) fn is_personal(self) -> bool {
        matches!(self, Self::Browser | Self::Device | Self::Auto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_the_variants() {
        for (flow, name) in Flow::ALL.into_iter().zip(Flow::NAMES) {
            assert_eq!(flow.as_str(), name);
            assert_eq!(Flow::from_name(name), Some(flow));
        }
    }
}
