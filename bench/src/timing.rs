//! Times, side by side in one run.

use std::time::{Duration, Instant};

/// Times these in turn, many rounds, so that whatever else the machine does meets them alike; gives each one's times by
/// round. Each round begins with another.
pub fn interleaved<const N: usize>(rounds: usize, sides: &mut [&mut dyn FnMut(); N]) -> [Vec<Duration>; N] {
    let mut times = [const { Vec::new() }; N];
    for round in 0..rounds {
        for turn in 0..N {
            let side = (round + turn) % N;
            let began = Instant::now();
            sides[side]();
            times[side].push(began.elapsed());
        }
    }
    times
}

/// The median over the rounds of one side's time over the other's.
pub fn ratio(times: &[Duration], base: &[Duration]) -> f64 {
    let ratios = times.iter().zip(base).map(|(one, other)| one.as_secs_f64() / other.as_secs_f64());
    median(ratios.collect())
}

/// The median time, in nanoseconds.
pub fn nanos(times: &[Duration]) -> f64 {
    median(times.iter().map(|time| time.as_secs_f64() * 1e9).collect())
}

/// In milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The time that so much of all are not above: 0.99 for p99.
pub fn quantile(times: &[Duration], part: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (times.len() as f64 * part).ceil() as usize;
    times.get(rank.clamp(1, times.len().max(1)) - 1).copied().unwrap_or_default()
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&times, 1.0), Duration::from_millis(100));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn ratios_are_by_round() {
        let one = [2, 4, 60].map(Duration::from_millis);
        let other = [1, 2, 3].map(Duration::from_millis);
        assert!((ratio(&one, &other) - 2.0).abs() < 1e-9);
    }
}
