//! A session over a real connection: the shell, the writers and a ledger in memory, against a scripted agent.

#[path = "support/client.rs"]
mod client;
#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/model.rs"]
mod model;

use std::time::Duration;

use prost::Message;
use tokio::task::JoinHandle;
use wavekeep_proto::chunk::Chunk;
use wavekeep_proto::code::Code;
use wavekeep_proto::frame::{AgentFrame, ServerFrame, SlotStatus};
use wavekeep_proto::hash;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::limits;
use wavekeep_proto::v1::{self, agent_frame};
use wavekeep_proto::wire;
use wavekeep_server::ingest::IngestConfig;
use wavekeep_server::ledger;
use wavekeep_server::telemetry::start_metrics;

use client::{Client, hello};
use fixtures::{Capture, definition};
use lab::{Lab, MIB};
use model::Fault;

fn chunk_frame(slot: u32, chunk: &Chunk) -> v1::ChunkFrame {
    v1::ChunkFrame {
        slot,
        chunk: Some(wire::chunk_to_wire(chunk)),
    }
}

fn damaged(slot: u32, chunk: &Chunk) -> v1::AgentFrame {
    let mut frame = chunk_frame(slot, chunk);
    let wire = frame.chunk.as_mut().expect("it is there");
    let mut column = wire.columns[0].to_vec();
    column[0] ^= 1;
    wire.columns[0] = column.into();
    v1::AgentFrame {
        frame: Some(agent_frame::Frame::Chunk(frame)),
        ..v1::AgentFrame::default()
    }
}

#[tokio::test]
async fn a_stream_is_opened_committed_and_acked_with_its_digest() {
    let lab = Lab::start().await;
    let mut client = Client::connect(lab.address).await;
    client.hello("main").await;
    let welcome = client.welcomed().await;
    assert_eq!(welcome.ledger_id, lab.ledger.ledger_id);
    assert_eq!(welcome.window_bytes, 64 * MIB);
    let mut capture = Capture::new(&definition(1));
    assert_eq!(client.opened(1, &capture).await, capture.at);
    for chunk in capture.run(50, 100) {
        client.chunk(1, &chunk).await;
    }
    client.chunk(1, &capture.end()).await;
    let ack = client.acked(1, 51).await;
    assert_eq!(ack.digest, capture.at.digest, "I14");
    assert_eq!(lab.seqs(1), (1..=51).collect::<Vec<_>>());
    assert!(lab.ledger.stream(StreamId([1; 16])).at.ended);
}

#[tokio::test]
async fn i7_what_an_agent_says_of_open_slots_is_written_down_once_in_a_while() {
    let lab = Lab::start().await;
    let mut client = Client::welcome(lab.address).await;
    let mut capture = Capture::new(&definition(1));
    client.opened(3, &capture).await;
    let status = |slot, next_sample| SlotStatus {
        slot,
        stored_seq: 7,
        next_sample,
        outbox_bytes: 5,
        oldest_unacked_ms: 6,
    };
    // A heartbeat before anything is open says nothing of a stream; a slot that is none says nothing either.
    client.send(&AgentFrame::Heartbeat(Vec::new())).await;
    client
        .send(&AgentFrame::Heartbeat(vec![status(9, 1), status(3, 500)]))
        .await;
    client.send(&AgentFrame::Heartbeat(vec![status(3, 600)])).await;
    client.chunk(3, &capture.run(1, 100)[0]).await;
    client.acked(3, 1).await;
    let owner = lab.ledger.stream(StreamId([1; 16])).owner;
    let reports = lab.ledger.state().reports.clone();
    let [(agent, said)] = &reports[..] else {
        panic!("once in half a minute, not {reports:?}");
    };
    let expected = ledger::Report {
        stream: StreamId([1; 16]),
        owner,
        stored_seq: 7,
        next_sample: 500,
        outbox_bytes: 5,
        oldest_unacked_ms: 6,
    };
    assert_eq!((agent, &said[..]), (&hello("main").agent, &[expected][..]));
}

