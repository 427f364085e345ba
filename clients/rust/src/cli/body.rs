//! What a format makes of samples: their own bytes, an array's, lines of text, or columns.

use std::io::Write as _;

use jiff::Timestamp;
use wavekeep::proto::chunk::Marker;
use wavekeep::proto::stream::{SampleType, Signal, StreamDefinition};
use wavekeep::{Block, Column, StreamInfo};

use super::Format;
use super::facts::Facts;
use super::failure::Failure;
use super::jls::JlsFile;
use super::limits::{FILL_SAMPLES, WRITE_BYTES};
use super::parquet_file::ParquetFile;
use super::raw::{Interleaver, RawFile};

/// An array's header is this long, whatever stands in it: the number of samples is known at the end.
const NPY_HEADER_BYTES: usize = 128;
const NPY_MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// See the module's documentation.
pub(super) enum Body {
    Raw(Interleaver),
    Npy {
        samples: Interleaver,
        descr: &'static str,
        signals: usize,
    },
    Csv(Table),
    Parquet(Box<ParquetFile>),
    Jls(Box<JlsFile>),
}

/// When samples were taken that are not there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times<'a> {
    pub(super) definition: &'a StreamDefinition,
    pub(super) from_ns: i64,
}

impl Times<'_> {
    fn at(&self, sample: u64) -> i64 {
        self.from_ns.saturating_add(self.definition.duration_ns(sample))
    }
}

impl Body {
    /// Refuses what the format cannot hold.
    pub(super) fn new(
        format: Format,
        stream: &StreamInfo,
        signals: &[&Signal],
        file: &mut RawFile,
    ) -> Result<Self, Failure> {
        let types: Vec<SampleType> = signals.iter().map(|signal| signal.sample_type).collect();
        match format {
            Format::Raw => Interleaver::new(types).map(Self::Raw),
            Format::Csv => Ok(Self::Csv(Table::new(signals))),
            Format::Parquet => Ok(Self::Parquet(Box::new(ParquetFile::new(signals)?))),
            Format::Jls => {
                let mut possible = Ok(());
                let begun = file.at(|out| match JlsFile::begin(out, stream, signals) {
                    Ok(begun) => begun.map(Some),
                    Err(failure) => {
                        possible = Err(failure);
                        Ok(None)
                    }
                })?;
                possible?;
                Ok(Self::Jls(Box::new(begun.expect("it began, or was refused"))))
            }
            Format::Npy => {
                let of = types.first().copied().unwrap_or(SampleType::F32);
                if types.iter().any(|other| *other != of) {
                    let sentence = "an array has elements of one type, and these signals have several: export them one by one, with --signal";
                    return Err(Failure::Failed(sentence.into()));
                }
                let Some(descr) = descr(of) else {
                    let sentence = format!(
                        "numpy has no elements of type {}: export --format raw or csv",
                        of.name()
                    );
                    return Err(Failure::Failed(sentence));
                };
                Ok(Self::Npy {
                    signals: types.len(),
                    samples: Interleaver::new(types)?,
                    descr,
                })
            }
        }
    }

    /// What the file begins with, given how many samples come: of an array it is written again when that is known.
    pub(super) fn head(&self, sample_count: u64) -> Vec<u8> {
        match self {
            Self::Raw(_) | Self::Parquet(_) | Self::Jls(_) => Vec::new(),
            Self::Npy { descr, signals, .. } => npy_header(descr, sample_count, *signals),
            Self::Csv(table) => table.head.clone(),
        }
    }

    pub(super) fn samples(&mut self, block: &Block<'_>, file: &mut RawFile) -> Result<(), Failure> {
        match self {
            Self::Raw(samples) | Self::Npy { samples, .. } => file.write(samples.bytes(block.columns, block.count)),
            Self::Csv(table) => {
                table.lines.clear();
                let times = Times {
                    definition: &block.stream.definition,
                    from_ns: block.utc_ns,
                };
                (0..block.count).for_each(|at| table.line(times.at(at), Some((block.columns, at))));
                file.write(&table.lines)
            }
            Self::Parquet(rows) => {
                rows.samples(block, block.first_sample, block.first_sample + block.count)?;
                file.write(&rows.take_bytes())
            }
            Self::Jls(jls) => file.at(|out| jls.samples(out, block)),
        }
    }

