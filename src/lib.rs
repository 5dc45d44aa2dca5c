//! Credentials for Rust services: OAuth 2.0, OpenID Connect and static tokens that are always fresh, shared safely between
//! tasks, processes and machines, and sent only where they belong.
//!
//! An application holds a [`Session`]: it joins one provider (where tokens come from) and one store (where a login is
//! kept), renews in time, and is cheap to clone. Who writes a provider or a store depends on `keyfob-auth-core` alone.
//!
//! # Get a token
//!
//! Profiles live in a file (`~/.config/keyfob/config.toml`), which the [`keyfob` command](#log-in) reads too:
//!
//! ```toml
//! [profile.work]
//! provider = "oidc"
//! issuer = "https://login.example.com"
//! client_id = "my-service"
//! client_secret = { env = "MY_SERVICE_SECRET" }
//! origins = ["https://api.example.com"]
//! ```
//!
//! ```no_run
//! # #[cfg(feature = "config")]
//! # async fn example() -> Result<(), keyfob::AuthError> {
//! use keyfob::{Config, Context};
//!
//! let context = Context::new(); // one for the whole application
//! let profile = Config::from_default_place()?.profile(Some("work"), &keyfob::registry(), &context)?;
//! let token = profile.session.token().await?; // from memory while it is good, renewed in time
//! # let _ = token; Ok(()) }
//! ```
//!
//! [`Session::token_blocking`] does the same without a runtime, and [`Session::cached`] never waits.
//!
//! # Call an API
//!
//! Put [`Session::authorization`]'s header on a request by hand, or let the feature `middleware` do it: it sends tokens to
//! the listed origins only, and renews once when the API says that a token is no longer good.
//!
//! # Log in
//!
//! Asking for a token never interacts; a person logs in with `keyfob login --profile work`, or in the application by
//! [`Session::login`] with an [`Interaction`] of its own. An application with providers of its own gets the whole command:
//!
//! ```no_run
//! # #[cfg(feature = "cli")]
//! fn main() -> std::process::ExitCode {
//!     keyfob::cli::run(keyfob::registry()) // .provider("ours", Ours::from_settings)
//! }
//! # #[cfg(not(feature = "cli"))] fn main() {}
//! ```
//!
//! # Use a token that is there already
//!
//! ```
//! # #[cfg(feature = "static")] {
//! use std::sync::Arc;
//!
//! use keyfob::{Context, Session, static_token::StaticToken, store::MemoryStore};
//!
//! let key = StaticToken::literal("an-api-key");
//! let session = Session::new(Arc::new(key), Arc::new(MemoryStore::new()), &Context::new());
//! # }
//! ```
//!
//! # Test without a server
//!
//! The feature `testing` has a scripted provider, a clock to move and faults to inject, and the conformance suites that
//! prove a provider or a store right.
//!
//! # Features
//!
//! | Feature | Default | What it adds |
//! |---|---|---|
//! | `oidc` | | [`oidc`]: OAuth 2.0 and OpenID Connect (`provider = "oidc"`) |
//! | `keycloak` | | [`keycloak`]: Keycloak, and the USNAN SDK's session (`provider = "keycloak"`, `store = "usnan"`); implies `oidc` and `jose` |
//! | `nemo` | | [`nemo`]: NVIDIA NeMo Platform (`provider = "nemo"`, `store = "nemo"`); implies `oidc` |
//! | `sfapi` | | [`sfapi`]: the NERSC Superfacility API (`provider = "sfapi"`); implies `oidc` and `jose` |
//! | `static` | | [`static_token`]: tokens that are given (`provider = "static"`), and CAVE's (`provider = "cave"`) |
//! | `browser` | | logins with a browser on this machine (`flow = "browser"`, and `"auto"` where there is one), and the page that makes a CAVE token; device login needs no feature |
//! | `jose` | | keys and signatures: signed client assertions, DPoP, certificates, and the signatures of ID tokens; needs OpenSSL |
//! | `vendored-openssl` | | builds OpenSSL from source, for machines without its headers; implies `jose` |
//! | `store-file` | | [`store_file`]: logins in private files (`store = "file"`) |
//! | `config` | | [`Config`]: profiles from a TOML file, and the registry of providers and stores by name |
//! | `cli` | | [`cli`]: the `keyfob` command; implies `config` |
//! | `middleware` | | [`middleware`]: tokens on reqwest's requests |
//! | `metrics` | | counters through the `metrics` facade |
//! | `testing` | | [`testing`]: conformance suites, a scripted provider, a clock to move |
//! | `rustls` | yes | TLS by rustls |
//! | `native-tls` | | TLS by the operating system's library |
//! | `full` | | everything but the choice of another TLS library |

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "config")]
mod config;

