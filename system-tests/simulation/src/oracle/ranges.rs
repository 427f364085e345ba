//! Sets of samples, as ranges.

/// Sorted, and not touching each other.
#[derive(Debug, Default, Clone)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// The union of ranges, each without its end.
    pub(super) fn union(ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut sorted: Vec<(u64, u64)> = ranges.into_iter().filter(|(first, end)| first < end).collect();
        sorted.sort_unstable();
        let mut union: Vec<(u64, u64)> = Vec::new();
        for (first, end) in sorted {
            match union.last_mut() {
                Some((_, last)) if first <= *last => *last = end.max(*last),
                _ => union.push((first, end)),
            }
        }
        Self(union)
    }

    /// Is all of it in the set?
    pub(super) fn cover(&self, first: u64, end: u64) -> bool {
        let before = self.0.partition_point(|(start, _)| *start <= first);
        first >= end || before.checked_sub(1).is_some_and(|place| self.0[place].1 >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::Ranges;

    #[test]
    fn what_touches_is_one() {
        let ranges = Ranges::union([(5, 9), (0, 3), (3, 5), (20, 30), (25, 26), (7, 7)]);
        assert!(ranges.cover(0, 9) && ranges.cover(21, 30) && ranges.cover(8, 8));
        assert!(!ranges.cover(8, 10) && !ranges.cover(9, 10) && !ranges.cover(19, 21));
    }
}
