//! From a request to what a run becomes. Pure: no database.
//!
//! # Invariants
//! - A change that is made twice is a change that is made once.
//! - I12: what a run becomes keeps to the limits of labels, notes and members.

use std::collections::BTreeMap;

use bytes::Bytes;
use wavekeep_proto::chunk::MarkerFormat;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::{limits as proto_limits, v1};

use super::error::{CatalogError, Why};
use super::limits;
use crate::store::read_run::{MemberOf, RunMember, RunRow};

const MARKER_ID_BYTES: usize = 16;

/// What is to become of a run. What is unset stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) set: BTreeMap<String, String>,
    /// Before others are set.
    pub(super) remove: Vec<String>,
    pub(super) note: Option<String>,
    /// Some(None): it gets none.
    pub(super) parent: Option<Option<String>>,
    pub(super) add: Vec<RunMember>,
    pub(super) take_out: Vec<RunMember>,
}

/// A name as people may give it.
pub(super) fn name(kind: &str, name: &str) -> Result<(), Why> {
    let is_bad = name.trim() != name || name.chars().any(char::is_control);
    if name.is_empty() || name.len() > proto_limits::NAME_BYTES_MAX || is_bad {
        return Err(Why::Invalid(format!(
            "a {kind} has a name of 1 to {} bytes, without control characters and without blanks at its ends: {name:?} is none",
            proto_limits::NAME_BYTES_MAX
        )));
    }
    Ok(())
}

fn label(key: &str, value: &str) -> Result<(), Why> {
    let is_bad = |text: &str| text.len() > proto_limits::LABEL_BYTES_MAX || text.chars().any(char::is_control);
    if key.trim().is_empty() || is_bad(key) || is_bad(value) {
        return Err(Why::Invalid(format!(
            "a label has a key, and neither key nor value above {} bytes or with control characters: {key:?} has not",
            proto_limits::LABEL_BYTES_MAX
        )));
    }
    if matches!(key, "device" | "run") {
        return Err(Why::Invalid(format!(
            "in a filter {key:?} means the {key} itself, so no label has this key: choose another"
        )));
    }
    Ok(())
}

fn note(note: &str) -> Result<(), Why> {
    let is_bad = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
    if note.len() > limits::NOTE_BYTES_MAX || note.contains(is_bad) {
        let max = limits::NOTE_BYTES_MAX;
        return Err(Why::Invalid(format!(
            "a note has at most {max} bytes, and no control characters"
        )));
    }
    Ok(())
}

fn member(selection: v1::Selection) -> Result<RunMember, Why> {
    use v1::selection::What;
    let invalid = |sentence: &str| Why::Invalid(sentence.into());
    if !selection.signals.is_empty() || !selection.filter.is_empty() {
        return Err(invalid(
            "a member of a run is all signals of a device or a stream in a time: leave out signals and filter",
        ));
    }
    let of = match selection.what {
        Some(What::Device(device)) => {
            name("device", &device)?;
            MemberOf::Device(device)
        }
        Some(What::StreamId(id)) => {
            let id = StreamId::from_slice(&id);
            MemberOf::Stream(id.map_err(|_| invalid("a stream's id is 16 bytes: give one that is listed"))?)
        }
        Some(What::Run(_)) | None => {
            return Err(invalid(
                "a member of a run is a device or a stream: say which one; a run that is part of another names it as its parent",
            ));
        }
    };
    let range = selection.range.unwrap_or_default();
    if let (Some(from), Some(to)) = (range.from_ns, range.to_ns)
        && from >= to
    {
        return Err(invalid(
            "the time range is empty, because `to` is not after `from`: exchange them",
        ));
    }
    Ok(RunMember {
        of,
        from_ns: range.from_ns,
        to_ns: range.to_ns,
    })
}

fn members(selections: Vec<v1::Selection>) -> Result<Vec<RunMember>, Why> {
    let mut members = selections.into_iter().map(member).collect::<Result<Vec<_>, _>>()?;
    members.sort();
    members.dedup();
    Ok(members)
}

impl Change {
    /// A run that is to be made.
    pub(super) fn of_new(run: v1::Run, selections: Vec<v1::Selection>) -> Result<(String, Self), Why> {
        let change = Self {
            set: run.labels,
            note: Some(run.note),
            parent: Some((!run.parent.is_empty()).then_some(run.parent)),
            add: members(selections)?,
            ..Self::default()
        };
        name("run", &run.name)?;
        change.check()?;
        Ok((run.name, change))
    }

    /// One that is there, or not.
    fn of_import(run: v1::Run) -> Result<(String, Self), Why> {
        let change = Self {
            set: run.labels,
            note: (!run.note.is_empty()).then_some(run.note),
            parent: (!run.parent.is_empty()).then_some(Some(run.parent)),
            add: members(run.members)?,
            ..Self::default()
        };
        name("run", &run.name)?;
        change.check()?;
        Ok((run.name, change))
    }

    pub(super) fn of_update(request: v1::UpdateRunRequest) -> Result<(String, Self), Why> {
        let run = request.run.unwrap_or_default();
        let parent = request.parent.map(|parent| (!parent.is_empty()).then_some(parent));
        let change = Self {
            set: run.labels,
            remove: request.remove_labels,
            note: request.note,
            parent,
            add: members(request.members)?,
            take_out: members(request.remove_members)?,
        };
        change.check()?;
        Ok((run.name, change))
    }

