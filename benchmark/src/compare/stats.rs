//! Several runs in three numbers.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some(Self { min, median, max })
    }

    /// One divided by the other: the medians, and the least and the most of runs that were made one
    /// after the other.
    pub(crate) fn ratio(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let median =
            Self::of(ours.iter().copied())?.median / Self::of(theirs.iter().copied())?.median;
        let pairs = Self::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))?;
        median.is_finite().then_some(Self {
            min: pairs.min.min(median),
            median,
            max: pairs.max.max(median),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_between_the_others() {
        assert_eq!(
            Spread::of([3.0, 1.0, 2.0]),
            Some(Spread {
                min: 1.0,
                median: 2.0,
                max: 3.0
            })
        );
        assert_eq!(
            Spread::of([4.0, 1.0]),
            Some(Spread {
                min: 1.0,
                median: 2.5,
                max: 4.0
            })
        );
        assert_eq!(Spread::of([]), None);
        assert_eq!(
            Spread::ratio(&[2.0, 4.0, 6.0], &[1.0, 1.0, 2.0]),
            Some(Spread {
                min: 2.0,
                median: 4.0,
                max: 4.0
            })
        );
    }
}