    /// Missing samples of all signals, so many, in pieces: NaN, or null where the format has that.
    pub(super) fn fill(&mut self, count: u64, times: Times<'_>, file: &mut RawFile) -> Result<(), Failure> {
        match self {
            Self::Raw(samples) | Self::Npy { samples, .. } => samples.fill(count, |bytes| file.write(bytes)),
            Self::Csv(table) => {
                table.lines.clear();
                for at in 0..count {
                    table.line(times.at(at), None);
                    if table.lines.len() >= WRITE_BYTES {
                        file.write(&table.lines)?;
                        table.lines.clear();
                    }
                }
                file.write(&table.lines)
            }
            Self::Parquet(rows) => {
                let mut done = 0;
                while done < count {
                    let now = (count - done).min(FILL_SAMPLES);
                    rows.missing(times.definition, times.at(done), now)?;
                    file.write(&rows.take_bytes())?;
                    done += now;
                }
                Ok(())
            }
            Self::Jls(jls) => file.at(|out| jls.missing(out, times.definition, times.from_ns, count)),
        }
    }

    /// Notes on the samples that follow; how many of them are lost where the format has them at all.
    pub(super) fn markers(&mut self, markers: Vec<Marker>) -> usize {
        match self {
            Self::Jls(jls) => jls.markers(markers),
            Self::Raw(_) | Self::Npy { .. } | Self::Csv(_) | Self::Parquet(_) => 0,
        }
    }

    /// Writes what waits, and what the format says of the file at its end.
    pub(super) fn finish(self, facts: &Facts, file: &mut RawFile) -> Result<(), Failure> {
        match self {
            // The last bits of a packed signal, with zero padding.
            Self::Raw(samples) => file.write(samples.rest().as_slice()),
            Self::Npy { .. } | Self::Csv(_) => Ok(()),
            Self::Parquet(rows) => file.write(&rows.finish(facts.entries())?),
            Self::Jls(jls) => {
                file.bytes = file.at(|out| jls.finish(out, &facts.entries()))?;
                Ok(())
            }
        }
    }

    /// What the format could not keep, for people.
    pub(super) fn not_kept(&self) -> Option<String> {
        let count = match self {
            Self::Csv(table) => table.odd_nans,
            Self::Raw(_) | Self::Npy { .. } | Self::Parquet(_) | Self::Jls(_) => 0,
        };
        (count > 0).then(|| format!("{count} NaN had a sign or payload, which CSV does not keep: raw and npy do"))
    }
}

fn descr(sample_type: SampleType) -> Option<&'static str> {
    Some(match sample_type {
        SampleType::F32 => "<f4",
        SampleType::F64 => "<f8",
        SampleType::I8 => "|i1",
        SampleType::I16 => "<i2",
        SampleType::I32 => "<i4",
        SampleType::I64 => "<i8",
        SampleType::U8 => "|u1",
        SampleType::U16 => "<u2",
        SampleType::U32 => "<u4",
        SampleType::U64 => "<u8",
        SampleType::U4 | SampleType::U1 | SampleType::I128 => return None,
    })
}

fn npy_header(descr: &str, sample_count: u64, signals: usize) -> Vec<u8> {
    let shape = if signals == 1 {
        format!("({sample_count},)")
    } else {
        format!("({sample_count}, {signals})")
    };
    let dictionary = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let length = NPY_HEADER_BYTES - NPY_MAGIC.len() - 2;
    let mut header = NPY_MAGIC.to_vec();
    header.extend((length as u16).to_le_bytes());
    header.extend(dictionary.bytes());
    header.resize(NPY_HEADER_BYTES - 1, b' ');
    header.push(b'\n');
    header
}

/// Lines of a time and a number of each signal: the shortest decimal that is read as the same bits.
pub(super) struct Table {
    head: Vec<u8>,
    columns: usize,
    lines: Vec<u8>,
    /// The second of the line before, and how it is written.
    second: (i64, String),
    /// NaN that are not the one which `NaN` is read as.
    odd_nans: u64,
}

impl Table {
    fn new(signals: &[&Signal]) -> Self {
        let mut head = b"time".to_vec();
        for signal in signals {
            let is_ambiguous = signal.unit.is_empty() && signal.name.ends_with([']', ')']);
            let name = if signal.unit.is_empty() && !is_ambiguous {
                signal.name.clone()
            } else {
                format!("{} [{}]", signal.name, signal.unit)
            };
            let is_quoted = name.contains([',', ';', '\t', '"', '\n', '\r']);
            let name = if is_quoted {
                format!("\"{}\"", name.replace('"', "\"\""))
            } else {
                name
            };
            head.push(b',');
            head.extend(name.bytes());
        }
        head.push(b'\n');
        Self {
            head,
            columns: signals.len(),
            lines: Vec::new(),
            second: (i64::MIN, String::new()),
            odd_nans: 0,
        }
    }

