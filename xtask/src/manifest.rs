//! What the gates need of a manifest: a little of TOML, so that this crate needs no parser of it.

use std::fs;
use std::path::{Path, PathBuf};

/// A package of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its features in the manifest's order, `default` included, each with what it turns on.
    pub(crate) features: Vec<(String, Vec<String>)>,
}

impl Package {
    /// Reads the package of one folder.
    pub(crate) fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join("Cargo.toml");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = entry(&text, "package", "name")
            .and_then(|values| values.into_iter().next())
            .ok_or_else(|| format!("{}: no package name", path.display()))?;
        Ok(Self { name, features: table(&text, "features") })
    }

    /// Every feature but `default`.
    pub(crate) fn feature_names(&self) -> Vec<&str> {
        self.features.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "default").collect()
    }

    /// What a feature turns on.
    pub(crate) fn implied_by(&self, feature: &str) -> Vec<&str> {
        let found = self.features.iter().find(|(name, _)| name == feature);
        found.map(|(_, values)| values.iter().map(String::as_str).collect()).unwrap_or_default()
    }
}

/// The folders of the workspace's members, the root package's `.` included.
pub(crate) fn members() -> Result<Vec<PathBuf>, String> {
    let text = fs::read_to_string("Cargo.toml").map_err(|error| format!("Cargo.toml: {error}"))?;
    let members = entry(&text, "workspace", "members").ok_or("Cargo.toml: no workspace members")?;
    Ok(members.into_iter().map(PathBuf::from).collect())
}

fn entry(text: &str, section: &str, key: &str) -> Option<Vec<String>> {
    table(text, section).into_iter().find(|(name, _)| name == key).map(|(_, values)| values)
}

/// The entries of one table, each with all strings in its value.
fn table(text: &str, section: &str) -> Vec<(String, Vec<String>)> {
    let header = format!("[{section}]");
    let mut entries: Vec<(String, Vec<String>)> = Vec::new();
    let (mut inside, mut depth) = (false, 0_usize);
    for line in text.lines() {
        let line = without_comment(line).trim();
        if depth == 0 && line.starts_with('[') {
            inside = line == header;
            continue;
        }
        let value = match line.split_once('=') {
            Some((key, value)) if depth == 0 => {
                if inside {
                    entries.push((key.trim().trim_matches('"').to_owned(), Vec::new()));
                }
                value
            }
            _ => line,
        };
        let (strings, outside) = split_strings(value);
        if let Some((_, values)) = entries.last_mut().filter(|_| inside) {
            values.extend(strings);
        }
        depth += outside.matches(['[', '{']).count();
        depth = depth.saturating_sub(outside.matches([']', '}']).count());
    }
    entries
}

fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let end = line.char_indices().find_map(|(at, character)| {
        quoted ^= character == '"';
        (character == '#' && !quoted).then_some(at)
    });
    &line[..end.unwrap_or(line.len())]
}

/// The strings of a value, and what stands around them.
fn split_strings(value: &str) -> (Vec<String>, String) {
    let (mut strings, mut outside) = (Vec::new(), String::new());
    for (index, part) in value.split('"').enumerate() {
        if index % 2 == 1 {
            strings.push(part.to_owned());
        } else {
            outside.push_str(part);
        }
    }
    (strings, outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
[workspace]
members = [
    # The "facade", with a comment that has = and [brackets].
    ".",
    "auth-core", # and one behind
]

[package]
name = "keyfob"
version.workspace = true

[features]
default = ["rustls"]
# Everything.
full = ["cli", "rustls"]
cli = [
    "config",
    "dep:clap",
]
config = []
rustls = ["keyfob-auth-core/rustls", "oidc?/rustls"]

[dependencies]
clap = { workspace = true, features = ["derive"], optional = true }
"#;

    #[test]
    fn tables_are_read() {
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        assert_eq!(entry(MANIFEST, "workspace", "members"), Some(owned(&[".", "auth-core"])));
        assert_eq!(entry(MANIFEST, "package", "name"), Some(owned(&["keyfob"])));
        assert_eq!(entry(MANIFEST, "package", "readme"), None);
        let package = Package { name: "keyfob".to_owned(), features: table(MANIFEST, "features") };
        assert_eq!(package.feature_names(), ["full", "cli", "config", "rustls"]);
        assert_eq!(package.implied_by("default"), ["rustls"]);
        assert_eq!(package.implied_by("cli"), ["config", "dep:clap"]);
        assert_eq!(package.implied_by("config"), [""; 0]);
        assert_eq!(package.implied_by("rustls"), ["keyfob-auth-core/rustls", "oidc?/rustls"]);
    }
}
