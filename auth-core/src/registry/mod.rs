//! What configuration files say: [`Registry`] knows provider and store factories by name, [`Settings`] are what they read,
//! and a [`SecretSource`] is where a secret comes from. All but the last need the feature `config`.

#[cfg(feature = "config")]
mod factories;
mod secret;
#[cfg(feature = "config")]
mod settings;

pub use self::secret::SecretSource;
// For the facade, which tells the same of what it reads by itself.
#[cfg(feature = "config")]
#[doc(hidden)]
pub use self::settings::closest;
#[cfg(feature = "config")]
pub use self::{
    factories::{Profile, Registry},
    settings::{Settings, Value},
};
