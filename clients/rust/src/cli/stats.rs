//! `stats`: statistics of each signal.

use wavekeep::time::rfc3339;
use wavekeep::{Client, Distribution, Statistics};

use super::StatsArguments;
use super::failure::Failure;
use super::histogram::drawn;
use super::json::StatisticsLine;
use super::limits::{WIDTH_PLAIN, WIDTH_RANGE};
use super::table::{Output, terminal_width};
use super::words::{duration, si, thousands};

pub(super) async fn stats(client: &Client, asked: &StatsArguments, output: &mut Output) -> Result<(), Failure> {
    let selection = asked.select.selection(client).await?;
    let wanted = Distribution {
        percentiles: asked.percentiles.clone(),
        bins: asked.histogram.unwrap_or(0),
        from: asked.histogram_from,
        to: asked.histogram_to,
    };
    let width = terminal_width()
        .unwrap_or(WIDTH_PLAIN)
        .clamp(WIDTH_RANGE.0, WIDTH_RANGE.1);
    for (at, statistics) in client.distribution(&selection, &wanted).await?.iter().enumerate() {
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
        if let Some(histogram) = &statistics.histogram {
            for line in drawn(histogram, &statistics.unit, width) {
                output.line(&line)?;
            }
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
        ("missing", missing(statistics)),
        ("duration", seconds(statistics.duration_s)),
        ("min", si(statistics.min, unit)),
        ("max", si(statistics.max, unit)),
        ("mean", si(statistics.mean, unit)),
        ("std", si(statistics.std, unit)),
        ("rms", si(statistics.rms, unit)),
        ("integral", si(statistics.integral, &unit_seconds)),
    ];
    rows.extend(statistics.energy_joule.map(|energy| ("energy", energy_in_both(energy))));
    rows.extend(
        statistics
            .charge_coulomb
            .map(|charge| ("charge", charge_in_both(charge))),
    );
    let percentiles: Vec<(String, String)> = (statistics.percentiles.iter())
        .map(|(share, value)| (format!("{share} %"), si(*value, unit)))
        .collect();
    rows.extend(percentiles.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let title = format!("{} {}", statistics.device, statistics.signal);
    let row = |(name, value): (&str, String)| format!("  {name:<10}{value}");
    [title].into_iter().chain(rows.into_iter().map(row)).collect()
}

fn seconds(seconds: f64) -> String {
    duration((seconds * 1e9).round() as i64)
}

fn missing(statistics: &Statistics) -> String {
    match statistics.gap_sample_count {
        0 => "0".into(),
        count => format!("{}, {}", thousands(count), seconds(statistics.gap_s)),
    }
}

fn energy_in_both(joule: f64) -> String {
    format!("{} = {}", si(joule, "J"), si(joule / 3_600.0, "Wh"))
}

fn charge_in_both(coulomb: f64) -> String {
    format!("{} = {}", si(coulomb, "C"), si(coulomb / 3_600.0, "Ah"))
}
