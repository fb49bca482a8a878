//! Samples and ratios.
//!
//! **Invariant:** a ratio is made of numbers of one run; both sides were measured in turns, so that what disturbs the
//! machine disturbs both.

use serde_json::{Value, json};

/// Durations of one side, nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// By round.
    rounds: Vec<Vec<u64>>,
}

// === impl Samples ===

impl Samples {
    /// Adds a round.
    pub fn push(&mut self, round: Vec<u64>) {
        self.rounds.push(round);
    }

    /// The quantile (0 to 1) of all samples, nanoseconds; 0 when there are none.
    pub fn quantile_ns(&self, q: f64) -> u64 {
        quantile(self.rounds.iter().flatten().copied().collect(), q)
    }

    /// The median of each round, nanoseconds.
    pub fn medians_ns(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| quantile(round.clone(), 0.5) as f64).collect()
    }

    /// For reports.
    pub fn to_json(&self) -> Value {
        json!({
            "samples": self.rounds.iter().map(Vec::len).sum::<usize>(),
            "rounds": self.rounds.len(),
            "p50_ns": self.quantile_ns(0.5),
            "p90_ns": self.quantile_ns(0.9),
            "p99_ns": self.quantile_ns(0.99),
            "round_p50_ns": self.medians_ns(),
        })
    }
}

/// Median over the rounds of `a[i] / b[i]`: neighbours in time are compared with each other.
pub fn paired_ratio(a: &[f64], b: &[f64]) -> f64 {
    let ratios: Vec<f64> = a.iter().zip(b).filter(|(_, b)| **b > 0.0).map(|(a, b)| a / b).collect();
    median(ratios)
}

/// Median over the rounds of `f(a[i], b[i], c[i])`.
pub fn paired(a: &[f64], b: &[f64], c: &[f64], f: impl Fn(f64, f64, f64) -> f64) -> f64 {
    median(a.iter().zip(b).zip(c).map(|((a, b), c)| f(*a, *b, *c)).filter(|r| r.is_finite()).collect())
}

/// The median; NaN when there is nothing.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

fn quantile(mut samples: Vec<u64>, q: f64) -> u64 {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    samples.get((last as f64 * q).round() as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_medians() {
        let mut samples = Samples::default();
        samples.push((1..=100).collect());
        samples.push(vec![1000]);
        assert_eq!(
            (samples.quantile_ns(0.0), samples.quantile_ns(0.5), samples.quantile_ns(1.0)),
            (1, 51, 1000)
        );
        assert_eq!(samples.medians_ns(), [51.0, 1000.0]);
        assert!(median(vec![]).is_nan());
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn ratios_pair_rounds() {
        assert_eq!(paired_ratio(&[2.0, 40.0, 6.0], &[1.0, 20.0, 2.0]), 2.0);
        assert_eq!(paired(&[3.0], &[1.0], &[5.0], |a, b, c| (a - b) / (c - b)), 0.5);
    }
}