    fn line(&mut self, time_ns: i64, sample: Option<(&[Column], u64)>) {
        let (second, ns) = (time_ns.div_euclid(1_000_000_000), time_ns.rem_euclid(1_000_000_000));
        if self.second.0 != second {
            let text = Timestamp::from_second(second).map_or_else(|_| second.to_string(), |time| time.to_string());
            self.second = (second, text.trim_end_matches('Z').to_owned());
        }
        write!(self.lines, "{}.{ns:09}Z", self.second.1).expect("a vector takes all");
        match sample {
            None => (0..self.columns).for_each(|_| self.lines.extend(b",NaN")),
            Some((columns, at)) => {
                for column in columns {
                    self.lines.push(b',');
                    self.odd_nans += u64::from(value(&mut self.lines, column, at as usize));
                }
            }
        }
        self.lines.push(b'\n');
    }
}

/// Writes a sample; says whether it is a NaN that is written as another.
fn value(out: &mut Vec<u8>, column: &Column, at: usize) -> bool {
    let Some(bytes) = column.bytes() else {
        out.extend(b"NaN");
        return false;
    };
    let mut is_odd = false;
    macro_rules! number {
        ($number:ty) => {{
            const WIDTH: usize = size_of::<$number>();
            let number = <$number>::from_le_bytes(bytes.as_chunks::<WIDTH>().0[at]);
            write!(out, "{number:?}")
        }};
    }
    macro_rules! float {
        ($number:ty) => {{
            const WIDTH: usize = size_of::<$number>();
            let number = <$number>::from_le_bytes(bytes.as_chunks::<WIDTH>().0[at]);
            is_odd = number.is_nan() && number.to_bits() != <$number>::NAN.to_bits();
            write!(out, "{number:?}")
        }};
    }
    let written = match column.sample_type {
        SampleType::F32 => float!(f32),
        SampleType::F64 => float!(f64),
        SampleType::I8 => number!(i8),
        SampleType::I16 => number!(i16),
        SampleType::I32 => number!(i32),
        SampleType::I64 => number!(i64),
        SampleType::U8 => number!(u8),
        SampleType::U16 => number!(u16),
        SampleType::U32 => number!(u32),
        SampleType::U64 => number!(u64),
        SampleType::I128 => number!(i128),
        SampleType::U4 | SampleType::U1 => {
            let bits = column.sample_type.bits() as usize;
            let packed = bytes[at * bits / 8] >> (at * bits % 8);
            write!(out, "{}", packed & ((1u8 << bits) - 1))
        }
    };
    written.expect("a vector takes all");
    is_odd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrays_header_has_one_length_whatever_is_in_it() {
        for (count, signals) in [(0, 1), (u64::MAX, 128)] {
            let header = npy_header("<f4", count, signals);
            assert!(header.len() == NPY_HEADER_BYTES && header.ends_with(b" \n"));
        }
        let text = String::from_utf8_lossy(&npy_header("<f8", 3, 2)[10..]).into_owned();
        assert!(
            text.starts_with("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }"),
            "{text}"
        );
    }

    #[test]
    fn names_and_times_are_written_as_they_are_read() {
        let signal = |name: &str, unit: &str| Signal {
            number: 0,
            name: name.into(),
            sample_type: SampleType::F32,
            unit: unit.into(),
            finite_only: false,
        };
        let signals = [
            signal("current", "A"),
            signal("count", ""),
            signal("a,\"b\"", "V"),
            signal("x (1)", ""),
        ];
        let mut table = Table::new(&signals.iter().collect::<Vec<_>>());
        let head = String::from_utf8_lossy(&table.head).into_owned();
        assert_eq!(head, "time,current [A],count,\"a,\"\"b\"\" [V]\",x (1) []\n");
        table.line(-1, None);
        table.line(1_700_000_000_000_000_007, None);
        let lines = String::from_utf8_lossy(&table.lines).into_owned();
        assert_eq!(
            lines,
            "1969-12-31T23:59:59.999999999Z,NaN,NaN,NaN,NaN\n2023-11-14T22:13:20.000000007Z,NaN,NaN,NaN,NaN\n"
        );
    }
}
