//! What the instrument says about one of its settings: its type, and which values it may have. Pure.
//!
//! The words for the values come from the instrument alone, so that a new firmware with another choice needs no new agent.

use serde_json::Value as Json;

use super::value::Value;

/// The description of a setting.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Metadata {
    dtype: String,
    options: Vec<Choice>,
}

/// One value that a setting may have.
#[derive(Debug, Clone, PartialEq)]
struct Choice {
    value: Json,
    /// What people call it, the usual name first.
    names: Vec<String>,
}

impl Metadata {
    /// `None`: it is no description.
    pub(super) fn parse(json: &str) -> Option<Self> {
        let json: Json = serde_json::from_str(json).ok()?;
        let options = json.get("options").and_then(Json::as_array);
        Some(Self {
            dtype: json.get("dtype")?.as_str()?.to_owned(),
            options: options.map_or_else(Vec::new, |options| options.iter().map(Choice::parse).collect()),
        })
    }

    /// The payload that sets `topic` to what `word` means: one of the names, or the value as such.
    pub(super) fn publish(&self, topic: &str, word: &str) -> Option<Vec<u8>> {
        if self.options.is_empty() {
            let number = Json::from(word.parse::<i64>().ok()?);
            return self.encode(topic, &number);
        }
        let choice = self.options.iter().find(|choice| choice.is_called(word))?;
        self.encode(topic, &choice.value)
    }

    /// All that [`Self::publish`] takes, for people.
    pub(super) fn words(&self) -> String {
        if self.options.is_empty() {
            return format!("a number ({})", self.dtype);
        }
        let names: Vec<_> = self.options.iter().map(Choice::name).collect();
        names.join(", ")
    }

    fn encode(&self, topic: &str, value: &Json) -> Option<Vec<u8>> {
        let whole = value.as_i64();
        let value = match self.dtype.as_str() {
            "str" => Value::Str(value.as_str()?),
            "f32" => Value::F32(value.as_f64()? as f32),
            "f64" => Value::F64(value.as_f64()?),
            "u8" | "bool" => Value::U8(whole?.try_into().ok()?),
            "u16" => Value::U16(whole?.try_into().ok()?),
            "u32" => Value::U32(whole?.try_into().ok()?),
            "u64" => Value::U64(whole?.try_into().ok()?),
            "i8" => Value::I8(whole?.try_into().ok()?),
            "i16" => Value::I16(whole?.try_into().ok()?),
            "i32" => Value::I32(whole?.try_into().ok()?),
            "i64" => Value::I64(whole?),
            _ => return None,
        };
        Some(super::pubsub::publish(topic, value))
    }
}

impl Choice {
    /// `[value, name, other names…]`, or the value alone.
    fn parse(option: &Json) -> Self {
        let Some((value, names)) = option.as_array().and_then(|option| option.split_first()) else {
            return Self {
                value: option.clone(),
                names: Vec::new(),
            };
        };
        Self {
            value: value.clone(),
            names: names.iter().map(plain).collect(),
        }
    }

    fn name(&self) -> String {
        self.names.first().cloned().unwrap_or_else(|| plain(&self.value))
    }

    /// Upper and lower case, and blanks (`15 V`, `15v`), are the same.
    fn is_called(&self, word: &str) -> bool {
        let word = simple(word);
        plain(&self.value) == word || self.names.iter().any(|name| simple(name) == word)
    }
}

fn simple(word: &str) -> String {
    let letters = word.chars().filter(|letter| !letter.is_whitespace());
    letters.flat_map(char::to_lowercase).collect()
}

/// A text without its quotes.
fn plain(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::pubsub::publish;
    use super::*;

    #[test]
    fn a_word_becomes_the_value_that_the_instrument_gave_it() {
        let json = r#"{"dtype":"u32","brief":"x","default":0,"options":[[0,"15 V","15"],[1,"2 V"]]}"#;
        let metadata = Metadata::parse(json).expect("it is a description");
        for (word, value) in [("15 V", 0), ("15v", 0), ("15", 0), ("2V", 1), ("1", 1)] {
            assert_eq!(
                metadata.publish("a", word),
                Some(publish("a", Value::U32(value))),
                "{word}"
            );
        }
        assert_eq!(metadata.publish("a", "5 V"), None);
        assert_eq!(metadata.words(), "15 V, 2 V");
    }

    #[test]
    fn types_without_options_take_numbers_within_their_limits() {
        let metadata = Metadata::parse(r#"{"dtype":"u8"}"#).expect("it is a description");
        assert_eq!(metadata.publish("a", "255"), Some(publish("a", Value::U8(255))));
        assert_eq!(metadata.publish("a", "256"), None);
        assert_eq!(metadata.publish("a", "x"), None);
        assert_eq!(metadata.words(), "a number (u8)");
    }

    #[test]
    fn what_is_no_description_is_none() {
        for json in ["", "[]", "{}", r#"{"dtype":1}"#, "\u{0}"] {
            assert_eq!(Metadata::parse(json), None, "{json:?}");
        }
        let odd = Metadata::parse(r#"{"dtype":"u32","options":[[],7,{"a":1},[[1],null]]}"#).expect("it has a type");
        assert!(odd.words().contains('7') && odd.publish("a", "7").is_some() && odd.publish("a", "{}").is_none());
    }
}
