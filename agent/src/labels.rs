//! Labels of a live source, changed while it is captured: what is asked for on one thread is done by the source's own, between two
//! deliveries.
//!
//! A stream's labels do not change. A change ends the stream at the sample where the next one begins, in the same epoch.
//!
//! # Invariants
//! - I12: a source has at most one set of labels that waits; a later change is a change of that one.
//! - A change is done (`LiveLabels::done`) only when the stream with these labels is open in the outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use wavekeep_proto::limits;

use crate::status::LabelsStatus;

/// A set of labels.
pub type Labels = BTreeMap<String, String>;

/// What is to become other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelChange {
    /// These get these values.
    #[serde(default)]
    pub set: Labels,
    /// These go.
    #[serde(default)]
    pub remove: BTreeSet<String>,
}

/// Why labels cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum LabelError {
    #[error(
        "a label has a key, and neither key nor value above {max} bytes or with control characters: write it as key=value",
        max = limits::LABEL_BYTES_MAX
    )]
    Bad,
    #[error(
        "in a filter `{0}` means the {0} itself, so a label `{0}` would never be found: name it with --{0} when the capture starts, or choose another key"
    )]
    Taken(String),
    #[error("a recording has at most {max} labels: remove one with KEY=", max = limits::LABELS_MAX)]
    TooMany,
    #[error("{0} has ended: there is no stream to label any more")]
    Ended(String),
    #[error(
        "{0} is a file: a file's labels are given with --label when it is replayed, and replaying it again changes them"
    )]
    File(String),
    #[error("nothing is captured: there is no stream to label")]
    NoSource,
}

/// May people give it?
pub fn check(key: &str, value: &str) -> Result<(), LabelError> {
    let is_bad = |text: &str| text.len() > limits::LABEL_BYTES_MAX || text.chars().any(char::is_control);
    if key.trim().is_empty() || is_bad(key) || is_bad(value) {
        return Err(LabelError::Bad);
    }
    if matches!(key, "device" | "run") {
        return Err(LabelError::Taken(key.into()));
    }
    Ok(())
}

impl LabelChange {
    /// What `labels` become.
    pub fn apply(&self, labels: &Labels) -> Result<Labels, LabelError> {
        self.set.iter().try_for_each(|(key, value)| check(key, value))?;
        let mut changed = labels.clone();
        changed.retain(|key, _| !self.remove.contains(key));
        changed.extend(self.set.clone());
        if changed.len() > limits::LABELS_MAX {
            return Err(LabelError::TooMany);
        }
        Ok(changed)
    }
}

/// The labels of a source that is captured: as they are, and as they are to be.
#[derive(Debug)]
pub struct LiveLabels {
    device: String,
    is_file: bool,
    /// Something waits: looked at with each delivery.
    waits: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Labels,
    wanted: Option<Labels>,
    ended: bool,
}

impl LiveLabels {
    pub(crate) fn new(device: &str, is_file: bool, current: Labels) -> Self {
        Self {
            device: device.into(),
            is_file,
            waits: AtomicBool::new(false),
            state: Mutex::new(State {
                current,
                wanted: None,
                ended: false,
            }),
        }
    }

    /// Asks for a change, which comes with the source's next delivery.
    pub fn want(&self, change: &LabelChange) -> Result<(), LabelError> {
        if self.is_file {
            return Err(LabelError::File(self.device.clone()));
        }
        let mut state = self.lock();
        if state.ended {
            return Err(LabelError::Ended(self.device.clone()));
        }
        let changed = change.apply(state.wanted.as_ref().unwrap_or(&state.current))?;
        state.wanted = (changed != state.current).then_some(changed);
        self.waits.store(state.wanted.is_some(), Ordering::Release);
        Ok(())
    }

