//! Scopes as a platform has them: its defaults, the prefix of its identity provider, and what a token was granted.

use keyfob_auth_core::Scopes;

/// What a platform that names no default scopes means.
const DEFAULTS: &str = "openid profile email offline_access";

/// How a platform's scopes are asked for, and told again in tokens.
#[derive(Debug)]
pub(crate) struct ScopeRules {
    defaults: Scopes,
    /// Empty, or with a slash at its end.
    prefix: String,
}

impl ScopeRules {
    pub(crate) fn new(defaults: Option<&str>, prefix: Option<&str>) -> Self {
        let prefix = match prefix.unwrap_or_default() {
            // Some platforms are set up without the slash that their identity provider wants.
            prefix if prefix.is_empty() || prefix.ends_with('/') => prefix.to_owned(),
            prefix => format!("{prefix}/"),
        };
        Self { defaults: Scopes::parse(defaults.unwrap_or(DEFAULTS)), prefix }
    }

    /// The scopes that a login asks for: these, besides those defaults that are not the platform's own; all the defaults
    /// where none are named.
    pub(crate) fn of_login(&self, asked: &Scopes) -> Scopes {
        if asked.is_empty() {
            return self.defaults();
        }
        let general = self.defaults.iter().filter(|scope| !scope.contains(':'));
        self.prefixed(&general.chain(asked.iter()).collect())
    }

    /// Everything that the platform asks for by default.
    pub(crate) fn defaults(&self) -> Scopes {
        self.prefixed(&self.defaults)
    }

    /// The scopes as the identity provider knows them.
    pub(crate) fn prefixed(&self, scopes: &Scopes) -> Scopes {
        let Self { prefix, .. } = self;
        let own = |scope: &str| scope.contains(':') || scope.ends_with(".default");
        scopes
            .iter()
            .map(|scope| match own(scope) && !scope.starts_with(prefix) {
                true => format!("{prefix}{scope}"),
                false => scope.to_owned(),
            })
            .collect()
    }

    /// The platform's own scopes among these that were not granted, with or without the prefix.
    pub(crate) fn missing(&self, asked: &Scopes, granted: &Scopes) -> Vec<String> {
        let granted: Vec<&str> = granted.iter().map(|scope| self.short(scope)).collect();
        let own = asked.iter().filter(|scope| scope.contains(':')).map(|scope| self.short(scope));
        // `.default` stands for others, and no token names it.
        own.filter(|scope| !scope.ends_with(".default") && !granted.contains(scope))
            .map(str::to_owned)
            .collect()
    }

    fn short<'a>(&self, scope: &'a str) -> &'a str {
        scope.strip_prefix(&self.prefix).unwrap_or(scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_asks_as_the_platforms_own_clients_do() {
        const DEFAULT: &str = "openid offline_access platform:read";
        for (defaults, prefix, asked, sent) in [
            (None, None, "", "openid profile email offline_access"),
            (Some(DEFAULT), None, "", DEFAULT),
            (Some(DEFAULT), None, "platform:write", "openid offline_access platform:write"),
            (Some(DEFAULT), None, "platform:read openid", "openid offline_access platform:read"),
            (Some(DEFAULT), Some("api://nmp"), "", "openid offline_access api://nmp/platform:read"),
            (Some(DEFAULT), Some("api://nmp/"), "", "openid offline_access api://nmp/platform:read"),
            (Some(DEFAULT), Some(""), "", DEFAULT),
            (Some(DEFAULT), Some("api://nmp"), ".default", "openid offline_access api://nmp/.default"),
            (
                Some(DEFAULT),
                Some("api://nmp"),
                "api://nmp/platform:read x",
                "openid offline_access api://nmp/platform:read x",
            ),
        ] {
            let rules = ScopeRules::new(defaults, prefix);
            assert_eq!(
                rules.of_login(&Scopes::parse(asked)).to_string(),
                sent,
                "{defaults:?} {prefix:?} {asked:?}"
            );
        }
        // A request below a login adds nothing of its own.
        let rules = ScopeRules::new(Some(DEFAULT), Some("api://nmp"));
        assert_eq!(rules.prefixed(&Scopes::parse("platform:read")).to_string(), "api://nmp/platform:read");
    }

    #[test]
    fn only_the_platforms_own_scopes_have_to_be_granted() {
        for (prefix, asked, granted, missing) in [
            (None, "openid platform:read", "platform:read", vec![]),
            (None, "openid platform:read platform:write", "platform:read", vec!["platform:write"]),
            (None, "openid email", "", vec![]),
            (Some("api://nmp"), "api://nmp/platform:read", "platform:read", vec![]),
            (Some("api://nmp"), "api://nmp/platform:read", "api://nmp/platform:read", vec![]),
            (
                Some("api://nmp"),
                "api://nmp/platform:read",
                "api://other/platform:read",
                vec!["platform:read"],
            ),
            (Some("api://nmp"), "api://nmp/.default", "platform:read", vec![]),
        ] {
            let rules = ScopeRules::new(None, prefix);
            let found = rules.missing(&Scopes::parse(asked), &Scopes::parse(granted));
            assert_eq!(found, missing, "{prefix:?} {asked:?} {granted:?}");
        }
    }
}
