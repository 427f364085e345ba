//! Stored streams of simulated instruments against the simulator's truth: every sample, bit for bit, and every gap.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use wavekeep_agent::source::simulated::SPEC_ATTRIBUTE;
use wavekeep_agent::source::simulator::{
    Coverage, LOGIC_PER_SAMPLE, Logic, LogicSignal, SimulatedSignal, Simulator, SimulatorSpec,
};
use wavekeep_proto::chunk::{Header, Reason};
use wavekeep_proto::stream::StreamDefinition;

use crate::lab::Lab;
use crate::stored::{self, Sink, read_by_query, read_by_sql};

/// What was found, per stream or in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Samples of the axis that are stored and true.
    pub samples: u64,
    /// Samples in named gaps.
    pub gaps: BTreeMap<Reason, u64>,
    /// Encoded bytes are the database's to say; these are decoded values compared (samples × signals).
    pub values: u64,
}

impl Report {
    /// Samples in all gaps.
    #[must_use]
    pub fn gap_samples(&self) -> u64 {
        self.gaps.values().sum()
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.values += other.values;
        for (reason, count) in &other.gaps {
            *self.gaps.entry(*reason).or_default() += count;
        }
    }
}

/// Compares what a stream holds with the truth.
pub struct Truth {
    simulator: Simulator,
    /// Of a stream of digital signals.
    logic: Option<Logic>,
    samples: Vec<f32>,
    expected: Vec<u8>,
    /// Found so far.
    pub report: Report,
}

impl Truth {
    /// Of a simulated device's stream: its definition names the specification.
    pub fn new(definition: &StreamDefinition) -> Result<Self> {
        let spec = definition
            .attributes
            .get(SPEC_ATTRIBUTE)
            .context("the stream is not a simulated one")?;
        let spec: SimulatorSpec = spec.parse()?;
        Ok(Self {
            simulator: Simulator::new(&spec),
            logic: Logic::of(&spec).filter(|_| is_logic(definition)),
            samples: Vec::new(),
            expected: Vec::new(),
            report: Report::default(),
        })
    }

    /// The samples of current and voltage that are taken together with these of the stream.
    fn simulated(&self, range: Range<u64>) -> Range<u64> {
        match self.logic {
            Some(_) => range.start / LOGIC_PER_SAMPLE..range.end.div_ceil(LOGIC_PER_SAMPLE),
            None => range,
        }
    }

    /// Fills `expected` with what the instrument delivered of the stream's signal in this place, and names it.
    fn expect(&mut self, place: usize, range: Range<u64>) -> Result<&'static str> {
        let count = (range.end - range.start) as usize;
        self.expected.clear();
        if let Some(logic) = &self.logic {
            let signal = LogicSignal::ALL.get(place).context("a column too many")?;
            logic.fill(*signal, range.start, count, &mut self.expected);
            return Ok(signal.name());
        }
        let signal = SimulatedSignal::ALL.get(place).context("a column too many")?;
        self.samples.resize(count, 0.0);
        self.simulator.fill(*signal, range.start, &mut self.samples);
        let bytes = self.samples.iter().flat_map(|sample| sample.to_le_bytes());
        self.expected.extend(bytes);
        Ok(signal.name())
    }
}

fn is_logic(definition: &StreamDefinition) -> bool {
    let names = definition.signals.iter().map(|signal| signal.name.as_str());
    names.eq(LogicSignal::ALL.map(LogicSignal::name))
}

impl Sink for Truth {
    fn samples(&mut self, header: &Header, columns: &[Option<Vec<u8>>]) -> Result<()> {
        let (first, end) = (header.first_sample, header.end_sample());
        let simulated = self.simulated(first..end);
        let lost = self.simulator.next_loss(simulated.start, simulated.end);
        ensure!(
            lost.is_none(),
            "samples {first}..{end} are stored, yet the instrument lost {lost:?}"
        );
        for (place, column) in columns.iter().enumerate() {
            let column = column.as_ref().context("the simulator never leaves out a column")?;
            let name = self.expect(place, first..end)?;
            ensure!(
                self.expected == *column,
                "{name} of samples {first}..{end} is not what the instrument delivered"
            );
            self.report.values += header.count;
        }
        self.report.samples += header.count;
        Ok(())
    }

    fn gap(&mut self, header: &Header) -> Result<()> {
        if header.reason == Reason::SourceLoss {
            let range = self.simulated(header.first_sample..header.end_sample());
            let mut parts = self.simulator.covered(range.start, range.end);
            let all_lost = parts.all(|part| matches!(part, Coverage::Lost(_)));
            ensure!(
                all_lost,
                "{range:?} is a gap source_loss, yet the instrument delivered samples there"
            );
        }
        *self.report.gaps.entry(header.reason).or_default() += header.count;
        Ok(())
    }
}

/// Checks every stream of a simulated device, by SQL and by `Query`: what was captured is stored and true, or in named gaps.
pub async fn check_device(database_url: &str, server_url: &str, device: &str) -> Result<(usize, Report)> {
    let mut connection = stored::sql(database_url).await?;
    let streams = stored::streams(&mut connection, device).await?;
    ensure!(!streams.is_empty(), "device {device} has no streams");
    let mut total = Report::default();
    for stream in &streams {
        let mut by_sql = Truth::new(&stream.definition)?;
        read_by_sql(&mut connection, stream, &mut by_sql)
            .await
            .context("by SQL")?;
        let mut by_query = Truth::new(&stream.definition)?;
        read_by_query(server_url, stream, &mut by_query)
            .await
            .context("by Query")?;
        ensure!(
            by_sql.report == by_query.report,
            "SQL and Query disagree: {:?}, {:?}",
            by_sql.report,
            by_query.report
        );
        let covered = by_sql.report.samples + by_sql.report.gap_samples();
        let captured = stream.at.next_sample - stream.definition.first_sample;
        ensure!(
            covered == captured,
            "I13: {captured} samples were captured, {covered} are stored or in gaps"
        );
        total.add(&by_sql.report);
    }
    Ok((streams.len(), total))
}

/// The same, of a lab.
pub fn check_lab(lab: &Lab, device: &str) -> Result<(usize, Report)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(check_device(&lab.database_url()?, &lab.url(), device))
}
