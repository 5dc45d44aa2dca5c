//! Where OpenSSL comes from, which josekit needs: the system's where its headers are, else built from source.

use std::env;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The features of a selection that has them all, with OpenSSL built from source where this machine has no headers.
pub(crate) fn complete(arguments: &str) -> String {
    if arguments.contains("full") && from_source() { vendored(arguments) } else { arguments.to_owned() }
}

fn vendored(arguments: &str) -> String {
    let word = |word: &str| match word {
        "full" => "full,vendored-openssl".to_owned(),
        "keyfob/full" => "keyfob/full,keyfob/vendored-openssl".to_owned(),
        other => other.to_owned(),
    };
    arguments.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// Whether OpenSSL's headers are missing. Looked for once, as its crate looks for them.
fn from_source() -> bool {
    static MISSING: OnceLock<bool> = OnceLock::new();
    *MISSING.get_or_init(|| {
        let named = ["OPENSSL_DIR", "OPENSSL_LIB_DIR"].iter().any(|name| env::var_os(name).is_some());
        let mut probe = Command::new("pkg-config");
        probe.args(["--exists", "openssl"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut found = || probe.status().is_ok_and(|status| status.success());
        if named || found() {
            return false;
        }
        eprintln!("xtask: OpenSSL's headers are missing, so it is built from source (some minutes, once)");
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_selection_of_everything_is_completed() {
        assert_eq!(
            vendored("test --features keyfob/full -q"),
            "test --features keyfob/full,keyfob/vendored-openssl -q"
        );
        assert_eq!(vendored("run --features full"), "run --features full,vendored-openssl");
        assert_eq!(vendored("doc --features fuller"), "doc --features fuller");
        assert_eq!(complete("check --features oidc"), "check --features oidc");
    }
}
