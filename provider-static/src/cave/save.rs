//! Saving a token where CAVE's clients look for it.

use std::path::PathBuf;

use keyfob_auth_core::{
    AccessToken, AuthError, ErrorKind, ExposeSecret as _, Presentation, SecretString, store::StoreError,
};
use keyfob_store_file::shared::{Change, Privacy, SharedFile};

use super::{Cave, files::GENERAL};
use crate::json::{Member, Members};

impl Cave {
    /// Saves a token under this key for CAVE's clients and for keyfob: in this server's own file and, where the
    /// [general token](Self#where-the-general-token-goes) may go to this server, in the general one; or in the
    /// [file that was named](Self::token_file), and no other. Returns the files that have it now.
    ///
    /// What else is in the files stays. A folder and a file that are made are private (0700, 0600), others keep their mode.
    /// Each file is changed under a lock and replaced as a whole. A token that is there already is no error; another one in
    /// its place is, unless it may be overwritten, and then neither file is touched. It works under any executor.
    ///
    /// A session of this provider serves it within 10 s; [`Session::refresh`](keyfob_auth_core::Session::refresh) at once.
    ///
    /// # Errors
    /// [`Refused`](keyfob_auth_core::ErrorKind::Refused) if another token is there and may not be overwritten;
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) if this is no token or no key;
    /// [`Store`](keyfob_auth_core::ErrorKind::Store) if a file cannot be read or written. If only one of the two could be
    /// written, the error says which.
    ///
    /// # Cancellation
    /// Each file has its old content or the new. One may have the token already and the other not.
    pub async fn save_token(
        &self,
        token: impl Into<SecretString>,
        key: &str,
        overwrite: bool,
    ) -> Result<Vec<PathBuf>, AuthError> {
        let token = checked(&token.into())?;
        if key.is_empty() {
            return Err(AuthError::configuration("the key to save the token under is empty"));
        }
        let files = self.targets()?;
        // Nothing is written if one of them holds another token.
        for file in &files {
            let found = file.read(Members::parse).await?;
            if !overwrite && found.is_some_and(|found| found.value.holds_another(key, &token)) {
                return Err(taken(file, key));
            }
        }
        let (mut saved, mut failed) = (Vec::new(), Vec::new());
        for file in &files {
            match put(file, key, &token, overwrite).await {
                Ok(()) => saved.push(file.path().to_path_buf()),
                // Somebody saved another one just now: the files are theirs.
                Err(error) if error.kind() == ErrorKind::Refused && saved.is_empty() => return Err(error),
                Err(error) => failed.push((file.path().display().to_string(), error)),
            }
        }
        if failed.is_empty() {
            return Ok(saved);
        }
        Err(partly(&saved, failed))
    }

    /// The files that get a token.
    fn targets(&self) -> Result<Vec<SharedFile>, AuthError> {
        let paths = self.paths();
        if paths.is_empty() {
            return Err(AuthError::configuration(
                "this user has no home folder: name a file for CAVE's tokens",
            ));
        }
        let shared =
            |path| SharedFile::at("a CAVE secret file", path).map(|file| file.privacy(Privacy::Warn));
        paths.into_iter().map(|path| shared(path).map_err(AuthError::from)).collect()
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        match (&self.token_file, self.folders.first()) {
            (Some(file), _) => vec![file.clone()],
            (None, Some(folder)) => {
                let general = self.general.then(|| folder.join(GENERAL));
                [folder.join(self.server.file_name())].into_iter().chain(general).collect()
            }
            (None, None) => Vec::new(),
        }
    }
}

impl Members {
    fn holds_another(&self, key: &str, token: &SecretString) -> bool {
        match self.get(key) {
            Member::Absent => false,
            Member::Text(there) => there.expose_secret() != token.expose_secret(),
            Member::NoText => true,
        }
    }

    fn holds(&self, key: &str, token: &SecretString) -> bool {
        matches!(self.get(key), Member::Text(there) if there.expose_secret() == token.expose_secret())
    }
}

/// Puts the token into one file. The check is made again: this time nobody comes between.
async fn put(file: &SharedFile, key: &str, token: &SecretString, overwrite: bool) -> Result<(), AuthError> {
    let change = |found: Option<&keyfob_store_file::shared::Content<Members>>| {
        let there = found.map(|found| &found.value);
        if there.is_some_and(|there| there.holds(key, token)) {
            return Ok::<_, StoreError>((Change::Keep, true));
        }
        if !overwrite && there.is_some_and(|there| there.holds_another(key, token)) {
            return Ok((Change::Keep, false));
        }
        let mut members = there.cloned().unwrap_or_else(Members::none);
        members.set(key, token);
        Ok((Change::Write(members.json()), true))
    };
    let done = file.update(None, Members::parse, change).await?;
    if done { Ok(()) } else { Err(taken(file, key)) }
}

/// The token as it is saved, if a request can carry it.
fn checked(token: &SecretString) -> Result<SecretString, AuthError> {
    let token = token.expose_secret().trim_ascii();
    if token.is_empty() {
        return Err(AuthError::configuration("the token to save is empty"));
    }
    let token = SecretString::from(token);
    Presentation::bearer(&AccessToken::new(token.clone()))
        .map_err(|error| AuthError::configuration(format!("this is no CAVE token: {}", error.message())))?;
    let text = token.expose_secret();
    if text.len() != 32 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        tracing::warn!(
            "the CAVE token is not of 32 hexadecimal digits, as CAVE's tokens are: was all of it copied?"
        );
    }
    Ok(token)
}

fn taken(file: &SharedFile, key: &str) -> AuthError {
    AuthError::refused(format!(
        "there is another token under the key `{key}`: say that it may be overwritten, or save under another key"
    ))
    .with_origin(file.path().display().to_string())
}

fn partly(saved: &[PathBuf], failed: Vec<(String, AuthError)>) -> AuthError {
    let not: Vec<String> =
        failed.iter().map(|(path, error)| format!("not in {path}: {}", error.message())).collect();
    let not = not.join("; ");
    let message = match saved {
        [] => format!("the token was saved nowhere: {not}"),
        [saved, ..] => {
            format!("the token was saved in {}, but {not}; mend that and save it again", saved.display())
        }
    };
    let first = failed.into_iter().next().map(|(_, error)| error);
    first.map_or_else(|| AuthError::store(&message), |error| error.with_message(&message))
}
