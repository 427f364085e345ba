//! `reconcile`: for each stream, does what was captured add up with what is stored?

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use wavekeep::proto::id::StreamId;
use wavekeep::reconcile::{Finding, Held, Reckoning, Word};
use wavekeep::time::rfc3339;
use wavekeep::{Account, Client, Integral, Integrals};

use super::Select;
use super::agent::Agent;
use super::failure::Failure;
use super::limits::{INTEGRALS_MAX, STREAMS_RECONCILED_MAX};
use super::listing::{say_if_empty, stream_name};
use super::table::Output;
use super::words::{si, thousands};

pub(super) const EXAMPLES: &str = "Examples:
  wavekeep reconcile --device js220-001
  wavekeep reconcile --run night-1 --json
  wavekeep reconcile --device js220-001 --outbox /var/lib/wavekeep-agent     beside the agent, running or not

For each stream, in samples of its axis:
  captured = stored + gaps by reason + quarantined + in the outbox
and, where there are such, + continued by a successor (counted there) + dropped by retention. All but the outbox is counted from the
rows of chunks. Captured is what the agent says: asked now with --outbox or --agent-socket; else in the stream's end, once that is
stored; else in its last heartbeat, which the server writes down twice a minute. A stream that is still captured adds up too.

Of an instrument that integrates by itself (a Joulescope's statistics), its charge and energy are shown beside those of the stored
samples. They differ by what is missing; that is for you to know, and no failure.

It ends with 0 only if every stream adds up, and with 1 otherwise. It reads counts, no samples: `wavekeep-server scrub` reads those.";

/// Where a line goes on below.
const HANG: usize = 4;

/// Which streams, and where their agent is.
#[derive(Debug, Args)]
pub(super) struct Reconcile {
    /// The device's streams.
    #[arg(long, value_name = "NAME", env = "WAVEKEEP_DEVICE")]
    device: Option<String>,
    /// One stream, by its id or by the beginning of it.
    #[arg(long, value_name = "ID", env = "WAVEKEEP_STREAM")]
    stream: Option<String>,
    /// The run's streams.
    #[arg(long, value_name = "NAME", env = "WAVEKEEP_RUN")]
    run: Option<String>,
    /// Only streams that it lets through: `key=value key!=value key~glob key!~glob`, labels, device or run.
    #[arg(long, value_name = "EXPR", env = "WAVEKEEP_FILTER")]
    filter: Option<String>,
    /// The outbox of the agent that captured them: its agent is asked, or it is read where none runs.
    #[arg(long, value_name = "DIR", env = "WAVEKEEP_OUTBOX")]
    outbox: Option<PathBuf>,
    /// The admin socket of the agent that captures them [default: agent.sock in the outbox's directory].
    #[arg(long, value_name = "PATH", env = "WAVEKEEP_ADMIN_SOCKET")]
    agent_socket: Option<PathBuf>,
}

impl Reconcile {
    fn select(&self) -> Select {
        Select {
            device: self.device.clone(),
            stream: self.stream.clone(),
            run: self.run.clone(),
            filter: self.filter.clone(),
            signals: Vec::new(),
            from: None,
            to: None,
        }
    }

    /// Is a stream that an outbox holds asked for?
    fn wants(&self, held: &Held) -> bool {
        // What the outbox holds has no labels here: the server knows what a filter lets through.
        if self.filter.is_some() {
            return false;
        }
        let is = |name: &Option<String>, own: &str| name.as_ref().is_none_or(|name| name == own);
        let begins = self.stream.as_ref().map(|text| text.to_ascii_lowercase());
        is(&self.device, &held.device)
            && is(&self.run, &held.run)
            && begins.is_none_or(|begins| held.stream.to_string().starts_with(&begins))
    }
}

pub(super) async fn reconcile(client: &Client, asked: &Reconcile, output: &mut Output) -> Result<(), Failure> {
    let agent = Agent::new(asked.agent_socket.as_deref(), asked.outbox.as_deref());
    let look = || agent.as_ref().map_or(Ok(Vec::new()), Agent::held);
    // The agent before and after: between the two the server says where it stands.
    let before: BTreeMap<StreamId, Held> = look()?.into_iter().map(|held| (held.stream, held)).collect();
    let knows_some = before.values().any(|held| asked.wants(held));
    let accounts = accounts(client, asked, knows_some).await?;
    let after = look()?.into_iter();
    let mut held: BTreeMap<StreamId, Held> = after
        .map(|after| (after.stream, Held::between(before.get(&after.stream), after)))
        .collect();
    let known: BTreeSet<StreamId> = accounts.iter().map(|account| account.stream.id()).collect();
    let mut sums: Vec<Reckoning> = accounts
        .iter()
        .map(|account| Reckoning::of(account, held.get(&account.stream.id())))
        .collect();
    // Those of another device or run are somebody else's question.
    held.retain(|id, held| !known.contains(id) && asked.wants(held));
    sums.extend(held.values().map(Reckoning::unknown_to_server));
    let integrals = integrals(client, &accounts).await;
    tell(&sums, &integrals, output)?;
    verdict(&sums)
}

async fn accounts(client: &Client, asked: &Reconcile, agent_knows_some: bool) -> Result<Vec<Account>, Failure> {
    let answer = async {
        let selection = asked.select().selection(client).await?;
        let mut answer = client.accounts(&selection).await?;
        let mut accounts = Vec::new();
        while let Some(account) = answer.next().await? {
            accounts.push(account);
            if accounts.len() > STREAMS_RECONCILED_MAX {
                return Err(Failure::Failed(format!(
                    "that would be more than {STREAMS_RECONCILED_MAX} streams: choose a device or a run"
                )));
            }
        }
        Ok(accounts)
    };
    match answer.await {
        // A device whose agent has not reached the server yet.
        Err(Failure::Unknown(_)) if agent_knows_some => Ok(Vec::new()),
        answer => answer,
    }
}

/// What instruments have integrated themselves. Where it cannot be had, nothing is said of it.
async fn integrals(client: &Client, accounts: &[Account]) -> BTreeMap<StreamId, Integrals> {
    let streams = accounts.iter().map(|account| &account.stream);
    let mut all = BTreeMap::new();
    for stream in streams
        .filter(|stream| wavekeep::integrates(stream))
        .take(INTEGRALS_MAX)
    {
        if let Ok(Some(integrals)) = client.integrals(stream).await {
            all.insert(stream.id(), integrals);
        }
    }
    all
}

fn tell(sums: &[Reckoning], integrals: &BTreeMap<StreamId, Integrals>, output: &mut Output) -> Result<(), Failure> {
    for (at, sum) in sums.iter().enumerate() {
        if output.json {
            output.json_line(&Line {
                instrument: integrals.get(&sum.stream).map(InstrumentLine::from),
                ..Line::from(sum)
            })?;
            continue;
        }
        if at > 0 {
            output.line("")?;
        }
        let stream = stream_name(sum.stream, output);
        for (line, hang) in lines(sum, &stream, output.is_narrow()) {
            output.prose(&line, hang)?;
        }
        for line in integrals.get(&sum.stream).into_iter().flat_map(compared) {
            output.prose(&line, HANG)?;
        }
    }
    if sums.len() > 1 && !output.json {
        output.line("")?;
        output.prose(&total(sums), HANG)?;
    }
    say_if_empty(output, "no streams");
    Ok(())
}

fn state(sum: &Reckoning) -> &'static str {
    sum.end_reason.map_or("live", |reason| reason.name())
}

