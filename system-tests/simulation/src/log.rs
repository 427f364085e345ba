//! What happened, a line each, for people who replay a seed; and for the test that two runs of a seed are the same.

use wavekeep_proto::chunk::{Chunk, ChunkKind};
use wavekeep_proto::frame::{AgentFrame, ServerFrame};
use wavekeep_proto::id::StreamId;

/// Notes a line, where the world keeps them.
macro_rules! log {
    ($world:expr, $($text:tt)*) => {
        if $world.is_logging() {
            let line = format!($($text)*);
            $world.note(&line);
        }
    };
}
pub(crate) use log;

/// The first digits name a stream well enough.
pub(crate) fn stream(id: StreamId) -> String {
    let mut text = id.to_string();
    text.truncate(6);
    text
}

/// Seqs, what it is, and samples.
pub(crate) fn chunk(chunk: &Chunk) -> String {
    let header = &chunk.header;
    let kind = match header.kind {
        ChunkKind::Samples => "samples".to_owned(),
        ChunkKind::Gap | ChunkKind::End => format!("{:?} {:?}", header.kind, header.reason),
    };
    let mut digest = chunk.digest.to_string();
    digest.truncate(6);
    let end = header.end_sample();
    format!(
        "seq {}..{} {kind} [{}, {end}) digest {digest}",
        header.first_seq, header.seq, header.first_sample
    )
}

/// A frame of an agent.
pub(crate) fn agent_frame(frame: &AgentFrame) -> String {
    match frame {
        AgentFrame::Hello(_) => "hello".into(),
        AgentFrame::Open(open) => {
            format!(
                "open stream {} slot {} stored {}",
                stream(open.definition.id),
                open.slot,
                open.stored_seq
            )
        }
        AgentFrame::Chunk { slot, chunk: sent } => format!("slot {slot}: {}", chunk(sent)),
        AgentFrame::Heartbeat(_) => "heartbeat".into(),
    }
}

/// A frame of a server.
pub(crate) fn server_frame(frame: &ServerFrame) -> String {
    match frame {
        ServerFrame::Welcome(welcome) => format!("welcome, window {}", welcome.window_bytes),
        ServerFrame::Opened(opened) => format!(
            "opened slot {} at seq {} sample {}{}, row {:?}",
            opened.slot,
            opened.at.seq,
            opened.at.next_sample,
            if opened.at.ended { " ended" } else { "" },
            opened.row.map(|(seq, _)| seq)
        ),
        ServerFrame::Refused(refused) => format!(
            "refused slot {} ({:?}): {}",
            refused.slot, refused.code, refused.message
        ),
        ServerFrame::Ack(ack) => format!(
            "ack slot {} seq {} window {}",
            ack.slot, ack.watermark, ack.window_bytes
        ),
        ServerFrame::Goaway { deadline_ms, .. } => format!("goaway in {deadline_ms} ms"),
        ServerFrame::Heartbeat { window_bytes } => format!("heartbeat, window {window_bytes}"),
    }
}
