//! A connection to a server: one method per question.

use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use wavekeep_proto::codec::Encoding;
use wavekeep_proto::v1::catalog_client::CatalogClient;
use wavekeep_proto::v1::query_client::QueryClient;
use wavekeep_proto::{limits as proto_limits, v1};

use crate::limits;
use crate::{
    Accounts, ChunkOrder, Chunks, Comparison, Device, Distribution, Error, Gaps, Groups, Imported, Markers, NewMarker,
    NewRun, Run, RunChange, Selected, Selection, Statistics, StreamInfo, Tail, TailFrom, Waveform,
};

/// Asks one workspace of one server. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Client {
    query: QueryClient<Channel>,
    catalog: CatalogClient<Channel>,
    server: String,
    workspace: String,
}

impl Client {
    /// Connects to `server` (`http://` or `https://`, host and port), to read from `workspace`.
    pub async fn connect(server: &str, workspace: &str) -> Result<Self, Error> {
        let channel = endpoint(server)?
            .connect()
            .await
            .map_err(|error| Error::unreachable(server, &error))?;
        let catalog = CatalogClient::new(channel.clone()).max_decoding_message_size(proto_limits::MESSAGE_BYTES_MAX);
        let query = QueryClient::new(channel).max_decoding_message_size(proto_limits::MESSAGE_BYTES_MAX);
        Ok(Self {
            query,
            catalog,
            server: server.into(),
            workspace: workspace.into(),
        })
    }

