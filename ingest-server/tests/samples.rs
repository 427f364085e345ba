//! Samples by SQL, as the role of readers: each one where the extension `wavekeep` is installed (`make test-sql`), and elsewhere an error that
//! says what to do.

mod captured;
mod common;
mod query_support;

use captured::{Dice, stored};
use common::{Fixture, NOVEMBER_2026_NS, Stream, as_reader, entry, has_samples_extension, owner};
use query_support::{changed, successor};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row as _};
use wavekeep_proto::chunk::Reason;
use wavekeep_server::ledger::Quarantine;

/// A row of `sample`: its place on the axis, nanoseconds, current and voltage as bits.
type Sample = (i64, i64, Option<u64>, Option<u64>);

fn sample(row: &PgRow) -> Sample {
    let bits = |column| row.get::<Option<f64>, _>(column).map(f64::to_bits);
    (row.get("sample"), row.get("time_ns"), bits("current"), bits("voltage"))
}

/// Between two times in nanoseconds since the recording began; whole microseconds.
async fn read(reader: &mut PgConnection, (from_ns, to_ns): (i64, i64)) -> Result<Vec<Sample>, sqlx::Error> {
    let us = |ns: i64| (NOVEMBER_2026_NS + ns) / 1_000;
    let sql = format!(
        "SELECT *, (extract(epoch FROM time) * 1000000)::bigint AS us
           FROM sample('js220-001', to_timestamp(0) + {} * interval '1 us', to_timestamp(0) + {} * interval '1 us')
          ORDER BY sample, stream_id",
        us(from_ns),
        us(to_ns)
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(reader).await?;
    for row in &rows {
        let time_ns: i64 = row.get("time_ns");
        assert_eq!(row.get::<i64, _>("us"), time_ns.div_euclid(1_000));
        assert_eq!(row.get::<&str, _>("device"), "js220-001");
    }
    Ok(rows.iter().map(sample).collect())
}

/// Does the extension answer? Where it is not, the error says what to do.
async fn is_installed(fixture: &Fixture) -> bool {
    if has_samples_extension(&fixture.url).await {
        return true;
    }
    let mut reader = as_reader(fixture).await;
    let error = read(&mut reader, (0, i64::from(u32::MAX)))
        .await
        .expect_err("it cannot");
    let error = error.as_database_error().expect("by the database");
    assert_eq!(error.code().as_deref(), Some("0A000"));
    let error = error.downcast_ref::<sqlx::postgres::PgDatabaseError>();
    let hint = error.hint().unwrap_or_default();
    assert!(
        hint.contains("CREATE EXTENSION wavekeep") && hint.contains("docs/SQL.md"),
        "{hint}"
    );
    false
}

#[tokio::test]
async fn i4_every_sample_is_a_row_and_no_gap_is() {
    for (rate_hz, longest, until, seed) in [
        (1e3, 300, 5_000, 1),
        (1e6, 60_000, 400_000, 2),
        (1e6 / 3.0, 9_000, 50_000, 3),
    ] {
        let (fixture, captured) = stored(rate_hz, longest, until, seed).await;
        if !is_installed(&fixture).await {
            return;
        }
        let mut reader = as_reader(&fixture).await;
        let end_ns = captured.stream.definition.duration_ns(captured.axis.len() as u64);
        let all = read(&mut reader, (0, (end_ns / 1_000 + 1) * 1_000))
            .await
            .expect("it reads");
        let truth = captured
            .axis
            .iter()
            .enumerate()
            .filter_map(|(at, value)| Some((at as i64, (*value)?)));
        let found: Vec<_> = all
            .iter()
            .map(|(at, _, current, voltage)| (*at, *current, *voltage))
            .collect();
        // What is NaN was captured as one NaN.
        let bits = |value: f64| Some(f64::from(value as f32).to_bits());
        assert_eq!(
            found,
            truth
                .map(|(at, value)| (at, bits(value), bits(value)))
                .collect::<Vec<_>>()
        );
        // Any range is what of all of them lies in it, to the microsecond and at chunks' edges.
        let mut dice = Dice(seed);
        for _ in 0..20 {
            let mut ends = [dice.below(end_ns as u64), dice.below(end_ns as u64)].map(|ns| ns as i64 / 1_000 * 1_000);
            if dice.below(2) == 0 {
                ends[0] = (all[dice.below(all.len() as u64) as usize].1 - NOVEMBER_2026_NS) / 1_000 * 1_000;
            }
            ends.sort_unstable();
            let (from_ns, to_ns) = (ends[0] + NOVEMBER_2026_NS, ends[1] + NOVEMBER_2026_NS);
            let within: Vec<Sample> = all
                .iter()
                .filter(|(_, ns, ..)| (from_ns..to_ns).contains(ns))
                .copied()
                .collect();
            assert_eq!(read(&mut reader, (ends[0], ends[1])).await.expect("it reads"), within);
        }
        let open = "SELECT count(*), count(exact), min(unit), sum((value = 'NaN')::integer) FROM signal_sample('js220-001', 'voltage')";
        let row = sqlx::query(open).fetch_one(&mut reader).await.expect("it reads");
        let counts: (i64, i64, String) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(counts, (all.len() as i64, 0, "V".into()));
    }
}

/// Above 1 MHz the database's microseconds round more away than a sample is long.
#[tokio::test]
async fn i4_a_range_of_a_fast_recording_begins_with_its_first_sample() {
    for rate_hz in [2e6, 1e9, 1e10, 1e12] {
        let fixture = Fixture::new().await;
        let (mut stream, owner) = (changed(|definition| definition.rate_hz = rate_hz), owner());
        stream.utc_ns = NOVEMBER_2026_NS + 900;
        fixture.open(&stream, owner).await;
        let before = stream.at;
        let bits: Vec<u32> = (0..65_536).map(|at| (at as f32).to_bits()).collect();
        let rows = vec![stream.samples(&bits), stream.samples(&bits[..4])];
        assert_eq!(fixture.commit(&[entry(&stream, owner, before, rows)]).await, [true]);
        if !is_installed(&fixture).await {
            return;
        }
        let mut reader = as_reader(&fixture).await;
        let all = read(&mut reader, (0, 1_000_000_000)).await.expect("it reads");
        assert_eq!(all.len(), 65_540);
        for sample in [0, 40_000, 65_535, 65_536, 65_539] {
            let at_ns = (all[sample].1 - NOVEMBER_2026_NS) / 1_000 * 1_000;
            for from_ns in [at_ns, at_ns + 1_000] {
                let found = read(&mut reader, (from_ns, 1_000_000_000)).await.expect("it reads");
                let expected = all.iter().filter(|(_, ns, ..)| *ns >= NOVEMBER_2026_NS + from_ns);
                assert_eq!(found.len(), expected.count(), "{rate_hz} Hz, sample {sample}");
            }
        }
        for (from, to, count) in [
            ("-infinity", "infinity", 65_540),
            ("0001-01-01", "9999-01-01", 65_540),
            ("2300-01-01", "infinity", 0),
            ("-infinity", "0001-01-01", 0),
            ("infinity", "-infinity", 0),
        ] {
            for sql in [
                format!("SELECT count(*) FROM sample('js220-001', '{from}', '{to}')"),
                format!("SELECT count(*) FROM signal_sample('js220-001', 'current', '{from}', '{to}')"),
            ] {
                let found = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql))
                    .fetch_one(&mut reader)
                    .await;
                assert_eq!(found.expect("it reads"), count, "{from} to {to}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_missing_or_quarantined_has_no_row_and_a_lost_signal_is_null() {
    let fixture = Fixture::new().await;
    let (mut stream, owner) = (Stream::new(), owner());
    fixture.open(&stream, owner).await;
    let before = stream.at;
    let (first, gap, half) = (
        stream.few_samples(),
        stream.gap(5, Reason::UsbOverrun),
        stream.half_samples(),
    );
    let mut bad = stream.few_samples();
    bad.quarantine = Some(Quarantine {
        why: "a rule that was too strict".into(),
    });
    bad.folds.clear();
    let last = stream.few_samples();
    let rows = vec![first, gap, half, bad, last];
    assert_eq!(fixture.commit(&[entry(&stream, owner, before, rows)]).await, [true]);
    if !is_installed(&fixture).await {
        return;
    }
    let mut reader = as_reader(&fixture).await;
    let found = read(&mut reader, (0, 1_000_000_000)).await.expect("it reads");
    let of = |sample: i64, value: f64, voltage: bool| {
        (
            sample,
            NOVEMBER_2026_NS + sample * 1_000,
            Some(value.to_bits()),
            voltage.then_some(value.to_bits()),
        )
    };
    let three = |from: i64, voltage| (0..3).map(move |at| of(from + at, (at + 1) as f64, voltage));
    assert_eq!(
        found,
        three(0, true)
            .chain(three(8, false))
            .chain(three(14, true))
            .collect::<Vec<_>>()
    );
    let voltage = "SELECT count(*) FROM signal_sample('js220-001', 'voltage')";
    let count: i64 = sqlx::query_scalar(voltage)
        .fetch_one(&mut reader)
        .await
        .expect("it reads");
    assert_eq!(count, 6);
}

/// Whoever reads rows by device reads each sample once, as readers over gRPC do.
#[tokio::test]
async fn i1_what_a_successor_has_again_is_no_sample_of_its_predecessor() {
    let fixture = Fixture::new().await;
    let (mut stream, owner) = (Stream::new(), owner());
    let store = async |stream: &Stream, before, rows| {
        fixture.open(stream, owner).await;
        assert_eq!(fixture.commit(&[entry(stream, owner, before, rows)]).await, [true]);
    };
    let before = stream.at;
    let mut rows = vec![stream.few_samples()];
    let fork = stream.clone();
    rows.push(stream.few_samples());
    store(&stream, before, rows).await;
    let mut next = successor(&fork, 1, fork.at.next_sample, fork.utc_ns);
    let before = next.at;
    let rows = vec![next.half_samples(), next.few_samples()];
    store(&next, before, rows).await;
    if !is_installed(&fixture).await {
        return;
    }
    let mut reader = as_reader(&fixture).await;
    let found = read(&mut reader, (0, 1_000_000_000)).await.expect("it reads");
    let voltages: Vec<bool> = found.iter().map(|(.., voltage)| voltage.is_some()).collect();
    let samples: Vec<i64> = found.iter().map(|(sample, ..)| *sample).collect();
    assert_eq!(samples, (0..9).collect::<Vec<_>>());
    assert_eq!(
        voltages,
        [true, true, true, false, false, false, true, true, true],
        "the second three are the successor's"
    );
}

#[tokio::test]
async fn i14_a_column_that_was_changed_in_the_database_is_refused_and_the_backend_goes_on() {
    let (fixture, _) = stored(1e3, 300, 2_000, 4).await;
    if !is_installed(&fixture).await {
        return;
    }
    let mut reader = as_reader(&fixture).await;
    let changes = [
        "payload = set_byte(payload, 1, get_byte(payload, 1) # 1)",
        "payload = substring(payload FOR length(payload) - 1)",
        "payload = ''",
        "encoding = 2",
        "encoding = 3",
        "encoding = 77",
        "sample_type = 2",
        "sample_type = -3",
        "hash = substring(hash FOR 3)",
        "payload = '\\x28b52ffd', encoding = 2",
        "payload = '\\x70636f2103040000ffffffffffffffffff', encoding = 3",
    ];
    for change in changes {
        let damage = format!(
            "UPDATE chunk_signal g SET {change} FROM (SELECT min(seq) AS seq FROM chunk_signal WHERE signal = 0) AS first
              WHERE g.seq = first.seq AND g.signal = 0"
        );
        let mut writer = fixture.sql().await;
        sqlx::raw_sql("CREATE TEMP TABLE kept AS SELECT * FROM chunk_signal")
            .execute(&mut writer)
            .await
            .expect("it is kept");
        let changed = sqlx::raw_sql(AssertSqlSafe(damage))
            .execute(&mut writer)
            .await
            .expect("its owner may");
        assert_eq!(changed.rows_affected(), 1, "{change}");
        let error = read(&mut reader, (0, 1_000_000_000)).await.expect_err(change);
        let code = error
            .as_database_error()
            .and_then(|error| error.code().map(String::from));
        assert!(
            ["XX001", "0A000", "22023"].contains(&code.as_deref().unwrap_or_default()),
            "{change}: {error}"
        );
        sqlx::raw_sql("TRUNCATE chunk_signal; INSERT INTO chunk_signal SELECT * FROM kept")
            .execute(&mut writer)
            .await
            .expect("it is put back");
        read(&mut reader, (0, 1_000_000_000))
            .await
            .expect("the backend goes on");
    }
    for hostile in [
        "SELECT wavekeep_time(0, 0, 10)",
        "SELECT wavekeep_time(0, 'NaN', 10)",
        "SELECT wavekeep_time(0, 1, 2147483647)",
        "SELECT wavekeep_time_ns(0, 1, -5)",
        "SELECT wavekeep_place(0, 1, 9223372036854775807, 0)",
        "SELECT wavekeep_values(0, 1::smallint, 1::smallint, 65537, '\\x00000000000000000000000000000000', '', 0, 1)",
        "SELECT wavekeep_values(-1, 1::smallint, 1::smallint, 1, '\\x00000000000000000000000000000000', '\\x00000000', 0, 1)",
        "SELECT wavekeep_digits(0, 13::smallint, 2::smallint, 65536, '\\x00000000000000000000000000000000', '\\x28b52ffdffffffffffffffffff', 0, 1)",
    ] {
        sqlx::raw_sql(hostile).fetch_all(&mut reader).await.expect_err(hostile);
    }
    let harmless = "SELECT wavekeep_time(9223372036854775807, 1e-9, 3)::text, wavekeep_values(0, NULL, NULL, 1, NULL, NULL, 0, 1)::text";
    sqlx::raw_sql(harmless)
        .fetch_all(&mut reader)
        .await
        .expect("times saturate, and NULL is NULL");
}

#[tokio::test]
async fn the_planner_sees_through_the_function_and_rows_come_as_they_are_asked_for() {
    let (fixture, _) = stored(1e3, 300, 20_000, 5).await;
    if !is_installed(&fixture).await {
        return;
    }
    let mut reader = as_reader(&fixture).await;
    let from = NOVEMBER_2026_NS / 1_000_000_000 + 5;
    let explain = format!(
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT * FROM sample('js220-001', to_timestamp({from}), to_timestamp({})) LIMIT 10",
        from + 5
    );
    let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
        .fetch_all(&mut reader)
        .await
        .expect("it explains");
    let plan = lines.join("\n");
    assert!(
        plan.contains("ProjectSet") && !plan.contains("Function Scan on sample"),
        "the planner sees through the function:\n{plan}"
    );
    let unpacked = lines
        .iter()
        .find(|line| line.contains("ProjectSet"))
        .expect("it is there");
    assert!(unpacked.contains("rows=10 "), "it stops where nobody asks on:\n{plan}");
}
