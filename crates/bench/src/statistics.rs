//! Medians and spreads of paired turns.

/// The median and quartiles of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A quarter of the values are below.
    pub low: f64,
    /// Half of the values are below.
    pub median: f64,
    /// A quarter of the values are above.
    pub high: f64,
}

impl Spread {
    /// `None` if there are no values. The quartiles are interpolated between two values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |part: f64| {
            let place = part * last as f64;
            let (below, above) = (
                values[place.floor() as usize],
                values[place.ceil() as usize],
            );
            below + (above - below) * place.fract()
        };
        Some(Self {
            low: at(0.25),
            median: at(0.5),
            high: at(0.75),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_moves_neither_median_nor_quartiles_far() {
        let spread = Spread::of([5.0, 1.0, 4.0, 900.0, 2.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 4.0, 5.0));
    }

    #[test]
    fn between_values_it_is_interpolated() {
        let spread = Spread::of([4.0, 2.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (2.5, 3.0, 3.5));
        assert_eq!(Spread::of([]), None);
    }
}
