//! Text that Postgres takes: any but the character NUL, which would make it refuse the row for ever.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The same text, with U+FFFD for NUL.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// As the text of a jsonb object.
pub(super) fn json_object(pairs: &BTreeMap<String, String>) -> String {
    let cleaned = pairs
        .iter()
        .map(|(key, value)| (clean(key).into_owned(), clean(value).into_owned().into()));
    serde_json::Value::Object(cleaned.collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_replaced() {
        assert_eq!(clean("a\0b"), "a\u{FFFD}b");
        let pairs = BTreeMap::from([("k\0".to_owned(), "\"v\"\0".to_owned())]);
        assert_eq!(json_object(&pairs), "{\"k\u{FFFD}\":\"\\\"v\\\"\u{FFFD}\"}");
    }
}
