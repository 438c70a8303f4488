//! Statistics: rates with their 95 % intervals, standard deviations and percentiles.

use std::collections::BTreeSet;

use serde::Serialize;

/// The standard score of a two-sided 95 % interval.
const Z: f64 = 1.959_964;

/// A proportion with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    /// The proportion, 0 to 1.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
    /// The number of answers or comparisons.
    pub trials: u32,
}

impl Rate {
    /// Returns the rate of `trials`, each the unit that it belongs to (a profile, a pair) and whether it is a hit. `None` without a trial.
    ///
    /// The interval is Wilson's. Its size is the number of units, not of trials: repeated answers about a profile are not independent.
    pub(crate) fn of(trials: impl IntoIterator<Item = (String, bool)>) -> Option<Self> {
        let (mut hits, mut count, mut units) = (0_u32, 0_u32, BTreeSet::new());
        for (unit, is_hit) in trials {
            count += 1;
            hits += u32::from(is_hit);
            units.insert(unit);
        }
        (count > 0).then(|| {
            let value = f64::from(hits) / f64::from(count);
            let (low, high) = wilson(value, f64::from(u32::try_from(units.len()).unwrap_or(u32::MAX)));
            Self { value, low, high, trials: count }
        })
    }
}

/// Returns Wilson's score interval of the proportion `p` in `n` independent trials.
fn wilson(p: f64, n: f64) -> (f64, f64) {
    let square = Z * Z;
    let center = (p + square / (2.0 * n)) / (1.0 + square / n);
    let half = Z * (p * (1.0 - p) / n + square / (4.0 * n * n)).sqrt() / (1.0 + square / n);
    ((center - half).max(0.0), (center + half).min(1.0))
}

/// Returns the mean. `None` without numbers.
pub(crate) fn mean(numbers: &[f64]) -> Option<f64> {
    let count = u32::try_from(numbers.len()).ok().filter(|count| *count > 0)?;
    Some(numbers.iter().sum::<f64>() / f64::from(count))
}

/// Returns the sample variance. `None` with fewer than two numbers.
pub(crate) fn variance(numbers: &[f64]) -> Option<f64> {
    let (mean, count) = (mean(numbers)?, u32::try_from(numbers.len()).ok()?);
    (count > 1).then(|| numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / f64::from(count - 1))
}

/// Returns the smallest number that `percent` percent of the numbers do not exceed.
pub(crate) fn percentile(numbers: &mut [i64], percent: usize) -> Option<i64> {
    numbers.sort_unstable();
    numbers.get((numbers.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of R's `prop.test(x, n, correct = FALSE)`.
    #[test]
    fn wilson_intervals_match_the_reference() {
        for (hits, n, low, high) in [(8.0, 10.0, 0.4902, 0.9433), (0.0, 10.0, 0.0, 0.2775), (50.0, 100.0, 0.4038, 0.5962)] {
            let (a, b) = wilson(hits / n, n);
            assert!((a - low).abs() < 1e-4 && (b - high).abs() < 1e-4, "{hits} of {n}: {a} {b}");
        }
    }

    #[test]
    fn repeated_answers_do_not_narrow_the_interval() {
        let trials = |samples: usize| Rate::of((0..10 * samples).map(|n| ((n % 10).to_string(), n % 10 < 8))).unwrap();
        assert_eq!((trials(1).low, trials(1).high), (trials(50).low, trials(50).high));
        assert_eq!(trials(50).trials, 500);
        assert_eq!(Rate::of([]), None);
    }

    #[test]
    fn percentiles_are_of_the_measured_values() {
        let mut numbers: Vec<i64> = (1..=20).collect();
        assert_eq!((percentile(&mut numbers, 50), percentile(&mut numbers, 95), percentile(&mut [], 50)), (Some(10), Some(19), None));
        assert_eq!((variance(&[1.0, 3.0]), variance(&[1.0])), (Some(2.0), None));
    }
}
