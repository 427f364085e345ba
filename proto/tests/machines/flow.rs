//! Windows, turns, limits and long silences.

use std::time::Duration;

use proptest::prelude::*;
use wavekeep_proto::chunk::{ChunkKind, Position, Reason};
use wavekeep_proto::frame::{AgentFrame, ServerFrame};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::limits;
use wavekeep_proto::uplink::{LinkState, Outbox as _};

use crate::support::{Agent, Store, after, at, chained, definition, marked, samples, sending, welcome};

const MIB: u64 = 1024 * 1024;
const STREAM: StreamId = StreamId([1; 16]);

/// `streams` streams of `chunks` chunks of about `bytes` each, all open, with this window.
fn many(streams: u8, chunks: u64, bytes: u64, window_bytes: u64) -> Agent {
    let store = Store::default();
    for number in 1..=streams {
        let stream = store.add(definition(number, false));
        store.fill(stream, chunks, bytes as usize);
    }
    let mut agent = Agent::new(store);
    agent.begin(window_bytes);
    for number in 1..=streams {
        agent.open(
            StreamId([number; 16]),
            Position::start(&definition(number, false)),
            None,
        );
    }
    agent
}

#[test]
fn i3_nothing_is_sent_that_would_pass_the_window() {
    let mut agent = many(1, 20, MIB, limits::WINDOW_BYTES_MIN);
    assert_eq!(
        agent.chunks().len(),
        7,
        "the eighth would pass 8 MiB by its share for header and frame"
    );
    assert!(agent.uplink.in_flight_bytes() <= limits::WINDOW_BYTES_MIN);
}

#[test]
fn i3_what_is_in_flight_when_the_window_shrinks_stays() {
    let mut agent = many(1, 30, MIB, 16 * MIB);
    let sent: Vec<Position> = agent.chunks().iter().map(|(_, chunk)| after(chunk)).collect();
    assert_eq!(sent.len(), 15);
    agent.hear(ServerFrame::Heartbeat {
        window_bytes: limits::WINDOW_BYTES_MIN,
    });
    assert!(
        agent.uplink.in_flight_bytes() > agent.uplink.window_bytes(),
        "it was sent under the larger one"
    );
    assert!(agent.ended.is_empty() && agent.chunks().is_empty());
    agent.ack(1, &sent[6]);
    assert!(agent.chunks().is_empty(), "there is still no room");
    agent.ack(1, &sent[8]);
    assert_eq!(agent.seqs(), [(16, 16)], "now there is");
    assert!(agent.uplink.in_flight_bytes() <= limits::WINDOW_BYTES_MIN);
}

#[test]
fn i3_a_disconnect_empties_what_is_in_flight() {
    let mut agent = many(1, 20, MIB, limits::WINDOW_BYTES_MIN);
    assert_eq!(agent.chunks().len(), 7);
    for _ in 0..3 {
        agent.uplink.disconnected(agent.now);
        assert_eq!(agent.uplink.in_flight_bytes(), 0);
        agent.begin(limits::WINDOW_BYTES_MIN);
        agent.open(STREAM, Position::start(&definition(1, false)), None);
        assert_eq!(
            agent.seqs(),
            (1..=7).map(|seq| (seq, seq)).collect::<Vec<_>>(),
            "all of it, and from the start"
        );
    }
}

#[test]
fn i12_the_largest_chunk_fits_the_smallest_window() {
    let store = Store::default();
    store.add(definition(1, false));
    let start = store.tail(STREAM).unwrap();
    store.put(STREAM, samples(&start, 10, limits::CHUNK_COLUMN_BYTES_MAX));
    let mut agent = Agent::new(store);
    agent.begin(limits::WINDOW_BYTES_MIN);
    agent.open(STREAM, start, None);
    assert_eq!(agent.seqs(), [(1, 1)]);
}

#[test]
fn i12_a_window_that_the_largest_chunk_does_not_fit_is_refused() {
    let (mut agent, _, _) = sending(1);
    agent.hear(ServerFrame::Heartbeat {
        window_bytes: limits::WINDOW_BYTES_MIN - 1,
    });
    assert!(agent.ended[0].contains("window"), "{:?}", agent.ended);

    let mut agent = Agent::new(Store::default());
    agent.pump();
    agent.hear(welcome(limits::WINDOW_BYTES_MIN - 1));
    assert!(
        agent.ended[0].contains("window"),
        "or a chunk would wait for ever: {:?}",
        agent.ended
    );
}

