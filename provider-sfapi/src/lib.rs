#![doc = include_str!("docs.md")]

mod builder;
mod key_file;
mod provider;
mod refusal;

pub use self::{builder::SfapiBuilder, provider::Sfapi};

/// The name under which this provider is registered and which its errors bear.
pub const PROVIDER: &str = "sfapi";

/// The token endpoint of the Superfacility API.
pub const TOKEN_URL: &str = "https://oidc.nersc.gov/c2id/token";

/// The Superfacility API itself: what its paths (`/meta/config`) are appended to.
pub const API_URL: &str = "https://api.nersc.gov/api/v1.2";

/// The origin to list where its tokens are sent.
pub const API_ORIGIN: &str = "https://api.nersc.gov";
