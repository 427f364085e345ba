//! `run import`: runs from a table. The table is read whole before anything is sent, and sent as one request.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use wavekeep::proto::id::StreamId;
use wavekeep::proto::nearest::edits;
use wavekeep::time::Moment;
use wavekeep::{Client, Error, NewRun, RunMember, TimeRange};

use super::failure::Failure;
use super::limits::{IMPORT_BYTES_MAX, IMPORT_ROWS_MAX};
use super::table::Output;
use super::words::thousands;

/// Columns that are no labels.
const KNOWN: [&str; 7] = ["name", "device", "stream", "from", "to", "parent", "note"];
/// What people call some of them.
const MEANT: [(&str, &str); 2] = [("start", "from"), ("end", "to")];
/// Where this differs from a shorter name, it may well be another word.
const MISSPELT_LETTERS_MIN: usize = 4;

/// A row: where it begins in the file, and what it says.
#[derive(Debug, PartialEq)]
struct Row {
    line: u64,
    run: NewRun,
}

#[derive(Serialize)]
struct ImportedLine {
    created: u64,
    changed: u64,
    unchanged: u64,
}

pub(super) async fn import(client: &Client, path: &Path, output: &mut Output) -> Result<(), Failure> {
    let shown = path.display();
    let cannot = |error: std::io::Error| Failure::Failed(format!("cannot read {shown}: {error}"));
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(IMPORT_BYTES_MAX + 1).read_to_end(&mut text).map_err(cannot)?;
    if text.len() as u64 > IMPORT_BYTES_MAX {
        let sentence = format!("{shown} is larger than {IMPORT_BYTES_MAX} bytes: import it in parts");
        return Err(Failure::Failed(sentence));
    }
    let rows = rows(&text).map_err(|why| Failure::Failed(format!("{shown}: {why}; nothing was imported")))?;
    let runs: Vec<NewRun> = rows.iter().map(|row| row.run.clone()).collect();
    let imported = client.import_runs(&runs).await.map_err(|error| match &error {
        Error::Refused {
            message,
            entry: Some(entry),
            ..
        } if *entry < rows.len() => Failure::Failed(format!(
            "{shown}: line {}: {message}; nothing was imported",
            rows[*entry].line
        )),
        _ => Failure::from(error),
    })?;
    let line = ImportedLine {
        created: imported.created,
        changed: imported.changed,
        unchanged: imported.unchanged,
    };
    if output.json {
        return output.json_line(&line);
    }
    output.line(&format!(
        "{shown}: {} runs created, {} changed, {} unchanged",
        thousands(line.created),
        thousands(line.changed),
        thousands(line.unchanged)
    ))
}

/// Every row, or why there is none.
fn rows(text: &[u8]) -> Result<Vec<Row>, String> {
    // As spreadsheets write it.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let names = reader.headers().map_err(|error| bad_csv(&error))?.clone();
    let place = |name: &str| names.iter().position(|column| column == name);
    let name_at = require_columns(&names)?;
    let mut rows = Vec::new();
    let mut told = Told::default();
    for record in reader.records() {
        let record = record.map_err(|error| bad_csv(&error))?;
        let line = record.position().map_or(0, csv::Position::line);
        if rows.len() == IMPORT_ROWS_MAX {
            return Err(format!(
                "line {line}: there are more than {IMPORT_ROWS_MAX} rows: import them in parts"
            ));
        }
        let cell = |name: &str| {
            place(name)
                .and_then(|at| record.get(at))
                .filter(|text| !text.is_empty())
        };
        let mut run = NewRun::named(record.get(name_at).unwrap_or_default());
        if run.name.is_empty() {
            return Err(format!("line {line}: the run has no name"));
        }
        run.parent = cell("parent").map(str::to_owned);
        run.note = cell("note").unwrap_or_default().to_owned();
        run.members = member(&cell)
            .map_err(|why| format!("line {line}: {why}"))?
            .into_iter()
            .collect();
        for (key, value) in names.iter().zip(&record) {
            if !KNOWN.contains(&key) && !value.is_empty() {
                run.labels.insert(key.to_owned(), value.to_owned());
            }
        }
        told.row(line, &run)?;
        rows.push(Row { line, run });
    }
    if rows.is_empty() {
        return Err("there is no row under its first line".into());
    }
    Ok(rows)
}

