//! What must not be among a package's dependencies, proved by `cargo tree`.

use std::collections::BTreeSet;

use crate::ci::Gate;
use crate::invocation::Invocation;

/// A TLS library of the operating system, and josekit, which needs it.
const OPENSSL: &[&str] = &["josekit", "native-tls", "openssl", "openssl-sys"];
const HTTP: &[&str] = &["hyper", "reqwest"];
const RUSTLS: &[&str] = &["aws-lc-rs", "hyper-rustls", "ring", "rustls", "tokio-rustls"];

struct Rule {
    what: &'static str,
    /// The package and its features, as `cargo tree` takes them.
    selection: &'static str,
    demand: Demand,
}

enum Demand {
    /// None of these anywhere in the tree.
    Without(&'static [&'static [&'static str]]),
    /// Direct dependencies: these and no other.
    Exactly(&'static [&'static str]),
    /// Direct dependencies: of this workspace's packages, no other than these.
    OfOurs(&'static [&'static str]),
}

const RULES: &[Rule] = &[
    Rule {
        what: "auth-core without features has no HTTP client and no TLS",
        selection: "--package keyfob-auth-core --no-default-features",
        demand: Demand::Without(&[HTTP, OPENSSL, RUSTLS]),
    },
    Rule {
        what: "static tokens alone have no HTTP client and no TLS",
        selection: "--package keyfob --no-default-features --features static",
        demand: Demand::Without(&[HTTP, OPENSSL, RUSTLS]),
    },
    Rule {
        what: "files alone have no HTTP client and no TLS",
        selection: "--package keyfob --no-default-features --features config,static,store-file",
        demand: Demand::Without(&[HTTP, OPENSSL, RUSTLS]),
    },
    Rule {
        what: "oidc with rustls has no OpenSSL",
        selection: "--package keyfob --no-default-features --features oidc,rustls",
        demand: Demand::Without(&[OPENSSL]),
    },
    Rule {
        what: "NeMo, static tokens and a browser login have no OpenSSL",
        selection: "--package keyfob --no-default-features --features browser,cli,middleware,nemo,rustls,static,store-file",
        demand: Demand::Without(&[OPENSSL]),
    },
    Rule {
        what: "oidc with native-tls has no rustls",
        selection: "--package keyfob --no-default-features --features oidc,middleware,native-tls",
        demand: Demand::Without(&[RUSTLS]),
    },
    Rule {
        what: "a provider from outside depends on auth-core alone",
        selection: "--package keyfob-example-custom-provider",
        demand: Demand::Exactly(&["keyfob-auth-core"]),
    },
    Rule {
        what: "xtask depends on nothing",
        selection: "--package keyfob-xtask",
        demand: Demand::Exactly(&[]),
    },
    Rule {
        what: "auth-core is at the bottom",
        selection: "--package keyfob-auth-core --all-features",
        demand: Demand::OfOurs(&[]),
    },
    Rule {
        what: "store-file is on auth-core",
        selection: "--package keyfob-store-file --all-features",
        demand: Demand::OfOurs(&["keyfob-auth-core"]),
    },
    Rule {
        what: "provider-static is on auth-core and store-file",
        selection: "--package keyfob-provider-static --all-features",
        demand: Demand::OfOurs(&["keyfob-auth-core", "keyfob-store-file"]),
    },
    Rule {
        what: "provider-keycloak is on provider-oidc and store-file",
        selection: "--package keyfob-provider-keycloak --all-features",
        demand: Demand::OfOurs(&["keyfob-auth-core", "keyfob-provider-oidc", "keyfob-store-file"]),
    },
    Rule {
        what: "provider-nemo is on provider-oidc and store-file",
        selection: "--package keyfob-provider-nemo --all-features",
        demand: Demand::OfOurs(&["keyfob-auth-core", "keyfob-provider-oidc", "keyfob-store-file"]),
    },
    Rule {
        what: "provider-sfapi is on provider-oidc",
        selection: "--package keyfob-provider-sfapi --all-features",
        demand: Demand::OfOurs(&["keyfob-auth-core", "keyfob-provider-oidc"]),
    },
    Rule {
        what: "provider-oidc is on auth-core",
        selection: "--package keyfob-provider-oidc --all-features",
        demand: Demand::OfOurs(&["keyfob-auth-core"]),
    },
];

/// One gate a rule.
pub(crate) fn gates() -> Vec<Gate> {
    RULES
        .iter()
        .map(|rule| Gate::new(format!("dependencies: {}", rule.what), || check(rule).into()))
        .collect()
}

fn check(rule: &Rule) -> Result<(), String> {
    // Build dependencies too: what compiles C is no less there than what is linked.
    let depth = if matches!(rule.demand, Demand::Without(_)) { "" } else { "--depth 1" };
    let tree = Invocation::cargo(&format!(
        "tree --edges normal,build --prefix none --format {{p}} {depth} {}",
        rule.selection
    ));
    let printed = tree.output()?;
    let mut lines = printed.lines();
    let own = lines.next().and_then(name).ok_or("cargo tree printed nothing")?;
    let found: BTreeSet<&str> = lines.filter_map(name).filter(|name| *name != own).collect();
    judge(&rule.demand, &found)
}

fn judge(demand: &Demand, found: &BTreeSet<&str>) -> Result<(), String> {
    let wrong: Vec<&str> = match demand {
        Demand::Without(lists) => {
            lists.iter().copied().flatten().copied().filter(|name| found.contains(name)).collect()
        }
        Demand::Exactly(names) => {
            let missing: Vec<_> = names.iter().copied().filter(|name| !found.contains(name)).collect();
            if !missing.is_empty() {
                return Err(format!("missing: {}", missing.join(", ")));
            }
            found.iter().copied().filter(|name| !names.contains(name)).collect()
        }
        Demand::OfOurs(names) => {
            let ours = |name: &&str| name.starts_with("keyfob");
            found.iter().copied().filter(ours).filter(|name| !names.contains(name)).collect()
        }
    };
    if wrong.is_empty() { Ok(()) } else { Err(format!("must not be there: {}", wrong.join(", "))) }
}

/// The first word of a line like `hyper v1.12.0`.
fn name(line: &str) -> Option<&str> {
    line.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demands_are_judged() {
        let found = BTreeSet::from(["hyper", "keyfob-auth-core", "serde"]);
        let refused = |demand| judge(&demand, &found).err();
        assert_eq!(refused(Demand::Without(&[OPENSSL, RUSTLS])), None);
        assert_eq!(refused(Demand::Without(&[OPENSSL, HTTP])), Some("must not be there: hyper".to_owned()));
        assert_eq!(refused(Demand::Exactly(&["hyper", "keyfob-auth-core", "serde"])), None);
        assert_eq!(refused(Demand::Exactly(&["hyper", "serde", "url"])), Some("missing: url".to_owned()));
        let extra = Some("must not be there: hyper, serde".to_owned());
        assert_eq!(refused(Demand::Exactly(&["keyfob-auth-core"])), extra);
        assert_eq!(refused(Demand::OfOurs(&["keyfob-auth-core"])), None);
        assert_eq!(refused(Demand::OfOurs(&[])), Some("must not be there: keyfob-auth-core".to_owned()));
    }
}
