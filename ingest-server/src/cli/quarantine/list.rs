//! `quarantine list`.

use serde_json::json;

use super::Place;
use super::table::{lines, plain, print, terminal_width, time};
use crate::store::quarantine::{Kept, KeptFilter, newest};

/// Digits of a stream's id that a terminal shows.
const STREAM_DIGITS_SHOWN: usize = 8;

const HEADINGS: [(&str, u8); 9] = [
    ("ID", 0),
    ("DEVICE", 3),
    ("STREAM", 0),
    ("SEQ", 0),
    ("SAMPLES", 2),
    ("TIME", 4),
    ("BYTES", 5),
    ("QUARANTINED", 6),
    ("WHY", 0),
];

pub(super) async fn list(
    place: &Place,
    filter: &KeptFilter,
    (before, limit): (Option<i64>, usize),
    as_json: bool,
) -> anyhow::Result<()> {
    // One more tells whether there are more.
    let mut page = newest(&place.database, &place.workspace, filter, before, limit + 1).await?;
    let more = page.len() > limit;
    page.truncate(limit);
    if as_json {
        print(&page.iter().map(|kept| object(kept).to_string()).collect::<Vec<_>>())?;
        return Ok(());
    }
    let Some(last) = page.last() else {
        eprintln!(
            "nothing is in quarantine{}",
            if *filter == KeptFilter::default() {
                ""
            } else {
                " that matches"
            }
        );
        return Ok(());
    };
    let width = terminal_width();
    let rows: Vec<_> = page.iter().map(|kept| row(kept, width.is_some())).collect();
    print(&lines(&HEADINGS, &rows, width))?;
    if more {
        eprintln!("there are more: go on with --before {}", last.id);
    }
    Ok(())
}

fn row(kept: &Kept, short: bool) -> Vec<String> {
    let header = &kept.header;
    let mut stream = kept.stream.to_string();
    if short {
        stream.truncate(STREAM_DIGITS_SHOWN);
    }
    vec![
        kept.id.to_string(),
        plain(&kept.device),
        stream,
        header.seq.to_string(),
        format!("{}+{}", header.first_sample, header.count),
        time(header.utc_ns, short),
        kept.bytes.to_string(),
        time(kept.quarantined_at_ns, short),
        plain(&kept.why),
    ]
}

/// What both `list` and `show` say.
pub(super) fn object(kept: &Kept) -> serde_json::Value {
    let header = &kept.header;
    json!({
        "id": kept.id, "device": kept.device, "stream": kept.stream.to_string(), "seq": header.seq,
        "first_sample": header.first_sample, "sample_count": header.count, "time_ns": header.utc_ns,
        "time": time(header.utc_ns, false), "bytes": kept.bytes, "why": kept.why,
        "quarantined_at": time(kept.quarantined_at_ns, false),
    })
}