#[test]
fn i3_the_window_is_shared_in_turn() {
    let mut agent = many(5, 40, MIB, limits::WINDOW_BYTES_MIN);
    let mut sent = [0u32; 6];
    let mut in_flight: Vec<(u32, Position)> = Vec::new();
    for _ in 0..60 {
        for (slot, chunk) in agent.chunks() {
            sent[slot as usize] += 1;
            in_flight.push((slot, after(&chunk)));
        }
        let (slot, position) = in_flight.remove(0);
        agent.ack(slot, &position);
    }
    // The first to open had the whole window for itself; from then on, each has its turn.
    let (least, most) = (sent[2..].iter().min(), sent[2..].iter().max());
    assert!(
        least >= Some(&10) && most <= Some(&14),
        "the last stream starves: {sent:?}"
    );
}

#[test]
fn a_week_of_silence_and_then_a_chunk() {
    let (mut agent, slot, sent) = sending(1);
    agent.ack(slot, &sent[0]);
    let week = 7 * 24 * 3_600;
    let heartbeat = limits::HEARTBEAT_MS / 1_000;
    for _ in 0..week / heartbeat {
        agent.now += at(heartbeat);
        agent.pump();
        agent.hear(ServerFrame::Heartbeat {
            window_bytes: limits::WINDOW_BYTES_MIN,
        });
    }
    let heartbeats = agent
        .said
        .iter()
        .filter(|frame| matches!(frame, AgentFrame::Heartbeat(_)))
        .count();
    assert!(
        heartbeats as u64 >= week / heartbeat - 1,
        "the server must not think it dead: {heartbeats}"
    );
    assert_eq!((agent.ended.len(), agent.uplink.link_state()), (0, LinkState::Up));
    let stored = agent.store.fill(STREAM, 1, 10);
    agent.pump();
    assert_eq!(agent.seqs(), [(2, 2)]);
    agent.ack(slot, &stored[0]);
    assert_eq!(agent.store.acked(STREAM), 2);
}

#[test]
fn i12_a_server_that_goes_silent_is_given_up() {
    let (mut agent, _, _) = sending(1);
    agent.wait(limits::SILENCE_MS / 1_000 + 1);
    assert!(agent.ended[0].contains("silent"), "{:?}", agent.ended);
}

#[test]
fn i12_an_open_that_is_not_answered_ends_the_session() {
    let store = Store::default();
    store.add(definition(1, false));
    let mut agent = Agent::new(store);
    agent.begin(limits::WINDOW_BYTES_MIN);
    for _ in 0..=limits::ANSWER_MS / 1_000 {
        agent.hear(ServerFrame::Heartbeat {
            window_bytes: limits::WINDOW_BYTES_MIN,
        });
        agent.wait(1);
    }
    assert!(agent.ended[0].contains("did not answer Open"), "{:?}", agent.ended);
}

/// Lets time pass with a server that lives, and says nothing else.
fn wait_with_heartbeats(agent: &mut Agent, seconds: u64) {
    for _ in 0..seconds {
        agent.wait(1);
        agent.hear(ServerFrame::Heartbeat {
            window_bytes: limits::WINDOW_BYTES_MIN,
        });
    }
}

#[test]
fn the_largest_chunk_on_the_slowest_link_is_waited_for() {
    let store = Store::default();
    store.add(definition(1, false));
    let start = store.tail(STREAM).unwrap();
    let at = store.put(STREAM, samples(&start, 10, limits::CHUNK_COLUMN_BYTES_MAX));
    let mut agent = Agent::new(store);
    agent.begin(limits::WINDOW_BYTES_MIN);
    let slot = agent.open(STREAM, start, None);
    wait_with_heartbeats(
        &mut agent,
        limits::CHUNK_COLUMN_BYTES_MAX as u64 / limits::LINK_BYTES_PER_S_MIN,
    );
    agent.ack(slot, &at);
    assert_eq!((agent.ended.len(), agent.store.acked(STREAM)), (0, at.seq));
}

