//! The list of mutations, as text:
//!
//! ```text
//! # a comment
//! = a name
//! file: proto/src/uplink/opened.rs
//! killed by: machines
//! killed by: simulation 50
//! - find
//! what stands there, exactly once
//! - replace
//! what stands there then
//! ```
//!
//! Instead of `killed by`, `equivalent:` says why nobody can notice.

use std::fmt;

/// One rule that is taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// What is taken out.
    pub name: String,
    /// From where, in the repository.
    pub file: String,
    /// Stands there exactly once.
    pub find: String,
    /// Takes its place.
    pub replace: String,
    /// What must come of it.
    pub fate: Fate,
}

/// What must come of a mutation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Each of these tests fails.
    KilledBy(Vec<Test>),
    /// Nobody can notice, and this is why.
    Equivalent(String),
}

/// A test that can notice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Test {
    /// `proto/tests/machines`.
    Machines,
    /// The outbox's own.
    Outbox,
    /// The server's, on a private Postgres: `ingest-server/tests/ledger.rs`.
    Ledger,
    /// `tests/rare_cases.rs`.
    RareCases,
    /// `tests/simulation.rs`, within so many seeds.
    Simulation {
        /// From 1 on.
        seeds: u64,
    },
    /// `tests/network.rs`, within so many seeds.
    Network {
        /// From 1 on.
        seeds: u64,
    },
}

impl Test {
    /// Cargo's arguments.
    #[must_use]
    pub fn arguments(&self) -> &'static [&'static str] {
        match self {
            Self::Machines => &["-p", "wavekeep-proto", "--test", "machines"],
            Self::Outbox => &["-p", "wavekeep-agent", "--lib"],
            Self::Ledger => &["-p", "wavekeep-server", "--test", "ledger"],
            Self::RareCases => &["-p", "wavekeep-simulation", "--test", "rare_cases"],
            Self::Simulation { .. } => &["-p", "wavekeep-simulation", "--test", "simulation"],
            Self::Network { .. } => &["-p", "wavekeep-simulation", "--test", "network"],
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text.split_once(' ') {
            None if text == "machines" => Self::Machines,
            None if text == "outbox" => Self::Outbox,
            None if text == "ledger" => Self::Ledger,
            None if text == "rare_cases" => Self::RareCases,
            Some(("simulation", seeds)) => Self::Simulation {
                seeds: seeds.parse().ok()?,
            },
            Some(("network", seeds)) => Self::Network {
                seeds: seeds.parse().ok()?,
            },
            _ => return None,
        })
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machines => f.write_str("machines"),
            Self::Outbox => f.write_str("outbox"),
            Self::Ledger => f.write_str("ledger"),
            Self::RareCases => f.write_str("rare_cases"),
            Self::Simulation { seeds } => write!(f, "simulation {seeds}"),
            Self::Network { seeds } => write!(f, "network {seeds}"),
        }
    }
}

impl Mutation {
    /// The tests that must fail.
    pub fn tests(&self) -> impl Iterator<Item = &Test> {
        match &self.fate {
            Fate::KilledBy(tests) => tests.iter(),
            Fate::Equivalent(_) => [].iter(),
        }
    }
}

/// Why a list is none: the line, from 1, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadList {
    line: usize,
    what: String,
}

impl fmt::Display for BadList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for BadList {}

#[derive(Default)]
struct Draft {
    line: usize,
    name: String,
    file: String,
    tests: Vec<Test>,
    equivalent: String,
    find: Vec<String>,
    replace: Vec<String>,
}

impl Draft {
    fn finish(self) -> Result<Mutation, BadList> {
        let fate = match (self.tests.is_empty(), self.equivalent.is_empty()) {
            (false, true) => Fate::KilledBy(self.tests),
            (true, false) => Fate::Equivalent(self.equivalent),
            _ => {
                return Err(BadList {
                    line: self.line,
                    what: "say either what kills it or why nothing can".into(),
                });
            }
        };
        let whole = |lines: &[String]| lines.join("\n").trim_end_matches('\n').to_owned();
        let (find, replace) = (whole(&self.find), whole(&self.replace));
        if self.file.is_empty() || find.is_empty() || find == replace {
            return Err(BadList {
                line: self.line,
                what: "a mutation changes a text of a file".into(),
            });
        }
        Ok(Mutation {
            name: self.name,
            file: self.file,
            find,
            replace,
            fate,
        })
    }
}

/// Where a line belongs.
enum Part {
    Head,
    Find,
    Replace,
}

/// Reads a list.
pub fn parse(text: &str) -> Result<Vec<Mutation>, BadList> {
    let mut mutations = Vec::new();
    let mut draft: Option<Draft> = None;
    let mut part = Part::Head;
    for (at, line) in text.lines().enumerate() {
        let bad = |what: &str| BadList {
            line: at + 1,
            what: format!("{what}: {line}"),
        };
        if let Some(name) = line.strip_prefix("= ") {
            mutations.extend(draft.take().map(Draft::finish).transpose()?);
            draft = Some(Draft {
                line: at + 1,
                name: name.into(),
                ..Draft::default()
            });
            part = Part::Head;
            continue;
        }
        match (line, &part, &mut draft) {
            ("- find", _, _) => part = Part::Find,
            ("- replace", _, _) => part = Part::Replace,
            (_, Part::Find, Some(draft)) => draft.find.push(line.into()),
            (_, Part::Replace, Some(draft)) => draft.replace.push(line.into()),
            (_, Part::Head, _) if line.is_empty() || line.starts_with('#') => {}
            (_, Part::Head, Some(draft)) => match line.split_once(": ") {
                Some(("file", file)) => draft.file = file.into(),
                Some(("equivalent", why)) => draft.equivalent = why.into(),
                Some(("killed by", test)) => draft.tests.push(Test::parse(test).ok_or_else(|| bad("no such test"))?),
                _ => return Err(bad("no such key")),
            },
            _ => return Err(bad("this belongs to no mutation")),
        }
    }
    mutations.extend(draft.map(Draft::finish).transpose()?);
    Ok(mutations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_whole() {
        let text = "# why\n\n= one\nfile: a.rs\nkilled by: machines\nkilled by: simulation 50\n- find\na\n  b\n- replace\nc\n= two\nfile: b.rs\nequivalent: so\n- find\nx\n- replace\n";
        let list = parse(text).expect("it is well-formed");
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].find.as_str(), list[0].replace.as_str()), ("a\n  b", "c"));
        assert_eq!(
            list[0].fate,
            Fate::KilledBy(vec![Test::Machines, Test::Simulation { seeds: 50 }])
        );
        assert_eq!(
            (list[1].fate.clone(), list[1].replace.as_str()),
            (Fate::Equivalent("so".into()), "")
        );
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (text, line) in [
            ("file: a.rs\n", 1),
            ("= one\nfile: a.rs\nkilled by: nobody\n", 3),
            ("= one\nfile: a.rs\n- find\na\n- replace\nb\n", 1),
            ("= one\nfile: a.rs\nkilled by: outbox\n- find\na\n- replace\na\n", 1),
            ("= one\nkilled by: outbox\n- find\na\n- replace\nb\n", 1),
        ] {
            assert_eq!(parse(text).map_err(|error| error.line), Err(line), "{text}");
        }
    }
}
