//! What is drawn of a comparison.

use wavekeep::{Difference, GroupColumns, Metric, RunGroup, Verdict};

use super::*;

fn comparison(columns: ComparedColumns) -> (Comparison, ComparedColumns) {
    let group = |name: &str| RunGroup {
        name: name.into(),
        runs: Vec::new(),
        mean: 1.0,
        std: None,
    };
    let comparison = Comparison {
        sentence: String::new(),
        notes: Vec::new(),
        signal: "power".into(),
        unit: "W".into(),
        metric: Metric::Energy,
        metric_unit: "J".into(),
        first: group("A"),
        second: group("B"),
        difference: Difference {
            absolute: 0.0,
            relative: None,
            interval: None,
            welch: None,
            verdict: Verdict::CannotSay,
        },
        mean_difference: None,
        columns: None,
    };
    (comparison, columns)
}

fn columns(first: &[f64], second: &[f64]) -> ComparedColumns {
    let group = |values: &[f64]| GroupColumns {
        min: values.to_vec(),
        max: values.to_vec(),
        mean: values.to_vec(),
        runs: values.iter().map(|value| u32::from(value.is_finite())).collect(),
    };
    ComparedColumns {
        from_ns: -500_000_000,
        column_ns: 250_000_000,
        first: group(first),
        second: group(second),
        difference: first.iter().zip(second).map(|(first, second)| second - first).collect(),
    }
}

const LOOK: Look = Look {
    width: 20,
    height: 2,
    colour: false,
};

#[test]
fn both_are_drawn_on_one_scale_and_their_difference_below() {
    let (comparison, columns) = comparison(columns(&[0.0, 0.0, 1.0, 1.0], &[0.5; 4]));
    let lines = overlay(&comparison, &columns, &LOOK);
    let text = lines.join("\n");
    assert_eq!(lines[0], "A power");
    assert!(
        lines[1].starts_with("  1.0 W ┤") && lines[2].starts_with("  0.0 W ┤"),
        "{text}"
    );
    assert!(
        lines[4].starts_with("  1.0 W ┤") && lines[5].starts_with("  0.0 W ┤"),
        "the scale is shared: {text}"
    );
    assert_eq!(lines[6], "B − A, of the means");
    assert!(lines[8].starts_with("-500 mW ┤"), "{text}");
    assert!(text.contains("−500 ms") && text.ends_with("500 ms"), "{text}");
}

#[test]
fn i9_where_a_group_has_nothing_there_is_nothing() {
    let (comparison, columns) = comparison(columns(&[1.0, f64::NAN, f64::NAN, 2.0], &[f64::NAN; 4]));
    let lines = overlay(&comparison, &columns, &LOOK);
    let dots = |line: &str| line.split(['┤', '│']).nth(1).map(str::to_owned).unwrap_or_default();
    let drawn = format!("{}{}", dots(&lines[1]), dots(&lines[2]));
    assert!(drawn.contains("     "), "a gap in the middle: {lines:#?}");
    for line in [4, 5, 7, 8] {
        assert_eq!(dots(&lines[line]), "", "{lines:#?}");
    }
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    let (comparison, columns) = comparison(columns(&[1.0], &[2.0]));
    assert!(!overlay(&comparison, &columns, &LOOK).join("").contains('\x1b'));
    let coloured = overlay(&comparison, &columns, &Look { colour: true, ..LOOK }).join("");
    assert!(coloured.contains(FIRST) && coloured.contains(SECOND));
}