    fn check(&self) -> Result<(), Why> {
        self.set.iter().try_for_each(|(key, value)| label(key, value))?;
        self.note.as_deref().map_or(Ok(()), note)?;
        let parent = self.parent.iter().flatten().next();
        parent.map_or(Ok(()), |parent| name("run", parent))
    }

    /// What a run becomes.
    pub(super) fn apply(&self, run: &RunRow) -> Result<RunRow, Why> {
        let mut changed = run.clone();
        changed.labels.retain(|key, _| !self.remove.contains(key));
        changed.labels.extend(self.set.clone());
        if let Some(note) = &self.note {
            changed.note.clone_from(note);
        }
        if let Some(parent) = &self.parent {
            changed.parent.clone_from(parent);
        }
        changed.members.retain(|member| !self.take_out.contains(member));
        changed.members.extend(self.add.clone());
        changed.members.sort();
        changed.members.dedup();
        let too_many = |what: &str, max: usize| {
            let name = &run.name;
            Err(Why::Invalid(format!(
                "run {name:?} would have more than {max} {what}: leave some out"
            )))
        };
        if changed.labels.len() > proto_limits::LABELS_MAX {
            return too_many("labels", proto_limits::LABELS_MAX);
        }
        if changed.members.len() > limits::MEMBERS_MAX {
            return too_many("ranges", limits::MEMBERS_MAX);
        }
        Ok(changed)
    }

    /// Is a run what this one would make of nothing?
    pub(super) fn made(&self, run: &RunRow) -> bool {
        run.labels == self.set
            && self.note.as_deref().unwrap_or_default() == run.note
            && self.parent.clone().flatten() == run.parent
            && run.members == self.add
    }
}

/// Every entry of an import.
pub(super) fn of_import(runs: Vec<v1::Run>) -> Result<Vec<(String, Change)>, CatalogError> {
    if runs.len() > limits::IMPORT_MAX {
        let max = limits::IMPORT_MAX;
        let sentence = format!("at most {max} entries are imported at a time: import them in parts");
        return Err(Why::Invalid(sentence).into());
    }
    let entries = runs.into_iter().enumerate();
    entries
        .map(|(entry, run)| Change::of_import(run).map_err(CatalogError::at(entry)))
        .collect()
}

/// A note at a time of a device.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Marker {
    pub(super) id: Vec<u8>,
    pub(super) device: String,
    pub(super) time_ns: i64,
    pub(super) kind: i32,
    pub(super) group: i16,
    pub(super) y: f64,
    pub(super) format: MarkerFormat,
    pub(super) content: Bytes,
}

fn few_markers(count: usize) -> Result<(), Why> {
    let max = proto_limits::MARKERS_MAX;
    if count > max {
        let sentence = format!("at most {max} markers are added or removed at a time: send them in parts");
        return Err(Why::Invalid(sentence));
    }
    Ok(())
}

fn marker_id(id: &[u8]) -> Result<(), Why> {
    if id.len() != MARKER_ID_BYTES {
        let sentence = format!("a marker that is added has an id of {MARKER_ID_BYTES} random bytes");
        return Err(Why::Invalid(sentence));
    }
    Ok(())
}

/// Of markers that are to be removed.
pub(super) fn marker_ids(ids: &[Bytes]) -> Result<Vec<&[u8]>, Why> {
    few_markers(ids.len())?;
    ids.iter().try_for_each(|id| marker_id(id))?;
    Ok(ids.iter().map(AsRef::as_ref).collect())
}

impl Marker {
    pub(super) fn all(markers: Vec<v1::AddedMarker>) -> Result<Vec<Self>, CatalogError> {
        few_markers(markers.len())?;
        let entries = markers.into_iter().enumerate();
        entries
            .map(|(entry, marker)| Self::of(marker).map_err(CatalogError::at(entry)))
            .collect()
    }

    fn of(wire: v1::AddedMarker) -> Result<Self, Why> {
        let invalid = |sentence: &str| Why::Invalid(sentence.into());
        name("device", &wire.device)?;
        marker_id(&wire.id)?;
        if wire.content.len() > proto_limits::MARKER_BYTES_MAX {
            let max = proto_limits::MARKER_BYTES_MAX;
            return Err(Why::Invalid(format!("a marker has at most {max} bytes: shorten it")));
        }
        let number = u16::try_from(wire.kind).ok().zip(u8::try_from(wire.group).ok());
        let (kind, group) =
            number.ok_or_else(|| invalid("a marker's kind is below 65,536, and its group below 256"))?;
        let text = || std::str::from_utf8(&wire.content);
        let format = match v1::MarkerFormat::try_from(wire.format) {
            Ok(v1::MarkerFormat::Text) if text().is_ok() => MarkerFormat::Text,
            Ok(v1::MarkerFormat::Json) if serde_json::from_slice::<serde::de::IgnoredAny>(&wire.content).is_ok() => {
                MarkerFormat::Json
            }
            Ok(v1::MarkerFormat::Bytes) => MarkerFormat::Bytes,
            Ok(v1::MarkerFormat::Text) => return Err(invalid("a marker's text is UTF-8: this one is not")),
            Ok(v1::MarkerFormat::Json) => {
                return Err(invalid("a marker's JSON is not JSON: check its quotes and brackets"));
            }
            _ => return Err(invalid("a marker is text, JSON or bytes: say which")),
        };
        Ok(Self {
            id: wire.id.to_vec(),
            device: wire.device,
            time_ns: wire.time_ns,
            kind: kind.into(),
            group: group.into(),
            y: wire.y.unwrap_or(f64::NAN),
            format,
            content: wire.content,
        })
    }
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
