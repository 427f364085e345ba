//! From options to a selection: resolves beginnings of stream ids, and times before the end.

use wavekeep::proto::id::StreamId;
use wavekeep::time::Moment;
use wavekeep::{Client, Selected, SelectedStream, Selection, StreamInfo, TimeRange};

use super::Select;
use super::failure::Failure;
use super::limits::STREAM_DIGITS_MIN;

impl Select {
    pub(super) fn require_source(&self) -> Result<(), Failure> {
        if self.device.is_none() && self.stream.is_none() && self.run.is_none() && self.filter.is_none() {
            return Err(Failure::Usage(
                "say what to read: --device NAME, --stream ID, --run NAME or --filter EXPR (`wavekeep devices` lists them)".into(),
            ));
        }
        Ok(())
    }

    /// Asks the server where it has to.
    pub(super) async fn selection(&self, client: &Client) -> Result<Selection, Failure> {
        let selection = self.source(client).await?.signals(&self.signals);
        let relative = [self.from, self.to]
            .iter()
            .any(|time| matches!(time, Some(Moment::BeforeEnd(_))));
        let end_ns = if relative {
            end_ns(&client.selected(&selection, false).await?)?
        } else {
            0
        };
        let at = |time: Option<Moment>| time.map(|time| time.resolve(end_ns));
        let range = TimeRange {
            from_ns: at(self.from),
            to_ns: at(self.to),
        };
        if let TimeRange {
            from_ns: Some(from),
            to_ns: Some(to),
        } = range
            && from >= to
        {
            return Err(Failure::Usage("--to is not after --from: exchange them".into()));
        }
        Ok(selection.range(range))
    }

    async fn source(&self, client: &Client) -> Result<Selection, Failure> {
        let filter = self.filter.as_deref().unwrap_or_default();
        let with = |selection: Selection, key: &str, value: &Option<String>| match value {
            Some(value) => selection.matching(key, value),
            None => selection,
        };
        Ok(match (&self.stream, &self.run, &self.device) {
            (Some(text), run, device) => {
                let selection = Selection::stream(stream_id(client, text).await?).filter(filter);
                with(with(selection, "device", device), "run", run)
            }
            (None, Some(run), device) => with(Selection::run(run).filter(filter), "device", device),
            (None, None, Some(device)) => Selection::device(device).filter(filter),
            (None, None, None) => Selection::everything().filter(filter),
        })
    }

    /// By its beginning.
    pub(super) async fn stream_id(&self, client: &Client, text: &str) -> Result<StreamId, Failure> {
        stream_id(client, text).await
    }
}

/// Where what is stored of it ends: a run may end before its streams do.
fn end_ns(selected: &Selected) -> Result<i64, Failure> {
    let nothing_yet = "nothing is stored there yet, so it has no end to count back from";
    let times = selected.streams.iter().flat_map(SelectedStream::times_ns);
    let end = times.map(|(_, to)| to).max();
    end.ok_or_else(|| Failure::Failed(nothing_yet.into()))
}

/// The expression that lets one run through: a name may have any letter.
pub(super) fn run_filter(name: &str) -> String {
    let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
    format!("run=\"{quoted}\"")
}

/// The first digits of an id, as ids are written; None where it is none, or so short that it would be many.
pub(super) fn beginning(text: &str) -> Option<String> {
    let begins = text.to_ascii_lowercase();
    let is_one = begins.len() >= STREAM_DIGITS_MIN && begins.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_one.then_some(begins)
}

async fn stream_id(client: &Client, text: &str) -> Result<StreamId, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let Some(begins) = beginning(text) else {
        let sentence = format!(
            "{text:?} is not a stream id: give its 32 hexadecimal digits, or at least the first {STREAM_DIGITS_MIN}"
        );
        return Err(Failure::Usage(sentence));
    };
    let streams = client.streams(&Selection::everything()).await?;
    let mut matching = streams
        .iter()
        .map(StreamInfo::id)
        .filter(|id| id.to_string().starts_with(&begins));
    match (matching.next(), matching.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(Failure::Failed(format!(
            "no stream begins with {text}: `wavekeep streams` lists them"
        ))),
        (Some(_), Some(_)) => Err(Failure::Usage(format!(
            "several streams begin with {text}: give more digits"
        ))),
    }
}
