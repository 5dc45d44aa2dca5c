//! NVIDIA NeMo Platform: its login, shared with the real clients.
//!
//! Use it through the facade `keyfob` (feature `nemo`, module `nemo`).

pub mod config_file;
