//! Does what was captured add up with what is stored? Pure: no clock, no connection.
//!
//! For each stream, in samples of its axis:
//!
//! ```text
//! captured = stored + gaps by reason + quarantined + continued by a successor + dropped by retention + in the outbox
//! ```
//!
//! Captured is what the agent says, if it can be asked; or its `end`, once that is stored, which is its last word; or its last heartbeat.
//! All terms but the last are counted from the rows of chunks. A stream that is still captured adds up as well: what is not stored
//! yet is in the outbox.
//!
//! # Invariants
//! - I13: samples captured = samples stored + samples in named gaps, once the outbox is empty; whatever is off is a [`Finding`].
//! - What is asked first of the agent, then of the server, then of the agent again, is never off because time passed in between.

use std::collections::BTreeMap;

use wavekeep_proto::chunk::{ChunkKind, Reason};
use wavekeep_proto::id::StreamId;

use crate::Account;

/// A stream in an outbox, by its agent's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub stream: StreamId,
    /// Its device.
    pub device: String,
    /// Its run; empty for none.
    pub run: String,
    /// All from here…
    pub first_sample: u64,
    /// … to here was captured.
    pub next_sample: u64,
    /// All before was released: the outbox does not have it any more.
    pub released_sample: u64,
    /// All before was acknowledged.
    pub acked_sample: u64,
    /// Its `end` is stored.
    pub ended: bool,
}

impl Held {
    /// Of two looks, the one before the server was asked and the one after: captured by the end, released by the beginning.
    #[must_use]
    pub fn between(before: Option<&Self>, after: Self) -> Self {
        match before {
            Some(before) => Self {
                released_sample: before.released_sample,
                acked_sample: before.acked_sample,
                ..after
            },
            None => after,
        }
    }
}

/// Who says how much was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The agent, asked now.
    Agent,
    /// The stream's `end`, which its agent wrote.
    End,
    /// The agent's last heartbeat, so old; what was committed since counts as well.
    Heartbeat {
        /// In milliseconds.
        age_ms: u64,
    },
    /// Nobody: it is not known.
    Nobody,
}

/// What does not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Rows of chunks are missing that the stream's row counts.
    Missing {
        /// Samples.
        samples: u64,
    },
    /// There are rows of chunks that the stream's row does not count.
    Surplus {
        /// Samples.
        samples: u64,
    },
    /// The samples add up, and yet the rows stand for other seqs than the stream's row counts.
    Seqs {
        /// That there are.
        found: u64,
        /// That there should be.
        counted: u64,
    },
    /// The stream's row counts other samples as stored than there are.
    Stored {
        /// That there are.
        found: u64,
        /// That the row counts.
        counted: u64,
    },
    /// The stream's row counts other chunks in quarantine than there are.
    Quarantined {
        /// That there are.
        found: u64,
        /// That the row counts.
        counted: u64,
    },
    /// What its outbox has released and the database does not have.
    Neither {
        /// Samples.
        samples: u64,
    },
    /// The database has more than its agent captured.
    Ahead {
        /// Samples.
        samples: u64,
    },
    /// Its outbox holds samples that come after its end.
    AfterEnd {
        /// Samples.
        samples: u64,
    },
}

/// A stream, summed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reckoning {
    /// Which.
    pub stream: StreamId,
    /// Its device.
    pub device: String,
    /// Its run; empty for none.
    pub run: String,
    /// Why it ended; None while it has not.
    pub end_reason: Option<Reason>,
    /// Samples captured; None where nobody says.
    pub captured: Option<u64>,
    /// Who says so.
    pub word: Word,
    /// Samples stored.
    pub stored: u64,
    /// Samples in gaps.
    pub gaps: BTreeMap<Reason, u64>,
    /// Samples in quarantine.
    pub quarantined: u64,
    /// Samples that a successor has as well, and that are counted there.
    pub succeeded: u64,
    /// Samples that retention has dropped.
    pub dropped: u64,
    /// Samples in the outbox that are not committed; None where nobody says.
    pub in_outbox: Option<u64>,
    /// The database is so many samples behind what it acknowledged: the agent sends them again.
    pub behind: u64,
    /// Captured, less all that there is: 0 where it adds up. Where nobody says what was captured, committed.
    pub difference: i128,
    /// Empty: it adds up.
    pub findings: Vec<Finding>,
}

impl Reckoning {
    /// From what the server counts, and what the agent says where it was asked and knows the stream.
    #[must_use]
    pub fn of(account: &Account, held: Option<&Held>) -> Self {
        let info = &account.stream;
        let mut sum = Self {
            run: info.run.clone(),
            end_reason: info.end_reason,
            ..Self::empty(info.id(), &info.definition.device)
        };
        sum.count(account);
        let (first, next) = (info.definition.first_sample, info.at.next_sample);
        sum.against_row(account, next.saturating_sub(first));
        match held {
            Some(held) => sum.against_agent(held, (first, next), info.at.ended),
            None => sum.without_agent(account, (first, next)),
        }
        sum.finish(next.saturating_sub(first))
    }

    /// Of a stream that an outbox holds and the server does not know.
    #[must_use]
    pub fn unknown_to_server(held: &Held) -> Self {
        let mut sum = Self {
            run: held.run.clone(),
            ..Self::empty(held.stream, &held.device)
        };
        sum.against_agent(held, (held.first_sample, held.first_sample), false);
        sum.finish(0)
    }

