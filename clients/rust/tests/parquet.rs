//! `export --format parquet` against a scripted server: which rows, which bits, what the file says of itself, and where it stands.

mod support;

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::{LogicalType, Type as Physical};
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{FloatType, Int32Type, Int64Type};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;
use support::command::{Directory, Ran, run, whole, with_gap};
use support::{Capture, START_NS, Script, definition, script, signal};
use wavekeep::proto::chunk::Reason;
use wavekeep::proto::codec::Encoding;
use wavekeep::proto::stream::SampleType;

async fn export(script: Script, output: &Path, more: &[&str]) -> Ran {
    let output = output.to_str().expect("text");
    let mut arguments = vec![
        "export",
        "--device",
        "js220-001",
        "--format",
        "parquet",
        "--output",
        output,
    ];
    arguments.extend(more);
    run(script, &arguments).await
}

fn reader(path: &Path) -> SerializedFileReader<File> {
    SerializedFileReader::new(File::open(path).expect("it is there")).expect("Parquet")
}

/// Values of a column, None where it is null.
macro_rules! column {
    ($reader:expr, $at:expr, $kind:ty) => {{
        let mut all = Vec::new();
        for group in 0..$reader.num_row_groups() {
            let group = $reader.get_row_group(group).expect("a row group");
            let rows = group.metadata().num_rows() as usize;
            let column = group.get_column_reader($at).expect("a column");
            let mut column = get_typed_column_reader::<$kind>(column);
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            column
                .read_records(rows, Some(&mut levels), None, &mut values)
                .expect("it reads");
            let mut values = values.into_iter();
            levels.resize(rows, 1);
            all.extend(
                levels
                    .iter()
                    .map(|level| (*level > 0).then(|| values.next().expect("a value"))),
            );
        }
        all
    }};
}

fn times(reader: &SerializedFileReader<File>) -> Vec<i64> {
    column!(reader, 0, Int64Type).into_iter().flatten().collect()
}

fn bits(reader: &SerializedFileReader<File>, at: usize) -> Vec<Option<u32>> {
    let values = column!(reader, at, FloatType);
    values.into_iter().map(|value| value.map(f32::to_bits)).collect()
}

fn metadata(reader: &SerializedFileReader<File>, key: &str) -> String {
    let entries = reader.metadata().file_metadata().key_value_metadata();
    let entry = entries.into_iter().flatten().find(|entry| entry.key == key);
    entry.and_then(|entry| entry.value.clone()).unwrap_or_default()
}

fn json(reader: &SerializedFileReader<File>, key: &str) -> Value {
    serde_json::from_str(&metadata(reader, key)).expect("JSON")
}