/// The place of the names, where the columns are what they seem to be.
fn require_columns(names: &csv::StringRecord) -> Result<usize, String> {
    let place = |name: &str| names.iter().position(|column| column == name);
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| place(name) != Some(*at)) {
        return Err(format!("line 1: there are two columns {:?}: keep one", twice.1));
    }
    // Beside the known one, it is a label.
    let unclear = names
        .iter()
        .find_map(|name| Some((name, meant(name).filter(|meant| place(meant).is_none())?)));
    if let Some((name, meant)) = unclear {
        return Err(format!(
            "line 1: {name:?} would be a label: did you mean {meant:?}? Write it so; where it is a label, add an empty column {meant:?}"
        ));
    }
    place("name").ok_or_else(|| {
        "line 1: there is no column `name`: the first line names the columns, name,device,from,to and labels".into()
    })
}

/// The known column that somebody may have meant with this one.
fn meant(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let other = MEANT.iter().find(|(other, _)| *other == name).map(|(_, known)| *known);
    let is_meant = |known: &&&str| name == **known || (known.len() >= MISSPELT_LETTERS_MIN && edits(&name, known) == 1);
    other.or_else(|| KNOWN.iter().find(is_meant).copied())
}

/// What earlier rows said of each run, and in which line: a run has each of it once.
#[derive(Default)]
struct Told(BTreeMap<(String, String), (u64, String)>);

impl Told {
    fn row(&mut self, line: u64, run: &NewRun) -> Result<(), String> {
        let labels = run
            .labels
            .iter()
            .map(|(key, value)| (format!("label {key:?}"), value.clone()));
        let parent = run.parent.clone().map(|parent| ("parent".to_owned(), parent));
        let note = Some(run.note.clone()).filter(|note| !note.is_empty());
        let note = note.map(|note| ("note".to_owned(), note));
        for (what, value) in labels.chain(parent).chain(note) {
            let before = self.0.entry((run.name.clone(), what.clone()));
            let (first_line, first) = before.or_insert_with(|| (line, value.clone()));
            if *first != value {
                return Err(format!(
                    "line {line}: the {what} of run {:?} is {value:?}, and {first:?} in line {first_line}: give it one value",
                    run.name
                ));
            }
        }
        Ok(())
    }
}

fn bad_csv(error: &csv::Error) -> String {
    match (error.kind(), error.position()) {
        (csv::ErrorKind::UnequalLengths { expected_len, len, .. }, Some(at)) => format!(
            "line {}: it has {len} cells, and the first line {expected_len}: a cell with a comma stands in quotes",
            at.line()
        ),
        (csv::ErrorKind::Utf8 { .. }, Some(at)) => {
            format!("line {}: it is not UTF-8: save the table as UTF-8", at.line())
        }
        _ => error.to_string(),
    }
}