    /// Does it?
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.findings.is_empty() && self.difference == 0
    }

    /// Samples in gaps of all reasons.
    #[must_use]
    pub fn gap_samples(&self) -> u64 {
        self.gaps.values().fold(0, |sum, samples| sum.saturating_add(*samples))
    }

    fn empty(stream: StreamId, device: &str) -> Self {
        Self {
            stream,
            device: device.into(),
            run: String::new(),
            end_reason: None,
            captured: None,
            word: Word::Nobody,
            stored: 0,
            gaps: BTreeMap::new(),
            quarantined: 0,
            succeeded: 0,
            dropped: 0,
            in_outbox: None,
            behind: 0,
            difference: 0,
            findings: Vec::new(),
        }
    }

    /// All that the rows of chunks come to.
    fn count(&mut self, account: &Account) {
        for sum in &account.chunks {
            let of = match sum.kind {
                _ if sum.succeeded => &mut self.succeeded,
                _ if sum.quarantined => &mut self.quarantined,
                ChunkKind::Samples => &mut self.stored,
                ChunkKind::Gap | ChunkKind::End => self.gaps.entry(sum.reason).or_default(),
            };
            *of = of.saturating_add(sum.samples);
        }
        // An end covers no samples, and is no gap.
        self.gaps.retain(|_, samples| *samples > 0);
    }

    /// The rows of chunks against the stream's own row, which counts so many samples of the axis.
    fn against_row(&mut self, account: &Account, committed: u64) {
        let info = &account.stream;
        let begins = account
            .from
            .unwrap_or_else(|| (info.at.seq.saturating_add(1), info.at.next_sample));
        let not_there = begins.1.saturating_sub(info.definition.first_sample).min(committed);
        let is_whole = begins.0 <= 1;
        if !is_whole && account.may_have_expired {
            self.dropped = not_there;
        }
        let found = self.found();
        match (committed.saturating_sub(found), found.saturating_sub(committed)) {
            (0, 0) => {}
            (samples, 0) => self.findings.push(Finding::Missing { samples }),
            (_, samples) => self.findings.push(Finding::Surplus { samples }),
        }
        let seqs = |sum: u64, one: &crate::ChunkSum| sum.saturating_add(one.seqs);
        let seqs = account.chunks.iter().fold(0, seqs);
        let kept_from = if self.dropped > 0 { begins.0 } else { 1 };
        let counted = info.at.seq.saturating_add(1).saturating_sub(kept_from);
        if self.findings.is_empty() && seqs != counted {
            self.findings.push(Finding::Seqs { found: seqs, counted });
        }
        // Of what retention has dropped, the row still counts the samples.
        if is_whole && self.findings.is_empty() {
            self.against_counts(account);
        }
    }

    /// What the stream's row says of its kinds of chunks.
    fn against_counts(&mut self, account: &Account) {
        let (sums, info) = (&account.chunks, &account.stream);
        let stored = sums
            .iter()
            .filter(|sum| sum.kind == ChunkKind::Samples && !sum.quarantined);
        let stored: u64 = stored.map(|sum| sum.samples).fold(0, u64::saturating_add);
        if stored != info.sample_count {
            let counted = info.sample_count;
            self.findings.push(Finding::Stored { found: stored, counted });
        }
        let quarantined = sums.iter().filter(|sum| sum.quarantined).map(|sum| sum.chunks);
        let quarantined = quarantined.fold(0, u64::saturating_add);
        if quarantined != info.quarantined {
            self.findings.push(Finding::Quarantined {
                found: quarantined,
                counted: info.quarantined,
            });
        }
    }

    fn against_agent(&mut self, held: &Held, (first, next): (u64, u64), ended: bool) {
        self.word = Word::Agent;
        self.captured = Some(held.next_sample.saturating_sub(first));
        let beyond = held.next_sample.saturating_sub(next.max(held.released_sample));
        self.in_outbox = Some(beyond);
        self.behind = held.acked_sample.saturating_sub(next);
        let off = [
            (held.released_sample.saturating_sub(next), neither as fn(u64) -> Finding),
            (next.saturating_sub(held.next_sample), ahead),
            (if ended { beyond } else { 0 }, after_end),
        ];
        let off = off.into_iter().filter(|(samples, _)| *samples > 0);
        self.findings.extend(off.map(|(samples, what)| what(samples)));
    }

    /// The agent was not asked, or does not hold the stream any more.
    fn without_agent(&mut self, account: &Account, (first, next): (u64, u64)) {
        let info = &account.stream;
        let said = account.report.as_ref();
        if info.at.ended {
            self.word = Word::End;
            (self.captured, self.in_outbox) = (Some(next.saturating_sub(first)), Some(0));
        } else if account.succeeded_at.is_some() {
            // What was not committed has moved to the successor.
        } else if let Some(report) = said {
            let captured_to = report.next_sample.max(next);
            self.word = Word::Heartbeat { age_ms: report.age_ms };
            self.captured = Some(captured_to.saturating_sub(first));
            self.in_outbox = Some(captured_to - next);
        }
    }

    /// All terms but the outbox.
    fn found(&self) -> u64 {
        let terms = [self.stored, self.quarantined, self.succeeded, self.dropped];
        terms.into_iter().fold(self.gap_samples(), u64::saturating_add)
    }

    fn finish(mut self, committed: u64) -> Self {
        let there = i128::from(self.found()) + i128::from(self.in_outbox.unwrap_or(0));
        self.difference = i128::from(self.captured.unwrap_or(committed)) - there;
        self
    }
}

fn neither(samples: u64) -> Finding {
    Finding::Neither { samples }
}

fn ahead(samples: u64) -> Finding {
    Finding::Ahead { samples }
}

fn after_end(samples: u64) -> Finding {
    Finding::AfterEnd { samples }
}
