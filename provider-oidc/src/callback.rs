//! [`SecretCallback`]: a secret that is asked for at each use.

use std::{fmt, sync::Arc};

use keyfob_auth_core::{AuthError, SecretString, registry::SecretSource};

/// What a function of the application's own returns.
pub(crate) type SecretFuture =
    std::pin::Pin<Box<dyn Future<Output = Result<SecretString, AuthError>> + Send>>;

/// A secret that comes from a source or from the application, anew at each use.
#[derive(Clone)]
pub(crate) enum SecretCallback {
    Source(SecretSource),
    Function(Arc<dyn Fn() -> SecretFuture + Send + Sync>),
}

impl SecretCallback {
    /// Asks a function of the application's own.
    pub(crate) fn function<F, R>(function: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<SecretString, AuthError>> + Send + 'static,
    {
        Self::Function(Arc::new(move || Box::pin(function())))
    }

    pub(crate) async fn get(&self) -> Result<SecretString, AuthError> {
        match self {
            Self::Source(source) => source.read().await,
            Self::Function(function) => function().await,
        }
    }

    /// What tells it from others: where it comes from. A literal by a number that says nothing of it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Source(source) if is_literal(source) => {
                format!("literal {:08x}", source.revision().unwrap_or_default())
            }
            Self::Source(source) => source.to_string(),
            Self::Function(_) => "callback".to_owned(),
        }
    }

    pub(crate) fn revision(&self) -> Option<u64> {
        match self {
            Self::Source(source) => source.revision(),
            Self::Function(_) => None,
        }
    }
}

impl fmt::Debug for SecretCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(source) => fmt::Display::fmt(source, f),
            Self::Function(_) => f.write_str("a callback"),
        }
    }
}

fn is_literal(source: &SecretSource) -> bool {
    match source {
        SecretSource::Literal(_) => true,
        SecretSource::Configured(source, _) => is_literal(source),
        _ => false,
    }
}
