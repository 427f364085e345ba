//! What people read by SQL, as the role that is made for them: the views against the samples, and every query of docs/SQL.md.

mod captured;
mod common;
mod query_support;

use std::path::Path;

use captured::{Captured, stored};
use common::{Fixture, NOVEMBER_2026_NS, Stream, as_reader, entry, has_samples_extension, owner};
use query_support::successor;
use sqlx::{AssertSqlSafe, Connection, Row as _};
use wavekeep_proto::chunk::Reason;
use wavekeep_server::rollup::Levels;

/// Every point of a range of samples, in the function and in the view, is the fold of its samples.
async fn assert_points(fixture: &Fixture, captured: &Captured, (from, to): (u64, u64)) {
    let size = 16u64.pow(Levels::of(&captured.stream.definition).point);
    let us = |sample: u64| (NOVEMBER_2026_NS + captured.stream.definition.duration_ns(sample)) / 1_000;
    let mut reader = as_reader(fixture).await;
    let sql = format!(
        "SELECT (extract(epoch FROM time) * 1000000)::bigint AS us, device, current, voltage, power, current_min, current_max,
                power_min, power_max
           FROM measurement(to_timestamp({}::numeric / 1000000), to_timestamp({}::numeric / 1000000)) ORDER BY time",
        us(from),
        us(to)
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .fetch_all(&mut reader)
        .await
        .expect("it reads");
    let mut points = 0;
    let mut sample = from;
    for row in &rows {
        // Points begin where a bucket or a run of samples does.
        while us(sample) < row.get::<i64, _>("us") {
            assert!(
                captured.axis[sample as usize].is_none() || sample % size != 0 || sample == from,
                "sample {sample} has no point"
            );
            sample += 1;
        }
        assert_eq!(us(sample), row.get::<i64, _>("us"));
        let cell_end = (sample / size + 1) * size;
        // A chunk's end cuts a point: the next one says where.
        let next = rows.get(points + 1).map_or(cell_end, |next| {
            let us_next: i64 = next.get("us");
            (sample + 1..=cell_end)
                .find(|at| us(*at) >= us_next)
                .unwrap_or(cell_end)
        });
        let run =
            (sample..next.min(cell_end)).take_while(|at| captured.axis.get(*at as usize).is_some_and(Option::is_some));
        let end = run.last().expect("a point has a sample") + 1;
        let (_, current) = captured.truth(sample, end, false);
        let (_, power) = captured.truth(sample, end, true);
        let some = |count: u64, value: f64| (count > 0).then_some(value);
        assert_eq!(row.get::<String, _>("device"), "js220-001");
        for column in ["current", "voltage"] {
            assert_eq!(
                row.get::<Option<f64>, _>(column),
                some(current.count, current.sum / current.count as f64),
                "{column}"
            );
        }
        assert_eq!(
            row.get::<Option<f64>, _>("current_min"),
            some(current.count, current.min)
        );
        assert_eq!(
            row.get::<Option<f64>, _>("current_max"),
            some(current.count, current.max)
        );
        assert_eq!(
            row.get::<Option<f64>, _>("power"),
            some(power.count, power.sum / power.count as f64)
        );
        assert_eq!(row.get::<Option<f64>, _>("power_max"), some(power.count, power.max));
        points += 1;
        sample = end;
    }
    assert!(points > 10, "{points}");
    assert_counts(fixture, (us(from), us(to)), points as i64).await;
}

/// The view and the functions have as many rows.
async fn assert_counts(fixture: &Fixture, (from_us, to_us): (i64, i64), points: i64) {
    let mut reader = as_reader(fixture).await;
    let counts = format!(
        "SELECT (SELECT count(*) FROM measurement WHERE time >= to_timestamp({0}::numeric / 1000000) AND time < to_timestamp({1}::numeric / 1000000)),
                (SELECT count(*) FROM signal_point(to_timestamp({0}::numeric / 1000000), to_timestamp({1}::numeric / 1000000)) WHERE signal = 'power'),
                (SELECT sum(count) FROM signal_point(to_timestamp({0}::numeric / 1000000), to_timestamp({1}::numeric / 1000000)) WHERE signal = 'voltage')",
        from_us,
        to_us
    );
    let row = sqlx::query(AssertSqlSafe(counts))
        .fetch_one(&mut reader)
        .await
        .expect("it reads");
    let (of_view, of_power): (i64, i64) = (row.get(0), row.get(1));
    assert_eq!(
        (of_view, of_power),
        (points, points),
        "the view and the functions agree"
    );
}

#[tokio::test]
async fn i8_rows_of_measurement_are_the_folds_of_their_samples() {
    // 1 kHz: each sample; 1 MHz: 256 of them.
    let (slow, captured) = stored(1e3, 300, 5_000, 1).await;
    assert_points(&slow, &captured, (0, 3_000)).await;
    let (fast, captured) = stored(1e6, 60_000, 400_000, 2).await;
    assert_points(&fast, &captured, (0, 200_000)).await;
}

#[tokio::test]
async fn readers_find_their_schema_read_it_and_nothing_else() {
    let (fixture, _) = stored(1e3, 300, 2_000, 3).await;
    let other = Fixture::new().await;
    let mut reader = as_reader(&fixture).await;
    let rows = sqlx::query("select * from measurement limit 100")
        .fetch_all(&mut reader)
        .await
        .expect("without any set-up");
    assert_eq!(rows.len(), 100);
    sqlx::query("SELECT * FROM ingest_lag")
        .fetch_all(&mut reader)
        .await
        .expect("it reads");
    let write = sqlx::query("DELETE FROM stream")
        .execute(&mut reader)
        .await
        .expect_err("it may not");
    assert!(
        write.to_string().contains("read-only") || write.to_string().contains("permission denied"),
        "{write}"
    );
    sqlx::query("SET default_transaction_read_only = off")
        .execute(&mut reader)
        .await
        .expect("anybody may");
    let write = sqlx::query("DELETE FROM stream")
        .execute(&mut reader)
        .await
        .expect_err("it may not");
    assert!(write.to_string().contains("permission denied"), "{write}");
    for table in [format!("{}.stream", other.workspace), "wavekeep.workspace".into()] {
        let sql = format!("SELECT * FROM {table}");
        let foreign = sqlx::query(AssertSqlSafe(sql))
            .fetch_all(&mut reader)
            .await
            .expect_err("it may not");
        assert!(foreign.to_string().contains("permission denied"), "I10: {foreign}");
    }
    // Partitions that come later are read too.
    let mut stream = Stream::new();
    stream.utc_ns = 1_000_000_000_000_000_000;
    let owner = owner();
    fixture.open(&stream, owner).await;
    let before = stream.at;
    let row = stream.few_samples();
    assert_eq!(
        fixture.commit(&[entry(&stream, owner, before, vec![row])]).await,
        [true]
    );
    let of_2001 = "SELECT count(*) FROM measurement('2001-09-09', '2001-09-10')";
    let count: i64 = sqlx::query_scalar(of_2001)
        .fetch_one(&mut reader)
        .await
        .expect("it reads");
    assert_eq!(count, 1, "three samples at 1 MHz are one point");
}

#[tokio::test]
async fn gaps_and_lag_are_rows() {
    let fixture = Fixture::new().await;
    let mut stream = Stream::new();
    let owner = owner();
    fixture.open(&stream, owner).await;
    let before = stream.at;
    let rows = vec![
        stream.few_samples(),
        stream.gap(500_000, Reason::UsbOverrun),
        stream.half_samples(),
    ];
    assert_eq!(fixture.commit(&[entry(&stream, owner, before, rows)]).await, [true]);
    let mut reader = as_reader(&fixture).await;
    let sql = "SELECT reason, signals, sample_count, extract(epoch FROM until - time)::float8 AS lasted FROM gap ORDER BY first_sample";
    let rows = sqlx::query(sql).fetch_all(&mut reader).await.expect("it reads");
    let gap = |at: usize| {
        (
            rows[at].get::<String, _>(0),
            rows[at].get::<Option<Vec<String>>, _>(1),
            rows[at].get::<i64, _>(2),
        )
    };
    assert_eq!(gap(0), ("usb_overrun".into(), None, 500_000));
    assert_eq!(rows[0].get::<f64, _>("lasted"), 0.5);
    assert_eq!(gap(1), ("signal_off".into(), Some(vec!["voltage".into()]), 3));
    let lag = "SELECT live, lag IS NOT NULL, behind IS NOT NULL FROM ingest_lag";
    let row = sqlx::query(lag).fetch_one(&mut reader).await.expect("it reads");
    assert_eq!(
        (row.get::<bool, _>(0), row.get::<bool, _>(1), row.get::<bool, _>(2)),
        (true, true, true)
    );
}

/// Whoever reads rows by device reads each sample once, as readers over gRPC do.
#[tokio::test]
async fn i1_what_a_successor_has_again_is_no_row_of_its_predecessor() {
    let fixture = Fixture::new().await;
    let (mut stream, owner) = (Stream::new(), owner());
    let store = async |stream: &Stream, before, rows| {
        fixture.open(stream, owner).await;
        assert_eq!(fixture.commit(&[entry(stream, owner, before, rows)]).await, [true]);
    };
    let before = stream.at;
    let mut rows = vec![stream.few_samples(), stream.gap(3, Reason::UsbOverrun)];
    let fork = stream.clone();
    rows.extend([stream.half_samples(), stream.gap(5, Reason::DeviceOverflow)]);
    store(&stream, before, rows).await;
    let mut next = successor(&fork, 2, fork.at.next_sample, fork.utc_ns);
    let before = next.at;
    let rows = vec![next.half_samples(), next.gap(5, Reason::DeviceOverflow)];
    store(&next, before, rows).await;

    let mut reader = as_reader(&fixture).await;
    let first = stream.definition.id.to_vec();
    let mut read = async |view: &str| {
        let sql = format!("SELECT DISTINCT stream_id <> $1 AS of_next, seq FROM {view} ORDER BY of_next, seq");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(&first);
        let rows = query.fetch_all(&mut reader).await.expect("it reads");
        let row = |row: &sqlx::postgres::PgRow| (row.get::<bool, _>(0), row.get::<i64, _>(1));
        rows.iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(read("signal_point").await, [(false, 1), (true, 1)]);
    assert_eq!(read("measurement").await, [(false, 1), (true, 1)]);
    assert_eq!(read("gap").await, [(false, 2), (true, 1), (true, 2)]);
    // The stream that they share goes on: now the successor has less.
    let before = stream.at;
    let rows = vec![stream.half_samples()];
    store(&stream, before, rows).await;
    assert_eq!(read("signal_point").await, [(false, 1), (false, 3), (false, 5)]);
    assert_eq!(read("measurement").await, [(false, 1), (false, 3), (false, 5)]);
    assert_eq!(read("gap").await, [(false, 2), (false, 3), (false, 4), (false, 5)]);
}

#[tokio::test]
async fn every_reason_has_its_name_in_sql() {
    let fixture = Fixture::new().await;
    let mut sql = common::connect(&fixture.url, &fixture.workspace).await;
    for reason in Reason::ALL {
        let name: String = sqlx::query_scalar("SELECT reason_name($1)")
            .bind(*reason as i16)
            .fetch_one(&mut sql)
            .await
            .expect("it answers");
        assert_eq!(name, reason.name());
    }
}

#[tokio::test]
async fn a_range_of_time_is_found_by_partition_and_index() {
    let (fixture, captured) = stored(1e3, 300, 20_000, 4).await;
    let mut sql = common::connect(&fixture.url, &fixture.workspace).await;
    // As many chunks as a day has of many instruments, in other days too: copies under other ids.
    let copies = "INSERT INTO stream SELECT substring(sha256(s.id || n::text::bytea) FOR 16), s.definition, s.definition_hash, s.device || n, s.epoch,
                         NULL, NULL, NULL, s.rate_hz, s.first_sample, s.signals, s.signal_numbers, s.sample_types, s.attributes, s.labels, s.run,
                         s.watermark, s.next_sample, s.digest, s.ended, s.end_reason, s.owner, s.first_time_ns, s.last_time_ns, s.sample_count
                    FROM stream s, generate_series(1, 100) n;
                  INSERT INTO chunk SELECT t.id, c.first_seq, c.seq, c.kind, c.reason, c.quarantined, c.first_sample, c.sample_count,
                         c.start_time, c.utc_ns, c.stored_bytes, c.hash, c.digest, c.header FROM chunk c, stream t WHERE t.device <> 'js220-001';
                  ANALYZE";
    // gap_sample_count is generated, so columns are named up to it.
    let copies = copies.replacen("INSERT INTO stream SELECT", "INSERT INTO stream (id, definition, definition_hash, device, epoch, file_identity, predecessor_id, predecessor_seq, rate_hz, first_sample, signals, signal_numbers, sample_types, attributes, labels, run, watermark, next_sample, digest, ended, end_reason, owner, first_time_ns, last_time_ns, sample_count) SELECT", 1);
    sqlx::raw_sql(AssertSqlSafe(copies))
        .execute(&mut sql)
        .await
        .expect("it copies");
    let from = NOVEMBER_2026_NS / 1_000_000_000 + 5;
    let explain = format!(
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT * FROM measurement(to_timestamp({from}), to_timestamp({}), 'js220-001')",
        from + 1
    );
    let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
        .fetch_all(&mut sql)
        .await
        .expect("it explains");
    let plan = lines.join("\n");
    assert!(
        !plan.contains("Function Scan on measurement"),
        "the planner sees through the function:\n{plan}"
    );
    let scanned: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("Seq Scan on chunk") && !line.contains("never executed"))
        .collect();
    assert!(scanned.is_empty(), "no table of chunks is read whole:\n{plan}");
    if common::is_timescale().await {
        let executed = |line: &&String| line.contains(" on _hyper_") && !line.contains("never executed");
        let executed: Vec<&String> = lines.iter().filter(executed).collect();
        assert!(
            executed.iter().all(|line| !line.contains("Seq Scan")),
            "by index:\n{plan}"
        );
        return;
    }
    let partitions = |table: &str| {
        // An index has its table's name in its own.
        let executed = lines.iter().filter(|line| {
            line.contains(&format!(" on {table}_2"))
                && !line.contains("never executed")
                && !line.contains("Bitmap Index Scan")
        });
        let mut names: Vec<&str> = executed
            .filter_map(|line| line.split(" on ").nth(1)?.split(' ').next())
            .collect();
        names.sort_unstable();
        names.dedup();
        names.len()
    };
    assert!(
        partitions("chunk") <= 1 && partitions("chunk_signal") <= 1,
        "one day is one partition:\n{plan}"
    );
    drop(captured);
}

/// Of random samples and gaps: ranges that overlap and that cut chunks, a whole stream by its run, and another unit.
#[tokio::test]
async fn energy_of_a_run_is_the_fold_of_its_samples_and_counts_none_twice() {
    // Every sample of a slow stream is a point, so the ends of ranges cut none.
    let (fixture, captured) = stored(1e3, 300, 20_000, 11).await;
    let ms = |sample: u64| NOVEMBER_2026_NS + sample as i64 * 1_000_000;
    let ranges = [(137, 5_000), (4_000, 6_001), (6_001, 6_100), (12_345, 15_000)];
    fixture
        .run("INSERT INTO run (name) VALUES ('times'), ('recorded'); UPDATE stream SET run = 'recorded'")
        .await;
    for (from, to) in ranges {
        let (from, to) = (ms(from), ms(to));
        let member =
            format!("INSERT INTO run_member (run, device, from_ns, to_ns) VALUES ('times', 'js220-001', {from}, {to})");
        fixture.run(&member).await;
    }
    let sums = |ranges: &[(u64, u64)], squared| {
        let folds = ranges.iter().map(|(from, to)| captured.truth(*from, *to, squared).1);
        folds.fold((0.0, 0), |(sum, count), fold| (sum + fold.sum, count + fold.count))
    };
    let mut reader = as_reader(&fixture).await;
    let all = captured.axis.len() as u64;
    for (run, ranges) in [
        ("times", vec![(137, 6_100), (12_345, 15_000)]),
        ("recorded", vec![(0, all)]),
    ] {
        let sql = "SELECT signal, charge_coulomb, energy_joule, seconds FROM energy WHERE run = $1 ORDER BY signal";
        let rows = sqlx::query(sql)
            .bind(run)
            .fetch_all(&mut reader)
            .await
            .expect("it reads");
        let found: Vec<(String, Option<f64>, Option<f64>, f64)> = rows
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
            .collect();
        let (current, count) = sums(&ranges, false);
        let (power, _) = sums(&ranges, true);
        assert_eq!(found.len(), 2, "{found:?}");
        let near = |one: f64, other: f64| (one - other).abs() <= 1e-9 * other.abs().max(1.0);
        assert!(found[0].0 == "current" && found[0].2.is_none() && found[1].1.is_none());
        assert!(
            near(found[0].1.expect("charge"), current / 1e3),
            "{run}: {found:?} {current}"
        );
        assert!(
            near(found[1].2.expect("energy"), power / 1e3),
            "{run}: {found:?} {power}"
        );
        assert!(near(found[0].3, count as f64 / 1e3), "{run}: {found:?} {count}");
    }
}

#[tokio::test]
async fn the_queries_of_the_page_run() {
    let (fixture, _) = stored(1e3, 300, 70_000, 5).await;
    fixture
        .run(&format!(
            "INSERT INTO run (name, labels, note) VALUES ('first', '{{\"algorithm\": \"A\"}}', 'a note');
             INSERT INTO run_member (run, device, from_ns, to_ns) VALUES ('first', 'js220-001', {0}, {0} + 2000000000);
             INSERT INTO added_marker (id, device, time_ns, kind, \"group\", y, format, content)
             VALUES ('\\x000102030405060708090a0b0c0d0e0f', 'js220-001', {0} + 5, 0, 0, 'NaN', 1, 'a marker')",
            NOVEMBER_2026_NS
        ))
        .await;
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this test");
    let page = std::fs::read_to_string(Path::new(&package).join("../docs/SQL.md")).expect("the page is there");
    let mut reader = as_reader(&fixture).await;
    let queries: Vec<&str> = page
        .split("```sql\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(queries.len() >= 9, "{}", queries.len());
    let has_extension = has_samples_extension(&fixture.url).await;
    for query in queries {
        // `samples.rs` asks what such a query says where it cannot be answered.
        if query.contains("sample(") && !has_extension {
            continue;
        }
        let rows = sqlx::raw_sql(AssertSqlSafe(query.to_owned()))
            .fetch_all(&mut reader)
            .await;
        let rows = rows.unwrap_or_else(|error| panic!("{error}:\n{query}"));
        assert!(
            !rows.is_empty() || query.contains("interval '1 day'"),
            "no rows:\n{query}"
        );
    }
    reader.close().await.expect("it closes");
}