/// What is right of a number.
fn word(sum: &Reckoning) -> String {
    match sum.word {
        Word::Agent => "the agent says so now".into(),
        Word::End => "its agent's last word: its end is stored".into(),
        Word::Heartbeat { age_ms } => format!("by the agent's heartbeat of {} ago, and what came since", age(age_ms)),
        Word::Nobody => "the agent was not heard: --outbox DIR asks it".into(),
    }
}

/// Roughly.
fn age(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Lines, and where each goes on below if it is too long for a terminal.
fn lines(sum: &Reckoning, stream: &str, is_narrow: bool) -> Vec<(String, usize)> {
    let rows = rows(sum);
    let longest = |of: fn(&Row) -> &String| rows.iter().map(|row| of(row).chars().count()).max();
    let (name_width, count_width) = match (longest(|row| &row.0), longest(|row| &row.1)) {
        (Some(names), Some(counts)) if is_narrow => (names + 2, counts),
        _ => (22, 18),
    };
    let run = if sum.run.is_empty() {
        String::new()
    } else {
        format!(", run {}", sum.run)
    };
    let mut lines = vec![(format!("{} stream {stream}, {}{run}", sum.device, state(sum)), HANG)];
    let says_at = 2 + name_width + count_width + 2;
    lines.extend(rows.iter().map(|(name, count, says)| {
        let line = format!("  {name:<name_width$}{count:>count_width$}  {says}");
        (line.trim_end().to_owned(), says_at)
    }));
    let verdict = match (sum.adds_up(), sum.captured) {
        (true, Some(_)) => "adds up".into(),
        (true, None) => "adds up, as far as the server knows".into(),
        (false, _) => {
            let all: Vec<String> = sum.findings.iter().map(what).collect();
            format!("DOES NOT ADD UP: {}", all.join("; "))
        }
    };
    lines.push((format!("  {verdict}"), HANG));
    lines
}

/// What is counted, how many samples it is, and what is to be said of that.
type Row = (String, String, String);

fn rows(sum: &Reckoning) -> Vec<Row> {
    let number = |count: Option<u64>| count.map_or_else(|| "not known".into(), thousands);
    let mut rows = vec![
        ("captured".to_owned(), number(sum.captured), word(sum)),
        ("stored".into(), thousands(sum.stored), String::new()),
    ];
    let gaps = sum.gaps.iter();
    rows.extend(gaps.map(|(reason, samples)| (format!("gap {}", reason.name()), thousands(*samples), String::new())));
    let mut row = |name: &str, count: u64, says: &str| {
        if count > 0 {
            rows.push((name.into(), thousands(count), says.into()));
        }
    };
    row(
        "quarantined",
        sum.quarantined,
        "`wavekeep-server quarantine list` says why",
    );
    row("succeeded", sum.succeeded, "a successor has them too: counted there");
    row("dropped", sum.dropped, "by the workspace's retention");
    let held = match sum.word {
        Word::Agent if sum.behind > 0 => format!(
            "{} of them were acknowledged once: the agent sends them again",
            thousands(sum.behind)
        ),
        Word::Nobody => String::new(),
        Word::Heartbeat { .. } => "as far as that heartbeat tells".into(),
        _ => "captured and not committed yet".into(),
    };
    rows.push(("in the outbox".into(), number(sum.in_outbox), held));
    rows
}

/// What the instrument says, and what the samples come to.
fn compared(integrals: &Integrals) -> Vec<String> {
    let seconds = (integrals.to_ns - integrals.from_ns) as f64 / 1e9;
    let row = |name: &str, unit: &str, integral: &Integral| {
        let less = (integral.instrument - integral.stored) / integral.instrument.abs().max(f64::MIN_POSITIVE) * 100.0;
        let samples = match integral.missing {
            0 => "none is missing".into(),
            missing => format!("{} samples are missing", thousands(missing)),
        };
        format!(
            "  {name}: {} by the instrument, {} of what is stored, {less:.4} % less; {samples}",
            si(integral.instrument, unit),
            si(integral.stored, unit)
        )
    };
    let mut lines = vec![format!("  in {seconds:.3} s from {}", rfc3339(integrals.from_ns))];
    lines.push(row("charge", "C", &integrals.charge));
    lines.extend(integrals.energy.iter().map(|energy| row("energy", "J", energy)));
    lines
}

/// Of all; what a successor has as well counts once.
fn total(sums: &[Reckoning]) -> String {
    let all = |of: fn(&Reckoning) -> u64| thousands(sums.iter().map(of).fold(0, u64::saturating_add));
    let off = sums.iter().filter(|sum| !sum.adds_up()).count();
    let verdict = match off {
        0 => "all add up".into(),
        off => format!("{off} of them DO NOT ADD UP"),
    };
    format!(
        "{} streams: {} stored, {} in gaps, {} quarantined, {} in the outbox; {verdict}",
        sums.len(),
        all(|sum| sum.stored),
        all(Reckoning::gap_samples),
        all(|sum| sum.quarantined),
        all(|sum| sum.in_outbox.unwrap_or(0)),
    )
}

/// For people.
fn what(finding: &Finding) -> String {
    let samples = |count: &u64| format!("{} sample{}", thousands(*count), if *count == 1 { "" } else { "s" });
    match finding {
        Finding::Missing { samples: count } => {
            format!("rows of {} are missing that the stream's row counts", samples(count))
        }
        Finding::Surplus { samples: count } => format!("there are rows of {} too many", samples(count)),
        Finding::Seqs { found, counted } => format!(
            "its rows stand for {} seqs, and its watermark counts {}",
            thousands(*found),
            thousands(*counted)
        ),
        Finding::Stored { found, counted } => format!(
            "its row counts {} stored samples, and there are {}",
            thousands(*counted),
            thousands(*found)
        ),
        Finding::Quarantined { found, counted } => format!(
            "its row counts {} chunks in quarantine, and there are {}",
            thousands(*counted),
            thousands(*found)
        ),
        Finding::Neither { samples: count } => {
            format!(
                "{} were released by the outbox, and the database does not have them",
                samples(count)
            )
        }
        Finding::Ahead { samples: count } => {
            format!("the database has {} more than the agent captured", samples(count))
        }
        Finding::AfterEnd { samples: count } => format!("the outbox holds {} after the stream's end", samples(count)),
    }
}

/// What to do about it.
fn advice(finding: &Finding) -> &'static str {
    match finding {
        Finding::Missing { .. }
        | Finding::Surplus { .. }
        | Finding::Seqs { .. }
        | Finding::Stored { .. }
        | Finding::Quarantined { .. } => {
            "`wavekeep-server scrub` says which rows, and a backup has those that are missing"
        }
        Finding::Neither { .. } => {
            "if --workspace is the agent's, restore a later backup before the agent connects and a gap `lost_by_server` takes their place"
        }
        Finding::Ahead { .. } | Finding::AfterEnd { .. } => {
            "its outbox lost its tail or was cloned: `wavekeep-agent outbox verify` reads it, and its agent's next session settles it"
        }
    }
}