#[tokio::test]
async fn no_common_version_is_refused_with_both_ranges() {
    let lab = Lab::start().await;
    let client = Client::connect(lab.address).await;
    let mut from_the_future = hello("main");
    (from_the_future.version_min, from_the_future.version_max) = (7, 9);
    client.send(&AgentFrame::Hello(from_the_future)).await;
    let (code, message) = client.refused_session().await;
    assert_eq!(code, Code::Version);
    assert!(message.contains("7 to 9") && message.contains("1 to 1"), "{message}");
}

#[tokio::test]
async fn an_unknown_workspace_is_refused_with_what_to_do() {
    let lab = Lab::start().await;
    let client = Client::connect(lab.address).await;
    client.hello("mian").await;
    let (code, message) = client.refused_session().await;
    assert_eq!(code, Code::UnknownWorkspace);
    assert!(
        message.contains("\"mian\"") && message.contains("workspace create"),
        "{message}"
    );
}

#[tokio::test]
async fn a_damaged_frame_closes_its_slot_which_opens_again_and_resumes() {
    let lab = Lab::start().await;
    let mut client = Client::welcome(lab.address).await;
    let mut capture = Capture::new(&definition(1));
    client.opened(1, &capture).await;
    let chunks = capture.run(3, 10);
    client.chunk(1, &chunks[0]).await;
    client.acked(1, 1).await;
    client.send_wire(damaged(1, &chunks[1])).await;
    // Already on its way: dropped.
    client.chunk(1, &chunks[2]).await;
    let (slot, code, _) = client.refused().await;
    assert_eq!((slot, code), (1, Code::Damaged));
    assert_eq!(client.opened(2, &capture).await.seq, 1);
    client.chunk(2, &chunks[1]).await;
    client.chunk(2, &chunks[2]).await;
    client.acked(2, 3).await;
    assert_eq!(lab.seqs(1), [1, 2, 3]);
}

#[tokio::test]
async fn i7_a_stream_that_another_session_takes_is_fenced() {
    let lab = Lab::start().await;
    let (mut first, mut second) = (Client::welcome(lab.address).await, Client::welcome(lab.address).await);
    let mut capture = Capture::new(&definition(1));
    first.opened(1, &capture).await;
    let chunks = capture.run(2, 10);
    first.chunk(1, &chunks[0]).await;
    first.acked(1, 1).await;
    assert_eq!(second.opened(1, &capture).await.seq, 1);
    first.chunk(1, &chunks[1]).await;
    let (slot, code, _) = first.refused().await;
    assert_eq!((slot, code), (1, Code::Fenced));
    second.chunk(1, &chunks[1]).await;
    second.acked(1, 2).await;
    assert_eq!(lab.seqs(1), [1, 2]);
}

#[tokio::test]
async fn an_encoding_that_this_version_cannot_decode_is_refused_not_quarantined() {
    let lab = Lab::start().await;
    let mut client = Client::welcome(lab.address).await;
    let mut capture = Capture::new(&definition(1));
    client.opened(1, &capture).await;
    let mut frame = chunk_frame(1, &capture.samples(&[1.0]));
    let wire = frame.chunk.as_mut().expect("it is there");
    let mut header = v1::ChunkHeader::decode(&wire.header[..]).expect("a header");
    header.columns[0].encoding = 4;
    wire.header = header.encode_to_vec().into();
    let columns = wire.columns.iter().map(|column| &column[..]);
    wire.frame_hash = hash::frame_hash(&wire.header, &wire.digest, columns).to_vec().into();
    let frame = v1::AgentFrame {
        frame: Some(agent_frame::Frame::Chunk(frame)),
        ..v1::AgentFrame::default()
    };
    client.send_wire(frame).await;
    let (slot, code, message) = client.refused().await;
    assert_eq!((slot, code), (1, Code::Unsupported));
    assert!(message.contains("encoding 4"), "{message}");
}

