//! Token store in files.
