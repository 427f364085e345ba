//! Bits that flip on the way: no control frame is ever taken for another one (I14). A chunk's frame has a hash of its own.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use prost::Message;
use wavekeep_proto::chunk::Position;
use wavekeep_proto::code::Code;
use wavekeep_proto::codec::Encoding;
use wavekeep_proto::frame::{Ack, AgentFrame, Hello, Open, Opened, Refused, ServerFrame, SlotStatus, Welcome};
use wavekeep_proto::id::{AgentId, Epoch, Hash, LedgerId, SessionId, StreamId};
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};
use wavekeep_proto::wire::{self, WireError};

fn definition() -> StreamDefinition {
    StreamDefinition {
        id: StreamId([1; 16]),
        device: "bench".into(),
        epoch: Epoch([2; 16]),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz: 1e6,
        first_sample: 17,
        signals: vec![Signal {
            number: 0,
            name: "current".into(),
            sample_type: SampleType::F32,
            unit: "A".into(),
            finite_only: false,
        }],
        attributes: BTreeMap::from([("model".into(), "js220".into())]),
    }
}

fn agent_frames() -> Vec<AgentFrame> {
    let hello = Hello {
        version_min: 1,
        version_max: 1,
        agent: "bench".into(),
        agent_id: AgentId([3; 16]),
        workspace: "main".into(),
        encodings: vec![Encoding::Plain, Encoding::Pco],
        ledger_id: Some(LedgerId([4; 16])),
    };
    let open = Open {
        slot: 1,
        definition: Arc::new(definition()),
        stored_seq: 300,
        labels: BTreeMap::from([("algorithm".into(), "A".into()), ("firmware".into(), "1.3".into())]),
        run: "run-7".into(),
    };
    let status = SlotStatus {
        slot: 1,
        stored_seq: 300,
        next_sample: 70_000,
        outbox_bytes: 5,
        oldest_unacked_ms: 6,
    };
    vec![
        AgentFrame::Hello(hello),
        AgentFrame::Open(open),
        AgentFrame::Heartbeat(vec![status]),
    ]
}

fn server_frames() -> Vec<ServerFrame> {
    let at = Position {
        seq: 300,
        next_sample: 70_000,
        digest: Hash([5; 16]),
        ended: false,
    };
    vec![
        ServerFrame::Welcome(Welcome {
            version: 1,
            window_bytes: 1 << 23,
            ledger_id: LedgerId([4; 16]),
            generation: 3,
            chunk_bytes_max: 1 << 22,
            slots_max: 4_096,
            heartbeat_ms: 5_000,
            session_id: SessionId([6; 16]),
        }),
        ServerFrame::Opened(Opened {
            slot: 1,
            at,
            row: Some((299, Hash([7; 16]))),
        }),
        ServerFrame::Refused(Refused {
            slot: 1,
            code: Code::Fenced,
            message: "another agent has it".into(),
        }),
        ServerFrame::Ack(Ack {
            slot: 1,
            watermark: 300,
            digest: Hash([5; 16]),
            window_bytes: 1 << 23,
        }),
        ServerFrame::Goaway {
            deadline_ms: 1_000,
            reason: "draining".into(),
        },
        ServerFrame::Heartbeat { window_bytes: 1 << 23 },
    ]
}

/// Every bit of it, one after the other: what comes out is an error, or what was sent.
fn flip_each_bit<F: PartialEq + Debug>(
    sent: &F,
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Option<Result<F, WireError>>,
) -> usize {
    assert_eq!(read(bytes).expect("protobuf").as_ref(), Ok(sent));
    let mut noticed = 0;
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        match read(&damaged) {
            Some(Ok(frame)) => assert_eq!(&frame, sent, "bit {bit}"),
            Some(Err(WireError::Damaged)) => noticed += 1,
            Some(Err(_)) | None => {}
        }
    }
    noticed
}

#[test]
fn i14_no_flipped_bit_makes_another_control_frame_of_one() {
    for sent in agent_frames() {
        let bytes = wire::agent_frame_to_wire(&sent).encode_to_vec();
        let noticed = flip_each_bit(&sent, &bytes, |bytes| {
            let frame = wavekeep_proto::v1::AgentFrame::decode(bytes).ok()?;
            Some(wire::agent_frame(frame))
        });
        assert!(noticed > bytes.len(), "{noticed} of {} bytes, {sent:?}", bytes.len());
    }
    for sent in server_frames() {
        let bytes = wire::server_frame_to_wire(&sent).encode_to_vec();
        let noticed = flip_each_bit(&sent, &bytes, |bytes| {
            let frame = wavekeep_proto::v1::ServerFrame::decode(bytes).ok()?;
            Some(wire::server_frame(frame))
        });
        assert!(noticed > bytes.len(), "{noticed} of {} bytes, {sent:?}", bytes.len());
    }
}
