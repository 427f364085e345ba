//! The name that somebody may have meant.

/// Insertions, deletions, replacements and swaps of neighbouring letters that make one of the other.
#[must_use]
pub fn edits(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, here) in one.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, there) in other.iter().enumerate() {
            let replaced = last[column] + usize::from(here != there);
            let mut least = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *here == other[column - 1] && one[row - 1] == *there {
                least = least.min(before_last[column - 1] + 1);
            }
            current.push(least);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[other.len()]
}

/// The name that is written most like `name`, if at most a third of it differs. Case counts for nothing.
#[must_use]
pub fn nearest(name: &str, names: impl IntoIterator<Item = String>) -> Option<String> {
    let wanted = name.to_lowercase();
    let letters = |text: &str| text.chars().count();
    let distance = |known: String| {
        let lowered = known.to_lowercase();
        let differing = edits(&wanted, &lowered);
        let a_third = letters(&wanted).max(letters(&lowered)).div_ceil(3);
        let near = differing <= a_third || lowered.starts_with(&wanted);
        (near && !wanted.is_empty()).then_some((differing, known))
    };
    names.into_iter().filter_map(distance).min().map(|(_, known)| known)
}

/// The first environment variable of ours that nobody reads, but for a letter: its name, and the one that is read. A setting
/// with a slip of the pen must not be passed over in silence; other programs' variables are not our business.
#[must_use]
pub fn misspelt(set: impl IntoIterator<Item = String>, read: &[String]) -> Option<(String, String)> {
    set.into_iter()
        .filter(|name| name.starts_with("WAVEKEEP_") && !read.contains(name))
        .find_map(|name| {
            let meant = read.iter().find(|known| edits(&name, known) == 1)?;
            Some((name, meant.clone()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_variable_is_found_and_another_programs_is_not() {
        let read = ["WAVEKEEP_QUOTA", "WAVEKEEP_RUN"].map(str::to_owned);
        let of = |name: &str| misspelt(["PATH".into(), "WAVEKEEP_QUOTA".into(), name.to_owned()], &read);
        for slip in ["WAVEKEEP_QOUTA", "WAVEKEEP_QUOTAS", "WAVEKEEP_QUTA"] {
            assert_eq!(of(slip), Some((slip.into(), "WAVEKEEP_QUOTA".into())));
        }
        for other in ["WAVEKEEP_BIN", "WAVEKEEP_LISTEN", "XAVEKEEP_QUOTA", "WAVEKEEP_RUN"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    fn of(name: &str) -> Option<String> {
        let names = ["js220-001", "js220-002", "ppk2", "current", "voltage"];
        nearest(name, names.map(str::to_owned))
    }

    #[test]
    fn the_nearest_name_is_found() {
        assert_eq!(of("js220-01").as_deref(), Some("js220-001"));
        assert_eq!(of("PPK2").as_deref(), Some("ppk2"));
        assert_eq!(of("curent").as_deref(), Some("current"));
        assert_eq!(of("votlage").as_deref(), Some("voltage"));
        assert_eq!(of("js2").as_deref(), Some("js220-001"));
    }

    #[test]
    fn what_is_too_different_is_not_suggested() {
        assert_eq!((of("oscilloscope"), of(""), of("x")), (None, None, None));
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!((edits("", "abc"), edits("abc", ""), edits("abc", "abc")), (3, 3, 0));
        assert_eq!(
            (edits("kitten", "sitting"), edits("ab", "ba"), edits("ä", "ö")),
            (3, 1, 1)
        );
    }
}
