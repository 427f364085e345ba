//! The rules of `filter`.

use proptest::prelude::*;

use super::*;

fn term(key: &str, test: Test, wanted: bool) -> Term {
    let key = Key::of(key.into());
    Term { key, test, wanted }
}

fn is(value: &str) -> Test {
    Test::Is(value.into())
}

fn like(glob: &str) -> Test {
    Test::Like(glob.into())
}

#[test]
fn terms_are_read() {
    let text = r#"run="night, \"2\"" , firmware!=1.4.2,device~js220-*  note="" "a b" !~ x? "#;
    let terms = vec![
        term("run", is("night, \"2\""), true),
        term("firmware", is("1.4.2"), false),
        term("device", like("js220-*"), true),
        term("note", is(""), true),
        term("a b", like("x?"), false),
    ];
    assert_eq!(parse(text), Ok(Filter { terms }));
    assert_eq!(parse(" , "), Ok(Filter::default()));
    let twice = parse("a=1 a=1 b~x").expect("it says the same twice");
    assert_eq!(twice.terms.len(), 2);
    let value = parse("a=b=c~d!e").expect("operators may be in a value");
    assert_eq!(value.terms, [term("a", is("b=c~d!e"), true)]);
}

#[test]
fn an_error_points_at_its_character() {
    for (text, at, why) in [
        ("a", 1, "one of = != ~ !~"),
        ("a b=1", 2, "one of = != ~ !~"),
        ("=b", 0, "a key comes first"),
        ("x=1 a=\"b", 6, "has no end"),
        ("a=\"b\"c", 5, "a blank or a comma ends a value"),
        ("a=b\"c", 3, "a blank or a comma ends a value"),
        ("a=", 2, "a value follows here"),
        ("ä=,b=1", 2, "a value follows here"),
        ("a=1, a=2", 5, "a second value of a"),
        ("a!b", 1, "one of = != ~ !~"),
        ("device=a\0b", 8, "a NUL"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.at, at, "{text}: {error}");
        assert!(error.why.contains(why), "{text}: {error}");
    }
    let error = parse("algorithm A").expect_err("no operator").to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert!(
        lines[0].starts_with("the filter is not understood at character 11: one of"),
        "{error}"
    );
    assert_eq!((lines[1], lines[2]), ("  algorithm A", "            ^"));
}

#[test]
fn i12_a_filter_has_limits() {
    assert!(parse(&"a".repeat(limits::FILTER_BYTES_MAX + 1)).is_err());
    let many: Vec<String> = (0..=limits::FILTER_TERMS_MAX).map(|at| format!("k{at}=1")).collect();
    assert!(parse(&many.join(" ")).is_err());
    assert!(parse(&many[1..].join(" ")).is_ok());
}

#[test]
fn globs_hold_where_people_expect_it() {
    for (glob, text, holds) in [
        ("js220-*", "js220-001", true),
        ("js220-*", "ppk2", false),
        ("*", "", true),
        ("?", "", false),
        ("?", "ä", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c-b", false),
        (r"a\*", "a*", true),
        (r"a\*", "ab", false),
        ("100%", "100%", true),
        ("a_b", "axb", false),
        ("**a", "aaa", true),
    ] {
        assert_eq!(like(glob).holds(text), holds, "{glob} {text}");
    }
    assert_eq!(like(r"50%_*?\*\").like(), r"50\%\_%_*\\");
    assert_eq!(is(r"*_\").like(), r"*\_\\");
}

#[test]
fn a_label_that_is_not_there_is_not_equal_and_not_alike() {
    assert!(term("a", is("1"), false).holds(None) && term("a", like("*"), false).holds(None));
    assert!(!term("a", is(""), true).holds(None) && !term("a", like("*"), true).holds(None));
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        proptest::sample::select("ab1 ,=!~\"\\*?%_ä\t".chars().collect::<Vec<_>>()),
        0..8,
    )
    .prop_map(|letters| letters.into_iter().collect())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_an_error_points_into_it(text in text(), any in ".{0,40}") {
        for text in [text, any] {
            if let Err(error) = parse(&text) {
                prop_assert!(error.at <= text.chars().count());
                prop_assert_eq!(error.to_string().lines().count(), 3);
            }
        }
    }

    #[test]
    fn what_is_written_is_read_again(terms in proptest::collection::vec((text(), text(), any::<bool>(), any::<bool>()), 0..6)) {
        let mut filter = Filter::default();
        for (key, value, exact, wanted) in terms {
            let key = Key::of(format!("k{key}"));
            let again = filter.terms.iter().any(|known| known.key == key);
            if !again {
                let test = if exact { Test::Is(value) } else { Test::Like(value) };
                filter.terms.push(Term { key, test, wanted });
            }
        }
        prop_assert_eq!(parse(&filter.to_string()), Ok(filter));
    }

    #[test]
    fn a_glob_without_wildcards_is_the_text_itself(text in text(), other in text()) {
        let escaped: String = text.chars().flat_map(|letter| ['\\', letter]).collect();
        prop_assert!(like(&escaped).holds(&text));
        prop_assert_eq!(like(&escaped).holds(&other), text == other);
        prop_assert_eq!(like(&escaped).like(), is(&text).like());
    }
}
