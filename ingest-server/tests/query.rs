//! Questions about a real Postgres: listings, gaps, statistics, and questions that have no answer.

mod common;
mod query_support;

use std::time::Duration;

use common::{NOVEMBER_2026_NS, Stream, random};
use query_support::{Asker, assert_refused, between, by_device, by_stream, changed, id, what, with_signals};
use tonic::{Code, Request};
use tonic_types::StatusExt;
use wavekeep_proto::chunk::{ChunkKind, Reason};
use wavekeep_proto::id::Epoch;
use wavekeep_proto::v1;
use wavekeep_proto::v1::selection::What;
use wavekeep_proto::wire::header_from_bytes;
use wavekeep_server::ledger::{Quarantine, Row};

fn f32s(stream: &mut Stream, samples: &[f32]) -> Row {
    let bits: Vec<u32> = samples.iter().map(|sample| sample.to_bits()).collect();
    stream.samples(&bits)
}

#[tokio::test]
async fn devices_and_streams_are_listed_with_what_is_stored() {
    let asker = Asker::new().await;
    let mut first = Stream::new();
    let rows = vec![first.few_samples(), first.gap(7, Reason::SourceLoss), first.end()];
    asker
        .store_in(&first, rows, "night", &[("firmware", "1.4"), ("note", "a \"b\", c")])
        .await;
    let mut other = changed(|definition| definition.device = "ppk2".into());
    let rows = vec![other.few_samples()];
    asker.store_in(&other, rows, "", &[("firmware", "1.5")]).await;
    let devices = asker.devices().await;
    let names: Vec<_> = devices
        .iter()
        .map(|device| (device.name.as_str(), device.live))
        .collect();
    assert_eq!(names, [("js220-001", false), ("ppk2", true)]);
    let device = &devices[0];
    assert_eq!(
        (
            device.streams,
            device.sample_count,
            device.gap_sample_count,
            device.stored_bytes
        ),
        (1, 3, 7, 24)
    );
    assert_eq!(
        (device.first_time_ns, device.last_time_ns),
        (NOVEMBER_2026_NS, NOVEMBER_2026_NS + 10_000)
    );
    let listed = async |selection: v1::Selection| -> Vec<Vec<u8>> {
        let streams = asker.streams(selection).await.expect("an answer");
        let ids = streams
            .into_iter()
            .map(|stream| stream.definition.expect("a definition").stream_id.to_vec());
        ids.collect()
    };
    let filtered = |filter: &str| v1::Selection {
        filter: filter.into(),
        ..v1::Selection::default()
    };
    assert_eq!(
        listed(v1::Selection::default()).await,
        [id(&first), id(&other)],
        "they start at once: in the order in which they came"
    );
    assert_eq!(listed(by_device("ppk2")).await, [id(&other)]);
    assert_eq!(listed(what(What::Run("night".into()))).await, [id(&first)]);
    assert_eq!(listed(filtered("firmware=1.4")).await, [id(&first)]);
    assert_eq!(
        listed(filtered(r#"note="a \"b\", c",device=js220-001,run=night"#)).await,
        [id(&first)]
    );
    assert_eq!(listed(filtered("firmware=1.6")).await, Vec::<Vec<u8>>::new());
    assert_eq!(
        listed(between(v1::Selection::default(), Some(NOVEMBER_2026_NS + 5_000), None)).await,
        [id(&first)]
    );
    let info = asker.streams(by_stream(&first)).await.expect("an answer").remove(0);
    assert_eq!(
        (info.watermark, info.next_sample, info.ended, info.run.as_str()),
        (3, 10, true, "night")
    );
    assert_eq!(
        (info.sample_count, info.gap_sample_count, info.digest.to_vec()),
        (3, 7, first.at.digest.to_vec())
    );
    assert_eq!(info.labels.get("note").map(String::as_str), Some("a \"b\", c"));
}

#[tokio::test]
async fn chunks_are_listed_both_ways_page_by_page() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let mut rows: Vec<Row> = (0..150).map(|_| stream.few_samples()).collect();
    rows.extend([stream.half_samples(), stream.gap(5, Reason::HostSuspend)]);
    asker.store(&stream, rows).await;
    let seqs = async |limit, newest_first| -> Vec<u64> {
        let chunks = asker
            .chunks(by_stream(&stream), limit, newest_first)
            .await
            .expect("an answer");
        chunks
            .iter()
            .map(|chunk| header_from_bytes(&chunk.header).expect("a header").seq)
            .collect()
    };
    assert_eq!(seqs(0, false).await, (1..=152).collect::<Vec<_>>());
    assert_eq!(seqs(0, true).await, (1..=152).rev().collect::<Vec<_>>());
    assert_eq!(
        (seqs(3, false).await, seqs(3, true).await),
        (vec![1, 2, 3], vec![152, 151, 150])
    );
    let newest = asker.chunks(by_stream(&stream), 3, true).await.expect("an answer");
    let sizes: Vec<_> = newest.iter().map(|chunk| chunk.column_bytes.clone()).collect();
    assert_eq!(sizes, [vec![], vec![12], vec![12, 12]]);
    assert_eq!(
        header_from_bytes(&newest[0].header).expect("a header").kind,
        ChunkKind::Gap
    );
    assert!(newest[0].loaded_at_ns > 0 && newest[0].device == stream.definition.device);
    let range = between(
        by_stream(&stream),
        Some(NOVEMBER_2026_NS + 4_000),
        Some(NOVEMBER_2026_NS + 7_000),
    );
    assert_eq!(asker.chunks(range, 0, false).await.expect("an answer").len(), 2);
}

/// As the next start of an agent ends what a dead one left.
fn crash(stream: &mut Stream) -> Row {
    let mut header = stream.clone().end().chunk.header;
    header.reason = Reason::Crashed;
    stream.push(header, Vec::new())
}

#[tokio::test]
async fn i4_what_is_missing_is_listed_with_its_reason() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let quarantined = |mut row: Row| {
        row.quarantine = Some(Quarantine { why: "a test".into() });
        row
    };
    let mut rows = vec![
        stream.few_samples(),
        stream.gap(10, Reason::UsbOverrun),
        stream.gap(5, Reason::UsbOverrun),
    ];
    rows.extend([
        quarantined(stream.few_samples()),
        stream.half_samples(),
        stream.half_samples(),
    ]);
    rows.push(crash(&mut stream));
    asker.store(&stream, rows).await;
    let mut after = changed(|definition| definition.epoch = Epoch(random()));
    after.utc_ns = NOVEMBER_2026_NS + 90_000;
    let rows = vec![after.few_samples()];
    asker.store(&after, rows).await;
    let gaps = asker.gaps(by_device("js220-001")).await.expect("an answer");
    let told: Vec<_> = gaps
        .iter()
        .map(|gap| {
            (
                gap.first_sample,
                gap.count,
                gap.reason,
                gap.signals.clone(),
                gap.from_ns - NOVEMBER_2026_NS,
                gap.to_ns - NOVEMBER_2026_NS,
            )
        })
        .collect();
    let voltage = vec!["voltage".to_owned()];
    let expected = [
        (3, 15, Reason::UsbOverrun as i32, vec![], 3_000, 18_000),
        (18, 3, Reason::Quarantined as i32, vec![], 18_000, 21_000),
        (21, 6, Reason::SignalOff as i32, voltage, 21_000, 27_000),
        (27, 0, Reason::Crashed as i32, vec![], 27_000, 90_000),
    ];
    assert_eq!(told, expected, "the last one is the outage until the next epoch");
    let current = asker
        .gaps(with_signals(by_stream(&stream), &["current"]))
        .await
        .expect("an answer");
    assert_eq!(current.len(), 2, "voltage alone was lost");
    let range = between(
        by_stream(&stream),
        Some(NOVEMBER_2026_NS + 5_000),
        Some(NOVEMBER_2026_NS + 8_000),
    );
    let cut = asker.gaps(range).await.expect("an answer");
    assert_eq!(
        cut.iter().map(|gap| (gap.first_sample, gap.count)).collect::<Vec<_>>(),
        [(5, 3)]
    );
}