    fn refused(&self) -> impl Fn(tonic::Status) -> Error + '_ {
        |status| Error::refused(&self.server, &status)
    }

    /// Every device, by name.
    pub async fn devices(&self) -> Result<Vec<Device>, Error> {
        let request = v1::ListDevicesRequest {
            workspace: self.workspace.clone(),
        };
        let answer = self.query.clone().list_devices(request).await.map_err(self.refused())?;
        Ok(answer.into_inner().devices.into_iter().map(Device::from_wire).collect())
    }

    /// The streams of a selection, in order of time. Those that have no sample in its range are not among them.
    pub async fn streams(&self, selection: &Selection) -> Result<Vec<StreamInfo>, Error> {
        let answer = self.list_streams(selection, false).await?;
        answer.streams.into_iter().map(StreamInfo::from_wire).collect()
    }

    /// The same, with what of each stream is selected, and, if they are wanted, the runs that the selection names.
    pub async fn selected(&self, selection: &Selection, with_runs: bool) -> Result<Selected, Error> {
        Selected::from_wire(self.list_streams(selection, with_runs).await?)
    }

    async fn list_streams(&self, selection: &Selection, with_runs: bool) -> Result<v1::ListStreamsResponse, Error> {
        let request = v1::ListStreamsRequest {
            workspace: self.workspace.clone(),
            selection: Some(selection.to_wire()),
            with_runs,
        };
        let answer = self.query.clone().list_streams(request).await;
        Ok(answer.map_err(self.refused())?.into_inner())
    }

    /// The stored chunks of a selection without their samples, or with the first few.
    pub async fn chunks(&self, selection: &Selection, order: &ChunkOrder) -> Result<Chunks, Error> {
        let request = v1::ListChunksRequest {
            workspace: self.workspace.clone(),
            selection: Some(selection.to_wire()),
            limit: order.limit,
            newest_first: order.newest_first,
            first_samples: order.first_samples,
            after: order.cursors(),
        };
        let answer = self.query.clone().list_chunks(request).await.map_err(self.refused())?;
        Ok(Chunks(answer.into_inner()))
    }

    /// What is missing in a selection, and why: gaps, quarantined chunks, absent signals, and outages.
    pub async fn gaps(&self, selection: &Selection) -> Result<Gaps, Error> {
        let request = v1::ListGapsRequest {
            workspace: self.workspace.clone(),
            selection: Some(selection.to_wire()),
        };
        let answer = self.query.clone().list_gaps(request).await.map_err(self.refused())?;
        Ok(Gaps(answer.into_inner()))
    }

    /// The runs that an expression lets through, by name; the empty one lets all. See [`Selection::filter`]: the labels of a run are its
    /// own and those that all of its streams share.
    pub async fn runs(&self, filter: &str) -> Result<Vec<Run>, Error> {
        let request = v1::ListRunsRequest {
            workspace: self.workspace.clone(),
            filter: filter.into(),
        };
        let answer = self.query.clone().list_runs(request).await.map_err(self.refused())?;
        answer.into_inner().runs.into_iter().map(Run::from_wire).collect()
    }

    /// Makes a run. One that is there with the same content is answered as it is; with another one it is refused.
    pub async fn create_run(&self, run: &NewRun) -> Result<Run, Error> {
        let request = v1::CreateRunRequest {
            workspace: self.workspace.clone(),
            run: Some(run.to_wire(false)),
            members: run.members.iter().map(crate::RunMember::to_wire).collect(),
        };
        let answer = self.catalog.clone().create_run(request).await;
        Run::from_wire(answer.map_err(self.refused())?.into_inner())
    }

    /// Changes a run, and answers what it has become.
    pub async fn update_run(&self, name: &str, change: &RunChange) -> Result<Run, Error> {
        let request = change.to_wire(&self.workspace, name);
        let answer = self.catalog.clone().update_run(request).await;
        Run::from_wire(answer.map_err(self.refused())?.into_inner())
    }

    /// Deletes a run: its name, labels and note, and no sample. One that streams were recorded for is refused.
    pub async fn delete_run(&self, name: &str) -> Result<(), Error> {
        let request = v1::DeleteRunRequest {
            workspace: self.workspace.clone(),
            name: name.into(),
        };
        let answer = self.catalog.clone().delete_run(request).await;
        answer.map(|_| ()).map_err(self.refused())
    }

    /// Makes runs, or adds to those that are there: labels are set, members added, notes and parents set where they are given. All of
    /// them or none; repeating it changes nothing. A refusal says which one it is about: [`Error::Refused`]'s `entry`. At most 10,000.
    pub async fn import_runs(&self, runs: &[NewRun]) -> Result<Imported, Error> {
        let request = v1::ImportRunsRequest {
            workspace: self.workspace.clone(),
            runs: runs.iter().map(|run| run.to_wire(true)).collect(),
        };
        let answer = self.catalog.clone().import_runs(request).await;
        let done = answer.map_err(self.refused())?.into_inner();
        Ok(Imported {
            created: done.created,
            changed: done.changed,
            unchanged: done.unchanged,
        })
    }

    /// Adds markers; how many of them were not there yet. At most 1,000.
    pub async fn add_markers(&self, markers: &[NewMarker]) -> Result<u64, Error> {
        let request = v1::AddMarkersRequest {
            workspace: self.workspace.clone(),
            markers: markers.iter().map(NewMarker::to_wire).collect(),
        };
        let answer = self.catalog.clone().add_markers(request).await;
        Ok(answer.map_err(self.refused())?.into_inner().added)
    }

    /// Removes markers that were added, by their ids; how many of them were there. At most 1,000.
    pub async fn remove_markers(&self, ids: &[[u8; 16]]) -> Result<u64, Error> {
        let request = v1::RemoveMarkersRequest {
            workspace: self.workspace.clone(),
            ids: ids.iter().map(|id| id.to_vec().into()).collect(),
        };
        let answer = self.catalog.clone().remove_markers(request).await;
        Ok(answer.map_err(self.refused())?.into_inner().removed)
    }

    /// The markers of a selection: stream by stream, and at last those that were added. An added one belongs to a device at any time,
    /// and to a run, a stream or a filter where one of their streams has something of that time.
    pub async fn markers(&self, selection: &Selection) -> Result<Markers, Error> {
        let request = v1::ListMarkersRequest {
            workspace: self.workspace.clone(),
            selection: Some(selection.to_wire()),
        };
        let answer = self.query.clone().list_markers(request).await.map_err(self.refused())?;
        Ok(Markers(answer.into_inner()))
    }

    /// What there is of each stream of a selection, counted from its chunks, and what its agent last said of it. See
    /// [`crate::reconcile`].
    pub async fn accounts(&self, selection: &Selection) -> Result<Accounts, Error> {
        let request = v1::ReconcileRequest {
            workspace: self.workspace.clone(),
            selection: Some(selection.to_wire()),
        };
        let answer = self.query.clone().reconcile(request).await.map_err(self.refused())?;
        Ok(Accounts(answer.into_inner()))
    }

    /// Statistics of each signal of a selection.
    pub async fn statistics(&self, selection: &Selection) -> Result<Vec<Statistics>, Error> {
        self.distribution(selection, &Distribution::default()).await
    }

    /// The same, with percentiles and a histogram of the samples.
    pub async fn distribution(&self, selection: &Selection, asked: &Distribution) -> Result<Vec<Statistics>, Error> {
        let request = v1::GetStatisticsRequest {
            workspace: self.workspace.clone(),
            selection: Some(selection.to_wire()),
            percentiles: asked.percentiles.clone(),
            histogram_bins: asked.bins,
            histogram_from: asked.from,
            histogram_to: asked.to,
        };
        let answer = self.query.clone().get_statistics(request).await;
        let signals = answer.map_err(self.refused())?.into_inner().signals.into_iter();
        Ok(signals
            .map(|signal| Statistics::from_wire(signal, &asked.percentiles))
            .collect())
    }

    /// Which of two groups of runs takes less, by how much, and how sure that is.
    pub async fn compare(&self, groups: &Groups) -> Result<Comparison, Error> {
        let request = groups.to_wire(self.workspace.clone());
        let answer = self.query.clone().compare_runs(request).await.map_err(self.refused())?;
        Comparison::from_wire(answer.into_inner())
    }

    /// The samples of a selection, verified.
    pub async fn waveform(&self, selection: &Selection) -> Result<Waveform, Error> {
        self.get_waveform(selection, 0).await
    }

    /// What is to be drawn of a selection: at most `points_max` columns (1 at least) of each signal of a stream; or the samples
    /// themselves, verified, where there are no more. `power` is drawn too where a stream has current and voltage, but it has
    /// no samples of its own: whoever names it and wants the samples names current and voltage as well.
    ///
    /// Columns are checked as far as they can be: their places, counts and order, and that they are all there. Only samples
    /// are proven to be those that were captured.
    pub async fn columns(&self, selection: &Selection, points_max: u32) -> Result<Waveform, Error> {
        self.get_waveform(selection, points_max.max(1)).await
    }

    /// The chunks of a selection as they are committed, verified: whichever server commits them. The selection has no range of time.
    pub async fn tail(&self, selection: &Selection, from: TailFrom) -> Result<Tail, Error> {
        let (after, from_start) = from.to_wire();
        let request = v1::TailRequest {
            workspace: self.workspace.clone(),
            selection: Some(selection.to_wire()),
            after,
            from_start,
            encodings: accepted_encodings(),
        };
        let answer = self.query.clone().tail(request).await.map_err(self.refused())?;
        Ok(Tail::new(answer.into_inner(), selection.clone(), from))
    }

    async fn get_waveform(&self, selection: &Selection, points_max: u32) -> Result<Waveform, Error> {
        let request = v1::GetWaveformRequest {
            workspace: self.workspace.clone(),
            selection: Some(selection.to_wire()),
            points_max,
            encodings: accepted_encodings(),
        };
        let answer = self.query.clone().get_waveform(request).await.map_err(self.refused())?;
        let answer = answer.into_inner();
        Ok(Waveform::new(answer, selection.clone(), points_max, self.clone()))
    }
}

