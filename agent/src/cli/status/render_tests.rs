//! The status as people see it, at two widths.

use std::collections::BTreeMap;

use wavekeep_agent::outbox::verify::{OutboxReport, StreamReport};
use wavekeep_agent::status::{GapsStatus, LagStatus};

use super::*;

fn stream(device: &str, ended: bool) -> StreamReport {
    StreamReport {
        stream: "0f8e2c41aa00000000000000000000ff".into(),
        device: device.into(),
        run: "baseline".into(),
        labels: BTreeMap::from(
            [("algorithm", "B"), ("firmware", "1.4.2")].map(|(key, value)| (key.into(), value.into())),
        ),
        file: false,
        rate_hz: 1e6,
        first_sample: 0,
        released_seq: 0,
        released_sample: 0,
        acked_seq: 3,
        acked_sample: 200_000,
        stored_seq: 15,
        next_sample: 1_000_000,
        ended,
        to_end: false,
        moves: false,
        held_bytes: 1 << 30,
        unacked_bytes: 3 << 20,
        oldest_unacked_utc_ns: None,
    }
}

fn busy() -> AgentStatus {
    let source = SourceStatus {
        device: "bench-3".into(),
        state: "capturing".into(),
        error: None,
        sample_count: 7_512_000_000,
        gap_sample_count: 1_200,
        gap_count: 3,
        gaps_by_reason: BTreeMap::from([(
            "source_loss".into(),
            GapsStatus {
                gap_count: 3,
                sample_count: 1_200,
            },
        )]),
        chunk_count: 114_625,
        last_chunk_age_ms: Some(31),
        encodings: BTreeMap::new(),
        settings: BTreeMap::from([("power".into(), "off".into())]),
    };
    let link = LinkStatus {
        state: "up".into(),
        server: "http://127.0.0.1:7460".into(),
        session_age_ms: Some(185_000),
        last_ack_age_ms: Some(120),
        upload_limit_bytes: Some(2 << 20),
        schedule: Some("22:00-06:00".into()),
        closed_until: None,
        window_bytes: 8 << 20,
        in_flight_bytes: 1_300_000,
        acked_chunk_count: 114_613,
        last_error: Some("the server went silent".into()),
        alarm_count: 2,
        alarms: vec![
            "an older one".into(),
            "stream 0f8e adopted\nthe server's position".into(),
        ],
    };
    let outbox = OutboxReport {
        agent_id: "aa".into(),
        ledger_id: None,
        held_bytes: 1_288_490_188,
        unacked_bytes: 3 << 20,
        disk_bytes: 1_300_000_000,
        streams: vec![stream("bench-3", true), stream("bench-3", false)],
    };
    AgentStatus {
        version: "0.1.0".into(),
        sources: vec![source],
        link,
        outbox,
        oldest_unacked_ms: 850,
        unacked_chunk_count: 12,
        quota_bytes: 16 << 30,
        evicted_sample_count: 0,
        corrupt_sample_count: 0,
        lag: LagStatus {
            chunk_count: 1_024,
            p50_ms: Some(88.2),
            p99_ms: Some(341.0),
        },
        uptime_ms: 7_512_000,
    }
}

#[test]
fn a_busy_agent_at_80_and_at_120() {
    let at_80 = "\
wavekeep-agent 0.1.0, running for 2 h 5 min
source   bench-3 capturing, 1 MS/s, stream 0f8e2c41
         7,512,000,000 samples captured, last chunk 0.0 s ago
         labels algorithm=B firmware=1.4.2, settings power=off
outbox   1.2 GiB of 16.0 GiB (7 %), 12 chunks (3.0 MiB) not acknowledged
         the oldest for 0.8 s, 0 samples evicted
link     up with http://127.0.0.1:7460 for 3 min 5 s
         1.2 MiB of 8.0 MiB in flight, last ack 0.1 s ago, at most 2.0 MiB/s
         schedule 22:00-06:00
lag      p50 88 ms, p99 341 ms, from sample to ack over the last 1,024 chunks
gaps     bench-3 source_loss: 3 gaps, 1,200 samples
alarms   2, the newest: stream 0f8e adopted the server's position";
    assert_eq!(render(&busy(), 80).join("\n"), at_80);
    let at_120 = "\
wavekeep-agent 0.1.0, running for 2 h 5 min
source   bench-3 capturing, 1 MS/s, stream 0f8e2c41, 7,512,000,000 samples captured, last chunk 0.0 s ago
         labels algorithm=B firmware=1.4.2, settings power=off
outbox   1.2 GiB of 16.0 GiB (7 %), 12 chunks (3.0 MiB) not acknowledged, the oldest for 0.8 s, 0 samples evicted
link     up with http://127.0.0.1:7460 for 3 min 5 s, 1.2 MiB of 8.0 MiB in flight, last ack 0.1 s ago
         at most 2.0 MiB/s, schedule 22:00-06:00
lag      p50 88 ms, p99 341 ms, from sample to ack over the last 1,024 chunks
gaps     bench-3 source_loss: 3 gaps, 1,200 samples
alarms   2, the newest: stream 0f8e adopted the server's position";
    assert_eq!(render(&busy(), 120).join("\n"), at_120);
}

