//! Progress on standard error: a bar on a terminal, a log line now and then elsewhere. Log lines go through here too, so that
//! they do not tear the bar.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tracing::info;
use wavekeep_agent::limits;

/// All bars of this program.
fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// Writes log lines above the bars.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        bars().suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

/// What is being done, and how far it is.
pub(crate) struct Progress {
    what: String,
    bar: Option<ProgressBar>,
    next_line: Instant,
    /// Between two lines; it doubles, since a capture may take months.
    interval: Duration,
}

impl Progress {
    /// `length` is in `unit`s; 0 if it is not known.
    pub(crate) fn start(what: &str, length: u64, bytes: bool) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = bars().add(ProgressBar::new(length));
            let amount = if bytes {
                "{bytes}/{total_bytes} {bytes_per_sec}"
            } else {
                "{human_pos}/{human_len} {per_sec}"
            };
            let template = if length == 0 {
                "{prefix} {msg}".to_owned()
            } else {
                format!("{{prefix}} {{wide_bar}} {amount} {{msg}}")
            };
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style);
            }
            bar.set_prefix(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let interval = limits::PROGRESS_INTERVAL_MIN;
        Self {
            what: what.into(),
            bar,
            next_line: Instant::now() + interval,
            interval,
        }
    }

    /// It is at `position` now; `message` says more.
    pub(crate) fn set(&mut self, position: u64, message: &dyn Fn() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
            bar.set_message(message());
        } else if Instant::now() >= self.next_line {
            self.interval = (self.interval * 2).min(limits::PROGRESS_INTERVAL_MAX);
            self.next_line = Instant::now() + self.interval;
            info!("{}: {position}; {}", self.what, message());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
