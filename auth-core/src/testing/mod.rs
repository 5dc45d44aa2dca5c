//! What tests need: a clock to move, a scripted provider, conformance suites.
mod clock;
pub use clock::FakeClock;
