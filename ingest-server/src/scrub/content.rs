//! Rows of `chunk_signal`: a row for each column, whose bytes decode to the samples that were hashed at capture, and whose envelope and
//! points are the fold of these samples. Pure, and CPU work.
//!
//! # Invariants
//! - I8, I13, I14: what passes is, sample by sample, what was captured, and readers are told no other fold of it.

use wavekeep_proto::chunk::{Chunk, ChunkKind, ColumnContent, Header};
use wavekeep_proto::id::Hash;
use wavekeep_proto::power::{POWER_NAME, POWER_NUMBER};
use wavekeep_proto::stream::{SampleType, StreamDefinition};

use crate::rollup::Levels;
use crate::rollup::envelope::{Bucket, Envelope};
use crate::rollup::fold::SignalFold;
use crate::store::points::packed;
use crate::store::scrub::{StoredChunk, StoredColumn};
use crate::validate::{NoMemory, Validator, Verdict};

/// The folds of a chunk's samples, where they are known; and what is wrong.
pub(super) type Checked = (Option<Vec<SignalFold>>, Vec<String>);

/// A chunk that is not in quarantine.
pub(super) fn check(
    validator: &mut Validator,
    definition: &StreamDefinition,
    (chunk, header, digest): (&StoredChunk, &Header, Hash),
    columns: &[StoredColumn],
    is_folded: bool,
) -> Result<Checked, NoMemory> {
    let mut wrong = Vec::new();
    let mut payloads = Vec::new();
    let mut rest: Vec<&StoredColumn> = columns.iter().collect();
    let mut take = |signal: u32| {
        let at = rest.iter().position(|column| column.signal.cast_unsigned() == signal)?;
        Some(rest.remove(at))
    };
    let mut stored = Vec::new();
    for (column, signal) in header.columns.iter().zip(&definition.signals) {
        let Some(row) = take(column.signal.into()) else {
            wrong.push(format!("signal {:?} has no row", signal.name));
            continue;
        };
        let (encoding, hash, reason) = match &column.content {
            ColumnContent::Present { encoding, hash } => (Some(*encoding as i16), Some(&hash.as_bytes()[..]), None),
            ColumnContent::Absent(reason) => (None, None, Some(*reason as i16)),
        };
        let says = (row.encoding, row.hash.as_deref(), row.absent_reason) == (encoding, hash, reason)
            && row.payload.is_some() == encoding.is_some();
        if !says || !is_placed(row, header, signal.sample_type) {
            wrong.push(format!(
                "the row of signal {:?} is not what the header says",
                signal.name
            ));
        }
        payloads.extend(row.payload.clone().filter(|_| encoding.is_some()));
        stored.push(row);
    }
    let bytes: usize = payloads.iter().map(bytes::Bytes::len).sum();
    if i64::try_from(bytes) != Ok(chunk.stored_bytes) {
        wrong.push("its stored_bytes is not what its columns take".into());
    }
    let captured = Chunk {
        header: header.clone(),
        digest,
        columns: payloads,
    };
    let folds = match validator.check(definition, &captured)? {
        Verdict::Good(folds) if header.kind == ChunkKind::Samples || captured.columns.is_empty() => Some(folds),
        Verdict::Good(_) => None,
        Verdict::Quarantine(quarantine) => {
            wrong.push(quarantine.why);
            None
        }
    };
    let power = folds.iter().flatten().find(|fold| fold.signal == POWER_NUMBER);
    if power.is_some() {
        match take(POWER_NUMBER) {
            Some(row) if is_placed(row, header, SampleType::F64) && row.payload.is_none() => stored.push(row),
            Some(_) => wrong.push(format!("the row of {POWER_NAME} is not what the header says")),
            None if is_folded => wrong.push(format!("{POWER_NAME} has no row")),
            None => {}
        }
    }
    if folds.is_some() && !rest.is_empty() {
        wrong.push(format!(
            "it has a row of signal {} that its header does not name",
            rest[0].signal
        ));
    }
    if is_folded {
        let folds = folds.iter().flatten();
        wrong.extend(folds.filter_map(|fold| wrong_fold(definition, header.utc_ns, fold, &stored)));
    }
    Ok((folds, wrong))
}

/// What is wrong with the fold that is stored of these samples, where it is stored.
fn wrong_fold(
    definition: &StreamDefinition,
    utc_ns: i64,
    fold: &SignalFold,
    stored: &[&StoredColumn],
) -> Option<String> {
    let row = stored.iter().find(|row| row.signal.cast_unsigned() == fold.signal)?;
    let what = against(definition, utc_ns, fold, row)?;
    Some(format!("{what} of signal {:?}", signal_name(definition, fold.signal)))
}

/// By its number in the tables of folds.
pub(super) fn signal_name(definition: &StreamDefinition, number: u32) -> &str {
    let signal = definition
        .signals
        .iter()
        .find(|signal| u32::from(signal.number) == number);
    match signal {
        Some(signal) => &signal.name,
        None if number == POWER_NUMBER => POWER_NAME,
        None => "?",
    }
}

fn is_placed(row: &StoredColumn, header: &Header, sample_type: SampleType) -> bool {
    let is = |number: u64, stored: i64| u64::try_from(stored) == Ok(number);
    row.start_us == header.utc_ns.div_euclid(1_000)
        && is(header.first_sample, row.first_sample)
        && is(header.count, row.sample_count)
        && row.sample_type == sample_type as i16
}

/// What is wrong with the fold that is stored.
fn against(definition: &StreamDefinition, utc_ns: i64, fold: &SignalFold, row: &StoredColumn) -> Option<String> {
    let stored = match &row.fold {
        Ok(Some(stored)) => stored,
        Ok(None) => return Some("there is no envelope".into()),
        Err(what) => return Some(format!("there is no readable envelope ({what})")),
    };
    if !same(&fold.whole, &stored.whole) {
        return Some("the envelope is not that of the samples".into());
    }
    let is_placed = stored.utc_ns == utc_ns && i64::from(stored.level) == i64::from(Levels::of(definition).point);
    (!is_placed || packed(&fold.points) != stored.points).then(|| "the points are not those of the samples".into())
}

/// Bit by bit: the same samples are folded in the same order, whoever does it.
fn same_envelope(one: &Envelope, other: &Envelope) -> bool {
    let bits = |of: &Envelope| [of.min, of.max, of.sum, of.sumsq].map(f64::to_bits);
    one.count == other.count && (one.is_empty() || bits(one) == bits(other))
}

/// The same. Extremes that f64 does not hold are compared where both know them.
pub(super) fn same(one: &Bucket, other: &Bucket) -> bool {
    let exact = one.exact.zip(other.exact).is_none_or(|(one, other)| one == other);
    exact && one.sample_count == other.sample_count && same_envelope(&one.envelope, &other.envelope)
}
