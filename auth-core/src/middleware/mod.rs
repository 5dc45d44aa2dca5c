//! reqwest middleware