#[tokio::test]
async fn i8_statistics_are_the_fold_of_the_samples() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows = vec![
        f32s(&mut stream, &[1.0, -2.0, f32::NAN]),
        stream.gap(4, Reason::SourceLoss),
        f32s(&mut stream, &[3.0]),
        stream.half_samples(),
    ];
    asker.store(&stream, rows).await;
    let all = asker.statistics(by_stream(&stream)).await.expect("an answer");
    let names: Vec<_> = all
        .iter()
        .map(|signal| (signal.signal.as_str(), signal.unit.as_str()))
        .collect();
    assert_eq!(names, [("current", "A"), ("voltage", "V"), ("power", "W")]);
    let counts: Vec<_> = all
        .iter()
        .map(|signal| (signal.sample_count, signal.finite_count, signal.gap_sample_count))
        .collect();
    assert_eq!(counts, [(7, 6, 4), (4, 3, 7), (4, 3, 7)]);
    let current = &all[0];
    // 1, −2, 3 and then 1, 2, 3.
    assert_eq!((current.min, current.max), (-2.0, 3.0));
    assert!((current.mean - 8.0 / 6.0).abs() < 1e-12 && (current.rms - (28.0f64 / 6.0).sqrt()).abs() < 1e-12);
    let variance = 28.0 / 6.0 - (8.0f64 / 6.0).powi(2);
    assert!((current.std - variance.sqrt()).abs() < 1e-12);
    assert!((current.integral - 8e-6).abs() < 1e-18 && current.charge_coulomb == Some(current.integral));
    assert_eq!((current.energy_joule, current.from_ns), (None, NOVEMBER_2026_NS));
    assert_eq!(current.to_ns, NOVEMBER_2026_NS + 11_000);
    let power = &all[2];
    assert_eq!((power.min, power.max), (1.0, 9.0), "1·1, −2·−2, 3·3");
    assert!((power.energy_joule.expect("of watts") - 14e-6).abs() < 1e-18);
    let one = asker
        .statistics(with_signals(by_stream(&stream), &["power"]))
        .await
        .expect("an answer");
    assert_eq!(one, std::slice::from_ref(power));
    let range = between(
        by_stream(&stream),
        Some(NOVEMBER_2026_NS + 1_000),
        Some(NOVEMBER_2026_NS + 8_000),
    );
    let part = asker
        .statistics(with_signals(range, &["current"]))
        .await
        .expect("an answer");
    assert_eq!(
        (part[0].sample_count, part[0].finite_count, part[0].gap_sample_count),
        (3, 2, 4)
    );
    assert_eq!((part[0].min, part[0].max, part[0].mean), (-2.0, 3.0, 0.5));
}

