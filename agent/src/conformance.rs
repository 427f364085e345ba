//! Is a [`Source`] one? What the rest of the agent relies on, checked against a source of anybody's making: in a test of theirs, with
//! their instrument or a stand-in for it.
//!
//! ```no_run
//! # use wavekeep_agent::{conformance, source::Source};
//! # fn test(open_my_instrument: fn() -> Box<dyn Source>) {
//! let report = conformance::check(&mut || open_my_instrument(), &conformance::Options::default());
//! assert!(report.is_conforming(), "{report}");
//! # }
//! ```
//!
//! # Invariants
//! - A source that passes loses no sample without a gap, moves none in time, stops when it is told to, and can be opened again.
//! - The kit has no say in what the samples are: compare these yourself.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use wavekeep_proto::chunk::{Marker, Reason};
use wavekeep_proto::stream::StreamDefinition;

use crate::chunker::{Chunker, Cut};
use crate::limits;
use crate::source::{BadInput, Block, Sink, SinkError, Source, SourceError};
use crate::stop::StopToken;
use crate::time_axis::Anchor;

/// How it is checked.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long it runs in each check.
    pub time: Duration,
    /// How far it may be from its own rate, over that time: 0.2 is a fifth. Instruments start and deliver in blocks.
    pub rate_tolerance: f64,
    /// It is as fast as real time: a recording that is replayed as fast as possible is not.
    pub is_live: bool,
    /// It has this long to return after a stop.
    pub stop_within: Duration,
    /// The outbox is full for so long, in one of the checks.
    pub stall: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(2),
            rate_tolerance: 0.2,
            is_live: true,
            stop_within: Duration::from_millis(500),
            stall: Duration::from_millis(1_500),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Each check, and what is wrong; in the order in which they were made.
    pub checks: Vec<(&'static str, Result<(), String>)>,
}

impl Report {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_conforming(&self) -> bool {
        self.checks.iter().all(|(_, outcome)| outcome.is_ok())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, outcome) in &self.checks {
            match outcome {
                Ok(()) => writeln!(to, "ok      {name}")?,
                Err(why) => writeln!(to, "FAILED  {name}: {why}")?,
            }
        }
        Ok(())
    }
}

/// Opens it several times, and runs it for a few seconds in all.
pub fn check(open: &mut dyn FnMut() -> Box<dyn Source>, options: &Options) -> Report {
    let mut report = Report::default();
    let mut add = |name, outcome: Result<(), String>| report.checks.push((name, outcome));
    add("two openings are one device in two epochs", describe(open));
    add(
        "it delivers its streams without a silent hole, at their rate",
        deliver(open, options),
    );
    add("it stops when it is told to", stop(open, options));
    add(
        "it gives the sink's errors back, and leaves it alone then",
        refuse(open, options),
    );
    add(
        "what a full outbox delays is delivered, or in a gap",
        stall(open, options),
    );
    report
}

fn definitions(source: &dyn Source) -> Result<Vec<StreamDefinition>, String> {
    source.describe().definitions().map_err(|error| error.to_string())
}

fn describe(open: &mut dyn FnMut() -> Box<dyn Source>) -> Result<(), String> {
    let first = open();
    let (one, again) = (definitions(first.as_ref())?, definitions(first.as_ref())?);
    drop(first);
    let other = definitions(open().as_ref())?;
    let shape = |definitions: &[StreamDefinition]| {
        let of = |definition: &StreamDefinition| {
            (
                definition.device.clone(),
                definition.rate_hz.to_bits(),
                definition.signals.clone(),
            )
        };
        definitions.iter().map(of).collect::<Vec<_>>()
    };
    if shape(&one) != shape(&again) {
        return Err("it describes itself differently when it is asked again".into());
    }
    if shape(&one) != shape(&other) {
        return Err("opened again, it is another device, or has other streams".into());
    }
    let is_file = one.iter().any(StreamDefinition::is_file);
    if !is_file
        && one
            .iter()
            .any(|stream| other.iter().any(|other| other.epoch == stream.epoch))
    {
        return Err("two openings have the same epoch".into());
    }
    Ok(())
}