#[tokio::test]
async fn i12_a_message_over_the_limit_is_refused_with_a_record() {
    let lab = Lab::start().await;
    let mut client = Client::welcome(lab.address).await;
    let mut capture = Capture::new(&definition(1));
    client.opened(1, &capture).await;
    let mut frame = chunk_frame(1, &capture.samples(&[1.0]));
    let chunk = frame.chunk.as_mut().expect("it is there");
    chunk.columns[0] = vec![0; limits::MESSAGE_BYTES_MAX + 1].into();
    let frame = v1::AgentFrame {
        frame: Some(agent_frame::Frame::Chunk(frame)),
        ..v1::AgentFrame::default()
    };
    client.send_wire(frame).await;
    let (code, message) = client.refused_session().await;
    assert_eq!(code, Code::Protocol);
    assert!(message.contains("too large"), "{message}");
}

#[tokio::test]
async fn i6_after_an_ambiguous_commit_the_session_ends_and_open_says_where_the_stream_stands() {
    for stored in [true, false] {
        let lab = Lab::start().await;
        let mut client = Client::welcome(lab.address).await;
        let mut capture = Capture::new(&definition(1));
        client.opened(1, &capture).await;
        lab.ledger.state().faults.push_back(Fault::Ambiguous { stored });
        client.chunk(1, &capture.samples(&[1.0])).await;
        let (code, _) = client.refused_session().await;
        assert_eq!(code, Code::LedgerUnavailable);
        let mut again = Client::welcome(lab.address).await;
        assert_eq!(again.opened(1, &capture).await.seq, u64::from(stored));
    }
}

#[tokio::test]
async fn a_ledger_that_breaks_ends_every_session() {
    let lab = Lab::start().await;
    let (idle, other) = (Client::welcome(lab.address).await, Client::welcome(lab.address).await);
    lab.registry.ledger_lost();
    assert_eq!(idle.refused_session().await.0, Code::LedgerUnavailable);
    assert_eq!(other.refused_session().await.0, Code::LedgerUnavailable);
    let early = Client::connect(lab.address).await;
    early.hello("main").await;
    assert_eq!(early.refused_session().await.0, Code::LedgerUnavailable);
    lab.registry.ledger_up();
    Client::welcome(lab.address).await;
}

#[tokio::test]
async fn an_open_that_the_ledger_does_not_answer_ends_the_session() {
    let lab = Lab::start().await;
    let client = Client::welcome(lab.address).await;
    lab.ledger.state().opens_fail = true;
    client.open(1, &Capture::new(&definition(1)), 0).await;
    assert_eq!(client.refused_session().await.0, Code::LedgerUnavailable);
}

#[tokio::test]
async fn a_definition_that_differs_refuses_its_slot_alone() {
    let lab = Lab::start().await;
    let mut client = Client::welcome(lab.address).await;
    client.opened(1, &Capture::new(&definition(1))).await;
    let mut other = definition(1);
    other.rate_hz = 5.0;
    client.open(2, &Capture::new(&other), 0).await;
    let (slot, code, _) = client.refused().await;
    assert_eq!((slot, code), (2, Code::DefinitionMismatch));
    client.opened(3, &Capture::new(&definition(2))).await;
}

#[tokio::test]
async fn a_stream_that_cannot_be_opened_refuses_its_slot_alone() {
    let lab = Lab::start().await;
    let mut client = Client::welcome(lab.address).await;
    client.opened(1, &Capture::new(&definition(1))).await;
    let locked = definition(2);
    let misfit = definition(3);
    lab.ledger.state().locked.insert(locked.id);
    lab.ledger.state().misfits.insert(misfit.id);
    client.open(2, &Capture::new(&locked), 0).await;
    let (slot, code, _) = client.refused().await;
    assert_eq!((slot, code), (2, Code::Fenced));
    client.open(3, &Capture::new(&misfit), 0).await;
    let (slot, code, _) = client.refused().await;
    assert_eq!((slot, code), (3, Code::InvalidDefinition));
    client.opened(4, &Capture::new(&definition(4))).await;
}

