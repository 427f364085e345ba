//! What SciPy says of the same data: `reference/reference.txt`, written by the script beside it. For tests.

const TEXT: &str = include_str!("reference/reference.txt");

/// The numbers of each line of a kind.
pub(super) fn rows(kind: &str) -> Vec<Vec<f64>> {
    let of_kind = TEXT.lines().filter_map(|line| {
        let (found, numbers) = line.split_once(' ')?;
        (found == kind).then_some(numbers)
    });
    let numbers = |text: &str| {
        let all = text.split(' ').map(|number| number.parse().expect("a number"));
        all.collect()
    };
    of_kind.map(numbers).collect()
}
