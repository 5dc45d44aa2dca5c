//! What an operator should know and nobody's request fails for: warned of in the log, once in a context.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, PoisonError},
};

use keyfob_auth_core::{ExposeSecret as _, Login, Scopes, SecretString};

use crate::Oidc;

/// Under which name a login keeps the scopes that were asked for: the server may have granted others, or call them
/// otherwise.
const ASKED: &str = "scopes_asked";

/// What was warned of.
#[derive(Default)]
struct Warned(Mutex<BTreeSet<String>>);

/// The login's field that says what was asked for.
pub(crate) fn asked(scopes: &Scopes) -> (String, SecretString) {
    (ASKED.to_owned(), scopes.to_string().into())
}

/// The scopes that a person's sign-in asked for, whatever was granted. `None` for a login that this crate did not make.
pub fn asked_scopes(login: &Login) -> Option<Scopes> {
    login.fields.get(ASKED).map(|scopes| Scopes::parse(scopes.expose_secret()))
}

impl Oidc {
    /// The configured scopes that the login was not asked for with; none where that is not known.
    pub(crate) fn scopes_since(&self, login: &Login) -> Scopes {
        let configured = &self.config.scopes;
        match asked_scopes(login) {
            // What is taken where nothing is said is nothing that somebody added.
            Some(asked) if !configured.iter().eq(["openid"]) => {
                configured.iter().filter(|scope| !asked.contains(scope)).collect()
            }
            _ => Scopes::none(),
        }
    }

    /// Warns of secret files that others can read, and of scopes that the login was not made for.
    pub(crate) fn warn(&self, login: Option<&Login>) {
        for path in &self.config.secret_files {
            if let Some(flaw) = flaw(path)
                && self.first(&flaw)
            {
                tracing::warn!("{flaw}");
            }
        }
        let missing = login.map(|login| self.scopes_since(login)).unwrap_or_default();
        let name = &self.config.label;
        let told = format!(
            "the login of {name:?} was not asked for with {missing}, which `scopes` has: its tokens come without; log in again to get them"
        );
        if !missing.is_empty() && self.first(&told) {
            tracing::warn!("{told}");
        }
    }

    fn first(&self, what: &str) -> bool {
        let warned = self.context().shared(|| Ok(Warned::default()));
        warned.is_ok_and(|warned| {
            warned.0.lock().unwrap_or_else(PoisonError::into_inner).insert(what.to_owned())
        })
    }
}

/// That everybody can read the file, and how to mend it. A group that can is how a platform hands a file to a service.
#[cfg(unix)]
fn flaw(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;

    let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let mode = meta.mode() & 0o7777;
    let path = format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    (mode & 0o004 != 0)
        .then(|| format!("others can read the secret in {path} (mode {mode:04o}): chmod 600 {path}"))
}

/// Elsewhere, access lists decide.
#[cfg(not(unix))]
fn flaw(_: &Path) -> Option<String> {
    None
}