#[tokio::test]
async fn i8_a_small_deviation_on_a_large_mean_is_that_of_the_samples() {
    let asker = Asker::new().await;
    let mut stream = changed(|definition| definition.signals.truncate(1));
    // 1 MHz: many buckets. The last bits of 3.3 as f32, in an order without a pattern.
    let lowest = 3.3f32.to_bits();
    let bits: Vec<u32> = (0..60_000u32)
        .map(|at| lowest + (at.wrapping_mul(0x9e37_79b9) >> 30))
        .collect();
    let rows = vec![stream.samples(&bits), stream.samples(&bits)];
    asker.store(&stream, rows).await;
    let values: Vec<f64> = bits.iter().map(|bits| f64::from(f32::from_bits(*bits))).collect();
    let mean = values.iter().map(|value| value - 3.3).sum::<f64>() / values.len() as f64 + 3.3;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
    let all = asker.statistics(by_stream(&stream)).await.expect("an answer");
    assert_eq!(all[0].sample_count, 120_000);
    let error = (all[0].std / variance.sqrt() - 1.0).abs();
    assert!(error < 1e-6, "{} is not {}", all[0].std, variance.sqrt());
}

#[tokio::test]
async fn statistics_of_a_device_join_its_streams() {
    let asker = Asker::new().await;
    let mut first = Stream::new();
    let rows = vec![f32s(&mut first, &[1.0, 3.0])];
    asker.store(&first, rows).await;
    let mut second = changed(|definition| definition.rate_hz = 1e3);
    second.utc_ns += 1_000_000_000;
    let rows = vec![f32s(&mut second, &[5.0])];
    asker.store(&second, rows).await;
    let joined = asker
        .statistics(with_signals(by_device("js220-001"), &["voltage"]))
        .await
        .expect("an answer");
    assert_eq!(joined.len(), 1);
    assert_eq!((joined[0].sample_count, joined[0].mean, joined[0].max), (3, 3.0, 5.0));
    assert!((joined[0].integral - (4e-6 + 5e-3)).abs() < 1e-12);
    assert_eq!(
        (joined[0].from_ns, joined[0].to_ns),
        (NOVEMBER_2026_NS, NOVEMBER_2026_NS + 1_001_000_000)
    );
}

