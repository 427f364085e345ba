//! The frames of a session ↔ protobuf.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::{WireError, chunk_from_wire, chunk_to_wire, definition_from_wire, definition_to_wire};
use crate::chunk::Position;
use crate::code::Code;
use crate::codec::Encoding;
use crate::frame::{Ack, AgentFrame, Hello, Open, Opened, Refused, ServerFrame, SlotStatus, Welcome};
use crate::hash::control_hash;
use crate::id::{AgentId, BadId, Hash, LedgerId, SessionId};
use crate::v1;
use crate::v1::{agent_frame, server_frame};

/// Is this the check of a frame, which stands here without it? What was damaged must not be believed: a stream would be opened as
/// what it is not, or seem to have diverged.
fn holds(check: &[u8], frame: &impl Message) -> Result<(), WireError> {
    if control_hash(&frame.encode_to_vec()).as_bytes() == check {
        Ok(())
    } else {
        Err(WireError::Damaged)
    }
}

fn bad_id(_: BadId) -> WireError {
    WireError::Frame("an identifier is not 16 bytes")
}

/// Domain → wire.
#[must_use]
pub fn agent_frame_to_wire(frame: &AgentFrame) -> v1::AgentFrame {
    use agent_frame::Frame;
    let frame = match frame {
        AgentFrame::Hello(hello) => Frame::Hello(v1::Hello {
            version_min: hello.version_min,
            version_max: hello.version_max,
            agent: hello.agent.clone(),
            agent_id: hello.agent_id.to_vec().into(),
            workspace: hello.workspace.clone(),
            encodings: hello
                .encodings
                .iter()
                .map(|encoding| encoding.to_wire().cast_signed())
                .collect(),
            ledger_id: hello.ledger_id.map(LedgerId::to_vec).unwrap_or_default().into(),
        }),
        AgentFrame::Open(open) => Frame::Open(v1::Open {
            slot: open.slot,
            definition: Some(definition_to_wire(&open.definition)),
            stored_seq: open.stored_seq,
            labels: open.labels.clone(),
            run: open.run.clone(),
        }),
        AgentFrame::Chunk { slot, chunk } => Frame::Chunk(v1::ChunkFrame {
            slot: *slot,
            chunk: Some(chunk_to_wire(chunk)),
        }),
        AgentFrame::Heartbeat(slots) => Frame::Heartbeat(v1::Heartbeat {
            slots: slots.iter().map(slot_status_to_wire).collect(),
        }),
    };
    let mut wire = v1::AgentFrame {
        frame: Some(frame),
        check: Bytes::new(),
    };
    if !matches!(wire.frame, Some(Frame::Chunk(_))) {
        wire.check = control_hash(&wire.encode_to_vec()).to_vec().into();
    }
    wire
}

fn slot_status_to_wire(status: &SlotStatus) -> v1::SlotStatus {
    v1::SlotStatus {
        slot: status.slot,
        stored_seq: status.stored_seq,
        next_sample: status.next_sample,
        outbox_bytes: status.outbox_bytes,
        oldest_unacked_ms: status.oldest_unacked_ms,
    }
}

fn slot_status_from_wire(wire: &v1::SlotStatus) -> SlotStatus {
    SlotStatus {
        slot: wire.slot,
        stored_seq: wire.stored_seq,
        next_sample: wire.next_sample,
        outbox_bytes: wire.outbox_bytes,
        oldest_unacked_ms: wire.oldest_unacked_ms,
    }
}

/// Wire → domain.
pub fn agent_frame(mut wire: v1::AgentFrame) -> Result<AgentFrame, WireError> {
    use agent_frame::Frame;
    let check = std::mem::take(&mut wire.check);
    if !matches!(wire.frame, Some(Frame::Chunk(_))) {
        holds(&check, &wire)?;
    }
    match wire
        .frame
        .ok_or(WireError::Frame("it is empty, or of a newer version"))?
    {
        Frame::Hello(hello) => hello_from_wire(hello).map(AgentFrame::Hello),
        Frame::Open(open) => open_from_wire(open).map(AgentFrame::Open),
        Frame::Chunk(frame) => {
            let slot = frame.slot;
            let chunk = frame.chunk.ok_or(WireError::Frame("a chunk frame has no chunk"))?;
            let chunk = chunk_from_wire(chunk).map_err(|fault| WireError::Chunk { slot, fault })?;
            Ok(AgentFrame::Chunk { slot, chunk })
        }
        Frame::Heartbeat(heartbeat) => Ok(AgentFrame::Heartbeat(
            heartbeat.slots.iter().map(slot_status_from_wire).collect(),
        )),
    }
}

fn hello_from_wire(wire: v1::Hello) -> Result<Hello, WireError> {
    let ledger_id = match &wire.ledger_id[..] {
        [] => None,
        id => Some(LedgerId::from_slice(id).map_err(bad_id)?),
    };
    Ok(Hello {
        version_min: wire.version_min,
        version_max: wire.version_max,
        agent: wire.agent,
        agent_id: AgentId::from_slice(&wire.agent_id).map_err(bad_id)?,
        workspace: wire.workspace,
        // Those that this build does not know are of no use to it.
        encodings: wire
            .encodings
            .iter()
            .filter_map(|number| Encoding::from_wire(number.cast_unsigned()))
            .collect(),
        ledger_id,
    })
}

