//! What is said, and what is not.

use super::*;

fn group(name: &str, runs: usize) -> Group {
    Group {
        name: name.into(),
        runs,
        duration_s: 10.0 * runs as f64,
        ..Group::default()
    }
}

fn compared(metric: Metric, runs: (usize, usize)) -> Compared {
    Compared {
        first: group("A", runs.0),
        second: group("B", runs.1),
        signal: "power".into(),
        signal_unit: "W".into(),
        unit: "J".into(),
        metric,
    }
}

/// Values around a mean, spread evenly.
fn around(mean: f64, spread: f64, count: usize) -> Vec<f64> {
    let step = |at: usize| (at as f64 - (count as f64 - 1.0) / 2.0) / count as f64;
    (0..count).map(|at| mean * (1.0 + spread * step(at))).collect()
}

fn said(metric: Metric, first: &[f64], second: &[f64]) -> String {
    compared(metric, (first.len(), second.len())).sentence(&difference(first, second))
}

#[test]
fn a_difference_is_said_with_its_interval_in_one_sentence() {
    let (first, second) = (around(10.0, 0.04, 20), around(8.76, 0.04, 20));
    let found = said(Metric::Energy, &first, &second);
    let begin = "B uses 12.4 % less energy than A; 95 % interval 1";
    assert!(
        found.starts_with(begin) && found.ends_with(" %; 20 runs each"),
        "{found}"
    );
    assert!(found.contains(" to 1"), "{found}");
    let more = said(Metric::Peak, &second, &first);
    assert!(
        more.starts_with("B has a 14.2 % higher peak of power than A; 95 % interval 1"),
        "{more}"
    );
    let unlike = said(Metric::Duration, &first, &second[..7]);
    assert!(
        unlike.starts_with("B takes ") && unlike.ends_with("; 20 and 7 runs"),
        "{unlike}"
    );
}

#[test]
fn an_interval_that_includes_zero_shows_no_difference() {
    let found = said(Metric::Energy, &around(10.0, 0.4, 20), &around(9.9, 0.4, 20));
    assert!(
        found.starts_with("no difference in energy is shown between B and A; 95 % interval "),
        "{found}"
    );
    assert!(
        found.contains(" % less to ") && found.ends_with(" % more; 20 runs each"),
        "{found}"
    );
}

#[test]
fn too_few_runs_have_no_interval_and_it_says_so() {
    let one = said(Metric::Energy, &[10.0], &[9.0]);
    assert_eq!(
        one,
        "B uses 10.0 % less energy than A, as measured; one run each: how sure that is cannot be said of one run; record at least 5 of each"
    );
    let few = said(Metric::Energy, &around(10.0, 0.1, 20), &around(9.0, 0.1, 4));
    assert!(
        few.ends_with("20 and 4 runs: too few for an interval; record at least 5 of each"),
        "{few}"
    );
    assert_eq!(difference(&[10.0], &[9.0]).verdict, Verdict::CannotSay);
}

#[test]
fn no_percentage_is_made_up_of_means_around_zero() {
    let found = said(Metric::Mean, &[-1.0, 1.0, 2.0, -2.0, 0.0], &around(9.0, 0.1, 5));
    assert!(
        found.starts_with("B has a 9.000 J higher mean of power than A, as measured; 5 runs each:"),
        "{found}"
    );
    assert!(found.contains("no percentage has a meaning"), "{found}");
}

#[test]
fn runs_that_all_gave_the_same_are_not_said_to_be_sure() {
    let found = said(Metric::Energy, &[4.0; 6], &[3.0; 6]);
    assert_eq!(
        found,
        "B uses 25.0 % less energy than A; in each group all runs gave the same; 6 runs each"
    );
    let same = said(Metric::Energy, &[4.0; 6], &[4.0; 6]);
    assert_eq!(
        same,
        "B and A do not differ in energy: all runs gave the same; 6 runs each"
    );
}

#[test]
fn what_is_missing_is_told_with_the_way_it_leans() {
    let (first, second) = (around(10.0, 0.04, 20), around(8.76, 0.04, 20));
    let found = difference(&first, &second);
    let mut compared = compared(Metric::Energy, (20, 20));
    compared.second.gap_s = 2.0;
    let notes = compared.notes(&found, None, (10.0, 10.0));
    assert_eq!(
        notes,
        [
            "2.0000 s of 200.0000 s of B are missing (1.00 %) and add nothing to its energy: if they are like the rest, it was about 1.01 % more, \
             and B compared with A is larger than said"
        ]
    );
    compared.first.gap_s = 20.0;
    assert!(compared.notes(&found, None, (10.0, 10.0))[0].ends_with("B compared with A is smaller than said"));
    compared.metric = Metric::Peak;
    assert!(compared.notes(&found, None, (10.0, 10.0))[0].ends_with("and its peak may have been higher"));
}

