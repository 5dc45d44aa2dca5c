//! The feature sets that clippy sees. What clippy sees also builds: `cargo check` would say nothing more.

use crate::ci::Gate;
use crate::invocation::Invocation;
use crate::manifest::{self, Package};

/// The facade by every feature, each other member by itself with every feature, and the workspace with all its targets.
///
/// A member by itself gets no features that others need of the same dependencies; test targets are left out of that
/// because their dependencies would bring such features.
pub(crate) fn gates() -> Result<Vec<Gate>, String> {
    let mut gates = Vec::new();
    for folder in manifest::members()? {
        let package = Package::read(&folder)?;
        if folder.as_os_str() == "." {
            gates.push(gate("keyfob, default features", "--package keyfob"));
            gates.extend(facade_sets(&package).iter().map(|set| alone(&package, set)));
        } else {
            gates.extend(member_sets(&package).iter().map(|set| alone(&package, set)));
        }
    }
    let all = "--workspace --all-targets --features keyfob/full";
    gates.push(gate("the workspace, all targets", all));
    Ok(gates)
}

/// None, each by itself, `full`, and `full` with the other TLS library instead.
fn facade_sets(package: &Package) -> Vec<String> {
    let mut sets = vec![String::new()];
    sets.extend(package.feature_names().into_iter().filter(|name| *name != "full").map(str::to_owned));
    let other: Vec<_> = package.implied_by("full").into_iter().filter(|name| *name != "rustls").collect();
    sets.push("full".to_owned());
    sets.push(format!("{},native-tls", other.join(",")));
    sets
}

/// None, each by itself, and all that go together.
fn member_sets(package: &Package) -> Vec<String> {
    let names = package.feature_names();
    let mut sets = vec![String::new()];
    sets.extend(names.iter().map(|name| (*name).to_owned()));
    let together: Vec<_> = names.into_iter().filter(|name| *name != "native-tls").collect();
    if together.len() > 1 {
        sets.push(together.join(","));
    }
    sets
}

fn alone(package: &Package, features: &str) -> Gate {
    let name = &package.name;
    if features.is_empty() {
        return gate(&format!("{name}, no features"), &format!("--package {name} --no-default-features"));
    }
    let arguments = format!("--package {name} --no-default-features --features {features}");
    gate(&format!("{name}, {features}"), &arguments)
}

fn gate(what: &str, arguments: &str) -> Gate {
    let clippy = Invocation::cargo(&format!("clippy --quiet {arguments} -- -D warnings"));
    Gate::new(format!("clippy: {what}"), move || clippy.run().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(features: &[(&str, &[&str])]) -> Package {
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let features = features.iter().map(|(name, values)| ((*name).to_owned(), owned(values))).collect();
        Package { name: "p".to_owned(), features }
    }

    #[test]
    fn the_facade_is_seen_with_each_feature() {
        let facade = package(&[
            ("default", &["rustls"]),
            ("full", &["cli", "rustls"]),
            ("cli", &[]),
            ("native-tls", &[]),
            ("rustls", &[]),
        ]);
        assert_eq!(facade_sets(&facade), ["", "cli", "native-tls", "rustls", "full", "cli,native-tls"]);
    }

    #[test]
    fn a_member_is_seen_with_each_feature() {
        assert_eq!(member_sets(&package(&[])), [""]);
        let member = package(&[("default", &[]), ("native-tls", &[]), ("rustls", &[])]);
        assert_eq!(member_sets(&member), ["", "native-tls", "rustls"]);
        let member = package(&[("a", &[]), ("native-tls", &[]), ("rustls", &[])]);
        assert_eq!(member_sets(&member), ["", "a", "native-tls", "rustls", "a,rustls"]);
    }
}
