//! Every alarm and every refusal must have a reason in this world: honest parties on a good day hear of nothing.

use wavekeep_proto::code::Code;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::uplink::Alarm;

use super::Oracle;

/// How often each was raised.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct AlarmCounts {
    pub(super) rewinds: u64,
    pub(super) jump_gaps: u64,
    pub(super) adoptions: u64,
    pub(super) divergences: u64,
    pub(super) ack_mismatches: u64,
    pub(super) old_primaries: u64,
    pub(super) stream_refusals: u64,
}

impl Oracle {
    /// An agent tells its people. `tampered`: frames of its links were, or did not arrive.
    pub(crate) fn alarm(&mut self, alarm: &Alarm, tampered: bool) {
        let text = alarm.to_string();
        match alarm {
            Alarm::Rewound { .. } => {
                self.alarms.rewinds += 1;
                self.check(self.losses > 0, || {
                    format!("I6: no commit was ever lost, and yet: {text}")
                });
            }
            Alarm::Lost { .. } => {
                self.alarms.jump_gaps += 1;
                self.check(self.losses > 0, || {
                    format!("I13: no commit was ever lost, and yet: {text}")
                });
            }
            Alarm::Adopted { stream, .. } => {
                self.alarms.adoptions += 1;
                let damaged = self.is_damaged(*stream);
                let shared = self.cloned.contains(stream) || self.files.contains(stream);
                let explained = self.tail_lost.contains(stream) || damaged || shared;
                self.check(explained, || format!("I2: the outbox lost nothing, and yet: {text}"));
            }
            Alarm::Diverged { stream, successor } => {
                self.alarms.divergences += 1;
                // What went back and forth: an end that one side has lost, and the other not.
                let lost_here = self.tail_lost.contains(stream) || self.is_damaged(*stream);
                let brought_back = self.losses > 0 && lost_here;
                let explained = self.cloned.contains(stream) || brought_back;
                self.check(explained, || format!("I14: nobody else wrote to it, and yet: {text}"));
                if self.cloned.contains(stream) {
                    self.cloned.insert(*successor);
                }
            }
            Alarm::StreamRefused { code, .. } => {
                self.alarms.stream_refusals += 1;
                self.refused(*code, tampered);
            }
            Alarm::SessionRefused { code, .. } => self.refused(*code, tampered),
            Alarm::WrongLedger { .. } => self.break_with(format!("there is one ledger, and yet: {text}")),
            Alarm::OldPrimary { newest, found } => {
                self.alarms.old_primaries += 1;
                self.check(found < newest, || {
                    format!("I7: the database is not an old one, and yet: {text}")
                });
            }
            Alarm::AckMismatch { .. } => {
                self.alarms.ack_mismatches += 1;
                self.check(tampered, || {
                    format!("I14: the ack was not tampered with, and yet: {text}")
                });
            }
        }
    }

    /// What an outbox held of a stream moved to a successor; what it had released, up to `released_seq`, did not.
    pub(crate) fn succeeded(&mut self, stream: StreamId, successor: StreamId, released_seq: u64) {
        self.successors
            .entry(stream)
            .or_default()
            .push((successor, released_seq));
        if let Some(epoch) = self.epochs.get(&stream).copied() {
            self.epochs.insert(successor, epoch);
        }
    }

    pub(super) fn is_damaged(&self, stream: StreamId) -> bool {
        let epoch = self.epochs.get(&stream);
        epoch.is_some_and(|epoch| self.flipped.contains(epoch))
    }

    /// A server refuses a slot or a session.
    pub(crate) fn refused(&mut self, code: Code, tampered: bool) {
        let passes_by_itself = matches!(code, Code::Busy | Code::LedgerUnavailable | Code::Fenced);
        self.check(passes_by_itself || tampered, || {
            format!("an honest agent is refused: {code:?}")
        });
    }
}