#[tokio::test]
async fn rows_have_exact_times_and_every_bit_of_their_samples() {
    let directory = Directory::new();
    let capture = whole();
    let ran = export(script(&[&capture]), &directory.file(), &[]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let file = reader(&directory.file());
    let expected: Vec<i64> = (0..9).map(|at| START_NS + at * 1_000).collect();
    assert_eq!(times(&file), expected);
    let samples = [0x7f80_0001, 0x8000_0000, 3, 4, 5, 6, 7, 8, 9];
    assert_eq!(bits(&file, 1), samples.map(Some));
    assert_eq!(bits(&file, 2), samples.map(|bits| Some(bits ^ (1 << 31))));
    let columns = file.metadata().file_metadata().schema_descr().columns().to_vec();
    let names: Vec<_> = columns.iter().map(|column| column.name()).collect();
    assert_eq!(names, ["time", "current", "voltage"]);
    let time = columns[0].logical_type_ref();
    assert!(matches!(time, Some(LogicalType::Timestamp(time)) if time.is_adjusted_to_u_t_c));
    assert_eq!(columns[1].physical_type(), Physical::FLOAT);
    let streams = json(&file, "wavekeep.streams");
    assert_eq!(streams[0]["stream"], capture.definition.id.to_string());
    assert_eq!(streams[0]["digest"], capture.at.digest.to_string());
    assert_eq!(streams[0]["epoch"], capture.definition.epoch.to_string());
    assert_eq!(
        (&streams[0]["first_seq"], &streams[0]["last_seq"]),
        (&1.into(), &3.into())
    );
    assert_eq!(streams[0]["rate_hz"], 1e6);
    assert_eq!(json(&file, "wavekeep.signals")[1]["type"], "f32");
    assert_eq!(metadata(&file, "wavekeep.workspace"), "main");
}

#[tokio::test]
async fn the_same_selection_is_the_same_bytes() {
    let directory = Directory::new();
    let other = directory.0.path().join("other.parquet");
    for path in [&directory.file(), &other] {
        let ran = export(script(&[&whole()]), path, &[]).await;
        assert_eq!(ran.code, Some(0), "{}", ran.err);
    }
    let bytes = [&directory.file(), &other].map(|path| std::fs::read(path).expect("written"));
    assert!(bytes[0] == bytes[1]);
}

#[tokio::test]
async fn missing_samples_are_null_or_left_out_and_named() {
    let directory = Directory::new();
    let capture = || script(&[&with_gap(definition(1))]);
    let ran = export(capture(), &directory.file(), &[]).await;
    assert!(ran.code == Some(1) && ran.err.contains("--gaps fill"), "{}", ran.err);
    let ran = export(capture(), &directory.file(), &["--gaps", "fill"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let file = reader(&directory.file());
    let expected = [Some(1), Some(2), None, None, None, Some(3), Some(4)];
    assert_eq!(bits(&file, 1), expected);
    assert_eq!(times(&file)[3], START_NS + 3_000);
    let ran = export(capture(), &directory.file(), &["--gaps", "skip"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let file = reader(&directory.file());
    assert_eq!(bits(&file, 1), [1, 2, 3, 4].map(Some));
    assert_eq!(times(&file), [0, 1_000, 5_000, 6_000].map(|ns| START_NS + ns));
    let gap = &json(&file, "wavekeep.gaps")[0];
    assert_eq!(
        (&gap["first_sample"], &gap["count"], &gap["reason"]),
        (&2.into(), &3.into(), &"source_loss".into())
    );
    assert_eq!(metadata(&file, "wavekeep.gap_policy"), "skip");
}

#[tokio::test]
async fn integers_are_integers_and_one_signal_may_be_missing() {
    let directory = Directory::new();
    let mut integers = definition(1);
    integers.signals = vec![
        signal(0, "code", SampleType::I32),
        signal(1, "range", SampleType::U4),
        signal(2, "trigger", SampleType::U1),
    ];
    let mut capture = Capture::new(integers);
    let codes: Vec<u8> = [-5i32, i32::MIN, 7]
        .iter()
        .flat_map(|code| code.to_le_bytes())
        .collect();
    capture.columns(
        Encoding::Plain,
        3,
        &[Some(codes), Some(vec![0xf2, 0x01]), Some(vec![0b101])],
    );
    capture.columns(Encoding::Plain, 1, &[None, Some(vec![0x07]), Some(vec![1])]);
    for policy in ["fill", "skip"] {
        let ran = export(script(&[&capture]), &directory.file(), &["--gaps", policy]).await;
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        let file = reader(&directory.file());
        assert_eq!(column!(file, 1, Int32Type), [Some(-5), Some(i32::MIN), Some(7), None]);
        assert_eq!(column!(file, 2, Int32Type), [2, 15, 1, 7].map(Some));
        assert_eq!(column!(file, 3, Int32Type), [1, 0, 1, 1].map(Some));
    }
}

/// A capture without an end, as a server answers of whatever range holds it.
fn two_chunks() -> Script {
    let mut capture = Capture::new(definition(1));
    capture.samples(Encoding::Plain, &[1, 2, 3]);
    capture.gap(2, Reason::SourceLoss);
    capture.samples(Encoding::Plain, &[4]);
    let mut script = script(&[&capture]);
    script.chunks = capture.listed();
    script
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_directory_gets_files_by_workspace_device_and_date_once() {
    let directory = Directory::new();
    let lake = directory.0.path().join("lake/");
    let skip = ["--gaps", "skip"];
    let ran = export(two_chunks(), &lake, &skip).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let found: Vec<_> = files(&lake)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "parquet"))
        .collect();
    let id = definition(1).id;
    let name = format!("{id}_000000000001-000000000003_0000000000000000000-0000000000000000006.parquet");
    let expected = lake.join("workspace=main/device=js220-001/date=2026-11-23").join(name);
    assert_eq!(found, [expected]);
    let file = reader(&found[0]);
    assert_eq!(bits(&file, 1), [1, 2, 3, 4].map(Some));
    assert_eq!(json(&file, "wavekeep.streams")[0]["end_sample"], 6);
    let bytes = std::fs::read(&found[0]).expect("it is there");
    // What is there is not fetched again; what a killed one left is swept.
    let partial = found[0].with_file_name(".x.parquet.1.partial");
    std::fs::write(&partial, b"torn").expect("written");
    let ran = export(two_chunks(), &lake, &skip).await;
    assert!(
        ran.code == Some(0) && ran.err.contains("0 files with 0 samples"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("1 were there already") && !partial.exists());
    assert_eq!(std::fs::read(&found[0]).expect("it is there"), bytes);
    let ran = export(two_chunks(), &lake, &["--gaps", "skip", "--signal", "current"]).await;
    assert!(
        ran.code == Some(1) && ran.err.contains("use the same, or another directory"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_directory_is_refused_what_it_cannot_be() {
    let directory = Directory::new();
    let lake = directory.0.path().join("lake/");
    for (more, words) in [
        (&["--gaps", "fill"][..], "give --gaps skip"),
        (&["--follow", "--to", "-1s"], "leave out --to"),
    ] {
        let ran = export(two_chunks(), &lake, more).await;
        assert!(ran.code == Some(2) && ran.err.contains(words), "{}", ran.err);
    }
    let ran = export(two_chunks(), &directory.file(), &["--follow"]).await;
    assert!(ran.code == Some(2) && ran.err.contains("--output DIR/"), "{}", ran.err);
    let ran = export(two_chunks(), &lake, &[]).await;
    assert!(
        ran.code == Some(1) && ran.err.contains("2 samples from") && ran.err.contains("--gaps skip"),
        "{}",
        ran.err
    );
    let left = files(&lake)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "parquet"));
    assert_eq!(left.count(), 0);
}
