//! Binary COPY, streamed: small fields are gathered, payloads go to the socket from where they lie.

use sqlx::postgres::{PgConnection, PgCopyIn};

use super::error::StoreError;
use super::limits::COPY_BUFFER_BYTES;
use super::timestamp::Timestamp;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1i16).to_be_bytes();
const NULL: [u8; 4] = (-1i32).to_be_bytes();
const BYTEA_OID: u32 = 17;

/// An integer as a numeric: digits to the base of 10,000, the power of the first, sign, no digits after the point.
fn numeric(value: i128) -> Vec<u8> {
    const NEGATIVE: u16 = 0x4000;
    let (mut rest, mut digits) = (value.unsigned_abs(), Vec::new());
    while rest > 0 {
        digits.push((rest % 10_000) as u16);
        rest /= 10_000;
    }
    let words = [
        digits.len() as u16,
        digits.len().saturating_sub(1) as u16,
        if value < 0 { NEGATIVE } else { 0 },
        0,
    ];
    words
        .into_iter()
        .chain(digits.into_iter().rev())
        .flat_map(u16::to_be_bytes)
        .collect()
}

/// A COPY under way. Rows are written field by field, in the order of the statement's columns.
pub(super) struct BinaryCopy<'c> {
    copy: PgCopyIn<&'c mut PgConnection>,
    buffer: Vec<u8>,
}

fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes)
        .expect("limits.rs keeps every field far below 2 GiB")
        .to_be_bytes()
}

impl<'c> BinaryCopy<'c> {
    /// `sql` is a `COPY table (columns) FROM STDIN (FORMAT binary)`.
    pub(super) async fn begin(connection: &'c mut PgConnection, sql: &'static str) -> sqlx::Result<Self> {
        let copy = connection.copy_in_raw(sql).await?;
        let mut buffer = Vec::with_capacity(2 * COPY_BUFFER_BYTES);
        buffer.extend_from_slice(HEADER);
        Ok(Self { copy, buffer })
    }

    /// Starts a row of so many fields.
    pub(super) async fn row(&mut self, fields: i16) -> sqlx::Result<()> {
        if self.buffer.len() >= COPY_BUFFER_BYTES {
            self.flush().await?;
        }
        self.buffer.extend_from_slice(&fields.to_be_bytes());
        Ok(())
    }

    async fn flush(&mut self) -> sqlx::Result<()> {
        self.copy.send(self.buffer.as_slice()).await?;
        self.buffer.clear();
        Ok(())
    }

    /// bytea or text, small.
    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.buffer.extend_from_slice(&length(value.len()));
        self.buffer.extend_from_slice(value);
    }

    /// bytea of any size.
    pub(super) async fn payload(&mut self, value: &[u8]) -> sqlx::Result<()> {
        if value.len() < COPY_BUFFER_BYTES {
            self.bytes(value);
            return Ok(());
        }
        self.buffer.extend_from_slice(&length(value.len()));
        self.flush().await?;
        self.copy.send(value).await?;
        Ok(())
    }

    /// bytea[].
    pub(super) async fn payloads<'a>(
        &mut self,
        values: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    ) -> sqlx::Result<()> {
        let bytes: usize = values.clone().map(|value| 4 + value.len()).sum();
        let dimensions = u32::from(values.len() > 0);
        self.buffer
            .extend_from_slice(&length(12 + 8 * dimensions as usize + bytes));
        for word in [dimensions, 0, BYTEA_OID] {
            self.buffer.extend_from_slice(&word.to_be_bytes());
        }
        if dimensions == 1 {
            self.buffer.extend_from_slice(&length(values.len()));
            self.buffer.extend_from_slice(&1u32.to_be_bytes());
        }
        for value in values {
            self.payload(value).await?;
        }
        Ok(())
    }

    /// Any type.
    pub(super) fn null(&mut self) {
        self.buffer.extend_from_slice(&NULL);
    }

    /// bigint.
    pub(super) fn i64(&mut self, value: i64) {
        self.bytes(&value.to_be_bytes());
    }

    /// integer.
    pub(super) fn i32(&mut self, value: i32) {
        self.bytes(&value.to_be_bytes());
    }

    /// smallint.
    pub(super) fn i16(&mut self, value: i16) {
        self.bytes(&value.to_be_bytes());
    }

    /// double precision, bit for bit.
    pub(super) fn f64(&mut self, value: f64) {
        self.bytes(&value.to_bits().to_be_bytes());
    }

    /// boolean.
    pub(super) fn bool(&mut self, value: bool) {
        self.bytes(&[u8::from(value)]);
    }

    /// double precision, or NULL.
    pub(super) fn f64_or_null(&mut self, value: Option<f64>) {
        match value {
            Some(value) => self.f64(value),
            None => self.null(),
        }
    }

    /// numeric, or NULL.
    pub(super) fn numeric_or_null(&mut self, value: Option<i128>) {
        match value {
            Some(value) => self.bytes(&numeric(value)),
            None => self.null(),
        }
    }

    /// timestamptz, rounded down to the microsecond.
    pub(super) fn time(&mut self, utc_ns: i64) {
        self.i64(Timestamp::of_ns(utc_ns).number());
    }

    /// Ends it and waits for the answer: so many rows must have been stored.
    pub(super) async fn finish(mut self, rows: u64) -> Result<(), StoreError> {
        self.buffer.extend_from_slice(&TRAILER);
        self.flush().await?;
        if self.copy.finish().await? != rows {
            return Err(StoreError::Unexpected("COPY: it did not store every row"));
        }
        Ok(())
    }
}
