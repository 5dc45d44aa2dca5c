//! [`KeySource`]: a configured key, read again when it is replaced.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use keyfob_auth_core::{AuthError, registry::SecretSource};

use super::{KeyOptions, SigningKey};
use crate::Signer;

/// Where a private key comes from, and how it is to be read.
#[derive(Clone)]
pub(crate) struct KeySource {
    pub(crate) key: SecretSource,
    pub(crate) passphrase: Option<SecretSource>,
    pub(crate) certificate: Option<SecretSource>,
    pub(crate) key_id: Option<String>,
    pub(crate) algorithm: Option<String>,
    read: Arc<Mutex<Option<Read>>>,
}

/// What was read last, and when its sources were as they were then.
struct Read {
    revision: Vec<u64>,
    key: Arc<SigningKey>,
}

impl KeySource {
    /// A key that says itself what there is to say.
    pub(crate) fn new(key: SecretSource) -> Self {
        Self { key, passphrase: None, certificate: None, key_id: None, algorithm: None, read: Arc::default() }
    }

    /// The key as it is now: read anew if a file or variable has changed, and each time where that cannot be told.
    ///
    /// # Errors
    /// Those of the sources, and Configuration if the key is not usable. They name the source.
    pub(crate) async fn signer(&self) -> Result<Arc<dyn Signer>, AuthError> {
        // Taken before they are read: what changes meanwhile is read next time.
        let revision = self.revision();
        if let Some(revision) = &revision
            && let Some(read) = &*self.read.lock().unwrap_or_else(PoisonError::into_inner)
            && read.revision == *revision
        {
            return Ok(Arc::clone(&read.key) as _);
        }
        let key = Arc::new(self.read().await?);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) =
            revision.map(|revision| Read { revision, key: Arc::clone(&key) });
        Ok(key)
    }

    pub(crate) fn revision(&self) -> Option<Vec<u64>> {
        let sources = [Some(&self.key), self.passphrase.as_ref(), self.certificate.as_ref()];
        sources.into_iter().flatten().map(SecretSource::revision).collect()
    }

    async fn read(&self) -> Result<SigningKey, AuthError> {
        let read = async |source: &Option<SecretSource>| match source {
            Some(source) => source.read().await.map(Some),
            None => Ok(None),
        };
        let options = KeyOptions {
            passphrase: read(&self.passphrase).await?,
            certificate: read(&self.certificate).await?,
            key_id: self.key_id.clone(),
            algorithm: self.algorithm.clone(),
        };
        SigningKey::from_text(&self.key.read().await?, &options)
            .map_err(|error| error.with_origin(self.key.to_string()))
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource")
            .field("key", &self.key)
            .field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
