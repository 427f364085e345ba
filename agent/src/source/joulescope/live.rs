//! Settings that are changed while the instrument streams: one request after the other, one setting after the other.
//!
//! # Invariants
//! - A request of which any part is not possible changes nothing.
//! - A setting counts, and is noted in the stream, once the instrument has confirmed it; the next opening starts with what counts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tracing::info;
use wavekeep_proto::chunk::Marker;

use super::js220::{Js220, Js220Error};
use super::limits;
use super::settings::Settings;
use crate::controls::{Attending, Controls, Request};
use crate::source::file::vertical_line;

/// See the module's documentation.
pub(super) struct Live {
    device: String,
    settings: Settings,
    controls: Arc<Controls>,
    doing: Option<Doing>,
}

/// A request that has begun.
struct Doing {
    request: Request,
    left: VecDeque<(String, String)>,
    done: Vec<String>,
    /// What is being set, and all settings once that is confirmed.
    now: String,
    then: Settings,
    deadline: Duration,
}

impl Live {
    pub(super) fn new(device: &str, settings: Settings) -> Self {
        Self {
            device: device.into(),
            controls: Arc::new(Controls::new(device, settings.words())),
            settings,
            doing: None,
        }
    }

    pub(super) fn device(&self) -> &str {
        &self.device
    }

    /// As they are now.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn controls(&self) -> Arc<Controls> {
        Arc::clone(&self.controls)
    }

    /// Of an instrument that was opened again: whoever asked the opening before asks this one.
    pub(super) fn follow(&mut self, before: &Self) {
        self.controls = before.controls();
        self.controls.tell(self.settings.words());
    }

    /// Takes requests from here on.
    pub(super) fn attend(&mut self) -> Attending {
        self.controls.attend()
    }

    /// Nothing is answered any more.
    pub(super) fn leave(&mut self) {
        self.doing = None;
    }

    /// Begins what is asked for, and goes on with what has begun. Call it often; a marker is for the machine's first stream.
    pub(super) fn go_on(&mut self, machine: &mut Js220, now: Duration) -> Option<Marker> {
        let Some(doing) = self.doing.take() else {
            self.begin(machine, now);
            return None;
        };
        match machine.changed() {
            None => {
                self.doing = Some(doing);
                None
            }
            Some(Ok(sample)) => Some(vertical_line(sample, self.confirmed(doing, machine))),
            Some(Err(why)) => {
                doing.fail(&why);
                None
            }
        }
    }

    fn begin(&mut self, machine: &mut Js220, now: Duration) {
        let Some(request) = self.controls.take() else { return };
        let mut doing = Doing {
            left: request.set().clone().into_iter().collect(),
            request,
            done: Vec::new(),
            now: String::new(),
            then: self.settings.clone(),
            deadline: now + limits::CHANGE,
        };
        let possible = doing
            .left
            .iter()
            .try_fold(self.settings.clone(), |settings, (key, word)| {
                machine.plan_change(&settings, key, word).map(|(changed, _)| changed)
            });
        match possible.map_err(Js220Error::from).and_then(|_| doing.next(machine)) {
            Ok(true) => self.doing = Some(doing),
            Ok(false) => doing.request.answer(Ok(())),
            Err(why) => doing.fail(&why),
        }
    }

    /// What is noted of it.
    fn confirmed(&mut self, mut doing: Doing, machine: &mut Js220) -> String {
        self.settings = doing.then.clone();
        self.controls.tell(self.settings.words());
        let note = format!("settings {}", doing.now);
        info!("{}: {note}", self.device);
        doing.done.push(std::mem::take(&mut doing.now));
        match doing.next(machine) {
            Ok(true) => self.doing = Some(doing),
            Ok(false) => doing.request.answer(Ok(())),
            Err(why) => doing.fail(&why),
        }
        note
    }
}

impl Doing {
    /// Tells the instrument the next of its settings; `false`: there is none.
    fn next(&mut self, machine: &mut Js220) -> Result<bool, Js220Error> {
        let Some((key, word)) = self.left.pop_front() else {
            return Ok(false);
        };
        let (changed, publishes) = machine.plan_change(&self.then, &key, &word)?;
        machine.change(publishes, self.deadline);
        self.now = format!("{key}={word}");
        self.then = changed;
        Ok(true)
    }

    fn fail(self, why: &Js220Error) {
        let why = match &self.done[..] {
            [] => why.to_string(),
            done => format!("{why}; {} is set", done.join(" ")),
        };
        self.request.answer(Err(why));
    }
}
