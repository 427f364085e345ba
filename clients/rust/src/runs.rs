//! Runs: named, labelled sets of streams and of times of devices. What they are, and how they are made and changed.

use std::collections::BTreeMap;

use wavekeep_proto::id::StreamId;
use wavekeep_proto::v1;

use crate::{Error, StreamInfo, TimeRange};

/// Whose time is part of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberOf {
    /// All streams of a device.
    Device(String),
    /// One stream, to its own end.
    Stream(StreamId),
}

/// A time that was made part of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMember {
    /// Whose.
    pub of: MemberOf,
    /// When; what is unset is open.
    pub range: TimeRange,
}

impl RunMember {
    /// A time of a device.
    #[must_use]
    pub fn device(name: impl Into<String>, range: TimeRange) -> Self {
        let of = MemberOf::Device(name.into());
        Self { of, range }
    }

    /// A time of one stream.
    #[must_use]
    pub fn stream(id: StreamId, range: TimeRange) -> Self {
        let of = MemberOf::Stream(id);
        Self { of, range }
    }

    pub(crate) fn to_wire(&self) -> v1::Selection {
        use v1::selection::What;
        v1::Selection {
            what: Some(match &self.of {
                MemberOf::Device(name) => What::Device(name.clone()),
                MemberOf::Stream(id) => What::StreamId(id.to_vec().into()),
            }),
            range: Some(self.range.to_wire()),
            ..v1::Selection::default()
        }
    }

    fn from_wire(wire: v1::Selection) -> Result<Self, Error> {
        use v1::selection::What;
        let of = match wire.what {
            Some(What::Device(name)) => MemberOf::Device(name),
            Some(What::StreamId(id)) => {
                MemberOf::Stream(StreamId::from_slice(&id).map_err(|_| Error::Malformed("a run's stream"))?)
            }
            Some(What::Run(_)) | None => return Err(Error::Malformed("a run's member")),
        };
        let range = TimeRange::from_wire(wire.range.unwrap_or_default());
        Ok(Self { of, range })
    }
}

/// A run as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its name.
    pub name: String,
    /// Its own labels, and those that all of its streams share; its own win.
    pub labels: BTreeMap<String, String>,
    /// Its own alone.
    pub own_labels: BTreeMap<String, String>,
    /// The run that it is a part of.
    pub parent: Option<String>,
    /// What people say about it.
    pub note: String,
    /// Streams that it has something of.
    pub streams: u64,
    /// Those of them that were recorded for it.
    pub recorded_streams: u64,
    /// The devices of its streams.
    pub devices: Vec<String>,
    /// What was made part of it afterwards.
    pub members: Vec<RunMember>,
    /// UTC of the first moment that is stored of it, in nanoseconds; None while nothing is.
    pub first_time_ns: Option<i64>,
    /// UTC after the last.
    pub last_time_ns: Option<i64>,
    /// Nanoseconds in which any of its streams has something; time that several share counts once.
    pub duration_ns: u64,
    /// When it was made: UTC in nanoseconds.
    pub created_at_ns: i64,
    /// When it was changed last.
    pub updated_at_ns: i64,
}

impl Run {
    /// Is any of this time of the stream part of it? From ≤ t < to, in nanoseconds.
    #[must_use]
    pub fn covers(&self, stream: &StreamInfo, (from_ns, to_ns): (i64, i64)) -> bool {
        let is_of_it = |of: &MemberOf| match of {
            MemberOf::Device(name) => *name == stream.definition.device,
            MemberOf::Stream(id) => *id == stream.id(),
        };
        let touches = |range: TimeRange| {
            range.from_ns.is_none_or(|start| start < to_ns) && range.to_ns.is_none_or(|end| from_ns < end)
        };
        let mut members = self.members.iter();
        self.name == stream.run || members.any(|member| is_of_it(&member.of) && touches(member.range))
    }

    pub(crate) fn from_wire(wire: v1::Run) -> Result<Self, Error> {
        let members = wire.members.into_iter().map(RunMember::from_wire);
        Ok(Self {
            members: members.collect::<Result<_, _>>()?,
            name: wire.name,
            labels: wire.labels,
            own_labels: wire.own_labels,
            parent: (!wire.parent.is_empty()).then_some(wire.parent),
            note: wire.note,
            streams: wire.streams,
            recorded_streams: wire.recorded_streams,
            devices: wire.devices,
            first_time_ns: wire.first_time_ns,
            last_time_ns: wire.last_time_ns,
            duration_ns: wire.duration_ns,
            created_at_ns: wire.created_at_ns,
            updated_at_ns: wire.updated_at_ns,
        })
    }
}

/// A run to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewRun {
    /// Its name: 1 to 200 bytes.
    pub name: String,
    /// At most 64.
    pub labels: BTreeMap<String, String>,
    /// A run that is there already, or one of the same import.
    pub parent: Option<String>,
    /// At most 10,000 bytes.
    pub note: String,
    /// At most 1,000.
    pub members: Vec<RunMember>,
}

impl NewRun {
    /// Without labels and members.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// With one label more.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// With one member more.
    #[must_use]
    pub fn member(mut self, member: RunMember) -> Self {
        self.members.push(member);
        self
    }

    /// All but the members, or with them.
    pub(crate) fn to_wire(&self, with_members: bool) -> v1::Run {
        let members: &[RunMember] = if with_members { &self.members } else { &[] };
        v1::Run {
            name: self.name.clone(),
            labels: self.labels.clone(),
            parent: self.parent.clone().unwrap_or_default(),
            note: self.note.clone(),
            members: members.iter().map(RunMember::to_wire).collect(),
            ..v1::Run::default()
        }
    }
}

/// What is to become of a run; what is not named stays as it is. Made twice, it is made once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunChange {
    /// Labels that are set.
    pub set: BTreeMap<String, String>,
    /// Labels that go; before others are set.
    pub remove: Vec<String>,
    /// A new note.
    pub note: Option<String>,
    /// A new parent; `Some(None)`: none.
    pub parent: Option<Option<String>>,
    /// Members that are added.
    pub add: Vec<RunMember>,
    /// Members that go, as they were added.
    pub take_out: Vec<RunMember>,
}

impl RunChange {
    pub(crate) fn to_wire(&self, workspace: &str, name: &str) -> v1::UpdateRunRequest {
        v1::UpdateRunRequest {
            workspace: workspace.into(),
            run: Some(v1::Run {
                name: name.into(),
                labels: self.set.clone(),
                ..v1::Run::default()
            }),
            members: self.add.iter().map(RunMember::to_wire).collect(),
            remove_labels: self.remove.clone(),
            note: self.note.clone(),
            parent: self.parent.clone().map(Option::unwrap_or_default),
            remove_members: self.take_out.iter().map(RunMember::to_wire).collect(),
        }
    }
}

/// What an import came to, in runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// That were not there.
    pub created: u64,
    /// That were there, and have become other.
    pub changed: u64,
    /// That were so already.
    pub unchanged: u64,
}
