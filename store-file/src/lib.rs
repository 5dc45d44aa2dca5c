#![doc = include_str!("docs.md")]

pub mod atomic;
mod format;
mod lease;
mod lock;
mod private;
pub mod shared;
mod store;

pub use self::store::FileStore;
