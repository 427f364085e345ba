//! A Parquet file: a column `time`, and one of each signal. Pure: samples go in, the file's bytes come out.
//!
//! # Invariants
//! - The same samples and facts give the same bytes, however they were cut into blocks and whenever that was: row groups end at fixed
//!   rows, and nothing in the file says when it was written, or by which version.
//! - I12: one row group waits, of at most [`ROW_GROUP_BYTES`] and [`ROW_GROUP_ROWS_MAX`].
//! - I4: a missing sample is null, or its row is left out, as the caller chose; it never looks like a value.

mod columns;

use std::sync::Arc;

use ::parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use ::parquet::data_type::Int64Type;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::{ColumnPath, Type};
use wavekeep::proto::stream::{Signal, StreamDefinition};
use wavekeep::{Block, Column};

use self::columns::{SampleColumn, TooLarge};
use super::failure::Failure;
use super::limits::{ROW_GROUP_BYTES, ROW_GROUP_ROWS_MAX};

/// What the file says who wrote it. It does not change with our versions: the same samples are the same bytes.
const CREATED_BY: &str = "wavekeep";
const TIME: &str = "time";
/// What a signal is called whose own name is `time`.
const SIGNAL_TIME: &str = "signal.time";
/// Rows of a page; the default is a thousand times as many pages as anybody looks for.
const PAGE_ROWS: usize = 131_072;
const PAGE_BYTES: usize = 1024 * 1024;
/// For floats there is little to gain above.
const ZSTD_LEVEL: i32 = 1;

/// See the module's documentation.
pub(super) struct ParquetFile {
    file: SerializedFileWriter<Vec<u8>>,
    times: Vec<i64>,
    columns: Vec<SampleColumn>,
    /// Rows of every row group but the last.
    group_rows: usize,
    /// Bytes that the caller has not taken yet.
    out: Vec<u8>,
    pub(super) rows: u64,
}

fn broken(error: ParquetError) -> Failure {
    Failure::Failed(format!("cannot write Parquet: {error}"))
}

impl From<TooLarge> for Failure {
    fn from(TooLarge(value): TooLarge) -> Self {
        Self::Failed(format!(
            "a sample is {value}, and a Parquet decimal has 38 digits: leave its signal out with --signal, or export --format raw"
        ))
    }
}

impl ParquetFile {
    pub(super) fn new(signals: &[&Signal]) -> Result<Self, Failure> {
        let columns: Vec<_> = signals
            .iter()
            .map(|signal| SampleColumn::new(signal.sample_type))
            .collect();
        let row_bytes = size_of::<i64>() + columns.iter().map(SampleColumn::row_bytes).sum::<usize>();
        let schema = schema(signals).map_err(broken)?;
        let file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties()));
        Ok(Self {
            file: file.map_err(broken)?,
            times: Vec::new(),
            columns,
            group_rows: (ROW_GROUP_BYTES / row_bytes).clamp(1, ROW_GROUP_ROWS_MAX),
            out: Vec::new(),
            rows: 0,
        })
    }

    /// Takes the block's samples from `from` to `to`, both on the stream's axis and inside of it.
    pub(super) fn samples(&mut self, block: &Block<'_>, from: u64, to: u64) -> Result<(), Failure> {
        let definition = &block.stream.definition;
        let (mut from, to) = (from - block.first_sample, to - block.first_sample);
        while from < to {
            let now = self.room().min(to - from);
            self.add_times(definition, block.utc_ns, from..from + now);
            for (column, samples) in self.columns.iter_mut().zip(block.columns) {
                add(column, samples, from as usize, (from + now) as usize)?;
            }
            from += now;
            self.end_group_if_full()?;
        }
        Ok(())
    }

    /// Rows of nothing but times, which begin with that of sample 0 of `from_ns`.
    pub(super) fn missing(&mut self, definition: &StreamDefinition, from_ns: i64, count: u64) -> Result<(), Failure> {
        let mut done = 0;
        while done < count {
            let now = self.room().min(count - done);
            self.add_times(definition, from_ns, done..done + now);
            for column in &mut self.columns {
                column.add_missing(now as usize);
            }
            done += now;
            self.end_group_if_full()?;
        }
        Ok(())
    }

    fn room(&self) -> u64 {
        (self.group_rows - self.times.len()) as u64
    }

    fn add_times(&mut self, definition: &StreamDefinition, from_ns: i64, samples: std::ops::Range<u64>) {
        self.rows += samples.end - samples.start;
        let at = |sample| from_ns.saturating_add(definition.duration_ns(sample));
        self.times.extend(samples.map(at));
    }

    fn end_group_if_full(&mut self) -> Result<(), Failure> {
        if self.times.len() < self.group_rows {
            return Ok(());
        }
        self.end_group().map_err(broken)
    }

    fn end_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.file.next_row_group()?;
        let mut columns = self.columns.iter_mut();
        if let Some(mut column) = group.next_column()? {
            column.typed::<Int64Type>().write_batch(&self.times, None, None)?;
            column.close()?;
            self.times.clear();
        }
        while let Some(mut out) = group.next_column()? {
            if let Some(column) = columns.next() {
                column.write(&mut out)?;
            }
            out.close()?;
        }
        group.close()?;
        self.file.flush()?;
        self.out.append(self.file.inner_mut());
        Ok(())
    }

    /// The bytes since the last call.
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// The rest of the file, with what it says of itself.
    pub(super) fn finish(mut self, facts: Vec<(String, String)>) -> Result<Vec<u8>, Failure> {
        if !self.times.is_empty() {
            self.end_group().map_err(broken)?;
        }
        for (key, value) in facts {
            self.file.append_key_value_metadata(KeyValue::new(key, value));
        }
        self.file.finish().map_err(broken)?;
        self.file.flush().map_err(|error| broken(error.into()))?;
        self.out.append(self.file.inner_mut());
        Ok(self.out)
    }
}

fn add(column: &mut SampleColumn, samples: &Column, from: usize, to: usize) -> Result<(), TooLarge> {
    match samples.bytes() {
        Some(bytes) => column.add(bytes, from, to),
        None => {
            column.add_missing(to - from);
            Ok(())
        }
    }
}

fn column_name(signal: &Signal) -> &str {
    if signal.name == TIME { SIGNAL_TIME } else { &signal.name }
}

fn schema(signals: &[&Signal]) -> Result<Type, ParquetError> {
    let time = Type::primitive_type_builder(TIME, Physical::INT64)
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(LogicalType::timestamp(true, TimeUnit::NANOS)))
        .build()?;
    let mut fields = vec![Arc::new(time)];
    for signal in signals {
        fields.push(Arc::new(columns::field(column_name(signal), signal.sample_type)?));
    }
    Type::group_type_builder("schema").with_fields(fields).build()
}

/// Encodings that every reader knows, Spark's among them: plain for floats, deltas for times, which take next to nothing.
fn properties() -> WriterProperties {
    let time = ColumnPath::from(TIME);
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("the level is one of zstd's");
    WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(CREATED_BY.into())
        .set_compression(Compression::ZSTD(level))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_column_encoding(time, Encoding::DELTA_BINARY_PACKED)
        .build()
}
