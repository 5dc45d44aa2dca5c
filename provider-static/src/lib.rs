//! Tokens that are given.
