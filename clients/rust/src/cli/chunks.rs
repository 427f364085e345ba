//! `chunks`: the stored chunks, with what they start with; or those that are committed from now on.
//!
//! # Invariants
//! - I1: a follower prints every chunk once, in order of each stream: it asks for those after the last that it printed, whatever
//!   happened to the server in between.
//! - I12: it keeps a seq for each stream, and a few definitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use wavekeep::proto::chunk::ColumnContent;
use wavekeep::proto::id::StreamId;
use wavekeep::proto::stream::StreamDefinition;
use wavekeep::{ChunkInfo, ChunkOrder, Client, Error, Selection, StreamInfo};

use super::ChunkArguments;
use super::failure::Failure;
use super::json::{ChunkLine, encodings, end_ns, kind_name};
use super::limits::{FOLLOW_PERIOD, STREAMS_FOLLOWED_MAX};
use super::listing::{say_if_empty, shown, stream_name, time};
use super::patience::{Patience, Stopped};
use super::table::{Output, fixed, name, number, text};
use super::words::{Scale, thousands};

/// Chunks that are listed where nobody says how many.
const LIMIT: u32 = 100;
/// Definitions that are kept.
const DEFINITIONS_MAX: usize = 10_000;

pub(super) async fn chunks(client: &Client, arguments: &ChunkArguments, output: &mut Output) -> Result<(), Failure> {
    let selection = arguments.select.selection(client).await?;
    let streams = client.streams(&selection).await?;
    let mut printer = Printer::new(client, arguments, &streams);
    printer.headings(output);
    if arguments.follow {
        return follow(client, &selection, arguments, &streams, printer, output).await;
    }
    let order = ChunkOrder {
        // One more tells that there are more.
        limit: arguments.limit.unwrap_or(LIMIT + 1),
        newest_first: arguments.newest_first,
        first_samples: arguments.first_samples,
        after: BTreeMap::new(),
    };
    let mut chunks = client.chunks(&selection, &order).await?;
    let mut printed = 0;
    let mut is_more = false;
    while let Some(chunk) = chunks.next().await? {
        is_more = arguments.limit.is_none() && printed == LIMIT;
        if is_more {
            break;
        }
        printer.print(&chunk, output).await?;
        printed += 1;
    }
    say_if_empty(output, "no chunks");
    if is_more {
        output.flush()?;
        output.note(&format!(
            "there are more than these {LIMIT} chunks: --limit 0 lists them all, --newest-first begins at their end"
        ));
    }
    Ok(())
}

/// Without a start, from now on.
async fn follow(
    client: &Client,
    selection: &Selection,
    arguments: &ChunkArguments,
    streams: &[StreamInfo],
    mut printer: Printer,
    output: &mut Output,
) -> Result<(), Failure> {
    let from_now = arguments.select.from.is_none();
    let seqs = streams.iter().filter(|_| from_now);
    let mut order = ChunkOrder {
        first_samples: arguments.first_samples,
        after: seqs.map(|stream| (stream.id(), stream.at.seq)).collect(),
        ..ChunkOrder::default()
    };
    let mut left = arguments.limit.filter(|limit| *limit > 0).map_or(u64::MAX, u64::from);
    let mut patience = Patience::default();
    while left > 0 {
        let came = new_chunks(client, selection, &mut order, &mut left, &mut printer, output).await;
        output.flush()?;
        match came {
            Ok(()) => {
                patience.answered(output);
                if left > 0 {
                    tokio::time::sleep(FOLLOW_PERIOD).await;
                }
            }
            Err(stopped) => patience.wait(stopped, output).await?,
        }
    }
    Ok(())
}

async fn new_chunks(
    client: &Client,
    selection: &Selection,
    order: &mut ChunkOrder,
    left: &mut u64,
    printer: &mut Printer,
    output: &mut Output,
) -> Result<(), Stopped> {
    let mut chunks = client.chunks(selection, order).await?;
    while let Some(chunk) = chunks.next().await? {
        let (stream, seq) = (chunk.stream, chunk.header.seq);
        // A server that does not know cursors sends everything again.
        if order.after.get(&stream).is_some_and(|known| seq <= *known) {
            continue;
        }
        printer.definition(stream).await?;
        // Noted before anything is printed, which cannot be taken back; nothing in between waits.
        order.after.insert(stream, seq);
        printer.row(&chunk, output)?;
        if order.after.len() > STREAMS_FOLLOWED_MAX {
            let sentence = format!(
                "more than {STREAMS_FOLLOWED_MAX} streams cannot be followed: choose a device (--device) or a run (--run)"
            );
            return Err(Failure::Failed(sentence).into());
        }
        *left -= 1;
        if *left == 0 {
            break;
        }
    }
    Ok(())
}

/// Prints chunks, with units and ends as their streams' definitions say.
struct Printer {
    client: Client,
    definitions: BTreeMap<StreamId, Arc<StreamDefinition>>,
    signals: Vec<String>,
    first_samples: u32,
    follows: bool,
}

impl Printer {
    fn new(client: &Client, arguments: &ChunkArguments, streams: &[StreamInfo]) -> Self {
        let known = streams.iter().take(DEFINITIONS_MAX);
        Self {
            client: client.clone(),
            definitions: known.map(|stream| (stream.id(), stream.definition.clone())).collect(),
            signals: arguments.select.signals.clone(),
            first_samples: arguments.first_samples,
            follows: arguments.follow,
        }
    }

