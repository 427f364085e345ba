//! Is everything still as it was captured? A scrub reads every chunk of a workspace again and holds it against what it was hashed and
//! chained as, and every envelope against the samples.
//!
//! | file | what |
//! |---|---|
//! | `chain` | pure: rows of `chunk`, one after the other |
//! | `content` | pure: the columns of a chunk, and their folds |
//! | `buckets` | pure: rows of `envelope` |
//! | `stream` | pure: a stream, page by page, and where it can be taken up again |
//! | this one | the shell: reads pages, keeps to a rate, goes from stream to stream |
//!
//! It changes nothing, and holds no lock that anybody waits for. What agents, retention and the replay of quarantine do meanwhile is no
//! finding. Not looked at: markers beside those in the headers, labels, runs, the bytes of chunks in quarantine, and UTC of buckets.
//!
//! # Invariants
//! - A page is one transaction; between pages only `StreamScrub` is kept (I12).
//! - What is wrong hides nothing else: the scrub goes on, with what the rows say.

mod buckets;
mod chain;
mod content;
mod stream;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;
use tokio::task::spawn_blocking;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::power::POWER_NUMBER;

use self::buckets::Stored;
use self::stream::StreamScrub;
pub use self::stream::{Mark, Totals, Wrong};
use crate::store::read_chunk::Place;
use crate::store::read_stream::StreamRow;
use crate::store::scrub::{self, Page};
use crate::store::{Database, StoreError, Workspace};
use crate::validate::NoMemory;

/// Which streams, and how fast.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Only of this device.
    pub device: Option<String>,
    /// Only those whose ids begin with these hexadecimal digits.
    pub stream: Option<String>,
    /// Encoded bytes a second; None for as fast as it goes.
    pub bytes_per_second: Option<u64>,
}

/// From where a scrub goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The stream that is next, or under way.
    pub stream: [u8; 16],
    /// Where in it; None for its beginning.
    pub mark: Option<Mark>,
    /// Of the streams before it.
    pub totals: Totals,
}

impl Cursor {
    /// Nothing was looked at.
    pub const START: Self = Self {
        stream: [0; 16],
        mark: None,
        totals: Totals {
            streams: 0,
            chunks: 0,
            samples: 0,
            bytes: 0,
            unfolded: 0,
            findings: 0,
        },
    };
}

/// What a scrub says while it works.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something is wrong in a stream of this device.
    Wrong(StreamId, &'a str, &'a Wrong),
    /// So far it is; from the cursor on it can be taken up again.
    Progress(&'a Totals, &'a Cursor),
}

/// Why it stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// The database did not answer, or not as it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Of this program.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
    /// What the caller did with an event.
    #[error("{0}")]
    Told(#[source] std::io::Error),
}

/// Streams that are looked up at once.
const STREAMS: usize = 64;

struct Scrub<'a, F> {
    database: &'a Database,
    workspace: &'a Workspace,
    order: &'a Order,
    since: Instant,
    /// Bytes that were read since.
    bytes: u64,
    tell: F,
}

