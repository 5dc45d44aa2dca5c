//! SKELETON
use crate::AuthError;
/// Where tokens may go.
#[derive(Clone, Debug, Default)]
pub struct Origins(Vec<String>);
impl Origins {
    /// Parses origins.
    ///
    /// # Errors
    /// If one is no https origin.
    pub fn parse<S: AsRef<str>>(origins: impl IntoIterator<Item = S>) -> Result<Self, AuthError> {
        Ok(Self(origins.into_iter().map(|o| o.as_ref().to_owned()).collect()))
    }
}
