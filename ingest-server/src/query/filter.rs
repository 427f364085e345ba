//! The expression that chooses streams and runs: terms that must all hold, separated by blanks or commas. Pure.
//!
//! | term | holds where |
//! |---|---|
//! | `key=value` | the label `key` is `value` |
//! | `key!=value` | it is not, or there is no such label |
//! | `key~glob` | it is like `glob`: `*` is any text, `?` any one character, `\` takes the next one as it is |
//! | `key!~glob` | it is not, or there is no such label |
//!
//! The keys `device` and `run` mean the device and the run. What has a blank, a comma or an operator in it stands in double quotes, with
//! `\` before a quote or a `\` inside.
//!
//! # Invariants
//! - Nothing of an expression becomes SQL: values are bound, and a glob is bound as a pattern of LIKE in which all but its own wildcards
//!   are escaped.
//! - What is written of a filter ([`Filter`]'s `Display`) is read as the same filter.

use std::collections::BTreeMap;
use std::fmt;

use super::limits;

/// The key that means the device.
const DEVICE: &str = "device";
/// The key that means the run.
const RUN: &str = "run";

/// What a term is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Device,
    Run,
    Label(String),
}

impl Key {
    fn of(text: String) -> Self {
        match text.as_str() {
            DEVICE => Self::Device,
            RUN => Self::Run,
            _ => Self::Label(text),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Device => DEVICE,
            Self::Run => RUN,
            Self::Label(key) => key,
        }
    }
}

/// What a text is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    Is(String),
    /// A glob.
    Like(String),
}

impl Test {
    /// Does it hold of a text?
    pub(super) fn holds(&self, text: &str) -> bool {
        match self {
            Self::Is(value) => text == value,
            Self::Like(glob) => glob_holds(&pieces(glob), text),
        }
    }

    /// As a pattern of SQL's LIKE, whose escape is `\`.
    pub(super) fn like(&self) -> String {
        let pieces = match self {
            Self::Is(value) => value.chars().map(Piece::One).collect(),
            Self::Like(glob) => pieces(glob),
        };
        let mut pattern = String::new();
        for piece in pieces {
            match piece {
                Piece::Many => pattern.push('%'),
                Piece::Any => pattern.push('_'),
                Piece::One(letter) => {
                    if matches!(letter, '%' | '_' | '\\') {
                        pattern.push('\\');
                    }
                    pattern.push(letter);
                }
            }
        }
        pattern
    }
}

/// A part of a glob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    One(char),
    Any,
    Many,
}

fn pieces(glob: &str) -> Vec<Piece> {
    let mut letters = glob.chars();
    let mut pieces = Vec::new();
    while let Some(letter) = letters.next() {
        pieces.push(match letter {
            '*' => Piece::Many,
            '?' => Piece::Any,
            '\\' => Piece::One(letters.next().unwrap_or('\\')),
            letter => Piece::One(letter),
        });
    }
    pieces
}

/// Goes back to the last `*` alone: no text takes longer than its length times that of the glob.
fn glob_holds(pieces: &[Piece], text: &str) -> bool {
    let letters: Vec<char> = text.chars().collect();
    let (mut piece, mut letter) = (0, 0);
    let mut star = None;
    while letter < letters.len() {
        match pieces.get(piece) {
            Some(Piece::Many) => {
                star = Some((piece + 1, letter));
                piece += 1;
            }
            Some(Piece::Any) => (piece, letter) = (piece + 1, letter + 1),
            Some(Piece::One(wanted)) if *wanted == letters[letter] => (piece, letter) = (piece + 1, letter + 1),
            _ => {
                let Some((after, tried)) = star else { return false };
                star = Some((after, tried + 1));
                (piece, letter) = (after, tried + 1);
            }
        }
    }
    pieces[piece..].iter().all(|piece| *piece == Piece::Many)
}

/// One demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) key: Key,
    pub(super) test: Test,
    /// Must it hold, or must it not?
    pub(super) wanted: bool,
}

impl Term {
    /// Of a text that may not be there.
    pub(super) fn holds(&self, text: Option<&str>) -> bool {
        text.is_some_and(|text| self.test.holds(text)) == self.wanted
    }
}

/// All terms must hold; without any, everything is let through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) terms: Vec<Term>,
}

impl Filter {
    /// Lets the run of this name through.
    pub(super) fn of_run(name: &str) -> Self {
        let term = Term {
            key: Key::Run,
            test: Test::Is(name.to_owned()),
            wanted: true,
        };
        Self { terms: vec![term] }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The terms about a key.
    pub(super) fn about<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Term> {
        self.terms.iter().filter(move |term| term.key == *key)
    }

    /// The one text that the key must be, where the filter says so.
    pub(super) fn exact<'a>(&'a self, key: &'a Key) -> Option<&'a str> {
        self.about(key).find_map(|term| match &term.test {
            Test::Is(value) if term.wanted => Some(value.as_str()),
            _ => None,
        })
    }

    /// The labels that something must have.
    pub(super) fn label_keys(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().filter_map(|term| match &term.key {
            Key::Label(key) if term.wanted => Some(key.as_str()),
            _ => None,
        })
    }

    /// Labels that must be so: what an index finds.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let exact = self.terms.iter().filter_map(|term| match (&term.key, &term.test) {
            (Key::Label(key), Test::Is(value)) if term.wanted => Some((key.clone(), value.clone())),
            _ => None,
        });
        exact.collect()
    }

    /// The terms that no index finds, without those about runs: key, pattern of LIKE, wanted.
    pub(super) fn patterns(&self) -> Vec<(String, String, bool)> {
        let rest = self
            .terms
            .iter()
            .filter(|term| term.key != Key::Run && !(term.wanted && matches!(term.test, Test::Is(_))));
        rest.map(|term| (term.key.text().to_owned(), term.test.like(), term.wanted))
            .collect()
    }
}

