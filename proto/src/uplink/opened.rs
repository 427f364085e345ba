//! `Opened`: where the committed stream stands, against what the outbox holds. All of reconnection is decided here.
//!
//! | the server is | the digest | then |
//! |---|---|---|
//! | at or behind the tail | agrees, or cannot be known | go on from there; behind what was acked is a *rewind* |
//! | ahead of the tail, or ended where the tail is not | agrees at the last stored seq | *adopt* its position |
//! | anywhere | disagrees | *diverged*: a file adopts (it can be read again), a live stream succeeds to a successor |

use std::collections::VecDeque;
use std::time::Duration;

use super::slot::State;
use super::{Alarm, Link, Outbox, StreamView, Uplink};
use crate::chunk::Position;
use crate::frame::Opened;
use crate::id::StreamId;
use crate::limits;

enum Verdict {
    Continue,
    Adopt,
    Diverged,
    /// The tail grew since `Open`: the server's answer does not reach it. Ask again.
    AskAgain,
}

impl Uplink {
    pub(super) fn on_opened<O: Outbox>(&mut self, now: Duration, opened: Opened, outbox: &O) -> Result<(), O::Error> {
        let Link::Up(session) = &self.link else { return Ok(()) };
        let Some(slot) = session.slots.get(&opened.slot) else {
            self.unknown_slot(opened.slot, "it opened a slot that was never asked for");
            return Ok(());
        };
        // An `end` must still find a seq after it.
        if opened.at.seq >= limits::SEQ_MAX || opened.at.next_sample > limits::SAMPLE_ID_MAX {
            self.violation("it opened a slot at a position that no stream has");
            return Ok(());
        }
        let stream = slot.stream;
        let stored_seq = match slot.state {
            State::Opening { stored_seq, .. } => stored_seq,
            State::Open { .. } => {
                self.violation("it opened a slot twice");
                return Ok(());
            }
        };
        let Some(view) = outbox.view(stream) else {
            self.close_slot(opened.slot, now);
            return Ok(());
        };
        match judge(stream, &opened, stored_seq, &view, outbox)? {
            Verdict::Continue => {
                if opened.at.seq < view.acked {
                    self.alarms.push_back(Alarm::Rewound {
                        stream,
                        from: view.acked,
                        to: opened.at.seq,
                    });
                }
                self.go_on(now, opened, stream, outbox)
            }
            Verdict::Adopt => {
                self.alarms.push_back(Alarm::Adopted {
                    stream,
                    from: view.tail.seq,
                    to: opened.at.seq,
                });
                outbox.adopt(stream, opened.at, false)?;
                self.go_on(now, opened, stream, outbox)
            }
            Verdict::Diverged if view.definition.is_file() => {
                outbox.adopt(stream, opened.at, true)?;
                self.go_on(now, opened, stream, outbox)
            }
            Verdict::Diverged => {
                self.close_slot(opened.slot, now);
                let successor = outbox.succeed(stream)?;
                self.alarms.push_back(Alarm::Diverged { stream, successor });
                Ok(())
            }
            Verdict::AskAgain => {
                self.close_slot(opened.slot, now);
                Ok(())
            }
        }
    }

    /// The server's position is the capture's: acked is there, whichever way that moves it, and sending goes on after it.
    fn go_on<O: Outbox>(
        &mut self,
        now: Duration,
        opened: Opened,
        stream: StreamId,
        outbox: &O,
    ) -> Result<(), O::Error> {
        outbox.set_acked(stream, opened.at.seq, now)?;
        outbox.end(stream)?;
        let Link::Up(session) = &mut self.link else {
            return Ok(());
        };
        if let Some(slot) = session.slots.get_mut(&opened.slot) {
            slot.state = State::Open {
                sent: opened.at,
                acked: opened.at.seq,
                in_flight: VecDeque::new(),
            };
        }
        Ok(())
    }
}

fn judge<O: Outbox>(
    stream: StreamId,
    opened: &Opened,
    stored_seq: u64,
    view: &StreamView,
    outbox: &O,
) -> Result<Verdict, O::Error> {
    let (at, tail) = (opened.at, view.tail);
    if at.seq > tail.seq {
        return judge_ahead(stream, opened, stored_seq, view, outbox);
    }
    let same = |ours: Position| ours.digest == at.digest && ours.next_sample == at.next_sample;
    let agrees = match outbox.position_at(stream, at.seq)? {
        Some(ours) => same(ours),
        // Inside a replacing gap, or no longer held: there is no digest to compare, but the axis must still fit.
        None => match outbox.next(stream, at.seq)?.map(|held| held.chunk.header) {
            None => at.next_sample <= tail.next_sample,
            Some(next) if next.first_seq > at.seq + 1 => at.next_sample <= next.first_sample,
            Some(around) => (around.first_sample..=around.end_sample()).contains(&at.next_sample),
        },
    };
    let over = at.ended && at.seq < tail.seq;
    // The outbox's own `end` was damaged, the server has it: another one would be refused for ever.
    let ended_there = at.ended && !tail.ended;
    Ok(match agrees && !over {
        true if ended_there => Verdict::Adopt,
        true => Verdict::Continue,
        false => Verdict::Diverged,
    })
}

/// Ahead of the tail: a power cut took the outbox's unsynced end, if the digest at the last stored seq agrees.
fn judge_ahead<O: Outbox>(
    stream: StreamId,
    opened: &Opened,
    stored_seq: u64,
    view: &StreamView,
    outbox: &O,
) -> Result<Verdict, O::Error> {
    let agrees = match opened.row {
        None => stored_seq == 0,
        Some((seq, _)) if seq > stored_seq => false,
        Some((seq, digest)) => outbox
            .position_at(stream, seq)?
            .is_some_and(|ours| ours.digest == digest),
    };
    let behind = opened.at.next_sample < view.tail.next_sample || view.tail.ended;
    Ok(match (agrees && !behind, view.tail.seq == stored_seq) {
        (true, true) => Verdict::Adopt,
        (true, false) => Verdict::AskAgain,
        (false, _) => Verdict::Diverged,
    })
}