/// Runs it against a sink until the stop that a thread gives after this time. When it returned, after the stop.
fn run(source: &mut dyn Source, sink: &mut CheckedSink, time: Duration) -> (Result<(), SourceError>, Duration) {
    let stop = StopToken::new();
    std::thread::scope(|scope| {
        let (stops, done) = (stop.clone(), StopToken::new());
        let is_done = done.clone();
        let stopped = scope.spawn(move || {
            let _ = is_done.wait(time);
            stops.stop();
            Instant::now()
        });
        let result = source.run(sink, &stop);
        let returned = Instant::now();
        done.stop();
        let stopped = stopped.join().unwrap_or(returned);
        (result, returned.saturating_duration_since(stopped))
    })
}

fn deliver(open: &mut dyn FnMut() -> Box<dyn Source>, options: &Options) -> Result<(), String> {
    let mut source = open();
    let mut sink = CheckedSink::new(source.as_ref())?;
    let since = Instant::now();
    let (result, _) = run(source.as_mut(), &mut sink, options.time);
    let took = since.elapsed();
    sink.verdict(result)?;
    for lane in &sink.lanes {
        let (samples, rate_hz) = (lane.delivered(), lane.definition.rate_hz);
        if samples == 0 {
            return Err(format!("nothing was delivered of {}", lane.name()));
        }
        let expected = rate_hz * took.as_secs_f64();
        let is_off = (samples as f64 / expected - 1.0).abs() > options.rate_tolerance;
        // A sample more or less is not a rate.
        if options.is_live && is_off && (samples as f64 - expected).abs() > 2.0 {
            return Err(format!(
                "{samples} samples of {} came or were named as missing in {:.2} s, and {expected:.0} were to",
                lane.name(),
                took.as_secs_f64()
            ));
        }
    }
    Ok(())
}

fn stop(open: &mut dyn FnMut() -> Box<dyn Source>, options: &Options) -> Result<(), String> {
    let mut source = open();
    let mut sink = CheckedSink::new(source.as_ref())?;
    let (result, late) = run(source.as_mut(), &mut sink, options.time / 4);
    sink.verdict(result)?;
    if late > options.stop_within {
        return Err(format!("it returned {} ms after the stop", late.as_millis()));
    }
    Ok(())
}

fn refuse(open: &mut dyn FnMut() -> Box<dyn Source>, options: &Options) -> Result<(), String> {
    let mut source = open();
    let mut sink = CheckedSink::new(source.as_ref())?;
    sink.refuses_after = Some(1);
    let (result, _) = run(source.as_mut(), &mut sink, options.time);
    if let Some(wrong) = sink.wrong {
        return Err(wrong);
    }
    match result {
        Err(SourceError::Sink(SinkError::Stopped)) => {}
        other => return Err(format!("the sink's error did not come back, but {other:?}")),
    }
    match sink.calls_after_refusal {
        0 => Ok(()),
        calls => Err(format!("it went on, and called the sink {calls} times more")),
    }
}

fn stall(open: &mut dyn FnMut() -> Box<dyn Source>, options: &Options) -> Result<(), String> {
    let mut source = open();
    let mut sink = CheckedSink::new(source.as_ref())?;
    sink.stalls = Some(options.stall);
    let since = Instant::now();
    let (result, _) = run(source.as_mut(), &mut sink, options.stall + options.time);
    let took = since.elapsed();
    sink.verdict(result)?;
    let missing = |lane: &Lane| took.as_secs_f64() - lane.delivered() as f64 / lane.definition.rate_hz;
    let allowed = took.as_secs_f64() * options.rate_tolerance;
    match sink
        .lanes
        .iter()
        .find(|lane| options.is_live && missing(lane) > allowed)
    {
        Some(lane) => Err(format!(
            "after a delay of {} ms, {:.2} s of {} are neither delivered nor in a gap: what comes later stands at the wrong sample",
            options.stall.as_millis(),
            missing(lane),
            lane.name()
        )),
        None => Ok(()),
    }
}