#[tokio::test]
async fn a_thousand_streams_open_in_one_session() {
    let lab = Lab::start().await;
    let mut client = Client::welcome(lab.address).await;
    for slot in 1..=1000u32 {
        let mut one = definition(1);
        one.id = StreamId(u128::from(slot).to_be_bytes());
        client.open(slot, &Capture::new(&one), 0).await;
    }
    let mut opened = std::collections::BTreeSet::new();
    while opened.len() < 1000 {
        match client.next().await {
            ServerFrame::Opened(one) => assert!(opened.insert(one.slot)),
            other => panic!("Opened was expected, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_its_acks_is_disconnected_and_wedges_nobody() {
    let metrics = start_metrics().expect("no other test of this process does");
    let config = IngestConfig {
        slow_reader: Duration::from_millis(300),
        ..IngestConfig::default()
    };
    let lab = Lab::with(config, lab::budget(64 * MIB)).await;
    let mut good = Client::welcome(lab.address).await;
    let mut capture = Capture::new(&definition(1));
    good.opened(1, &capture).await;
    // With a window for a few frames, what the server says stays with the server once nobody reads.
    let mut deaf = Client::connect_as(lab.address, |endpoint| endpoint.initial_stream_window_size(1000)).await;
    deaf.hello("main").await;
    deaf.welcomed().await;
    let mut refused = definition(2);
    refused.signals.clear();
    let refused = Capture::new(&refused);
    for slot in 1..=300 {
        deaf.open(slot, &refused, 0).await;
    }
    for chunk in capture.run(20, 10) {
        good.chunk(1, &chunk).await;
    }
    good.acked(1, 20).await;
    lab.until("the deaf client's end", |registry| {
        registry.conditions().borrow().sessions == 1
    })
    .await;
    let refusals = metrics.render();
    assert!(
        refusals.contains("wavekeep_refusals_total{code=\"slow_reader\"} 1"),
        "{refusals}"
    );
    good.chunk(1, &capture.samples(&[1.0])).await;
    good.acked(1, 21).await;
}

#[tokio::test]
async fn drain_acks_all_that_was_accepted_and_then_closes() {
    let mut lab = Lab::start().await;
    let mut clients = Vec::new();
    for number in 1..=3 {
        let mut client = Client::welcome(lab.address).await;
        let capture = Capture::new(&definition(number));
        client.opened(1, &capture).await;
        clients.push((client, capture));
    }
    lab.ledger.hold(true);
    for (client, capture) in &mut clients {
        for chunk in capture.run(40, 10) {
            client.chunk(1, &chunk).await;
        }
    }
    let accepted = 120 * limits::CHUNK_OVERHEAD_BYTES;
    lab.until("accepting", |registry| registry.in_use_bytes() > accepted)
        .await;
    lab.stop();
    for (client, _) in &mut clients {
        assert!(matches!(client.next().await, ServerFrame::Goaway { .. }));
    }
    let refused = Client::connect(lab.address).await;
    let (registry, ledger) = (lab.registry.clone(), lab.ledger.clone());
    refused.hello("main").await;
    drop(refused);
    ledger.hold(false);
    for (client, capture) in &mut clients {
        let mut last = None;
        while let Some(frame) = client.next_or_end().await {
            match frame {
                ServerFrame::Ack(ack) => last = Some(ack),
                other => panic!("acks were expected, not {other:?}"),
            }
        }
        let ack = last.expect("acked before the end");
        let stored = ledger.stream(capture.definition.id);
        assert_eq!((ack.watermark, ack.digest), (stored.at.seq, stored.at.digest), "I6");
        assert!(ack.watermark > 0);
    }
    let ledger_rows: usize = (1..=3).map(|number| lab.seqs(number).len()).sum();
    assert!(ledger_rows > 0 && registry.in_use_bytes() == 0);
    drop(clients);
    lab.stopped().await.expect("drained");
}

#[tokio::test]
async fn a_drain_that_the_ledger_does_not_answer_gives_up_at_its_deadline() {
    let config = IngestConfig {
        drain: Duration::from_millis(300),
        ..IngestConfig::default()
    };
    let mut lab = Lab::with(config, lab::budget(64 * MIB)).await;
    let mut client = Client::welcome(lab.address).await;
    let mut capture = Capture::new(&definition(1));
    client.opened(1, &capture).await;
    lab.ledger.hold(true);
    client.chunk(1, &capture.samples(&[1.0])).await;
    lab.until("accepting", |registry| registry.in_use_bytes() > 0).await;
    lab.stop();
    assert!(matches!(client.next().await, ServerFrame::Goaway { .. }));
    assert_eq!(client.refused_session().await.0, Code::Busy);
    lab.stopped().await.expect("the session has ended, if not well");
}

#[tokio::test]
async fn an_old_connection_is_drained() {
    let config = IngestConfig {
        connection_age_max: Duration::from_millis(200),
        ..IngestConfig::default()
    };
    let lab = Lab::with(config, lab::budget(64 * MIB)).await;
    let mut client = Client::welcome(lab.address).await;
    assert!(matches!(client.next().await, ServerFrame::Goaway { .. }));
    assert_eq!(client.next_or_end().await, None);
}

#[tokio::test]
async fn an_agent_that_ends_its_side_gets_its_acks() {
    let lab = Lab::start().await;
    let mut client = Client::welcome(lab.address).await;
    let mut capture = Capture::new(&definition(1));
    client.opened(1, &capture).await;
    for chunk in capture.run(10, 10) {
        client.chunk(1, &chunk).await;
    }
    let mut client = client.end();
    let mut watermark = 0;
    while let Some(frame) = client.next_or_end().await {
        if let ServerFrame::Ack(ack) = frame {
            watermark = ack.watermark;
        }
    }
    assert_eq!(watermark, 10);
}

#[tokio::test]
async fn i12_memory_stays_under_the_budget_whatever_agents_do() {
    let lab = Lab::with(IngestConfig::default(), lab::budget(32 * MIB)).await;
    let most = lab.registry.sessions_max();
    assert_eq!(most, 4);
    let mut clients = Vec::new();
    for number in 1..=4 {
        let mut client = Client::welcome(lab.address).await;
        let capture = Capture::new(&definition(number));
        client.opened(1, &capture).await;
        clients.push((client, capture));
    }
    let late = Client::connect(lab.address).await;
    let (code, message) = late.refused_session().await;
    assert_eq!(code, Code::Busy);
    assert!(message.contains("4 sessions"), "{message}");

    // They send four times the budget, in large chunks and in tiny ones, into a ledger that does not move, and some leave.
    lab.ledger.hold(true);
    let mut senders = Vec::new();
    for (number, (client, mut capture)) in clients.into_iter().enumerate() {
        senders.push(tokio::spawn(async move {
            let (chunks, samples) = if number % 2 == 0 { (70, 60_000) } else { (20_000, 1) };
            for chunk in capture.run(chunks, samples) {
                client.chunk(1, &chunk).await;
            }
            (client, capture)
        }));
    }
    lab.until("half of the budget in memory", |registry| {
        registry.in_use_bytes() > 16 * MIB
    })
    .await;
    let bound = 32 * MIB + most * limits::CHUNK_BYTES_MAX as u64;
    for _ in 0..200 {
        let in_use = lab.registry.in_use_bytes();
        assert!(in_use <= bound, "I12: {in_use} bytes are in memory");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // They leave; what they sent stays charged until the ledger has answered for it.
    senders.iter().for_each(JoinHandle::abort);
    drop(senders);
    lab.until("their end", |registry| registry.conditions().borrow().sessions == 0)
        .await;
    assert!(lab.registry.in_use_bytes() > 0);
    lab.ledger.hold(false);
    lab.until("everything to be released", |registry| registry.in_use_bytes() == 0)
        .await;
}
