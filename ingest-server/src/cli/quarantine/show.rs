//! `quarantine show`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use serde_json::{Value, json};
use wavekeep_proto::chunk::{ChunkKind, ColumnContent, Header};
use wavekeep_proto::hash::chunk_hash;
use wavekeep_proto::stream::StreamDefinition;

use super::Place;
use super::list::object;
use super::table::{plain, print, time};
use crate::store::quarantine::{Kept, KeptFilter, content, newest};

/// Of a column, in hexadecimal.
const BYTES_SHOWN: usize = 32;

/// A column as its header has it, with its bytes if they came.
struct Column<'a> {
    signal: u16,
    name: String,
    sample_type: &'static str,
    content: ColumnContent,
    bytes: Option<&'a Bytes>,
}

pub(super) async fn show(
    place: &Place,
    filter: &KeptFilter,
    output: Option<&Path>,
    as_json: bool,
) -> anyhow::Result<()> {
    let found = newest(&place.database, &place.workspace, filter, None, 2).await?;
    let kept = match &found[..] {
        [kept] => kept,
        [] => bail!("it is not in quarantine: `wavekeep-server quarantine list` says what is"),
        _ => bail!("several streams begin with these digits: give more of them, or an id"),
    };
    let Some((definition, bytes)) = content(&place.database, &place.workspace, kept).await? else {
        bail!("it has left quarantine this moment");
    };
    let columns = columns(kept, &definition, &bytes);
    let files = match output {
        Some(directory) => write(kept, directory, &bytes, &columns)?,
        None => Vec::new(),
    };
    if as_json {
        let mut all = object(kept);
        all["hash"] = chunk_hash(&kept.header).to_string().into();
        all["digest"] = kept.digest.to_string().into();
        all["kind"] = kind(&kept.header).into();
        all["markers"] = kept.header.markers.len().into();
        all["columns"] = columns.iter().map(column_object).collect();
        all["files"] = files
            .iter()
            .map(|file| Value::from(file.display().to_string()))
            .collect();
        print(&[all.to_string()])?;
        return Ok(());
    }
    let mut said = facts(kept, bytes.len());
    said.extend(columns.iter().flat_map(column_lines));
    said.extend(files.iter().map(|file| format!("written     {}", file.display())));
    print(&said)?;
    Ok(())
}

fn columns<'a>(kept: &Kept, definition: &StreamDefinition, bytes: &'a [Bytes]) -> Vec<Column<'a>> {
    let mut bytes = bytes.iter();
    let column = |column: &wavekeep_proto::chunk::ColumnHeader| {
        let signal = definition.signals.iter().find(|signal| signal.number == column.signal);
        let is_present = matches!(column.content, ColumnContent::Present { .. });
        Column {
            signal: column.signal,
            name: signal.map(|signal| plain(&signal.name)).unwrap_or_default(),
            sample_type: signal.map_or("unknown", |signal| signal.sample_type.name()),
            content: column.content,
            bytes: if is_present { bytes.next() } else { None },
        }
    };
    kept.header.columns.iter().map(column).collect()
}

/// Without samples only where the database refused the row.
const fn kind(header: &Header) -> &'static str {
    match header.kind {
        ChunkKind::Samples => "samples",
        ChunkKind::Gap => "gap",
        ChunkKind::End => "end",
    }
}

fn facts(kept: &Kept, came: usize) -> Vec<String> {
    let header = &kept.header;
    vec![
        format!("id          {}", kept.id),
        format!("device      {}", plain(&kept.device)),
        format!("stream      {}", kept.stream),
        format!("seq         {}", header.seq),
        format!("kind        {}", kind(header)),
        format!(
            "samples     {} from {} to {}",
            header.count,
            header.first_sample,
            header.end_sample()
        ),
        format!("time        {}", time(header.utc_ns, false)),
        format!("markers     {}", header.markers.len()),
        format!(
            "columns     {} named, {} with bytes, {came} came",
            header.columns.len(),
            header.present_columns()
        ),
        format!("hash        {}", chunk_hash(header)),
        format!("digest      {}", kept.digest),
        format!("quarantined {}", time(kept.quarantined_at_ns, false)),
        format!("why         {}", plain(&kept.why)),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(BYTES_SHOWN)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn column_lines(column: &Column<'_>) -> Vec<String> {
    let Column {
        signal,
        name,
        sample_type,
        content,
        bytes,
    } = column;
    let of = format!("signal {signal} {name:?} {sample_type}");
    match (content, bytes) {
        (ColumnContent::Absent(reason), _) => vec![format!("{of}: absent, {}", reason.name())],
        (ColumnContent::Present { encoding, hash }, None) => vec![format!("{of}: {encoding}, hash {hash}, no bytes")],
        (ColumnContent::Present { encoding, hash }, Some(bytes)) => {
            let more = if bytes.len() > BYTES_SHOWN { "…" } else { "" };
            vec![
                format!("{of}: {encoding}, hash {hash}, {} bytes", bytes.len()),
                format!("  {}{more}", hex(bytes)),
            ]
        }
    }
}

fn column_object(column: &Column<'_>) -> Value {
    let (encoding, hash, absent) = match column.content {
        ColumnContent::Present { encoding, hash } => (Some(encoding.name()), Some(hash.to_string()), None),
        ColumnContent::Absent(reason) => (None, None, Some(reason.name())),
    };
    json!({
        "signal": column.signal, "name": column.name, "type": column.sample_type, "encoding": encoding, "hash": hash,
        "absent": absent, "bytes": column.bytes.map(Bytes::len), "begins": column.bytes.map(|bytes| hex(bytes)),
    })
}

/// A file for each column that came, also for those that the header does not name.
fn write(kept: &Kept, directory: &Path, bytes: &[Bytes], columns: &[Column<'_>]) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut named = columns.iter().filter_map(|column| match column.content {
        ColumnContent::Present { encoding, .. } => Some(format!("{}.{encoding}", column.signal)),
        ColumnContent::Absent(_) => None,
    });
    let mut files = Vec::new();
    for (place, bytes) in bytes.iter().enumerate() {
        let what = named.next().unwrap_or_else(|| format!("more-{place}"));
        let file = directory.join(format!("{}-{}-{what}", kept.stream, kept.header.seq));
        std::fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        files.push(file);
    }
    Ok(files)
}
