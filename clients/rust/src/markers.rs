//! Markers: notes at samples, which came in chunks, and at times of devices, which people add.

use wavekeep_proto::chunk::MarkerFormat;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::v1;

use crate::Error;

/// Where a marker is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkerOrigin {
    /// A chunk: proven by the stream's digests.
    Chunk {
        /// Of this stream.
        stream: StreamId,
        /// At this sample.
        sample: u64,
        /// In this chunk.
        seq: u64,
    },
    /// Somebody added it.
    Added {
        /// As it was chosen then.
        id: [u8; 16],
    },
}

/// A marker as the server lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedMarker {
    /// Of this device.
    pub device: String,
    /// UTC in nanoseconds.
    pub time_ns: i64,
    /// What it is for: 0 text, 1 vertical, 2 horizontal; sources may add.
    pub kind: u32,
    /// Markers of a group belong together.
    pub group: u32,
    /// Height on the axis; NaN when it has none.
    pub y: f64,
    /// How `content` is to be read.
    pub format: MarkerFormat,
    /// The note.
    pub content: Vec<u8>,
    /// Where it is from.
    pub origin: MarkerOrigin,
}

fn format_from_wire(number: i32) -> Result<MarkerFormat, Error> {
    match v1::MarkerFormat::try_from(number) {
        Ok(v1::MarkerFormat::Text) => Ok(MarkerFormat::Text),
        Ok(v1::MarkerFormat::Json) => Ok(MarkerFormat::Json),
        Ok(v1::MarkerFormat::Bytes) => Ok(MarkerFormat::Bytes),
        _ => Err(Error::Malformed("a marker's format has an unknown number")),
    }
}

impl ListedMarker {
    fn from_wire(wire: v1::ListedMarker) -> Result<Self, Error> {
        let origin = match <[u8; 16]>::try_from(&wire.added_id[..]) {
            Ok(id) => MarkerOrigin::Added { id },
            Err(_) => MarkerOrigin::Chunk {
                stream: StreamId::from_slice(&wire.stream_id)
                    .map_err(|_| Error::Malformed("a marker has no stream"))?,
                sample: wire.sample,
                seq: wire.seq,
            },
        };
        Ok(Self {
            device: wire.device,
            time_ns: wire.time_ns,
            kind: wire.kind,
            group: wire.group,
            y: wire.y,
            format: format_from_wire(wire.format)?,
            content: wire.content.to_vec(),
            origin,
        })
    }
}

/// Markers as they come, one at a time: stream by stream, and at last those that were added.
#[derive(Debug)]
pub struct Markers(pub(crate) tonic::Streaming<v1::ListedMarker>);

impl Markers {
    /// The next one; None after the last.
    pub async fn next(&mut self) -> Result<Option<ListedMarker>, Error> {
        match self.0.message().await.map_err(|status| Error::interrupted(&status))? {
            Some(wire) => ListedMarker::from_wire(wire).map(Some),
            None => Ok(None),
        }
    }
}

/// A marker to be added at a time of a device, whether anything is stored of that time or not.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMarker {
    /// Random: a marker that is added again with the same id is added once.
    pub id: [u8; 16],
    /// Of this device.
    pub device: String,
    /// UTC in nanoseconds.
    pub time_ns: i64,
    /// As in [`ListedMarker`].
    pub kind: u16,
    /// As in [`ListedMarker`].
    pub group: u8,
    /// Height on the axis.
    pub y: Option<f64>,
    /// How `content` is to be read.
    pub format: MarkerFormat,
    /// The note: at most 256 KiB.
    pub content: Vec<u8>,
}

impl NewMarker {
    /// A text, with a new id.
    #[must_use]
    pub fn text(device: impl Into<String>, time_ns: i64, text: impl Into<String>) -> Self {
        Self {
            id: fresh_id(),
            device: device.into(),
            time_ns,
            kind: 0,
            group: 0,
            y: None,
            format: MarkerFormat::Text,
            content: text.into().into_bytes(),
        }
    }

    /// The same, of JSON.
    #[must_use]
    pub fn json(device: impl Into<String>, time_ns: i64, json: impl Into<String>) -> Self {
        Self {
            format: MarkerFormat::Json,
            ..Self::text(device, time_ns, json)
        }
    }

    pub(crate) fn to_wire(&self) -> v1::AddedMarker {
        v1::AddedMarker {
            id: self.id.to_vec().into(),
            device: self.device.clone(),
            time_ns: self.time_ns,
            kind: self.kind.into(),
            group: self.group.into(),
            y: self.y,
            format: self.format as i32,
            content: self.content.clone().into(),
        }
    }
}

fn fresh_id() -> [u8; 16] {
    let mut id = [0; 16];
    getrandom::fill(&mut id).expect("the operating system has random bytes");
    id
}
