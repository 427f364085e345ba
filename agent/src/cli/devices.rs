//! `wavekeep-agent devices`: which instruments are plugged in, and what is wrong with them.

use clap::Args;
use clap::builder::BoolishValueParser;
use serde::Serialize;
use wavekeep_agent::source::joulescope::keep::Trouble;
use wavekeep_agent::source::joulescope::libusb::Libusb;
use wavekeep_agent::source::joulescope::product;
use wavekeep_agent::source::joulescope::source::identify;
use wavekeep_agent::source::joulescope::usb::{Found, Usb};

use super::CliError;
use super::summary::print_line;

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Prints a JSON array
    #[arg(long, env = "WAVEKEEP_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

/// One instrument.
#[derive(Debug, Serialize)]
struct Line {
    model: &'static str,
    serial: Option<String>,
    firmware: Option<String>,
    /// As `run --joulescope` names its streams.
    device: Option<String>,
    /// What is wrong with it, and what to do.
    trouble: Option<String>,
}

impl Line {
    fn new<U: Usb>(usb: &mut U, found: &Found) -> Self {
        let model = product(found.product).model;
        let serial = found.serial.clone().ok();
        let looked = match &found.serial {
            Err(error) => Err(Trouble::of(found, error.clone().into())),
            Ok(_) => Trouble::check(found).and_then(|()| identify(usb, found).map_err(|why| Trouble::of(found, why))),
        };
        let (firmware, trouble) = match looked {
            Ok(identity) => (Some(identity.firmware.to_string()), None),
            Err(trouble) => (None, Some(trouble.to_string())),
        };
        Self {
            model,
            device: serial.as_ref().map(|serial| format!("{model}-{serial}")),
            serial,
            firmware,
            trouble,
        }
    }

    fn cells(&self) -> [&str; 4] {
        [
            self.model,
            self.serial.as_deref().unwrap_or("?"),
            self.firmware.as_deref().unwrap_or("?"),
            self.device.as_deref().unwrap_or("?"),
        ]
    }
}

pub(crate) fn devices(args: &DevicesArgs) -> Result<(), CliError> {
    let mut usb = Libusb::new().map_err(CliError::failed)?;
    let found = usb.find().map_err(|error| CliError::failed(Trouble::List(error)))?;
    let lines: Vec<Line> = found.iter().map(|found| Line::new(&mut usb, found)).collect();
    if args.json {
        print_line(&serde_json::to_string(&lines).map_err(CliError::failed)?)?;
    } else if lines.is_empty() {
        print_line("no Joulescope is plugged in (in a virtual machine or container, it has to be passed through)")?;
    } else {
        print_line(&table(&lines))?;
    }
    let troubled = lines.iter().filter(|line| line.trouble.is_some()).count();
    if troubled > 0 {
        let message = format!("{troubled} of {} instruments cannot be captured", lines.len());
        return Err(CliError::Failed(message));
    }
    Ok(())
}

fn table(lines: &[Line]) -> String {
    let head = ["MODEL", "SERIAL", "FIRMWARE", "DEVICE"];
    let rows: Vec<[&str; 4]> = std::iter::once(head).chain(lines.iter().map(Line::cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        if number > 0 {
            text.push('\n');
        }
        text.push_str(line.trim_end());
        if let Some(trouble) = number.checked_sub(1).and_then(|place| lines[place].trouble.as_ref()) {
            text.push_str(&format!("\n  {trouble}"));
        }
    }
    text
}