#[tokio::test]
async fn streams_that_overlap_are_not_counted_twice() {
    let asker = Asker::new().await;
    let mut first = Stream::new();
    let rows = vec![f32s(&mut first, &[1.0; 1000])];
    asker.store(&first, rows).await;
    // Another agent, under the same name; and later another axis of the same epoch with the same signal.
    let mut second = Stream::new();
    second.utc_ns += 300_000;
    let rows = vec![f32s(&mut second, &[1.0; 1000])];
    asker.store_in(&second, rows, "alone", &[]).await;
    let names = second.definition.id.to_string();
    assert_refused(
        asker.statistics(by_device("js220-001")).await,
        Code::FailedPrecondition,
        &names,
    );
    let sample_count = async |selection| asker.statistics(selection).await.expect("an answer")[0].sample_count;
    assert_eq!(sample_count(by_stream(&first)).await, 1000);
    assert_eq!(sample_count(what(What::Run("alone".into()))).await, 1000);
    let before = between(by_device("js220-001"), None, Some(NOVEMBER_2026_NS + 300_000));
    assert_eq!(sample_count(before).await, 300, "a time in which there was one");

    let same_epoch = |device: &str, first_sample| {
        changed(|definition| {
            definition.device = device.into();
            definition.epoch = Epoch([7; 16]);
            definition.first_sample = first_sample;
        })
    };
    for (device, second_from) in [("meets", 1000), ("overlaps", 999)] {
        for first_sample in [0, second_from] {
            let mut stream = same_epoch(device, first_sample);
            let rows = vec![f32s(&mut stream, &[1.0; 1000])];
            asker.store(&stream, rows).await;
        }
    }
    assert_eq!(sample_count(by_device("meets")).await, 2000, "whatever the clock says");
    let overlaps = asker.statistics(by_device("overlaps")).await;
    assert_refused(overlaps, Code::FailedPrecondition, "--stream");
}

#[tokio::test]
async fn sums_that_no_number_holds_hide_no_device() {
    let asker = Asker::new().await;
    for _ in 0..3 {
        let mut stream = Stream::new();
        let rows = vec![stream.few_samples()];
        asker.store(&stream, rows).await;
    }
    let most = i64::MAX;
    asker
        .fixture
        .run(&format!(
            "UPDATE stream SET next_sample = {most}, stored_bytes = {most}"
        ))
        .await;
    let devices = asker.devices().await;
    assert_eq!(devices.len(), 1);
    assert_eq!((devices[0].stored_bytes, devices[0].sample_count), (most as u64, 9));
}

#[tokio::test]
async fn unknown_names_are_refused_with_the_nearest() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows = vec![stream.few_samples()];
    asker.store_in(&stream, rows, "night-1", &[("algorithm", "A")]).await;
    let hint = "there is no device \"js220-01\"; did you mean \"js220-001\"?";
    assert_refused(asker.streams(by_device("js220-01")).await, Code::NotFound, hint);
    assert_refused(asker.gaps(by_device("js220-01")).await, Code::NotFound, hint);
    assert_refused(
        asker.chunks(by_device("js220-01"), 0, false).await,
        Code::NotFound,
        hint,
    );
    assert_refused(asker.waveform(by_device("js220-01")).await, Code::NotFound, hint);
    let status = asker.statistics(by_device("js220-01")).await.expect_err("unknown");
    let info = status.get_error_details().error_info().cloned().expect("details");
    assert_eq!(info.reason, "UNKNOWN_NAME");
    assert_refused(
        asker.streams(what(What::Run("nigth-1".into()))).await,
        Code::NotFound,
        "did you mean \"night-1\"?",
    );
    let filtered = |filter: &str| v1::Selection {
        filter: filter.into(),
        ..by_device("js220-001")
    };
    let run = asker.statistics(filtered("run=night-2")).await;
    assert_refused(
        run,
        Code::NotFound,
        "there is no run \"night-2\"; did you mean \"night-1\"?",
    );
    let signal = asker
        .statistics(with_signals(by_device("js220-001"), &["curent"]))
        .await;
    assert_refused(
        signal,
        Code::NotFound,
        "there is no signal \"curent\"; did you mean \"current\"?",
    );
    let other = asker.streams(what(What::StreamId(vec![3; 16].into()))).await;
    assert_refused(
        other,
        Code::NotFound,
        "there is no stream \"03030303030303030303030303030303\"",
    );
    let mut query = asker.query.clone();
    let mut named = async |workspace: &str| {
        let request = v1::ListDevicesRequest {
            workspace: workspace.into(),
        };
        query.list_devices(request).await
    };
    let misspelt = format!("{}x", asker.fixture.workspace);
    let meant = format!("there is no workspace {misspelt:?}; did you mean");
    assert_refused(named(&misspelt).await, Code::NotFound, &meant);
    assert_refused(
        named("x\"; DROP SCHEMA main; --").await,
        Code::NotFound,
        "there is no workspace",
    );
}

