//! Readers that do not read: they hold up no ingest, take bounded memory and no transaction, and miss nothing when they go on.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::time::Duration;

use sqlx::Row as _;
use tonic::Streaming;
use wavekeep_proto::v1;
use wavekeep_proto::v1::query_client::QueryClient;
use wavekeep_proto::v1::waveform_part::Part;
use wavekeep_system_tests::lab::{Lab, fast_simulation};
use wavekeep_system_tests::stored;

const PATIENCE: Duration = Duration::from_secs(120);
/// Of 1 MSPS: some 110 MB, encoded.
const SECONDS: u64 = 30;
/// All of their answers together are 1.3 GB.
const READERS: usize = 12;
const SERVER_BYTES_MAX: u64 = 300_000_000;

fn record(lab: &Lab, device: &str) {
    let duration = format!("{SECONDS}s");
    let options = fast_simulation(device, "js220,rate=1000000,seed=7,speed=max", &duration);
    let mut agent = lab.agent(device, &["run"], &options).unwrap();
    agent.wait_success(PATIENCE).unwrap();
}

async fn ask(lab: &Lab) -> Streaming<v1::WaveformPart> {
    let client = QueryClient::connect(lab.url()).await.unwrap();
    let mut query = client.max_decoding_message_size(16 << 20);
    let selection = v1::Selection {
        what: Some(v1::selection::What::Device("first".into())),
        ..v1::Selection::default()
    };
    let request = v1::GetWaveformRequest {
        workspace: "main".into(),
        selection: Some(selection),
        ..v1::GetWaveformRequest::default()
    };
    query.get_waveform(request).await.unwrap().into_inner()
}

/// Samples of the chunks that follow; the answer must end with its manifest.
async fn rest(mut answer: Streaming<v1::WaveformPart>) -> u64 {
    let (mut samples, mut manifest) = (0, None);
    while let Some(part) = answer.message().await.unwrap() {
        match part.part {
            Some(Part::Chunk(chunk)) => samples += chunk.to_sample - chunk.from_sample,
            Some(Part::Manifest(last)) => manifest = Some(last),
            _ => {}
        }
    }
    let manifest = manifest.expect("an answer ends with its manifest");
    assert_eq!(manifest.streams[0].sample_count, SECONDS * 1_000_000);
    samples
}

#[test]
fn i12_readers_that_do_not_read_hold_up_no_ingest_and_take_bounded_memory() {
    let mut lab = Lab::start().unwrap();
    record(&lab, "first");
    let server = lab.server.as_ref().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answers = runtime.block_on(async {
        let mut answers = Vec::new();
        for _ in 0..READERS {
            let mut answer = ask(&lab).await;
            let first = answer.message().await.unwrap().unwrap();
            assert!(matches!(first.part, Some(Part::Stream(_))), "{first:?}");
            answers.push(answer);
        }
        answers
    });
    server.forget_resident_bytes_max().unwrap();
    // It ends, which says that every sample is acknowledged: nothing of what it needs is held by a reader.
    record(&lab, "second");
    let peak = server.resident_bytes_max().unwrap();
    println!("the server's peak: {} MB", peak / 1_000_000);
    assert!(peak < SERVER_BYTES_MAX, "{peak} bytes for {READERS} readers that wait");

    runtime.block_on(async {
        let mut connection = stored::sql(&lab.database_url().unwrap()).await.unwrap();
        let held = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND state_change < now() - interval '5 s'";
        let held: i64 = sqlx::query(held).fetch_one(&mut connection).await.unwrap().get(0);
        assert_eq!(held, 0, "transactions that wait for a reader");
        for answer in answers {
            assert_eq!(rest(answer).await, SECONDS * 1_000_000, "of a reader that went on");
        }
    });
    lab.stop_server().unwrap();
}
