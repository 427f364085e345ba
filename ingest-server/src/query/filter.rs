//! The expression that chooses streams by label: terms `key=value` joined by commas. Pure.
//!
//! A value with a comma or quotes in it stands in double quotes, with `\` before a quote or a `\` inside. The keys `device` and
//! `run` mean the stream's device and run.

use std::collections::BTreeMap;

use super::error::QueryError;
use super::limits;

/// What all terms demand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) device: Option<String>,
    pub(super) run: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
}

fn invalid(text: &str) -> QueryError {
    QueryError::Invalid(format!(
        "the filter {text:?} is not understood: write key=value, several joined by commas, a value with a comma in double quotes"
    ))
}

/// Reads an expression. The empty one demands nothing.
pub(super) fn parse(text: &str) -> Result<Filter, QueryError> {
    if text.len() > limits::FILTER_BYTES_MAX {
        let sentence = format!(
            "the filter is longer than {} bytes: shorten it",
            limits::FILTER_BYTES_MAX
        );
        return Err(QueryError::Invalid(sentence));
    }
    if text.contains('\0') {
        return Err(QueryError::Invalid(
            "the filter has a NUL in it, which no name or label has: leave it out".into(),
        ));
    }
    let mut filter = Filter::default();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| invalid(text))?;
        let (key, (value, after)) = (key.trim(), value(after.trim_start()).ok_or_else(|| invalid(text))?);
        if key.is_empty() || key.contains([',', '"']) {
            return Err(invalid(text));
        }
        let before = match key {
            "device" => filter.device.replace(value.clone()),
            "run" => filter.run.replace(value.clone()),
            key => filter.labels.insert(key.into(), value.clone()),
        };
        if before.is_some_and(|before| before != value) {
            return Err(QueryError::Invalid(format!(
                "the filter demands two values of {key}: give one"
            )));
        }
        rest = match after.trim_start() {
            "" => "",
            after => after.strip_prefix(',').ok_or_else(|| invalid(text))?.trim_start(),
        };
    }
    Ok(filter)
}

/// A value and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        let value = text[..end].trim_end();
        return (!value.contains('"')).then(|| (value.to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            letter => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let all = parse(r#" run="night, \"2\"" , firmware=1.4.2,device = js220, note="""#).expect("it is right");
        let expected = Filter {
            device: Some("js220".into()),
            run: Some("night, \"2\"".into()),
            labels: labels(&[("firmware", "1.4.2"), ("note", "")]),
        };
        assert_eq!(all, expected);
        assert_eq!(parse("").expect("nothing is demanded"), Filter::default());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "a", "=b", "a=\"b", "a=\"b\"c", "a=b\"c", "a,b=c", "a=1,a=2", "\"a\"=b", ",",
        ] {
            assert!(matches!(parse(bad), Err(QueryError::Invalid(_))), "{bad}");
        }
        assert!(matches!(parse("device=a\0b"), Err(QueryError::Invalid(_))));
        assert!(parse(&"a".repeat(limits::FILTER_BYTES_MAX + 1)).is_err());
    }
}
