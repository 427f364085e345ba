//! `stats`: statistics of each signal.

use wavekeep::time::rfc3339;
use wavekeep::{Client, Statistics};

use super::Select;
use super::failure::Failure;
use super::json::StatisticsLine;
use super::table::Output;
use super::words::{si, thousands};

pub(super) async fn stats(client: &Client, select: &Select, output: &mut Output) -> Result<(), Failure> {
    let selection = select.selection(client).await?;
    for (at, statistics) in client.statistics(&selection).await?.iter().enumerate() {
        if output.json {
            output.json_line(&StatisticsLine::from(statistics))?;
            continue;
        }
        if at > 0 {
            output.line("")?;
        }
        for line in lines(statistics) {
            output.line(&line)?;
        }
    }
    Ok(())
}

fn lines(statistics: &Statistics) -> Vec<String> {
    let unit = statistics.unit.as_str();
    let unit_seconds = if unit.is_empty() {
        "s".into()
    } else {
        format!("{unit}·s")
    };
    let not_finite = statistics.sample_count.saturating_sub(statistics.finite_count);
    let mut samples = thousands(statistics.sample_count);
    if not_finite > 0 {
        samples = format!("{samples}, {} of them not finite", thousands(not_finite));
    }
    let mut rows = vec![
        ("from", rfc3339(statistics.from_ns)),
        ("to", rfc3339(statistics.to_ns)),
        ("samples", samples),
        ("missing", thousands(statistics.gap_sample_count)),
        ("min", si(statistics.min, unit)),
        ("max", si(statistics.max, unit)),
        ("mean", si(statistics.mean, unit)),
        ("std", si(statistics.std, unit)),
        ("rms", si(statistics.rms, unit)),
        ("integral", si(statistics.integral, &unit_seconds)),
    ];
    rows.extend(statistics.energy_joule.map(|energy| ("energy", si(energy, "J"))));
    rows.extend(statistics.charge_coulomb.map(|charge| ("charge", si(charge, "C"))));
    let title = format!("{} {}", statistics.device, statistics.signal);
    let row = |(name, value): (&str, String)| format!("  {name:<10}{value}");
    [title].into_iter().chain(rows.into_iter().map(row)).collect()
}
