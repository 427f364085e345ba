//! `quarantine replay`.

use anyhow::bail;
use serde_json::json;

use super::Place;
use super::table::{plain, print};
use crate::store::quarantine::{Kept, KeptFilter, oldest};
use crate::store::replay::{Replayed, replay as replay_one};
use crate::workspace::actor;

/// Chunks that are looked up at once.
const PAGE: usize = 64;

#[derive(Debug, Default)]
struct Counts {
    in_place: u64,
    refused: u64,
    gone: u64,
}

pub(super) async fn replay(
    place: &Place,
    (filters, all): (&[KeptFilter], bool),
    dry_run: bool,
    as_json: bool,
) -> anyhow::Result<()> {
    let mut counts = Counts::default();
    for filter in filters {
        if !of_filter(place, filter, dry_run, as_json, &mut counts).await? && !all {
            bail!("nothing of what was named is in quarantine: `wavekeep-server quarantine list` says what is");
        }
    }
    let Counts {
        in_place,
        refused,
        gone,
    } = counts;
    let is_now = if dry_run { "would be in place" } else { "in place" };
    eprintln!("{in_place} {is_now}, {refused} refused, {gone} no longer stored");
    if refused > 0 {
        bail!(
            "{refused} of {} stay in quarantine: `show` them, and replay with a version that takes them",
            in_place + refused + gone
        );
    }
    Ok(())
}

/// Was there any?
async fn of_filter(
    place: &Place,
    filter: &KeptFilter,
    dry_run: bool,
    as_json: bool,
    counts: &mut Counts,
) -> anyhow::Result<bool> {
    let (actor, mut after) = (actor(), None);
    loop {
        let page = oldest(&place.database, &place.workspace, filter, after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(after.is_some());
        };
        after = Some(last.id);
        for kept in &page {
            let became = replay_one(&place.database, &place.workspace, kept.id, (&actor, dry_run)).await?;
            match became {
                Replayed::InPlace => counts.in_place += 1,
                Replayed::Refused(_) => counts.refused += 1,
                Replayed::Gone => counts.gone += 1,
                Replayed::NotThere => {}
            }
            print(&[said(kept, &became, as_json)])?;
        }
    }
}

fn said(kept: &Kept, became: &Replayed, as_json: bool) -> String {
    let (result, why) = match became {
        Replayed::InPlace => ("in place", None),
        Replayed::Refused(why) => ("refused", Some(why)),
        Replayed::Gone => ("no longer stored", None),
        Replayed::NotThere => ("replayed by somebody else", None),
    };
    let (stream, header) = (kept.stream, &kept.header);
    if as_json {
        return json!({
            "id": kept.id, "device": kept.device, "stream": stream.to_string(), "seq": header.seq, "result": result, "why": why,
        })
        .to_string();
    }
    let why = why.map(|why| format!(": {}", plain(why))).unwrap_or_default();
    format!(
        "{}  {}  {stream}  seq {}  {} samples  {result}{why}",
        kept.id,
        plain(&kept.device),
        header.seq,
        header.count
    )
}
