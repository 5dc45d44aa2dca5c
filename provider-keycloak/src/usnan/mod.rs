#![doc = include_str!("docs.md")]

mod format;
mod store;

pub use self::store::UsnanStore;

/// The issuer that the USNAN SDK logs in at: a constant there.
pub const ISSUER: &str = "https://keycloak.nmrhub.org/realms/nmrhub";
/// The client that the USNAN SDK logs in as: a constant there.
pub const CLIENT_ID: &str = "usnan-programmatic";