fn member<'a>(cell: &impl Fn(&str) -> Option<&'a str>) -> Result<Option<RunMember>, String> {
    let time = |name: &str| match cell(name).map(str::parse) {
        None => Ok(None),
        Some(Ok(Moment::At(ns))) => Ok(Some(ns)),
        Some(Ok(Moment::BeforeEnd(_))) | Some(Err(_)) => Err(format!(
            "{name:?} is {:?}, and no time: give one like 2026-03-01T12:00:00Z (RFC 3339)",
            cell(name).unwrap_or_default()
        )),
    };
    let range = TimeRange {
        from_ns: time("from")?,
        to_ns: time("to")?,
    };
    match (cell("stream"), cell("device")) {
        (Some(text), _) => {
            let id: StreamId = text
                .parse()
                .map_err(|_| format!("{text:?} is not a stream id: give its 32 hexadecimal digits"))?;
            Ok(Some(RunMember::stream(id, range)))
        }
        (None, Some(device)) => Ok(Some(RunMember::device(device, range))),
        (None, None) if range == TimeRange::default() => Ok(None),
        (None, None) => Err("there is a time, and no device: say whose time it is".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_becomes_runs() {
        let text = "\u{feff}name,device,from,to,algorithm,note,parent\n\
                    a, js220 ,2026-03-01T12:00:00Z,2026-03-01T12:00:10Z,A,\"first, with fan\",week\n\
                    a,js220,,,,,\n\
                    week,,,,,,\n";
        let rows = rows(text.as_bytes()).expect("it is right");
        let range = TimeRange {
            from_ns: Some(1_772_366_400_000_000_000),
            to_ns: Some(1_772_366_410_000_000_000),
        };
        let first = NewRun {
            parent: Some("week".into()),
            note: "first, with fan".into(),
            ..NewRun::named("a")
                .label("algorithm", "A")
                .member(RunMember::device("js220", range))
        };
        assert_eq!((rows[0].line, &rows[0].run), (2, &first));
        let open = RunMember::device("js220", TimeRange::default());
        assert_eq!((rows[1].line, &rows[1].run), (3, &NewRun::named("a").member(open)));
        assert_eq!(rows[2].run, NewRun::named("week"));
    }

    #[test]
    fn a_label_may_be_called_almost_like_a_column_that_is_there() {
        let text = "name,note,node,from,start,two,stage\nx,,7,,cold,2,\nx,,7,,,,3\n";
        let rows = rows(text.as_bytes()).expect("it is right");
        let labels = |at: usize| {
            rows[at]
                .run
                .labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(labels(0), ["node=7", "start=cold", "two=2"]);
        assert_eq!(labels(1), ["node=7", "stage=3"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, part) in [
            ("device,from\nx,y\n", "line 1: there is no column `name`"),
            ("name,a,a\nx,1,2\n", "line 1: there are two columns \"a\""),
            (
                "name,device,from\na,b,2026-03-01T12:00:00Z\nb,c,yesterday\n",
                "line 3: \"from\" is \"yesterday\", and no time",
            ),
            ("name,device,from\na,b,-10s\n", "line 2: \"from\" is \"-10s\""),
            ("name,device\na,b\nb\n", "line 3: it has 1 cells"),
            ("name,device\n,b\n", "line 2: the run has no name"),
            (
                "name,from\nx,2026-03-01T12:00:00Z\n",
                "line 2: there is a time, and no device",
            ),
            ("name,stream\nx,0b\n", "line 2: \"0b\" is not a stream id"),
            ("name,device\n", "no row"),
            (
                "name,device,start,end\n",
                "line 1: \"start\" would be a label: did you mean \"from\"?",
            ),
            (
                "name,device,from,End\n",
                "line 1: \"End\" would be a label: did you mean \"to\"?",
            ),
            ("name,devcie\n", "did you mean \"device\"?"),
            ("Name,device\n", "did you mean \"name\"?"),
            ("name,device,fron,to\n", "add an empty column \"from\""),
            (
                "name,algorithm\nx,A\ny,B\nx,\nx,B\n",
                "line 5: the label \"algorithm\" of run \"x\" is \"B\", and \"A\" in line 2: give it one value",
            ),
            (
                "name,note\nx,A\nx,B\n",
                "line 3: the note of run \"x\" is \"B\", and \"A\" in line 2",
            ),
            ("name,parent\nx,A\nx,B\n", "line 3: the parent of run \"x\" is \"B\""),
        ] {
            let why = rows(text.as_bytes()).expect_err(part);
            assert!(why.contains(part), "{why}");
        }
        assert!(
            rows(b"name,a\nx,\xff\n")
                .expect_err("not UTF-8")
                .contains("line 2: it is not UTF-8")
        );
    }
}
