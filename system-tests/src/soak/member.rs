//! A process of the fleet: started, killed, suspended, told to end, and started again, as a service manager does.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::process::Process;
use crate::random::Random;

/// An agent delivers for `--drain-wait`, a server drains for 20 s.
const END_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Suspended { until: Instant },
    Ending { since: Instant },
    Down { until: Instant },
}

type Recipe = Box<dyn Fn() -> Result<(Command, PathBuf)> + Send>;

/// See the module's documentation.
pub(super) struct Member {
    label: String,
    /// Its command and the folder of its log.
    recipe: Recipe,
    process: Option<Process>,
    state: State,
    random: Random,
}

impl Member {
    /// Yet to be started, at the first tick.
    pub(super) fn new(label: &str, random: Random, recipe: Recipe) -> Self {
        Self {
            label: label.to_owned(),
            recipe,
            process: None,
            state: State::Down { until: Instant::now() },
            random,
        }
    }

    /// Does it run, undisturbed?
    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().with_context(|| format!("{} runs", self.label))
    }

    /// SIGKILL.
    pub(super) fn kill9(&mut self) -> Result<()> {
        self.process()?.kill9()?;
        self.down();
        Ok(())
    }

    /// SIGSTOP, and SIGCONT after a while.
    pub(super) fn suspend(&mut self, time: Duration) -> Result<()> {
        self.process()?.signal(Signal::SIGSTOP)?;
        self.state = State::Suspended {
            until: Instant::now() + time,
        };
        Ok(())
    }

    /// SIGTERM. It may take its time.
    pub(super) fn terminate(&mut self) -> Result<()> {
        self.process()?.signal(Signal::SIGTERM)?;
        self.state = State::Ending { since: Instant::now() };
        Ok(())
    }

    fn down(&mut self) {
        self.process = None;
        let until = Instant::now() + self.random.ms(50, 1_200);
        self.state = State::Down { until };
    }

    /// Goes on with what was begun. True: it has just ended, by SIGTERM.
    pub(super) fn tick(&mut self) -> Result<bool> {
        let now = Instant::now();
        match self.state {
            State::Up => {
                if self.process()?.has_ended()? {
                    let log = self.process()?.log_tail();
                    bail!("{} ended by itself; its log ends:\n{log}", self.label);
                }
            }
            State::Suspended { until } if now >= until => {
                self.process()?.signal(Signal::SIGCONT)?;
                self.state = State::Up;
            }
            State::Ending { since } => {
                if self.process()?.has_ended()? {
                    self.down();
                    return Ok(true);
                }
                if since.elapsed() > END_LIMIT {
                    let log = self.process()?.log_tail();
                    bail!(
                        "{} does not end {END_LIMIT:?} after SIGTERM; its log ends:\n{log}",
                        self.label
                    );
                }
            }
            State::Down { until } if now >= until => self.start()?,
            State::Suspended { .. } | State::Down { .. } => {}
        }
        Ok(false)
    }

    fn start(&mut self) -> Result<()> {
        let (command, folder) = (self.recipe)()?;
        self.process = Some(Process::spawn(command, &self.label, &folder)?);
        self.state = State::Up;
        Ok(())
    }

    /// It runs undisturbed when this returns.
    pub(super) fn bring_up(&mut self) -> Result<()> {
        while !self.is_up() {
            if let State::Suspended { until } | State::Down { until } = &mut self.state {
                *until = Instant::now();
            }
            self.tick()?;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// It does not run when this returns, and ended in order.
    pub(super) fn bring_down(&mut self) -> Result<()> {
        if matches!(self.state, State::Down { .. }) {
            return Ok(());
        }
        self.bring_up()?;
        self.terminate()?;
        while !self.tick()? {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}