#[test]
fn one_that_rests_and_one_that_never_had_a_session() {
    let mut status = busy();
    status.sources[0].state = "failed".into();
    status.sources[0].error = Some("the device was unplugged: plug it in".into());
    status.sources[0].gaps_by_reason.clear();
    status.sources[0].settings.clear();
    status.sources[0].last_chunk_age_ms = None;
    status.outbox.streams.clear();
    status.unacked_chunk_count = 0;
    status.link.state = "down".into();
    status.link.session_age_ms = None;
    status.link.last_ack_age_ms = None;
    status.link.upload_limit_bytes = None;
    status.link.closed_until = Some("2026-01-31T22:00:00+01:00".into());
    status.link.last_error = None;
    status.link.alarms.clear();
    status.lag.p50_ms = None;
    let resting = "\
wavekeep-agent 0.1.0, running for 2 h 5 min
source   bench-3 failed, the device was unplugged: plug it in
         7,512,000,000 samples captured
outbox   1.2 GiB of 16.0 GiB (7 %), all is acknowledged, 0 samples evicted
link     resting, as --schedule says, until 2026-01-31T22:00:00+01:00
         no ack yet, schedule 22:00-06:00
lag      nothing live is acknowledged yet
gaps     none since the start
alarms   none";
    assert_eq!(render(&status, 80).join("\n"), resting);
    status.link.closed_until = None;
    status.link.schedule = None;
    status.link.last_error =
        Some("http://127.0.0.1:7460 refuses: is a server running there, and is it the right one?".into());
    let lines = render(&status, 80);
    assert!(lines.contains(&"link     down: no session with http://127.0.0.1:7460, no ack yet".into()));
    let long = lines
        .iter()
        .find(|line| line.contains("last error"))
        .expect("it says why");
    assert_eq!((long.chars().count(), long.chars().last()), (80, Some('…')));
}

#[test]
fn nothing_is_wider_than_the_terminal_nor_moves_its_cursor() {
    let mut status = busy();
    status.sources[0].device = "ünïcode ".repeat(40);
    status.link.server = "\x1b[2J\r\t".repeat(9);
    for width in [super::super::WIDTH_MIN, 80, 120, 300] {
        for line in render(&status, width) {
            assert!(
                line.chars().count() <= width && !line.chars().any(char::is_control),
                "{line:?}"
            );
        }
    }
}

#[test]
fn amounts_are_written_for_people() {
    assert_eq!(
        [bytes(0), bytes(1_023), bytes(1_024), bytes(1 << 20)],
        ["0 B", "1023 B", "1.0 KiB", "1.0 MiB"]
    );
    assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    assert_eq!(
        [thousands(0), thousands(999), thousands(1_000), thousands(1_234_567)],
        ["0", "999", "1,000", "1,234,567"]
    );
    assert_eq!(
        [
            duration(59_999),
            duration(60_000),
            duration(3_600_000),
            duration(86_400_000 + 3_600_000)
        ],
        ["59.9 s", "1 min 0 s", "1 h 0 min", "1 d 1 h"]
    );
    assert_eq!([scaled(2e6), scaled(100e3), scaled(0.5)], ["2 MS", "100 kS", "0.5 S"]);
}