    /// Are they those of a file, which do not change?
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.is_file
    }

    /// As they are now, and whether nothing is asked for that is yet to be done. Once the source has ended, nothing more is.
    pub fn status(&self) -> Result<LabelsStatus, LabelError> {
        let state = self.lock();
        if state.ended && state.wanted.is_some() {
            return Err(LabelError::Ended(self.device.clone()));
        }
        Ok(LabelsStatus {
            device: self.device.clone(),
            labels: state.current.clone(),
            settled: state.wanted.is_none(),
        })
    }

    /// What is asked for, to be done now.
    pub(crate) fn wanted(&self) -> Option<Labels> {
        if !self.waits.load(Ordering::Acquire) {
            return None;
        }
        self.lock().wanted.clone()
    }

    /// Done: streams with these labels are open. More may have been asked for meanwhile.
    pub(crate) fn done(&self, labels: Labels) {
        let mut state = self.lock();
        if state.wanted.as_ref() == Some(&labels) {
            state.wanted = None;
        }
        state.current = labels;
        self.waits.store(state.wanted.is_some(), Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.lock().ended = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(set: &[(&str, &str)], remove: &[&str]) -> LabelChange {
        LabelChange {
            set: set
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect(),
            remove: remove.iter().map(|key| (*key).into()).collect(),
        }
    }

    fn settled(labels: &LiveLabels) -> Result<bool, LabelError> {
        labels.status().map(|status| status.settled)
    }

    #[test]
    fn changes_add_up_until_they_are_done() {
        let labels = LiveLabels::new("bench", false, change(&[("a", "1")], &[]).set);
        assert_eq!(labels.wanted(), None);
        labels.want(&change(&[("b", "2")], &[])).expect("a good label");
        labels.want(&change(&[("c", "3")], &["a"])).expect("a good label");
        assert_eq!(settled(&labels), Ok(false));
        let wanted = labels.wanted().expect("it waits");
        assert_eq!(wanted, change(&[("b", "2"), ("c", "3")], &[]).set);
        // Asked for while the source was at it.
        labels.want(&change(&[("d", "4")], &[])).expect("a good label");
        labels.done(wanted);
        assert_eq!(settled(&labels), Ok(false));
        labels.done(labels.wanted().expect("it waits"));
        assert_eq!((settled(&labels), labels.wanted()), (Ok(true), None));
        // There and back again is nothing.
        labels.want(&change(&[("e", "5")], &[])).expect("a good label");
        labels.want(&change(&[], &["e"])).expect("a good label");
        assert_eq!((settled(&labels), labels.wanted()), (Ok(true), None));
    }

    #[test]
    fn what_cannot_be_a_label_and_what_has_none_is_refused() {
        let labels = LiveLabels::new("bench", false, Labels::new());
        let long = "x".repeat(limits::LABEL_BYTES_MAX + 1);
        for bad in [("", "1"), ("a", "\n"), (long.as_str(), "1"), ("a", long.as_str())] {
            assert_eq!(labels.want(&change(&[bad], &[])), Err(LabelError::Bad));
        }
        for taken in ["device", "run"] {
            let refusal = labels.want(&change(&[(taken, "1")], &[])).expect_err("filters know it");
            assert!(refusal.to_string().contains(&format!("--{taken}")), "{refusal}");
        }
        let many: Vec<String> = (0..=limits::LABELS_MAX).map(|number| number.to_string()).collect();
        let many: Vec<_> = many.iter().map(|key| (key.as_str(), "")).collect();
        assert_eq!(labels.want(&change(&many, &[])), Err(LabelError::TooMany));
        labels
            .want(&change(&many[1..], &[]))
            .expect("as many as a recording may have");
        labels.end();
        assert!(matches!(settled(&labels), Err(LabelError::Ended(_))));
        assert!(matches!(labels.want(&change(&[], &[])), Err(LabelError::Ended(_))));
        let file = LiveLabels::new("ppk2", true, Labels::new());
        let refusal = file.want(&change(&[("a", "1")], &[])).expect_err("it is a file");
        assert!(refusal.to_string().contains("--label"), "{refusal}");
    }
}