struct Lane {
    definition: StreamDefinition,
    /// It knows the rules.
    chunker: Chunker,
}

impl Lane {
    /// Samples and those that are in gaps.
    fn delivered(&self) -> u64 {
        self.chunker.next_sample() - self.definition.first_sample
    }

    fn name(&self) -> String {
        let names = self.definition.signals.iter().map(|signal| signal.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    }
}

struct CheckedSink {
    lanes: Vec<Lane>,
    wrong: Option<String>,
    gaps: BTreeMap<Reason, u64>,
    refuses_after: Option<u32>,
    calls_after_refusal: u32,
    stalls: Option<Duration>,
}

impl CheckedSink {
    fn new(source: &dyn Source) -> Result<Self, String> {
        let lane = |definition: StreamDefinition| Lane {
            chunker: Chunker::new(&definition, limits::CHUNK_PERIOD_DEFAULT, definition.first_sample),
            definition,
        };
        Ok(Self {
            lanes: definitions(source)?.into_iter().map(lane).collect(),
            wrong: None,
            gaps: BTreeMap::new(),
            refuses_after: None,
            calls_after_refusal: 0,
            stalls: None,
        })
    }

    fn verdict(&mut self, result: Result<(), SourceError>) -> Result<(), String> {
        match (self.wrong.take(), result) {
            (Some(wrong), _) => Err(wrong),
            (None, Ok(())) => Ok(()),
            (None, Err(error)) => Err(format!("it ended by itself: {error}")),
        }
    }

    /// Every call comes by here.
    fn call(&mut self, stream: usize, act: impl FnOnce(&mut Lane) -> Result<(), BadInput>) -> Result<(), SinkError> {
        match &mut self.refuses_after {
            Some(0) => {
                self.calls_after_refusal += 1;
                return Err(SinkError::Stopped);
            }
            Some(left) => {
                *left -= 1;
                if *left == 0 {
                    return Err(SinkError::Stopped);
                }
            }
            None => {}
        }
        // Once it is under way.
        if self.lanes.iter().any(|lane| lane.delivered() > 0)
            && let Some(time) = self.stalls.take()
        {
            std::thread::sleep(time);
        }
        let lane = self.lanes.get_mut(stream).ok_or(BadInput::Stream(stream));
        let outcome = lane.and_then(act);
        if let Err(wrong) = outcome {
            self.wrong
                .get_or_insert_with(|| format!("the sink refuses it: {wrong}"));
        }
        Ok(outcome?)
    }
}

/// What is cut is nobody's.
fn forget(_: Cut<'_>) -> Result<(), BadInput> {
    Ok(())
}

impl Sink for CheckedSink {
    fn next_sample(&self, stream: usize) -> u64 {
        self.lanes.get(stream).map_or(0, |lane| lane.chunker.next_sample())
    }

    fn anchor(&mut self, stream: usize, sample: u64, utc_ns: i64) -> Result<(), SinkError> {
        self.call(stream, |lane| {
            lane.chunker.anchor(Anchor { sample, utc_ns });
            Ok(())
        })
    }

    fn samples(&mut self, stream: usize, block: &Block<'_>) -> Result<(), SinkError> {
        self.call(stream, |lane| lane.chunker.samples(block, &mut forget))
    }

    fn gap(&mut self, stream: usize, range: Range<u64>, reason: Reason) -> Result<(), SinkError> {
        let count = range.end.saturating_sub(range.start);
        self.call(stream, |lane| lane.chunker.gap(range, reason, &mut forget))?;
        *self.gaps.entry(reason).or_default() += count;
        Ok(())
    }

    fn marker(&mut self, stream: usize, marker: Marker) -> Result<(), SinkError> {
        self.call(stream, |lane| lane.chunker.marker(marker))
    }
}

#[cfg(test)]
#[path = "conformance_tests.rs"]
mod tests;