fn verdict(sums: &[Reckoning]) -> Result<(), Failure> {
    let off: Vec<&Reckoning> = sums.iter().filter(|sum| !sum.adds_up()).collect();
    let Some(first) = off.first() else { return Ok(()) };
    let which = match off.len() {
        1 => format!("stream {} does not add up", first.stream),
        more => format!("{more} of {} streams do not add up", sums.len()),
    };
    let advice: BTreeSet<&str> = off.iter().flat_map(|sum| &sum.findings).map(advice).collect();
    let advice: Vec<&str> = advice.into_iter().collect();
    Err(Failure::Failed(format!("{which}: {}", advice.join("; "))))
}

/// Of `--json`. Its fields are a surface that scripts depend on: they are added to, never renamed.
#[derive(Serialize)]
struct Line {
    stream: String,
    device: String,
    run: String,
    ended: bool,
    end_reason: Option<&'static str>,
    adds_up: bool,
    captured: Option<u64>,
    /// `agent`, `end`, `heartbeat`, or null.
    captured_by: Option<&'static str>,
    captured_age_ms: Option<u64>,
    stored: u64,
    gaps: BTreeMap<&'static str, u64>,
    gap_sample_count: u64,
    quarantined: u64,
    succeeded: u64,
    dropped: u64,
    in_outbox: Option<u64>,
    behind: u64,
    difference: i128,
    findings: Vec<String>,
    /// Of a stream in which the instrument integrates; else null.
    instrument: Option<InstrumentLine>,
}

