//! Gates on what is written: nothing of one machine, the lock file's sources, the table of features, the page of standards.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;

use crate::ci::Gate;
use crate::invocation::Invocation;
use crate::manifest::Package;
use crate::standards;

/// A file of Rust longer than this is worth a look.
const LONG: usize = 600;

/// Where every dependency comes from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The gates, cheap ones all.
pub(crate) fn gates() -> Vec<Gate> {
    vec![
        Gate::new("text: nothing of one machine", || no_traces().into()),
        Gate::new("text: all dependencies come from crates.io", || sources().into()),
        Gate::new("text: the table of features is true", || feature_table().into()),
        Gate::new("text: the tests of docs/standards.md are there", || standards::check().into()),
    ]
}

fn no_traces() -> Result<(), String> {
    let traces = traces();
    let mut found = Vec::new();
    // With what is not committed yet, so that it is found in time.
    let files = Invocation::git("ls-files -z --cached --others --exclude-standard").output()?;
    for file in files.split_terminator('\0') {
        // Gone, but not yet from the index.
        let Ok(content) = fs::read(file) else { continue };
        let content = String::from_utf8_lossy(&content);
        for (index, line) in content.lines().enumerate() {
            if let Some(trace) = traces.iter().find(|trace| names_path(line, trace)) {
                found.push(format!("{file}:{}: {trace}", index + 1));
            }
        }
        let lines = content.lines().count();
        if lines > LONG && Path::new(file).extension().is_some_and(|extension| extension == "rs") {
            println!("    warning: {file} has {lines} lines");
        }
    }
    if found.is_empty() { Ok(()) } else { Err(format!("\n    {}", found.join("\n    "))) }
}

/// What stands in no file: where this checkout and its owner are at home, and places beside a checkout.
fn traces() -> Vec<String> {
    // Written in two pieces, or this file would be found.
    let mut traces = vec![
        concat!("/ro", "ot/").to_owned(),
        concat!("/wo", "rk/").to_owned(),
        concat!("..", "/shared").to_owned(),
    ];
    let folders = [env::current_dir().ok(), env::var_os("HOME").map(Into::into)];
    // A folder right below the root, such as `/src`, is no trace of anything.
    let telling = folders.into_iter().flatten().filter(|folder| folder.components().count() > 2);
    traces.extend(telling.map(|folder| folder.display().to_string()));
    traces
}

/// Whether the line names `trace`; an absolute path only where it begins, for `a/home/me` is another one.
fn names_path(line: &str, trace: &str) -> bool {
    line.match_indices(trace).any(|(at, _)| {
        let before = &line[..at];
        let goes_on = |last: char| last.is_alphanumeric() || "._-~}>)/*".contains(last);
        !trace.starts_with('/') || before.ends_with("://") || !before.ends_with(goes_on)
    })
}

fn sources() -> Result<(), String> {
    let lock = read("Cargo.lock")?;
    let sources = lock.lines().filter_map(|line| line.strip_prefix("source = "));
    let foreign: BTreeSet<_> =
        sources.map(|source| source.trim_matches('"')).filter(|it| *it != CRATES_IO).collect();
    if foreign.is_empty() {
        return Ok(());
    }
    Err(format!("Cargo.lock names {}", foreign.into_iter().collect::<Vec<_>>().join(", ")))
}

fn feature_table() -> Result<(), String> {
    let documented = documented_features(&read("src/lib.rs")?);
    compare(&Package::read(Path::new("."))?, &documented)
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

/// The rows ``| `name` | yes | … |`` below the heading `Features`: each name, and whether it is said to be on by default.
fn documented_features(source: &str) -> Vec<(String, bool)> {
    let docs = source.lines().filter_map(|line| line.strip_prefix("//!")).map(str::trim);
    let below = docs.skip_while(|line| *line != "# Features").skip(1);
    let section = below.take_while(|line| !line.starts_with("# "));
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((name.to_owned(), cells.next()? == "yes"))
    };
    section.filter_map(row).collect()
}

fn compare(package: &Package, documented: &[(String, bool)]) -> Result<(), String> {
    let names: BTreeSet<&str> = package.feature_names().into_iter().collect();
    let rows: BTreeSet<&str> = documented.iter().map(|(name, _)| name.as_str()).collect();
    let on: BTreeSet<&str> = package.implied_by("default").into_iter().collect();
    let said_on: BTreeSet<&str> =
        documented.iter().filter(|(_, default)| *default).map(|(name, _)| name.as_str()).collect();
    let mut problems = Vec::new();
    let mut differ = |left: &BTreeSet<&str>, right: &BTreeSet<&str>, what: &str| {
        let only: Vec<_> = left.difference(right).copied().collect();
        if !only.is_empty() {
            problems.push(format!("{what}: {}", only.join(", ")));
        }
    };
    differ(&names, &rows, "src/lib.rs has no row for");
    differ(&rows, &names, "Cargo.toml has no feature");
    differ(&on, &said_on, "not marked as default");
    differ(&said_on, &on, "not a default");
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
//! | `before` | | not a feature |
//! # Features
//!
//! | Feature | Default | What it adds |
//! |---|---|---|
//! | `cli` | | [`cli`]: the command; implies `config` |
//! | `rustls` | yes | TLS |
//!
//! # Later
//! | `after` | | not a feature |
pub mod code {}
";

    fn package(features: &[(&str, &[&str])]) -> Package {
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let features = features.iter().map(|(name, values)| ((*name).to_owned(), owned(values))).collect();
        Package { name: "p".to_owned(), features }
    }

    #[test]
    fn the_table_is_read() {
        assert_eq!(documented_features(SOURCE), [("cli".to_owned(), false), ("rustls".to_owned(), true)]);
    }

    #[test]
    fn the_table_is_compared_both_ways() {
        let rows = documented_features(SOURCE);
        let same = package(&[("default", &["rustls"]), ("rustls", &[]), ("cli", &[])]);
        assert_eq!(compare(&same, &rows), Ok(()));
        let other = package(&[("default", &["oidc"]), ("rustls", &[]), ("oidc", &[])]);
        let problem = "src/lib.rs has no row for: oidc; Cargo.toml has no feature: cli; \
                       not marked as default: oidc; not a default: rustls";
        assert_eq!(compare(&other, &rows), Err(problem.to_owned()));
    }

    #[test]
    fn a_path_is_found_where_it_begins() {
        for line in ["/home/me/x", "in `/home/me/x`", "\"/home/me/\"", "file:///home/me/x"] {
            assert!(names_path(line, "/home/me/"), "{line}");
        }
        for line in ["https://example.com/home/me/x", "a/home/me/x", "/home/you/me", "{base}/home/me/x"] {
            assert!(!names_path(line, "/home/me/"), "{line}");
        }
        assert!(names_path("see ../../beside/x", "../beside"));
    }

    #[test]
    fn this_file_is_not_found() {
        let traces = traces();
        assert!(!include_str!("text.rs").lines().any(|line| traces.iter().any(|it| names_path(line, it))));
        assert!(traces.iter().all(|trace| names_path(&format!("see {trace}"), trace)));
    }
}