/// As it can be read again.
impl fmt::Display for Filter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            let operator = match (&term.test, term.wanted) {
                (Test::Is(_), true) => "=",
                (Test::Is(_), false) => "!=",
                (Test::Like(_), true) => "~",
                (Test::Like(_), false) => "!~",
            };
            let (Test::Is(value) | Test::Like(value)) = &term.test;
            let joint = if at > 0 { " " } else { "" };
            write!(
                formatter,
                "{joint}{}{operator}{}",
                quoted(term.key.text()),
                quoted(value)
            )?;
        }
        Ok(())
    }
}

fn quoted(text: &str) -> String {
    let plain = !text.is_empty()
        && !text
            .chars()
            .any(|letter| is_separator(letter) || "=!~\"".contains(letter));
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for letter in text.chars() {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

fn is_separator(letter: char) -> bool {
    letter == ',' || letter.is_whitespace()
}

/// An expression that is not understood, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the filter is not understood at character {}: {why}\n  {}\n  {}^", .at + 1, shown(.text), indent(.at))]
pub struct FilterError {
    /// The expression.
    pub text: String,
    /// Characters before the place.
    pub at: usize,
    /// What is wrong there, and what to write.
    pub why: String,
}

/// As many blanks.
fn indent(at: &usize) -> String {
    " ".repeat(*at)
}

/// On one line, each character as one.
fn shown(text: &str) -> String {
    let shown = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter });
    shown.collect()
}

/// Reads an expression. The empty one lets everything through.
pub(super) fn parse(text: &str) -> Result<Filter, FilterError> {
    if text.len() > limits::FILTER_BYTES_MAX {
        return Err(FilterError {
            text: String::new(),
            at: 0,
            why: format!("it is longer than {} bytes: shorten it", limits::FILTER_BYTES_MAX),
        });
    }
    let mut words = Words {
        letters: text.chars().collect(),
        at: 0,
        text,
    };
    if let Some(nul) = words.letters.iter().position(|letter| *letter == '\0') {
        return Err(words.error(nul, "a NUL, which no name or label has: leave it out"));
    }
    let mut filter = Filter::default();
    while words.skip(is_separator) {
        let start = words.at;
        let term = words.term()?;
        let differs = |known: &Term| known.key == term.key && known.test != term.test;
        let is_exact = |term: &Term| term.wanted && matches!(term.test, Test::Is(_));
        if is_exact(&term) && filter.terms.iter().any(|known| is_exact(known) && differs(known)) {
            let why = format!("a second value of {}, and it has one: give one", term.key.text());
            return Err(words.error(start, &why));
        }
        if filter.terms.len() == limits::FILTER_TERMS_MAX {
            let why = format!("more than {} terms: leave some out", limits::FILTER_TERMS_MAX);
            return Err(words.error(start, &why));
        }
        if !filter.terms.contains(&term) {
            filter.terms.push(term);
        }
    }
    Ok(filter)
}

struct Words<'a> {
    letters: Vec<char>,
    at: usize,
    text: &'a str,
}

/// Makes a test of its value.
type Testing = fn(String) -> Test;

impl Words<'_> {
    fn error(&self, at: usize, why: &str) -> FilterError {
        FilterError {
            text: self.text.to_owned(),
            at,
            why: why.to_owned(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    /// Is anything left?
    fn skip(&mut self, what: impl Fn(char) -> bool) -> bool {
        while self.peek().is_some_and(&what) {
            self.at += 1;
        }
        self.at < self.letters.len()
    }

    fn term(&mut self) -> Result<Term, FilterError> {
        let start = self.at;
        let key = match self.peek() {
            Some('"') => self.quoted()?,
            _ => self.plain(|letter| is_separator(letter) || "=!~\"".contains(letter)),
        };
        if key.is_empty() {
            return Err(self.error(start, "a key comes first: write it like key=value"));
        }
        self.skip(char::is_whitespace);
        let (test, wanted) = self.operator()?;
        self.skip(char::is_whitespace);
        let start = self.at;
        let value = match self.peek() {
            Some('"') => self.quoted()?,
            _ => {
                let value = self.plain(|letter| is_separator(letter) || letter == '"');
                if value.is_empty() {
                    return Err(self.error(start, "a value follows here; \"\" is the empty one"));
                }
                value
            }
        };
        if self.peek().is_some_and(|letter| !is_separator(letter)) {
            let why =
                "a blank or a comma ends a value; one with quotes in it stands in quotes, with \\ before those inside";
            return Err(self.error(self.at, why));
        }
        Ok(Term {
            key: Key::of(key),
            test: test(value),
            wanted,
        })
    }

    fn operator(&mut self) -> Result<(Testing, bool), FilterError> {
        let start = self.at;
        let wanted = self.peek() != Some('!');
        self.at += usize::from(!wanted);
        let test: Testing = match self.peek() {
            Some('=') => Test::Is,
            Some('~') => Test::Like,
            _ => return Err(self.error(start, "one of = != ~ !~ follows a key: write it like key=value")),
        };
        self.at += 1;
        Ok((test, wanted))
    }

    fn plain(&mut self, ends: impl Fn(char) -> bool) -> String {
        let start = self.at;
        self.skip(|letter| !ends(letter));
        self.letters[start..self.at].iter().collect()
    }

    fn quoted(&mut self) -> Result<String, FilterError> {
        let start = self.at;
        let mut text = String::new();
        loop {
            self.at += 1;
            match self.peek() {
                None => return Err(self.error(start, "the quote that begins here has no end: close it")),
                Some('"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some('\\') => {
                    self.at += 1;
                    text.extend(self.peek());
                }
                Some(letter) => text.push(letter),
            }
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