    fn headings(&self, output: &mut Output) {
        // Whoever follows sees rows before those that would decide how wide the columns are.
        let least = |width: usize| if self.follows { width } else { 0 };
        output.table([
            name("DEVICE").spare(5).least(least(10)),
            text("STREAM"),
            number("SEQ").least(least(6)),
            text("KIND").least(least(7)),
            text("REASON").spare(3).least(least(11)),
            number("FIRST SAMPLE").spare(10),
            number("SAMPLES").least(least(7)),
            number("BYTES").spare(4).least(least(7)),
            text("ENCODING, BYTES A SAMPLE").spare(6).least(least(24)),
            fixed("FROM").spare(1).least(least(24)),
            fixed("TO").spare(9).least(least(24)),
            text("DIGEST").spare(8),
            fixed("LOADED AT").spare(7),
            text("FIRST SAMPLES")
                .spare(2)
                .least(if output.is_narrow() { 18 } else { least(60) }),
        ]);
    }

    async fn print(&mut self, chunk: &ChunkInfo, output: &mut Output) -> Result<(), Failure> {
        self.definition(chunk.stream).await?;
        self.row(chunk, output)
    }

    /// Makes sure that a stream is known, if it can be.
    async fn definition(&mut self, stream: StreamId) -> Result<(), Error> {
        if self.definitions.contains_key(&stream) {
            return Ok(());
        }
        if self.definitions.len() >= DEFINITIONS_MAX {
            self.definitions.clear();
        }
        let found = self.client.streams(&Selection::stream(stream)).await?;
        let found = found.into_iter().filter(|info| info.id() == stream);
        self.definitions.extend(found.map(|info| (stream, info.definition)));
        Ok(())
    }

    fn row(&self, chunk: &ChunkInfo, output: &mut Output) -> Result<(), Failure> {
        let definition = self.definitions.get(&chunk.stream).map(|definition| &**definition);
        if output.json {
            return output.json_line(&ChunkLine::new(chunk, definition));
        }
        let header = &chunk.header;
        let reason = match (chunk.quarantined, header.reason.name()) {
            (true, _) => "quarantined",
            (false, "none") => "",
            (false, name) => name,
        };
        let seqs = if header.first_seq == header.seq {
            header.seq.to_string()
        } else {
            format!("{}-{}", header.first_seq, header.seq)
        };
        let digest = shown(chunk.digest.to_string(), output);
        let end_ns = definition.map(|definition| end_ns(chunk, definition));
        output.row([
            chunk.device.clone(),
            stream_name(chunk.stream, output),
            seqs,
            kind_name(header.kind).into(),
            reason.into(),
            header.first_sample.to_string(),
            thousands(header.count),
            thousands(chunk.column_bytes.iter().sum()),
            sizes(&encodings(chunk), &chunk.column_bytes, header.count),
            time(Some(header.utc_ns), output),
            time(end_ns, output),
            digest,
            time(Some(chunk.loaded_at_ns), output),
            definition.map_or_else(String::new, |definition| self.first_samples(chunk, definition)),
        ])
    }

    /// `current 1.25 2.50 mA; voltage not sent`.
    fn first_samples(&self, chunk: &ChunkInfo, definition: &StreamDefinition) -> String {
        if self.first_samples == 0 || chunk.quarantined {
            return String::new();
        }
        let mut columns = Vec::new();
        for column in &chunk.header.columns {
            let mut signals = definition.signals.iter();
            let Some(signal) = signals.find(|signal| signal.number == column.signal) else {
                continue;
            };
            let is_asked = self.signals.is_empty() || self.signals.contains(&signal.name);
            let is_present = matches!(column.content, ColumnContent::Present { .. });
            if !is_asked || !is_present {
                continue;
            }
            let came = chunk.first_samples.iter().find(|came| came.signal == column.signal);
            columns.push(match came {
                Some(came) => format!("{} {}", signal.name, few(&came.values, &signal.unit)),
                // It is damaged, or the server is older.
                None => format!("{} not sent", signal.name),
            });
        }
        columns.join("; ")
    }
}

/// `pco 1.05, plain 4.00`: how columns are encoded, and the bytes a sample that they take; neighbours alike are one.
fn sizes(encodings: &[&str], column_bytes: &[u64], count: u64) -> String {
    let columns: Vec<_> = encodings.iter().zip(column_bytes).collect();
    let alike = columns.chunk_by(|(encoding, _), (next, _)| encoding == next);
    let one = |columns: &[(&&str, &u64)]| {
        let bytes: u64 = columns.iter().map(|(_, bytes)| **bytes).sum();
        let samples = columns.len() as u64 * count;
        format!("{} {:.2}", columns[0].0, bytes as f64 / samples.max(1) as f64)
    };
    alike.map(one).collect::<Vec<_>>().join(", ")
}

/// Four digits of the largest.
fn few(values: &[f64], unit: &str) -> String {
    Scale::of_four_digits(values).all_with_unit(values, unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_explained_by_what_they_take() {
        assert_eq!(sizes(&[], &[], 7), "");
        assert_eq!(sizes(&["pco", "pco"], &[100, 110], 100), "pco 1.05");
        assert_eq!(sizes(&["pco", "plain"], &[105, 400], 100), "pco 1.05, plain 4.00");
        assert_eq!(sizes(&["plain"], &[0], 0), "plain 0.00");
    }

    #[test]
    fn few_samples_read_well() {
        assert_eq!(few(&[0.001_234_56, -0.000_5, 0.0], "A"), "1.235 -0.500 0.000 mA");
        assert_eq!(few(&[3.3, f64::NAN], "V"), "3.300 NaN V");
        assert_eq!(
            (few(&[0.0, 0.0], "V"), few(&[1.0, 0.0], "")),
            ("0 0 V".into(), "1.000 0.000".into())
        );
        assert_eq!(few(&[], "V"), "V");
    }
}