#[test]
fn what_could_be_all_of_the_difference_is_not_called_one() {
    let (first, second) = (around(10.0, 0.04, 20), around(5.0, 0.04, 20));
    let found = difference(&first, &second);
    let mut compared = compared(Metric::Energy, (20, 20));
    assert_eq!(compared.weighed(found), found, "nothing is missing");
    compared.second.not_finite = 1_000;
    compared.second.not_finite_s = 100.0;
    let weighed = compared.weighed(found);
    assert_eq!(weighed.verdict, Verdict::CannotSay);
    let told = compared.sentence(&weighed);
    assert!(
        told.ends_with("cannot be said, because 50.0 % of the time of B have no finite samples, which could be all of the difference"),
        "{told}"
    );
    let notes = compared.notes(&weighed, None, (10.0, 10.0));
    assert!(
        notes[0].starts_with("1000 samples of B are not finite (50.0 % of its time) and add nothing"),
        "{notes:?}"
    );
    // As much is missing of both.
    compared.first.gap_s = 100.0;
    assert_eq!(compared.weighed(found), found);
    compared.metric = Metric::Mean;
    compared.first.gap_s = 0.0;
    assert_eq!(compared.weighed(found), found, "a mean is that of the rest");
}

#[test]
fn the_same_is_not_called_more() {
    let told = said(Metric::Duration, &[4.0], &[4.0]);
    assert!(
        told.starts_with("B and A have the same duration, as measured; one run each:"),
        "{told}"
    );
}

#[test]
fn a_mean_that_is_not_above_zero_has_no_percentage_whichever_it_is() {
    let (above, below) = (around(1.02, 0.1, 5), around(-0.98, 0.1, 5));
    for (first, second, told) in [
        (&above, &below, "B has a 2.000 J lower"),
        (&below, &above, "B has a 2.000 J higher"),
    ] {
        let found = said(Metric::Mean, first, second);
        assert!(
            found.starts_with(told) && found.contains("no percentage has a meaning"),
            "{found}"
        );
    }
}

#[test]
fn amounts_have_four_digits() {
    let told = [9.0, 0.001234, 123_456.0, 1e7, 0.0, 1e-5].map(amount);
    assert_eq!(told, ["9.000", "0.001234", "123456", "1.000e7", "0", "1.000e-5"]);
}

#[test]
fn other_durations_are_told_with_the_means_per_time() {
    let (first, second) = (around(10.0, 0.04, 20), around(5.0, 0.04, 20));
    let means = difference(&around(1.0, 0.04, 20), &around(1.0, 0.05, 20));
    let compared = compared(Metric::Energy, (20, 20));
    let notes = compared.notes(&difference(&first, &second), Some(&means), (10.0, 5.0));
    assert!(
        notes[0].starts_with(
            "the runs of B are 50.0 % shorter than those of A: 5.0000 s against 10.0000 s on average; per time, no difference in the mean of power"
        ),
        "{notes:?}"
    );
    let alike = compared.notes(&difference(&first, &second), Some(&means), (10.0, 10.05));
    assert_eq!(alike, Vec::<String>::new());
}

#[test]
fn welch_and_the_interval_are_told_where_they_disagree() {
    let found = Difference {
        verdict: Verdict::Less,
        interval: Some(Interval {
            low: -0.1,
            high: -0.001,
        }),
        welch: Some(Welch {
            t: -2.0,
            degrees_of_freedom: 20.0,
            p: 0.0593,
        }),
        ..difference(&[10.0], &[9.0])
    };
    let notes = compared(Metric::Energy, (20, 20)).notes(&found, None, (1.0, 1.0));
    assert!(notes[0].contains("p = 0.059"), "{notes:?}");
}

#[test]
fn percentages_have_three_digits() {
    let told = [0.124, 1.0, 0.0, 0.099_999_99, 0.01234, -0.001234, 0.000_012_34].map(percent);
    assert_eq!(told, ["12.4", "100.0", "0.0", "10.0", "1.23", "0.123", "0.00123"]);
}
