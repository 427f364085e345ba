//! From options to a selection: resolves beginnings of stream ids, and times before the end.

use wavekeep::proto::id::StreamId;
use wavekeep::time::Moment;
use wavekeep::{Client, Selection, StreamInfo, TimeRange};

use super::Select;
use super::failure::Failure;
use super::limits::STREAM_DIGITS_MIN;

impl Select {
    pub(super) fn require_source(&self) -> Result<(), Failure> {
        if self.device.is_none() && self.stream.is_none() && self.run.is_none() {
            return Err(Failure::Usage(
                "say what to read: --device NAME, --stream ID or --run NAME (`wavekeep devices` lists them)".into(),
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
            end_ns(&client.streams(&selection).await?)?
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
        let (mut selection, device_matched, run_matched) = match (&self.stream, &self.device, &self.run) {
            (Some(text), ..) => (Selection::stream(stream_id(client, text).await?), false, false),
            (None, Some(device), _) => (Selection::device(device), true, false),
            (None, None, Some(run)) => (Selection::run(run), false, true),
            (None, None, None) => (Selection::everything(), false, false),
        };
        if let (Some(device), false) = (&self.device, device_matched) {
            selection = selection.matching("device", device);
        }
        if let (Some(run), false) = (&self.run, run_matched) {
            selection = selection.matching("run", run);
        }
        Ok(selection)
    }
}

fn end_ns(streams: &[StreamInfo]) -> Result<i64, Failure> {
    let end = streams.iter().filter_map(|stream| stream.last_time_ns).max();
    end.ok_or_else(|| Failure::Failed("nothing is stored there yet, so it has no end to count back from".into()))
}

async fn stream_id(client: &Client, text: &str) -> Result<StreamId, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let begins = text.to_ascii_lowercase();
    if begins.len() < STREAM_DIGITS_MIN || !begins.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        let sentence = format!(
            "{text:?} is not a stream id: give its 32 hexadecimal digits, or at least the first {STREAM_DIGITS_MIN}"
        );
        return Err(Failure::Usage(sentence));
    }
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
