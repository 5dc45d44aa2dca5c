//! What came of a gate, and how many tests it ran.

use std::fmt;
use std::time::Duration;

/// What came of a gate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Why it failed; `None` is success.
    pub(crate) problem: Option<String>,
    /// The tests that ran; none for most gates.
    pub(crate) counts: Counts,
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Self {
        Self { problem: result.err(), counts: Counts::default() }
    }
}

/// Numbers of tests, as the runner's summaries give them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// Adds what a line says if it is a summary: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub(crate) fn add_line(&mut self, line: &str) {
        // Other output may stand before it on the line, when a test prints without an end.
        let Some((_, summary)) = line.split_once("test result: ") else { return };
        let Some((_, numbers)) = summary.split_once(". ") else { return };
        for part in numbers.split(';') {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    /// Adds the tests of another run.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// The same tests again, this time with what they skipped before: they count once.
    pub(crate) fn with_rerun(self, again: Self) -> Self {
        Self {
            passed: self.passed.saturating_sub(again.passed + again.failed) + again.passed,
            failed: self.failed + again.failed,
            skipped: self.skipped,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(formatter, ", {} skipped", self.skipped) } else { Ok(()) }
    }
}

/// A duration for people: `0.4 s`, `12 min 03 s`.
pub(crate) fn spoken(duration: Duration) -> String {
    if duration < Duration::from_secs(60) {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    format!("{} min {:02} s", duration.as_secs() / 60, duration.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_summed() {
        let mut counts = Counts::default();
        for line in [
            "running 4 tests",
            "test a::test_result ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "half a linetest result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.20s",
            "all doctests ran in 0.50s; merged doctests compilation took 0.30s",
            "test result: of something else",
            "",
        ] {
            counts.add_line(line);
        }
        assert_eq!(counts, Counts { passed: 13, failed: 2, skipped: 1 });
        assert_eq!(counts.to_string(), "13 passed, 2 failed, 1 skipped");
        assert_eq!(Counts::default().to_string(), "0 passed, 0 failed");
    }

    #[test]
    fn a_rerun_counts_once() {
        let first = Counts { passed: 10, failed: 0, skipped: 1 };
        let again = Counts { passed: 2, failed: 1, skipped: 0 };
        assert_eq!(first.with_rerun(again), Counts { passed: 9, failed: 1, skipped: 1 });
    }

    #[test]
    fn durations_are_spoken() {
        assert_eq!(spoken(Duration::from_millis(440)), "0.4 s");
        assert_eq!(spoken(Duration::from_secs(723)), "12 min 03 s");
    }
}