/// From a cursor to the end of the workspace. What all of it came to.
pub async fn run<F>(
    database: &Database,
    workspace: &Workspace,
    order: &Order,
    cursor: Cursor,
    tell: F,
) -> Result<Totals, ScrubError>
where
    F: FnMut(Event<'_>) -> std::io::Result<()>,
{
    let mut scrub = Scrub {
        database,
        workspace,
        order,
        since: Instant::now(),
        bytes: 0,
        tell,
    };
    let (mut from, mut mark, mut totals) = (StreamId(cursor.stream), cursor.mark, cursor.totals);
    loop {
        let which = (order.device.as_deref(), order.stream.as_deref());
        let streams = scrub::streams(database, workspace, from, which, STREAMS).await?;
        for id in &streams {
            // The stream that was under way may be gone.
            let mark = mark.take().filter(|_| id.0 == cursor.stream);
            totals = scrub.stream(*id, mark, totals).await?;
        }
        match streams.last().and_then(|last| after(*last)) {
            Some(next) if streams.len() == STREAMS => from = next,
            _ => return Ok(totals),
        }
    }
}

/// The next id.
fn after(id: StreamId) -> Option<StreamId> {
    let next = u128::from_be_bytes(id.0).checked_add(1)?;
    Some(StreamId(next.to_be_bytes()))
}

/// How a page is gone about.
enum Next {
    Take(Box<StreamScrub>),
    /// What was looked at already has changed: from the beginning.
    Again,
    /// Nothing of it is stored any more.
    Over,
}

impl<F> Scrub<'_, F>
where
    F: FnMut(Event<'_>) -> std::io::Result<()>,
{
    /// One stream, and what everything up to its end came to.
    async fn stream(&mut self, id: StreamId, mut mark: Option<Mark>, before: Totals) -> Result<Totals, ScrubError> {
        let mut under_way: Option<Box<StreamScrub>> = None;
        loop {
            let of_mark = mark.as_ref().map_or(0, Mark::seq);
            let seq = under_way.as_ref().map_or(of_mark, |scrub| scrub.seq());
            // It came from a bigint.
            let (page, mut tx) = match scrub::page(self.database, self.workspace, (id, seq as i64)).await {
                Ok(Some(read)) => read,
                Ok(None) => return Ok(before),
                Err(StoreError::Unexpected(what)) => return self.unreadable(id, what, before),
                Err(error) => return Err(error.into()),
            };
            let scrub = match self.next(&page, under_way.take(), mark.take(), before) {
                Next::Take(scrub) => scrub,
                Next::Again => {
                    tx.rollback().await;
                    continue;
                }
                Next::Over => {
                    tx.rollback().await;
                    return Ok(before);
                }
            };
            let stored = self.buckets(&scrub, &page, tx.connection()).await?;
            tx.rollback().await;
            let (scrub, is_over) = self.take(scrub, page, stored, before).await?;
            if is_over {
                return Ok(*scrub.totals());
            }
            under_way = Some(scrub);
        }
    }

    fn next(&self, page: &Page, under_way: Option<Box<StreamScrub>>, mark: Option<Mark>, before: Totals) -> Next {
        let definition = &page.stream.definition;
        let may_be_dropped = may_be_dropped(self.workspace, &page.stream);
        let first = page.chunks.first();
        if may_be_dropped && first.is_none() && page.lowest_seq.is_none() && page.stream.at.seq > 0 {
            return Next::Over;
        }
        let later = first.filter(|first| may_be_dropped && page.lowest_seq == Some(first.seq));
        match under_way.or_else(|| mark.map(|mark| Box::new(StreamScrub::from_mark(definition, &mark)))) {
            None => Next::Take(Box::new(StreamScrub::new(definition, later, before))),
            Some(scrub) if scrub.quarantined() == page.quarantined_before && later.is_none() => Next::Take(scrub),
            Some(_) => Next::Again,
        }
    }

    async fn buckets(
        &self,
        scrub: &StreamScrub,
        page: &Page,
        connection: &mut PgConnection,
    ) -> Result<Stored, StoreError> {
        let Some(times_ns) = page.stream.times_ns else {
            return Ok(Stored::default());
        };
        let definition = &page.stream.definition;
        let stream = definition.id;
        let place = Place { stream, times_ns };
        let signals = definition.signals.iter().map(|signal| u32::from(signal.number));
        let signals: Vec<u32> = signals.chain([POWER_NUMBER]).collect();
        let (own, below) = scrub.ranges(page);
        Ok(Stored {
            own: scrub::buckets(connection, place, &signals, &own).await?,
            below: scrub::buckets(connection, place, &signals, &below).await?,
        })
    }

    /// Is it the last page?
    async fn take(
        &mut self,
        mut scrub: Box<StreamScrub>,
        page: Page,
        stored: Stored,
        before: Totals,
    ) -> Result<(Box<StreamScrub>, bool), ScrubError> {
        let definition = page.stream.definition.clone();
        let work = spawn_blocking(move || {
            let taken = scrub.take(&page, &stored);
            (scrub, taken)
        });
        let (scrub, taken) = work.await.expect("a scrub does not panic");
        let taken = taken?;
        let id = definition.id;
        for wrong in &taken.wrong {
            (self.tell)(Event::Wrong(id, &definition.device, wrong)).map_err(ScrubError::Told)?;
        }
        let cursor = if taken.is_over {
            Cursor {
                stream: after(id).unwrap_or(id).0,
                mark: None,
                totals: *scrub.totals(),
            }
        } else {
            Cursor {
                stream: id.0,
                mark: Some(scrub.resume()),
                totals: before,
            }
        };
        (self.tell)(Event::Progress(scrub.totals(), &cursor)).map_err(ScrubError::Told)?;
        self.keep_rate(taken.bytes).await;
        Ok((scrub, taken.is_over))
    }

    fn unreadable(&mut self, id: StreamId, what: &str, mut totals: Totals) -> Result<Totals, ScrubError> {
        let what = format!("its row cannot be read ({what}), and so none of its chunks");
        let wrong = Wrong { seq: None, what };
        totals.findings += 1;
        (self.tell)(Event::Wrong(id, "?", &wrong)).map_err(ScrubError::Told)?;
        Ok(totals)
    }

    async fn keep_rate(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(rate) = self.order.bytes_per_second {
            let due = Duration::from_secs_f64(self.bytes as f64 / rate.max(1) as f64);
            tokio::time::sleep(due.saturating_sub(self.since.elapsed())).await;
        }
    }
}

/// Is it so old that retention may have dropped its first chunks?
fn may_be_dropped(workspace: &Workspace, stream: &StreamRow) -> bool {
    let first_ns = stream.times_ns.map_or(i64::MAX, |(first, _)| first);
    let age_ns = Timestamp::now().as_nanosecond() - i128::from(first_ns);
    let days = workspace.retention.days();
    days.is_some_and(|days| age_ns > i128::from(days) * 86_400_000_000_000)
}
