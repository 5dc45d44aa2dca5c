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

/// Counts while the runner's lines go by.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: Counts,
    /// The test program that has begun and given no summary yet: how many tests it has, and those it told of.
    open: Option<(u64, Counts)>,
}

impl Tally {
    /// Takes note of a summary, `test result: ok. 3 passed; 0 failed; 1 ignored; …`, and of what comes before it.
    pub(crate) fn add_line(&mut self, line: &str) {
        if let Some(tests) = line.strip_prefix("running ").and_then(number) {
            self.close();
            self.open = Some((tests, Counts::default()));
        // Other output may stand before it on the line, when a test prints without an end.
        } else if let Some((_, summary)) = line.split_once("test result: ") {
            let Some((_, numbers)) = summary.split_once(". ") else { return };
            self.open = None;
            for part in numbers.split(';') {
                let Some(number) = number(part) else { continue };
                match part.split_whitespace().nth(1) {
                    Some("passed") => self.counts.passed += number,
                    Some("failed") => self.counts.failed += number,
                    Some("ignored") => self.counts.skipped += number,
                    _ => {}
                }
            }
        } else if let Some((_, seen)) = &mut self.open {
            seen.passed += u64::from(line.ends_with(" ... ok"));
            seen.skipped += u64::from(line.contains(" ... ignored"));
        }
    }

    /// The sums. What a test program that died did not tell of has failed.
    pub(crate) fn total(mut self) -> Counts {
        self.close();
        self.counts
    }

    fn close(&mut self) {
        if let Some((tests, seen)) = self.open.take() {
            let failed = tests.saturating_sub(seen.passed + seen.skipped);
            self.counts.add(Counts { failed, ..seen });
        }
    }
}

/// The first word, if it is a number.
fn number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
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

    fn tally(lines: &[&str]) -> Counts {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.add_line(line));
        tally.total()
    }

    #[test]
    fn summaries_are_summed() {
        let counts = tally(&[
            "running 4 tests",
            "test a::test_result ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "running 12 tests",
            "half a linetest result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out",
            "all doctests ran in 0.50s; merged doctests compilation took 0.30s",
            "test result: of something else",
            "",
        ]);
        assert_eq!(counts, Counts { passed: 13, failed: 2, skipped: 1 });
        assert_eq!(counts.to_string(), "13 passed, 2 failed, 1 skipped");
        assert_eq!(Counts::default().to_string(), "0 passed, 0 failed");
    }

    #[test]
    fn what_a_dead_test_program_did_not_tell_of_has_failed() {
        let died = ["running 5 tests", "test a ... ok", "test b ... ignored, slow", "test c ... FAILED"];
        assert_eq!(tally(&died), Counts { passed: 1, failed: 3, skipped: 1 });
        let next = ["running 1 test", "test result: ok. 1 passed; 0 failed; 0 ignored"];
        assert_eq!(tally(&[&died[..], &next].concat()), Counts { passed: 2, failed: 3, skipped: 1 });
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