#[tokio::test]
async fn unknown_labels_are_refused_where_one_is_written_alike() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows = vec![stream.few_samples()];
    asker.store_in(&stream, rows, "night-1", &[("algorithm", "A")]).await;
    let filtered = |filter: &str| v1::Selection {
        filter: filter.into(),
        ..by_device("js220-001")
    };
    // Nobody may have used that label yet.
    let label = asker.statistics(filtered("firmware=1.4")).await;
    assert_refused(label, Code::OutOfRange, "that the filter lets through");
    assert_eq!(asker.runs("firmware=1.4 algorithm=A").await.expect("an answer"), []);
    assert_eq!(asker.runs("algorithm=B").await.expect("an answer"), []);
    for mistyped in ["algoritm=A", "algoritm~*", "firmware=1.4, Algorithm=A"] {
        let hint = "; did you mean \"algorithm\"?";
        assert_refused(asker.statistics(filtered(mistyped)).await, Code::NotFound, hint);
        assert_refused(asker.runs(mistyped).await, Code::NotFound, hint);
    }
    assert_refused(
        asker.runs("device=js220-01").await,
        Code::NotFound,
        "did you mean \"js220-001\"?",
    );
    assert_eq!(asker.runs("algoritm!=A").await.expect("an answer").len(), 1);
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused_in_words() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows = vec![stream.few_samples()];
    asker.store(&stream, rows).await;
    assert_refused(
        asker.waveform(by_device("js\0")).await,
        Code::InvalidArgument,
        "without NUL",
    );
    let backwards = between(by_stream(&stream), Some(10), Some(5));
    assert_refused(
        asker.waveform(backwards.clone()).await,
        Code::InvalidArgument,
        "`to` is not after `from`",
    );
    assert_refused(
        asker.statistics(backwards).await,
        Code::InvalidArgument,
        "`to` is not after `from`",
    );
    assert_refused(
        asker.waveform(v1::Selection::default()).await,
        Code::InvalidArgument,
        "say what to read",
    );
    let bad_id = asker.streams(what(What::StreamId(vec![1].into()))).await;
    assert_refused(bad_id, Code::InvalidArgument, "16 bytes");
    let power = asker.waveform(with_signals(by_stream(&stream), &["power"])).await;
    assert_refused(power, Code::InvalidArgument, "power is derived, not stored");
    let points = v1::GetWaveformRequest {
        workspace: asker.fixture.workspace.clone(),
        selection: Some(by_stream(&stream)),
        points_max: 100_001,
        encodings: Vec::new(),
    };
    assert_refused(
        asker.query.clone().get_waveform(points.clone()).await,
        Code::InvalidArgument,
        "at most 100000 points",
    );
    let encodings = v1::GetWaveformRequest {
        points_max: 0,
        encodings: vec![3],
        ..points
    };
    let mut answer = asker
        .query
        .clone()
        .get_waveform(encodings)
        .await
        .expect("it begins")
        .into_inner();
    assert!(answer.message().await.is_ok(), "the stream's description");
    assert_refused(answer.message().await, Code::InvalidArgument, "stored as plain");
    let filter = v1::Selection {
        filter: "firmware".into(),
        ..by_device("js220-001")
    };
    assert_refused(
        asker.streams(filter).await,
        Code::InvalidArgument,
        "the filter is not understood at character 9",
    );
}

#[tokio::test]
async fn i10_a_reader_sees_its_own_workspace_alone() {
    let (asker, other) = (Asker::new().await, Asker::new().await);
    let mut stream = Stream::new();
    let rows = vec![stream.few_samples()];
    asker.store(&stream, rows).await;
    assert_eq!((asker.devices().await.len(), other.devices().await.len()), (1, 0));
    assert_refused(
        other.waveform(by_stream(&stream)).await,
        Code::NotFound,
        "there is no stream",
    );
    assert_refused(
        other.waveform(by_device("js220-001")).await,
        Code::NotFound,
        "there is no device",
    );
}

#[tokio::test]
async fn a_deadline_ends_an_answer_that_the_database_holds_up() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows = vec![stream.few_samples()];
    asker.store(&stream, rows).await;
    let mut holder = asker.fixture.sql().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE chunk IN ACCESS EXCLUSIVE MODE")
        .execute(&mut holder)
        .await
        .expect("locked");
    let mut request = Request::new(v1::GetWaveformRequest {
        workspace: asker.fixture.workspace.clone(),
        selection: Some(by_stream(&stream)),
        points_max: 0,
        encodings: Vec::new(),
    });
    request.set_timeout(Duration::from_millis(300));
    let mut answer = asker
        .query
        .clone()
        .get_waveform(request)
        .await
        .expect("it begins")
        .into_inner();
    let ended = async {
        while answer.message().await?.is_some() {}
        Ok(())
    };
    assert_refused(ended.await, Code::DeadlineExceeded, "not complete in time");
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.expect("released");
    assert_eq!(asker.read_one(by_stream(&stream)).await.chunks.len(), 1);
}