#[test]
fn an_open_behind_a_full_window_is_waited_for() {
    let mut agent = many(1, 7, MIB, limits::WINDOW_BYTES_MIN);
    let before = agent.uplink.in_flight_bytes();
    assert!(before > 7 * MIB);
    let late = agent.store.add(definition(2, false));
    agent.pump();
    agent.slot(late);
    // Acks come, so the link is alive, but the answer stands behind all of them.
    let sent: Vec<Position> = agent.chunks().iter().map(|(_, chunk)| after(chunk)).collect();
    agent.said.clear();
    for at in &sent {
        wait_with_heartbeats(&mut agent, MIB / limits::LINK_BYTES_PER_S_MIN);
        agent.ack(1, at);
    }
    assert!(agent.ended.is_empty(), "{:?}", agent.ended);
    assert_eq!(agent.uplink.link_state(), LinkState::Up);
    wait_with_heartbeats(&mut agent, limits::ANSWER_MS / 1_000 + 1);
    assert!(
        agent.ended[0].contains("did not answer Open"),
        "but not for ever: {:?}",
        agent.ended
    );
}

#[test]
fn an_agent_that_was_stalled_reads_what_waits_before_it_judges() {
    let (mut agent, slot, sent) = sending(1);
    agent.now += at(3 * limits::ACK_MS / 1_000);
    agent.pump();
    assert!(agent.ended.is_empty(), "the ack waits to be read: {:?}", agent.ended);
    agent.ack(slot, &sent[0]);
    assert_eq!((agent.ended.len(), agent.store.acked(STREAM)), (0, 1));
}

#[test]
fn after_goaway_nothing_is_sent_and_acks_are_awaited() {
    let (mut agent, slot, sent) = sending(3);
    agent.hear(ServerFrame::Goaway {
        deadline_ms: 10_000,
        reason: "restart".into(),
    });
    assert_eq!(agent.uplink.link_state(), LinkState::Draining);
    agent.store.fill(STREAM, 2, 10);
    agent.wait(2);
    assert_eq!(agent.seqs(), [], "nothing more goes to a server that is leaving");
    agent.ack(slot, &sent[1]);
    assert!(agent.ended.is_empty(), "one is still awaited");
    agent.ack(slot, &sent[2]);
    assert!(agent.ended[0].contains("drained"), "{:?}", agent.ended);
    agent.begin(limits::WINDOW_BYTES_MIN);
    agent.open(STREAM, sent[2], None);
    assert_eq!(agent.seqs(), [(4, 4), (5, 5)]);
}

#[test]
fn i12_a_goaway_that_never_drains_ends_at_its_deadline() {
    // A deadline from a socket has a limit too.
    for (deadline_ms, lasts_s) in [(5_000, 5), (u64::MAX, limits::ACK_MS / 1_000)] {
        let (mut agent, _, _) = sending(3);
        agent.hear(ServerFrame::Goaway {
            deadline_ms,
            reason: "restart".into(),
        });
        for _ in 0..lasts_s {
            assert!(agent.ended.is_empty(), "{:?}", agent.ended);
            agent.hear(ServerFrame::Heartbeat {
                window_bytes: limits::WINDOW_BYTES_MIN,
            });
            agent.wait(1);
        }
        assert!(agent.ended[0].contains("drained"), "{:?}", agent.ended);
    }
}

#[test]
fn counters_hold_at_their_real_width() {
    let start = Position {
        seq: 0,
        next_sample: 0,
        ..Position::start(&definition(1, false))
    };
    for seq in [u64::from(u16::MAX), u64::from(u32::MAX), limits::SEQ_MAX - 4] {
        let store = Store::default();
        store.add(definition(1, false));
        let far = Position {
            seq,
            next_sample: 1 << 61,
            ..start
        };
        store.stand_at(STREAM, far);
        let positions = store.fill(STREAM, 3, 10);
        let mut agent = Agent::new(store);
        agent.begin(limits::WINDOW_BYTES_MIN);
        let slot = agent.open(STREAM, far, None);
        assert_eq!(
            agent.seqs(),
            [(seq + 1, seq + 1), (seq + 2, seq + 2), (seq + 3, seq + 3)]
        );
        agent.ack(slot, &positions[2]);
        assert_eq!(agent.store.acked(STREAM), seq + 3);
        assert!(agent.ended.is_empty());
    }
}