/// What an instrument has integrated itself, and what is stored of its samples.
#[derive(Serialize)]
struct InstrumentLine {
    from: String,
    to: String,
    charge_coulomb: f64,
    stored_charge_coulomb: f64,
    energy_joule: Option<f64>,
    stored_energy_joule: Option<f64>,
    missing: u64,
}

impl From<&Integrals> for InstrumentLine {
    fn from(integrals: &Integrals) -> Self {
        Self {
            from: rfc3339(integrals.from_ns),
            to: rfc3339(integrals.to_ns),
            charge_coulomb: integrals.charge.instrument,
            stored_charge_coulomb: integrals.charge.stored,
            energy_joule: integrals.energy.map(|energy| energy.instrument),
            stored_energy_joule: integrals.energy.map(|energy| energy.stored),
            missing: integrals.charge.missing,
        }
    }
}

impl From<&Reckoning> for Line {
    fn from(sum: &Reckoning) -> Self {
        let (captured_by, captured_age_ms) = match sum.word {
            Word::Agent => (Some("agent"), Some(0)),
            Word::End => (Some("end"), None),
            Word::Heartbeat { age_ms } => (Some("heartbeat"), Some(age_ms)),
            Word::Nobody => (None, None),
        };
        Self {
            stream: sum.stream.to_string(),
            device: sum.device.clone(),
            run: sum.run.clone(),
            ended: sum.end_reason.is_some(),
            end_reason: sum.end_reason.map(|reason| reason.name()),
            adds_up: sum.adds_up(),
            captured: sum.captured,
            captured_by,
            captured_age_ms,
            stored: sum.stored,
            gaps: sum
                .gaps
                .iter()
                .map(|(reason, samples)| (reason.name(), *samples))
                .collect(),
            gap_sample_count: sum.gap_samples(),
            quarantined: sum.quarantined,
            succeeded: sum.succeeded,
            dropped: sum.dropped,
            in_outbox: sum.in_outbox,
            behind: sum.behind,
            difference: sum.difference,
            findings: sum.findings.iter().map(what).collect(),
            instrument: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use wavekeep::proto::chunk::Reason;

    use super::super::table::folded;
    use super::*;

    fn sum() -> Reckoning {
        let held = Held {
            stream: StreamId([7; 16]),
            device: "js220-001122".into(),
            run: "night-1".into(),
            first_sample: 0,
            next_sample: 1_234_567_890,
            released_sample: 0,
            acked_sample: 0,
            ended: false,
        };
        Reckoning {
            gaps: BTreeMap::from([(Reason::DeviceOverflow, 1_200)]),
            quarantined: 65_536,
            behind: 7,
            findings: vec![Finding::Seqs { found: 7, counted: 9 }, Finding::Missing { samples: 3 }],
            ..Reckoning::unknown_to_server(&held)
        }
    }

    fn drawn(sum: &Reckoning, width: Option<usize>) -> Vec<String> {
        let lines = lines(sum, "07070707", width.is_some()).into_iter();
        lines.flat_map(|(line, hang)| folded(&line, width, hang)).collect()
    }

    #[test]
    fn a_sum_fits_a_terminal() {
        for width in [40, 60, 80] {
            let drawn = drawn(&sum(), Some(width));
            let widest = drawn.iter().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|widest| widest <= width), "{}", drawn.join("\n"));
        }
        let narrow = drawn(&sum(), Some(60));
        assert_eq!(narrow[0], "js220-001122 stream 07070707, live, run night-1");
        assert_eq!(narrow[1], "  captured             1,234,567,890  the agent says so now");
        // Nothing is left out, it goes on below.
        let all = narrow.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        for word in [
            "gap device_overflow 1,200",
            "7 of them were acknowledged once: the agent sends them again",
            "its watermark counts 9",
        ] {
            assert!(all.contains(word), "{all}");
        }
    }

    #[test]
    fn where_nobody_looks_each_sum_is_a_line() {
        let drawn = drawn(&sum(), None);
        assert_eq!(drawn.len(), 7, "{drawn:?}");
        assert_eq!(
            drawn[1],
            format!("  captured{:>32}  the agent says so now", "1,234,567,890")
        );
    }
}
