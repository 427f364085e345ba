//! What the server says. All of it is untrusted: a claim that cannot be true ends the session, and moves nothing.

use std::time::Duration;

use super::slot::State;
use super::{Alarm, Link, Outbox, Session, Uplink};
use crate::code::{Code, Reaction};
use crate::frame::{Ack, Refused, ServerFrame, Welcome};
use crate::limits;
use crate::wire::WireError;

impl Uplink {
    /// A frame arrived, or bytes that are not one.
    pub fn received<O: Outbox>(
        &mut self,
        now: Duration,
        frame: Result<ServerFrame, WireError>,
        outbox: &O,
    ) -> Result<(), O::Error> {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                self.violation(&error.to_string());
                return Ok(());
            }
        };
        if let Link::Up(session) = &mut self.link {
            session.last_received = now;
            if matches!(&frame, ServerFrame::Opened(_) | ServerFrame::Refused(_)) {
                session.await_answer(now, 0);
            }
        }
        match (frame, &self.link) {
            (ServerFrame::Welcome(welcome), Link::Greeting { .. }) => self.on_welcome(now, &welcome, outbox)?,
            (ServerFrame::Refused(refused), Link::Greeting { .. } | Link::Up(_)) => self.on_refused(now, refused),
            (ServerFrame::Opened(opened), Link::Up(_)) => self.on_opened(now, opened, outbox)?,
            (ServerFrame::Ack(ack), Link::Up(_)) => self.on_ack(now, ack, outbox)?,
            (ServerFrame::Heartbeat { window_bytes }, Link::Up(_)) => self.set_window(window_bytes),
            (ServerFrame::Goaway { deadline_ms, .. }, Link::Up(_)) => self.on_goaway(now, deadline_ms),
            // Late words of a session that is over.
            (_, Link::Down { .. } | Link::Connecting) => {}
            (frame, _) => self.violation(&format!("{frame:?} is not for now")),
        }
        Ok(())
    }

    pub(super) fn violation(&mut self, what: &str) {
        self.disconnect
            .get_or_insert_with(|| format!("the server broke the protocol: {what}"));
    }

    /// Late frames of a slot that has closed are ignored; a number that was never given out is a violation.
    pub(super) fn unknown_slot(&mut self, slot: u32, what: &str) {
        let closed = matches!(&self.link, Link::Up(session) if slot > 0 && slot <= session.last_slot);
        if !closed {
            self.violation(what);
        }
    }

    fn on_welcome<O: Outbox>(&mut self, now: Duration, welcome: &Welcome, outbox: &O) -> Result<(), O::Error> {
        match outbox.ledger_id() {
            None => outbox.bind(welcome.ledger_id)?,
            Some(bound) if bound != welcome.ledger_id => {
                self.alarms.push_back(Alarm::WrongLedger {
                    bound,
                    found: welcome.ledger_id,
                });
                self.rarely("the server has another ledger");
                return Ok(());
            }
            Some(_) => {}
        }
        let newest = outbox.generation();
        // A server that does not know is believed: it may be of an older version.
        if (1..newest).contains(&welcome.generation) {
            self.alarms.push_back(Alarm::OldPrimary {
                newest,
                found: welcome.generation,
            });
            // With the usual back-off: another server of the same address may know the new one.
            self.disconnect
                .get_or_insert_with(|| "the server's database is one that a promoted copy has replaced".into());
            return Ok(());
        }
        if welcome.generation > newest {
            outbox.meet_generation(welcome.generation)?;
        }
        if !(limits::VERSION_MIN..=limits::VERSION_MAX).contains(&welcome.version) || welcome.slots_max == 0 {
            self.violation("it chose a version that was not offered, or no slots");
            return Ok(());
        }
        let heartbeat_ms = welcome.heartbeat_ms.clamp(100, limits::HEARTBEAT_MS);
        self.link = Link::Up(Box::new(Session {
            slots: std::collections::BTreeMap::new(),
            last_slot: 0,
            slots_max: welcome.slots_max,
            window_bytes: 0,
            in_flight_bytes: 0,
            pending: None,
            turn: 0,
            last_received: now,
            last_heartbeat: now,
            heartbeat: Duration::from_millis(heartbeat_ms),
            last_progress: now,
            answer_by: now,
            goaway: None,
        }));
        self.set_window(welcome.window_bytes);
        for (stream, state) in &mut self.streams {
            state.has_news = outbox
                .view(*stream)
                .is_some_and(|view| view.to_end || view.acked < view.tail.seq);
        }
        Ok(())
    }

    /// A window under the smallest would make the largest chunk wait for ever.
    fn set_window(&mut self, window_bytes: u64) {
        if window_bytes < limits::WINDOW_BYTES_MIN {
            self.violation("its window is smaller than the largest chunk");
        } else if let Link::Up(session) = &mut self.link {
            session.window_bytes = window_bytes;
        }
    }

    fn on_goaway(&mut self, now: Duration, deadline_ms: u64) {
        if let Link::Up(session) = &mut self.link {
            session.pending = None;
            let deadline = Duration::from_millis(deadline_ms.min(limits::ACK_MS));
            session.goaway.get_or_insert(now + deadline);
        }
    }

    /// Ends the session, and tries again only after the longest back-off: somebody must change something.
    fn rarely(&mut self, why: &str) {
        self.backoff.exhaust();
        self.disconnect.get_or_insert_with(|| why.into());
    }

    fn on_refused(&mut self, now: Duration, refused: Refused) {
        let Refused { slot, code, message } = refused;
        if slot == 0 {
            return self.on_session_refused(code, message);
        }
        let random = self.next_random();
        let Link::Up(session) = &self.link else { return };
        let Some(stream) = session.slots.get(&slot).map(|slot| slot.stream) else {
            return self.unknown_slot(slot, "it refused a slot that was never opened");
        };
        let delay = self
            .streams
            .get_mut(&stream)
            .map_or(Duration::ZERO, |state| state.backoff.next(random));
        self.close_slot(slot, now + delay);
        if code.reaction() != Reaction::Reopen {
            self.alarms.push_back(Alarm::StreamRefused { stream, code, message });
        }
    }

    fn on_session_refused(&mut self, code: Code, message: String) {
        let why = format!("the server ended the session ({code:?}): {message}");
        match code.reaction() {
            Reaction::ReconnectAndAlarm => {
                self.alarms.push_back(Alarm::SessionRefused { code, message });
                self.rarely(&why);
            }
            _ => {
                self.disconnect.get_or_insert(why);
            }
        }
    }

    /// An ack never goes past sent, never backwards, and names the digest that was sent; else nothing moves.
    fn on_ack<O: Outbox>(&mut self, now: Duration, ack: Ack, outbox: &O) -> Result<(), O::Error> {
        self.set_window(ack.window_bytes);
        let Link::Up(session) = &mut self.link else {
            return Ok(());
        };
        let Some(slot) = session.slots.get_mut(&ack.slot) else {
            self.unknown_slot(ack.slot, "it acknowledged a slot that was never opened");
            return Ok(());
        };
        let stream = slot.stream;
        let State::Open { sent, acked, in_flight } = &mut slot.state else {
            self.violation("it acknowledged before Opened");
            return Ok(());
        };
        if ack.watermark < *acked || ack.watermark > sent.seq {
            let what = format!("it acknowledged seq {} between {acked} and {}", ack.watermark, sent.seq);
            self.violation(&what);
            return Ok(());
        }
        if ack.watermark == *acked {
            return Ok(());
        }
        let covered = in_flight.iter().take_while(|chunk| chunk.seq <= ack.watermark).count();
        match covered.checked_sub(1).map(|last| in_flight[last]) {
            Some(last) if last.seq == ack.watermark && last.digest == ack.digest => {}
            Some(last) if last.seq == ack.watermark => {
                self.alarms.push_back(Alarm::AckMismatch {
                    stream,
                    seq: ack.watermark,
                });
                self.violation("an ack's digest is not the capture's");
                return Ok(());
            }
            _ => {
                self.violation("it acknowledged a seq inside of a chunk");
                return Ok(());
            }
        }
        for chunk in in_flight.drain(..covered) {
            session.in_flight_bytes -= chunk.bytes;
            self.acked_utc_ns.extend(chunk.end_utc_ns);
        }
        *acked = ack.watermark;
        assert!(*acked <= sent.seq, "I2: acked ≤ sent");
        session.last_progress = now;
        self.acked_chunks += covered as u64;
        self.backoff.reset();
        if let Some(state) = self.streams.get_mut(&stream) {
            state.backoff.reset();
        }
        outbox.set_acked(stream, ack.watermark, now)
    }
}
