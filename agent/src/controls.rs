//! What an instrument is set to, changed while it is captured: what is asked for on one thread is done by the source's own.
//!
//! A source that can do that keeps a [`Controls`] and offers it by [`crate::source::Source::controls`]. While it runs it attends
//! ([`Controls::attend`]), takes one request after the other ([`Controls::take`]), and answers each when the instrument has confirmed
//! it. Which settings there are, and what they may be, is the source's own to say.
//!
//! # Invariants
//! - One owner: the source's thread alone talks to the instrument.
//! - I12: what waits has a limit, and so has the wait for an answer; what nobody waits for any more is not begun.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::limits;
use crate::status::SettingsStatus;

/// Settings by key.
pub type Words = BTreeMap<String, String>;

/// What is to become other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingChange {
    /// Of which device; none: of the only one.
    #[serde(default)]
    pub device: Option<String>,
    /// These get these values.
    pub set: Words,
}

/// Why nothing is set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ControlError {
    #[error("nothing is captured that has settings: Joulescopes have")]
    Nothing,
    #[error("several instruments are captured: say which one with --device, of {0}")]
    Several(String),
    #[error("no device {device} is captured: give --device with one of {devices}")]
    Unknown { device: String, devices: String },
    #[error("{0} has no settings that can be changed while it is captured")]
    None(String),
    #[error("{0} is not there just now: set it again when `wavekeep-agent status` says that it is captured")]
    Away(String),
    #[error("{0} has {max} changes to do already: ask again in a moment", max = limits::SETTING_CHANGES_MAX)]
    Busy(String),
    #[error(
        "{0} has not confirmed it within {wait} s: `wavekeep-agent status` tells what it is set to",
        wait = limits::SETTING_WAIT.as_secs()
    )]
    Silent(String),
    #[error("{device}: {why}")]
    Refused { device: String, why: String },
}

/// An instrument's settings, as they are and as they are to be. See the module's documentation.
#[derive(Debug)]
pub struct Controls {
    device: String,
    /// Something waits: looked at all the time.
    waits: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_attended: bool,
    waiting: VecDeque<Request>,
    settings: Words,
}

/// What one person wants, for the source.
#[derive(Debug)]
pub struct Request {
    set: Words,
    answer: oneshot::Sender<Result<(), String>>,
}

/// What was asked for, and is to be answered.
#[derive(Debug)]
pub struct Asked {
    controls: Arc<Controls>,
    answer: oneshot::Receiver<Result<(), String>>,
}

/// The source takes requests as long as this is there.
#[derive(Debug)]
pub struct Attending(Arc<Controls>);

impl Controls {
    /// Of a device that is set to this, as far as anybody has said.
    #[must_use]
    pub fn new(device: &str, settings: Words) -> Self {
        Self {
            device: device.into(),
            waits: AtomicBool::new(false),
            state: Mutex::new(State {
                settings,
                ..State::default()
            }),
        }
    }

    /// Asks for a change.
    pub fn ask(self: &Arc<Self>, set: Words) -> Result<Asked, ControlError> {
        let mut state = self.lock();
        if !state.is_attended {
            return Err(ControlError::Away(self.device.clone()));
        }
        state.waiting.retain(|request| !request.is_given_up());
        if state.waiting.len() >= limits::SETTING_CHANGES_MAX {
            return Err(ControlError::Busy(self.device.clone()));
        }
        let (sender, answer) = oneshot::channel();
        state.waiting.push_back(Request { set, answer: sender });
        self.waits.store(true, Ordering::Release);
        Ok(Asked {
            controls: Arc::clone(self),
            answer,
        })
    }

    /// What it is set to, as far as anybody has said.
    #[must_use]
    pub fn settings(&self) -> Words {
        self.lock().settings.clone()
    }

    /// For the source: it runs, and takes requests, until what this gives is dropped. What waits then is not done.
    #[must_use]
    pub fn attend(self: &Arc<Self>) -> Attending {
        self.lock().is_attended = true;
        Attending(Arc::clone(self))
    }

    /// For the source: what is to be done next. Costs next to nothing while there is nothing.
    pub fn take(&self) -> Option<Request> {
        if !self.waits.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.lock();
        state.waiting.retain(|request| !request.is_given_up());
        let next = state.waiting.pop_front();
        self.waits.store(!state.waiting.is_empty(), Ordering::Release);
        next
    }

    /// For the source: what the instrument is set to now.
    pub fn tell(&self, settings: Words) {
        self.lock().settings = settings;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_attended = false;
        state.waiting.clear();
        self.0.waits.store(false, Ordering::Release);
    }
}

impl Request {
    /// These are to get these values.
    #[must_use]
    pub fn set(&self) -> &Words {
        &self.set
    }

    /// It is done, or why not, in a sentence. One that is dropped instead was not done because the device went away.
    pub fn answer(self, result: Result<(), String>) {
        // Whoever asked may have gone.
        let _ = self.answer.send(result);
    }

    fn is_given_up(&self) -> bool {
        self.answer.is_closed()
    }
}