#[test]
fn an_ack_tells_when_each_chunk_of_samples_was_taken() {
    for file in [false, true] {
        let store = Store::default();
        store.add(definition(1, file));
        let start = store.tail(STREAM).unwrap();
        let mut first = samples(&start, 10, 10);
        first.header.utc_ns = 5_000_000;
        let first = chained(&start, first.header, first.columns);
        let gap = marked(&after(&first), ChunkKind::Gap, Reason::SourceLoss, 5);
        let mut last = samples(&after(&gap), 20, 10);
        last.header.utc_ns = 20_000_000;
        let last = chained(&after(&gap), last.header, last.columns);
        for chunk in [&first, &gap, &last] {
            store.put(STREAM, chunk.clone());
        }
        let mut agent = Agent::new(store);
        agent.begin(limits::WINDOW_BYTES_MIN);
        let slot = agent.open(STREAM, start, None);
        assert_eq!(agent.seqs().len(), 3);
        assert_eq!(agent.acked_utc_ns, [], "nothing is acked");
        agent.ack(slot, &after(&last));
        let ends: &[i64] = if file { &[] } else { &[15_000_000, 40_000_000] };
        assert_eq!(
            agent.acked_utc_ns, ends,
            "at 1 kHz; of a file, long ago; of a gap, never"
        );
    }
}

#[test]
fn a_limit_below_a_chunk_for_each_ack_still_gets_on_and_delays_nothing_else() {
    let store = Store::default();
    let stream = store.add(definition(1, false));
    store.fill(stream, 4, MIB as usize);
    // A chunk of 1 MiB is five times what may be sent while an ack is waited for.
    let limit = MIB * 1_000 / (5 * limits::ACK_MS);
    let mut agent = Agent::limited(store, Some(limit));
    agent.begin(limits::WINDOW_BYTES_MIN);
    agent.open(STREAM, Position::start(&definition(1, false)), None);
    let (mut sent_at, mut heartbeats) = (vec![], 0);
    let patience = 4 * 6 * limits::ACK_MS / 1_000;
    for _ in 0..patience {
        agent.wait(1);
        agent.hear(ServerFrame::Heartbeat {
            window_bytes: limits::WINDOW_BYTES_MIN,
        });
        for frame in std::mem::take(&mut agent.said) {
            match frame {
                AgentFrame::Chunk { slot, chunk } => {
                    sent_at.push(agent.now);
                    agent.ack(slot, &after(&chunk));
                }
                AgentFrame::Heartbeat(_) => heartbeats += 1,
                _ => {}
            }
        }
    }
    assert!(agent.ended.is_empty(), "{:?}", agent.ended);
    assert_eq!(sent_at.len(), 4, "all of them, in their time");
    for pair in sent_at.windows(2) {
        let seconds = (pair[1] - pair[0]).as_secs_f64();
        let bytes_per_s = MIB as f64 / seconds;
        assert!(
            bytes_per_s < limit as f64 * 1.02 && bytes_per_s > limit as f64 * 0.9,
            "{bytes_per_s} of {limit}"
        );
    }
    assert!(
        heartbeats >= patience * 1_000 / limits::HEARTBEAT_MS - 1,
        "{heartbeats}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Chunks of any sizes, and a server that acknowledges at once: the limit is reached, and over no stretch passed by more than the
    /// chunk that begins it.
    #[test]
    fn the_upload_limit_is_exact_over_any_stretch(
        limit in 20_000u64..20_000_000,
        sizes in prop::collection::vec(1usize..1_000_000, 2..30),
    ) {
        let store = Store::default();
        let stream = store.add(definition(1, false));
        let start = Position::start(&definition(1, false));
        let mut tail = start;
        for size in &sizes {
            tail = store.put(stream, samples(&tail, 10, *size));
        }
        let mut agent = Agent::limited(store, Some(limit));
        agent.begin(limits::WINDOW_BYTES_MIN);
        agent.open(STREAM, start, None);
        let mut sent: Vec<(Duration, u64)> = vec![];
        while sent.len() < sizes.len() {
            let said = std::mem::take(&mut agent.said);
            for frame in said {
                if let AgentFrame::Chunk { slot, chunk } = frame {
                    sent.push((agent.now, chunk.flow_bytes()));
                    agent.ack(slot, &after(&chunk));
                }
            }
            if agent.said.is_empty() {
                agent.now = agent.uplink.next_timeout().expect("it has a session").max(agent.now);
                agent.hear(ServerFrame::Heartbeat { window_bytes: limits::WINDOW_BYTES_MIN });
            }
            prop_assert!(agent.ended.is_empty(), "{:?}", agent.ended);
        }
        for first in 0..sent.len() {
            let mut bytes = 0;
            for (at, next_bytes) in &sent[first..] {
                let allowed = (*at - sent[first].0).as_secs_f64() * limit as f64;
                let slack = 1.0 + allowed * 1e-6;
                prop_assert!((bytes as f64 - allowed).abs() <= slack, "{bytes} bytes where {allowed} are allowed");
                bytes += next_bytes;
            }
        }
    }
}