fn open_from_wire(wire: v1::Open) -> Result<Open, WireError> {
    let slot = wire.slot;
    let definition = wire.definition.ok_or(WireError::Definition {
        slot,
        what: "it is missing",
    })?;
    let definition = definition_from_wire(definition).map_err(|what| WireError::Definition { slot, what })?;
    Ok(Open {
        slot,
        definition: Arc::new(definition),
        stored_seq: wire.stored_seq,
        labels: wire.labels,
        run: wire.run,
    })
}

/// Domain → wire.
#[must_use]
pub fn server_frame_to_wire(frame: &ServerFrame) -> v1::ServerFrame {
    use server_frame::Frame;
    let frame = match frame {
        ServerFrame::Welcome(welcome) => Frame::Welcome(v1::Welcome {
            version: welcome.version,
            window_bytes: welcome.window_bytes,
            ledger_id: welcome.ledger_id.to_vec().into(),
            chunk_bytes_max: welcome.chunk_bytes_max,
            slots_max: welcome.slots_max,
            heartbeat_ms: welcome.heartbeat_ms,
            session_id: welcome.session_id.to_vec().into(),
            generation: welcome.generation,
        }),
        ServerFrame::Opened(opened) => Frame::Opened(v1::Opened {
            slot: opened.slot,
            watermark: opened.at.seq,
            digest: opened.at.digest.to_vec().into(),
            next_sample: opened.at.next_sample,
            ended: opened.at.ended,
            row_seq: opened.row.map_or(0, |(seq, _)| seq),
            row_digest: opened.row.map(|(_, digest)| digest.to_vec()).unwrap_or_default().into(),
        }),
        ServerFrame::Refused(refused) => Frame::Refused(v1::Refused {
            slot: refused.slot,
            code: refused.code as i32,
            message: refused.message.clone(),
        }),
        ServerFrame::Ack(ack) => Frame::Ack(v1::Ack {
            slot: ack.slot,
            watermark: ack.watermark,
            digest: ack.digest.to_vec().into(),
            window_bytes: ack.window_bytes,
        }),
        ServerFrame::Goaway { deadline_ms, reason } => Frame::Goaway(v1::Goaway {
            deadline_ms: *deadline_ms,
            reason: reason.clone(),
        }),
        ServerFrame::Heartbeat { window_bytes } => Frame::Heartbeat(v1::ServerHeartbeat {
            window_bytes: *window_bytes,
        }),
    };
    let mut wire = v1::ServerFrame {
        frame: Some(frame),
        check: Bytes::new(),
    };
    wire.check = control_hash(&wire.encode_to_vec()).to_vec().into();
    wire
}

/// Wire → domain.
pub fn server_frame(mut wire: v1::ServerFrame) -> Result<ServerFrame, WireError> {
    use server_frame::Frame;
    holds(&std::mem::take(&mut wire.check), &wire)?;
    Ok(
        match wire
            .frame
            .ok_or(WireError::Frame("it is empty, or of a newer version"))?
        {
            Frame::Welcome(welcome) => ServerFrame::Welcome(Welcome {
                version: welcome.version,
                window_bytes: welcome.window_bytes,
                ledger_id: LedgerId::from_slice(&welcome.ledger_id).map_err(bad_id)?,
                chunk_bytes_max: welcome.chunk_bytes_max,
                slots_max: welcome.slots_max,
                heartbeat_ms: welcome.heartbeat_ms,
                session_id: SessionId::from_slice(&welcome.session_id).map_err(bad_id)?,
                generation: welcome.generation,
            }),
            Frame::Opened(opened) => ServerFrame::Opened(opened_from_wire(&opened)?),
            Frame::Refused(refused) => ServerFrame::Refused(Refused {
                slot: refused.slot,
                code: Code::from_number(refused.code.cast_unsigned())
                    .ok_or(WireError::Frame("unknown refusal code"))?,
                message: refused.message,
            }),
            Frame::Ack(ack) => ServerFrame::Ack(Ack {
                slot: ack.slot,
                watermark: ack.watermark,
                digest: Hash::from_slice(&ack.digest).map_err(bad_id)?,
                window_bytes: ack.window_bytes,
            }),
            Frame::Goaway(goaway) => ServerFrame::Goaway {
                deadline_ms: goaway.deadline_ms,
                reason: goaway.reason,
            },
            Frame::Heartbeat(heartbeat) => ServerFrame::Heartbeat {
                window_bytes: heartbeat.window_bytes,
            },
        },
    )
}

fn opened_from_wire(wire: &v1::Opened) -> Result<Opened, WireError> {
    let row = match &wire.row_digest[..] {
        [] => None,
        digest => Some((wire.row_seq, Hash::from_slice(digest).map_err(bad_id)?)),
    };
    let at = Position {
        seq: wire.watermark,
        next_sample: wire.next_sample,
        digest: Hash::from_slice(&wire.digest).map_err(bad_id)?,
        ended: wire.ended,
    };
    Ok(Opened {
        slot: wire.slot,
        at,
        row,
    })
}
