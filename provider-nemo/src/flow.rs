//! [`NemoFlow`]: how tokens are got, and [`RefreshScopes`]: what a renewal asks for.

/// How tokens are got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NemoFlow {
    /// A person signs in elsewhere, with a code shown here (RFC 8628).
    Device,
    /// With a person's user name and password (RFC 6749 section 4.3): what RFC 9700 section 2.4 says must not be used, and
    /// what the platform's own command does where it is given them.
    Password,
    /// In exchange for a token that the surroundings give the workload (RFC 8693). Nothing is kept on disk.
    Workload,
    /// With an access token that somebody else got. It is never renewed, and nothing is kept on disk.
    Token,
    /// With unsigned tokens made here, where a platform in development takes anybody's word. Nothing is kept on disk.
    Unsigned,
}

impl NemoFlow {
    const ALL: [Self; 5] = [Self::Device, Self::Password, Self::Workload, Self::Token, Self::Unsigned];

    pub(crate) const NAMES: [&'static str; 5] = ["device", "password", "workload", "token", "unsigned"];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flow| flow.as_str() == name)
    }

    /// The name in configuration files: `device`.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The name of the grant in an [`Identity`](keyfob_auth_core::Identity).
    pub(crate) fn grant(self) -> &'static str {
        match self {
            Self::Device => "device_code",
            Self::Password => "password",
            Self::Workload => "token_exchange",
            Self::Token => "token",
            Self::Unsigned => "unsigned",
        }
    }

    /// Whether a login comes of it, to be kept.
    pub(crate) fn is_personal(self) -> bool {
        matches!(self, Self::Device | Self::Password)
    }
}

/// Which scopes a renewal asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefreshScopes {
    /// None by name, which means those that were granted (RFC 6749 section 6): a login stays as narrow as it was made.
    #[default]
    Granted,
    /// All of the platform's default scopes, as its own clients do, whatever the login asked for.
    Default,
}

impl RefreshScopes {
    pub(crate) const NAMES: [&'static str; 2] = ["granted", "default"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_the_variants() {
        for (flow, name) in NemoFlow::ALL.into_iter().zip(NemoFlow::NAMES) {
            assert_eq!((flow.as_str(), NemoFlow::from_name(name)), (name, Some(flow)));
        }
    }
}