fn accepted_encodings() -> Vec<i32> {
    let supported = Encoding::SUPPORTED.iter();
    supported.map(|encoding| encoding.to_wire().cast_signed()).collect()
}

fn endpoint(server: &str) -> Result<Endpoint, Error> {
    let bad = |why: &str| Error::Address {
        url: server.into(),
        why: why.into(),
    };
    let endpoint = Endpoint::from_shared(server.to_owned()).map_err(|_| bad("it does not parse"))?;
    let uri = endpoint.uri().clone();
    if uri.host().is_none_or(str::is_empty) {
        return Err(bad("it names no host"));
    }
    let endpoint = match uri.scheme_str() {
        Some("http") => endpoint,
        Some("https") => {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint
                .tls_config(tls)
                .map_err(|error| Error::unreachable(server, &error))?
        }
        _ => return Err(bad("it starts with neither http:// nor https://")),
    };
    Ok(endpoint
        .connect_timeout(limits::CONNECT_SECONDS_MAX)
        .http2_keep_alive_interval(limits::KEEP_ALIVE_SECONDS)
        .keep_alive_timeout(limits::KEEP_ALIVE_SECONDS)
        .initial_stream_window_size(limits::WINDOW_BYTES)
        .initial_connection_window_size(2 * limits::WINDOW_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_invalid_are_refused_in_words() {
        for bad in [
            "",
            "localhost",
            "localhost:7460",
            "ftp://host:1",
            "http://",
            "http://a b",
            "7460",
        ] {
            let error = endpoint(bad).expect_err(bad).to_string();
            assert!(
                error.contains("is not a server address") && error.contains("WAVEKEEP_SERVER"),
                "{bad}: {error}"
            );
        }
        assert!(endpoint("http://127.0.0.1:7460").is_ok() && endpoint("https://example.com").is_ok());
    }
}
