//! What another program writes, cut anywhere.

use proptest::prelude::*;

use super::super::recording_sink::RecordingSink;
use super::*;
use crate::clock::SystemClock;

/// Gives its parts one after the other.
struct Parts(std::vec::IntoIter<Vec<u8>>);

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(part) = self.0.next() else {
            return Ok(0);
        };
        buffer[..part.len()].copy_from_slice(&part);
        Ok(part.len())
    }
}

fn spec(format: PipeFormat) -> PipeSpec {
    PipeSpec {
        device: "pipe".into(),
        format,
        signals: Vec::new(),
        sample_type: None,
        rate_hz: 10.0,
    }
}

fn parts(bytes: &[u8], cuts: &[usize]) -> Parts {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let pairs = cuts.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec());
    Parts(pairs.filter(|part| !part.is_empty()).collect::<Vec<_>>().into_iter())
}

fn open(bytes: &[u8], cuts: &[usize], spec: PipeSpec) -> Result<PipeSource, PipeError> {
    let stop = StopToken::new();
    let source = PipeSource::open(parts(bytes, cuts), spec, Arc::new(SystemClock::new()), &stop)?;
    Ok(source.expect("nobody stops it"))
}

fn read(bytes: &[u8], cuts: &[usize], spec: PipeSpec) -> (Description, RecordingSink) {
    let mut source = open(bytes, cuts, spec).expect("it opens");
    let mut sink = RecordingSink::default();
    source.run(&mut sink, &StopToken::new()).expect("it is read");
    (source.describe(), sink)
}

fn f64s(bytes: &[u8]) -> Vec<f64> {
    bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| f64::from_le_bytes(*bytes))
        .collect()
}

#[test]
fn i4_a_sample_that_is_cut_off_at_the_end_is_missing() {
    let bytes: Vec<u8> = [1.0f32, 2.0, 3.0]
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect();
    let (description, sink) = read(&bytes[..10], &[3, 5], spec(PipeFormat::Raw));
    assert_eq!(description.streams[0].signals[0].name, "current");
    assert_eq!(sink.columns, [bytes[..8].to_vec()]);
    assert_eq!(sink.gaps, [(2..3, Reason::SourceLoss)]);
}

#[test]
fn a_table_names_its_columns() {
    let text = "# a meter\r\ncurrent [mA];temperature (C)\r\n1.5;20\r\n\r\n;21\r\n\"2\";22";
    let (description, sink) = read(text.as_bytes(), &[], spec(PipeFormat::Csv));
    let signals = &description.streams[0].signals;
    let named: Vec<_> = signals
        .iter()
        .map(|signal| (signal.name.as_str(), signal.unit.as_str()))
        .collect();
    assert_eq!(named, [("current", "mA"), ("temperature", "C")]);
    let current = f64s(&sink.columns[0]);
    assert!(
        current[0] == 1.5 && current[1].is_nan() && current[2] == 2.0,
        "{current:?}"
    );
    assert_eq!(f64s(&sink.columns[1]), [20.0, 21.0, 22.0]);
    assert!(sink.gaps.is_empty() && sink.anchors.is_empty());
}

#[test]
fn i4_a_line_that_is_no_row_is_a_missing_sample() {
    let text = "v\n1\nhello\n2\n3,4\n5\nx";
    let (_, sink) = read(text.as_bytes(), &[], spec(PipeFormat::Csv));
    assert_eq!(f64s(&sink.columns[0]), [1.0, 2.0, 5.0]);
    let gaps: Vec<_> = sink.gaps.iter().map(|(range, _)| range.clone()).collect();
    assert_eq!(gaps, [1..2, 3..4, 5..6]);
}