pub use keyfob_auth_core::*;
#[cfg(feature = "keycloak")]
pub use keyfob_provider_keycloak as keycloak;
#[cfg(feature = "nemo")]
pub use keyfob_provider_nemo as nemo;
#[cfg(feature = "oidc")]
pub use keyfob_provider_oidc as oidc;
#[cfg(feature = "sfapi")]
pub use keyfob_provider_sfapi as sfapi;
#[cfg(feature = "static")]
pub use keyfob_provider_static as static_token;
#[cfg(feature = "store-file")]
pub use keyfob_store_file as store_file;

#[cfg(feature = "config")]
pub use self::config::Config;
#[cfg(feature = "config")]
use self::registry::Registry;

/// The registry of all providers and stores that are compiled in. Those that are not are errors that name their feature.
///
/// A profile that names no store gets `file`.
#[cfg(feature = "config")]
pub fn registry() -> Registry {
    let registry = Registry::new().default_store("file");

    #[cfg(feature = "oidc")]
    let registry = registry.provider("oidc", oidc::Oidc::from_settings);
    #[cfg(not(feature = "oidc"))]
    let registry = registry.absent("oidc", "oidc");

    #[cfg(feature = "keycloak")]
    let registry = registry
        .provider("keycloak", keycloak::Keycloak::from_settings)
        .store("usnan", keycloak::usnan::UsnanStore::from_settings);
    #[cfg(not(feature = "keycloak"))]
    let registry = registry.absent("keycloak", "keycloak").absent("usnan", "keycloak");

    #[cfg(feature = "nemo")]
    let registry = registry
        .provider("nemo", nemo::Nemo::from_settings)
        .store("nemo", nemo::config_file::NemoStore::from_settings);
    #[cfg(not(feature = "nemo"))]
    let registry = registry.absent("nemo", "nemo");

    #[cfg(feature = "sfapi")]
    let registry = registry.provider("sfapi", sfapi::Sfapi::from_settings);
    #[cfg(not(feature = "sfapi"))]
    let registry = registry.absent("sfapi", "sfapi");

    #[cfg(feature = "static")]
    let registry = registry
        .provider("static", static_token::StaticToken::from_settings)
        .provider("cave", static_token::Cave::from_settings);
    #[cfg(not(feature = "static"))]
    let registry = registry.absent("static", "static").absent("cave", "static");

    #[cfg(feature = "store-file")]
    let registry = registry.store("file", |settings, _| {
        let folder = match settings.path("path")? {
            Some(folder) => folder,
            None => store_file::FileStore::default_folder()?,
        };
        Ok(std::sync::Arc::new(store_file::FileStore::open(folder)?))
    });
    #[cfg(not(feature = "store-file"))]
    let registry = registry.absent("file", "store-file");

    registry
}

/// The snippets of the README and of the guides, compiled.
#[cfg(all(doctest, feature = "full"))]
mod guides {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/configuration.md")]
    struct Configuration;
    #[doc = include_str!("../docs/web-application.md")]
    struct WebApplication;
    #[doc = include_str!("../docs/writing-a-provider.md")]
    struct WritingAProvider;
    #[doc = include_str!("../docs/writing-a-store.md")]
    struct WritingAStore;
}