impl Asked {
    /// What it is set to, once it is done; waits for [`limits::SETTING_WAIT`] at most.
    pub async fn wait(self) -> Result<SettingsStatus, ControlError> {
        let device = self.controls.device.clone();
        match tokio::time::timeout(limits::SETTING_WAIT, self.answer).await {
            Ok(Ok(Ok(()))) => Ok(SettingsStatus {
                device,
                settings: self.controls.settings(),
            }),
            Ok(Ok(Err(why))) => Err(ControlError::Refused { device, why }),
            Ok(Err(_)) => Err(ControlError::Away(device)),
            Err(_) => Err(ControlError::Silent(device)),
        }
    }
}

/// The one that `device` means among all devices that are captured, or the only one.
pub fn pick(captured: &[(String, Option<Arc<Controls>>)], device: Option<&str>) -> Result<Arc<Controls>, ControlError> {
    let settable: Vec<_> = captured.iter().filter_map(|(_, controls)| controls.clone()).collect();
    let devices = || {
        let names: Vec<_> = settable.iter().map(|controls| controls.device.as_str()).collect();
        names.join(", ")
    };
    let Some(device) = device else {
        return match &settable[..] {
            [] => Err(ControlError::Nothing),
            [only] => Ok(Arc::clone(only)),
            _ => Err(ControlError::Several(devices())),
        };
    };
    if let Some(found) = settable.iter().find(|controls| controls.device == device) {
        return Ok(Arc::clone(found));
    }
    let device = device.to_owned();
    Err(if captured.iter().any(|(name, _)| *name == device) {
        ControlError::None(device)
    } else if settable.is_empty() {
        ControlError::Nothing
    } else {
        let devices = devices();
        ControlError::Unknown { device, devices }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controls(device: &str) -> Arc<Controls> {
        Arc::new(Controls::new(device, Words::new()))
    }

    fn power(word: &str) -> Words {
        [("power".to_owned(), word.to_owned())].into()
    }

    /// Waits on a clock that goes only while nothing else does.
    fn wait(asked: Asked) -> Result<SettingsStatus, ControlError> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().expect("a runtime").block_on(asked.wait())
    }

    #[test]
    fn a_change_is_answered_when_it_is_done() {
        let controls = controls("bench");
        assert!(matches!(controls.ask(power("off")), Err(ControlError::Away(_))));
        let attending = controls.attend();
        assert!(controls.take().is_none());
        let (first, second) = (controls.ask(power("off")), controls.ask(power("maybe")));
        let request = controls.take().expect("it waits");
        assert_eq!(*request.set(), power("off"));
        controls.tell(power("off"));
        request.answer(Ok(()));
        let request = controls.take().expect("the second one");
        request.answer(Err("give on or off".into()));
        let settled = SettingsStatus {
            device: "bench".into(),
            settings: power("off"),
        };
        assert_eq!(wait(first.expect("it is attended")), Ok(settled));
        let refused = wait(second.expect("it is attended")).expect_err("it is refused");
        assert_eq!(refused.to_string(), "bench: give on or off");
        // It is unplugged while somebody waits.
        let third = controls.ask(power("on")).expect("it is attended");
        drop(attending);
        assert_eq!(wait(third), Err(ControlError::Away("bench".into())));
        assert!(controls.take().is_none());
        assert_eq!(controls.settings(), power("off"), "it is remembered");
    }

    #[test]
    fn i12_what_waits_is_limited_and_what_nobody_waits_for_is_not_begun() {
        let controls = controls("bench");
        let _attending = controls.attend();
        let mut asked: Vec<_> = (0..limits::SETTING_CHANGES_MAX)
            .map(|_| controls.ask(power("off")).expect("there is room"))
            .collect();
        assert!(matches!(controls.ask(power("on")), Err(ControlError::Busy(_))));
        assert_eq!(
            wait(asked.remove(0)),
            Err(ControlError::Silent("bench".into())),
            "nobody waits for ever"
        );
        asked.truncate(1);
        asked.push(controls.ask(power("on")).expect("those that gave up leave room"));
        let sets: Vec<_> = std::iter::from_fn(|| controls.take())
            .map(|request| request.set().clone())
            .collect();
        assert_eq!(sets, [power("off"), power("on")]);
    }

    #[test]
    fn the_device_is_named_where_there_are_several() {
        let (one, other) = (controls("js220-1"), controls("js220-2"));
        let meter = ("meter".to_owned(), None);
        let named = |controls: &Arc<Controls>| (controls.device.clone(), Some(Arc::clone(controls)));
        let said = |captured: &[_], device| match pick(captured, device) {
            Ok(picked) => picked.device.clone(),
            Err(error) => error.to_string(),
        };
        let both = [named(&one), meter, named(&other)];
        assert_eq!(said(&both, Some("js220-2")), "js220-2");
        assert!(said(&both, None).contains("--device, of js220-1, js220-2"));
        assert!(said(&both, Some("js220-3")).contains("js220-1, js220-2"));
        assert!(said(&both, Some("meter")).contains("no settings"));
        assert_eq!(said(&both[..2], None), "js220-1");
        assert!(said(&both[1..2], None).contains("nothing is captured"));
        assert!(said(&[], Some("js220-1")).contains("nothing is captured"));
    }
}