#[test]
fn i4_a_jump_in_time_is_as_many_missing_samples_and_jitter_is_none() {
    let text = "time,v\n1700000000.00,1\n1700000000.13,2\n1700000000.19,3\nbroken\n1700000000.6,4\n1699999000,5\n1699999000.1,6\n";
    let (_, sink) = read(text.as_bytes(), &[], spec(PipeFormat::Csv));
    assert_eq!(f64s(&sink.columns[0]), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(sink.gaps, [(3..6, Reason::SourceLoss)]);
    let s = |s: f64| 1_700_000_000_000_000_000 + (s * 1e9) as i64;
    assert_eq!(sink.anchors, [(0, s(0.0)), (6, s(0.6)), (7, s(-1_000.0))]);
}

#[test]
fn without_names_they_are_asked_for() {
    let two = |names: &[&str]| PipeSpec {
        signals: names.iter().map(|name| ((*name).to_owned(), "V".to_owned())).collect(),
        ..spec(PipeFormat::Csv)
    };
    let refused = |names: &[&str]| open(b"1,2\n", &[], two(names)).map(drop).expect_err("it is refused");
    assert!(matches!(refused(&[]), PipeError::NoNames { columns: 2 }));
    assert!(matches!(refused(&["a", "b", "c"]), PipeError::NoNames { columns: 2 }));
    let (_, sink) = read(b"1,2\n3,4\n", &[], two(&["a", "b"]));
    assert_eq!(sink.columns.len(), 2);
    let (_, sink) = read(b"0,2\n0.1,4\n", &[], two(&["a"]));
    assert_eq!(f64s(&sink.columns[0]), [2.0, 4.0]);
    assert!(matches!(
        open(b"\n# nothing\n", &[], spec(PipeFormat::Csv)),
        Err(PipeError::NoRows)
    ));
    let long = vec![b'x'; limits::CSV_LINE_BYTES_MAX + 1];
    let long = PipeSource::open(
        io::Cursor::new(long),
        spec(PipeFormat::Csv),
        Arc::new(SystemClock::new()),
        &StopToken::new(),
    );
    assert!(matches!(long, Err(PipeError::LongLine)));
}

#[test]
fn i12_a_line_without_end_costs_one_sample_and_no_memory() {
    let mut text = b"v\n1\n".to_vec();
    text.extend(vec![b'7'; 3 * limits::CSV_LINE_BYTES_MAX]);
    text.extend(b"\n2\n");
    let cuts: Vec<usize> = (0..text.len()).step_by(limits::PIPE_READ_BYTES / 2).collect();
    let (_, sink) = read(&text, &cuts, spec(PipeFormat::Csv));
    assert_eq!(f64s(&sink.columns[0]), [1.0, 2.0]);
    assert_eq!(sink.gaps, [(1..2, Reason::SourceLoss)]);
}

#[test]
fn a_silent_writer_delays_nobody() {
    struct Silent;
    impl Read for Silent {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_secs(600));
            Ok(0)
        }
    }
    let stop = StopToken::new();
    let clock = Arc::new(SystemClock::new());
    let source = PipeSource::open(Silent, spec(PipeFormat::Raw), clock.clone(), &stop).expect("it opens");
    stop.stop();
    let mut source = source.expect("raw samples need no first line");
    source.run(&mut RecordingSink::default(), &stop).expect("it ends");
    assert!(matches!(
        PipeSource::open(Silent, spec(PipeFormat::Csv), clock, &stop),
        Ok(None)
    ));
}

proptest! {
    #[test]
    fn i13_wherever_it_is_cut_the_same_samples_come(
        samples in proptest::collection::vec(any::<[u8; 4]>(), 0..200),
        cuts in proptest::collection::vec(any::<usize>(), 0..40),
    ) {
        let two = [("i".to_owned(), "A".to_owned()), ("v".to_owned(), "V".to_owned())];
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| [*sample, *sample].concat()).collect();
        let (_, sink) = read(&bytes, &cuts, PipeSpec { signals: two.to_vec(), ..spec(PipeFormat::Raw) });
        let column: Vec<u8> = samples.concat();
        for read in &sink.columns {
            prop_assert_eq!(read, &column);
        }
        prop_assert!(sink.gaps.is_empty());
    }

    #[test]
    fn any_text_is_read_the_same_wherever_it_is_cut(
        text in "(t,)?v\n([0-9.,;e\n#\" x-]{0,80}\n){0,8}",
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let whole = open(text.as_bytes(), &[], spec(PipeFormat::Csv));
        let cut = open(text.as_bytes(), &cuts, spec(PipeFormat::Csv));
        prop_assert_eq!(whole.is_ok(), cut.is_ok());
        if let (Ok(mut whole), Ok(mut cut)) = (whole, cut) {
            let (mut one, mut other) = (RecordingSink::default(), RecordingSink::default());
            whole.run(&mut one, &StopToken::new()).expect("it is read");
            cut.run(&mut other, &StopToken::new()).expect("it is read");
            prop_assert_eq!(one.columns, other.columns);
            prop_assert_eq!(one.gaps.iter().map(|(range, _)| range.end - range.start).sum::<u64>(), other.gaps.iter().map(|(range, _)| range.end - range.start).sum::<u64>());
            prop_assert_eq!(one.next_sample, other.next_sample);
        }
    }
}
