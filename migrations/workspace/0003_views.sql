-- What people read by SQL. Points are unnested: each sample of a slow stream, every 256 µs of one at 1 MSPS.

-- A stream's signals as rows, power that is derived among them.
CREATE VIEW signal AS
SELECT s.id AS stream_id, s.device, s.run, s.rate_hz, (e ->> 'number')::integer AS number, e ->> 'name' AS name,
       e ->> 'unit' AS unit, e ->> 'type' AS type
  FROM stream s CROSS JOIN LATERAL jsonb_array_elements(s.signals) AS e
UNION ALL
SELECT s.id, s.device, s.run, s.rate_hz, 65536, 'power', 'W', 'f64'
  FROM stream s
 WHERE s.signals @> '[{"name": "current", "unit": "A"}, {"name": "voltage", "unit": "V"}]'
   AND NOT s.signals @> '[{"name": "power"}]';
COMMENT ON VIEW signal IS 'What was captured: the signals of every stream. 65536 is power, derived from current and voltage.';

-- In both views LIMIT 1 keeps a chunk's rows looked up by index, however many there are. A chunk has at most 65,536 samples, and lasts at most an hour, or has one sample.
CREATE FUNCTION chunk_lasts_at_most(rate_hz float8) RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN make_interval(secs => least(65536 / rate_hz, 3601));
COMMENT ON FUNCTION chunk_lasts_at_most(float8) IS 'By how much a point may lie after the start of its chunk.';

CREATE VIEW signal_point AS
SELECT c.start_time + (greatest((c.first_sample / b.size + p.place - 1) * b.size, c.first_sample) - c.first_sample) / s.rate_hz
           * interval '1 second' AS time,
       s.device, s.name AS signal, s.unit,
       CASE WHEN coalesce(p.count, (p.min IS NOT NULL)::integer) > 0 THEN coalesce(p.sum, p.min) / coalesce(p.count, 1) END AS mean,
       p.min, coalesce(p.max, p.min) AS max, coalesce(p.count, (p.min IS NOT NULL)::integer) AS count,
       c.loaded_at, s.run, s.stream_id, c.seq, c.start_time AS chunk_time, chunk_lasts_at_most(s.rate_hz) AS chunk_lasts_at_most
  FROM signal s
  JOIN chunk c ON c.stream_id = s.stream_id AND c.kind = 1 AND NOT c.quarantined
 CROSS JOIN LATERAL (SELECT point_level, point_count, point_min, point_max, point_sum FROM chunk_signal g
                      WHERE g.stream_id = c.stream_id AND g.signal = s.number AND g.seq = c.seq AND g.start_time = c.start_time
                      LIMIT 1) AS g
 CROSS JOIN LATERAL (SELECT (16::bigint ^ g.point_level)::bigint AS size) AS b
 CROSS JOIN LATERAL unnest(g.point_count, g.point_min, g.point_max, g.point_sum) WITH ORDINALITY AS p(count, min, max, sum, place);
COMMENT ON VIEW signal_point IS 'Every point of every signal: mean, min and max of up to 4,000 points a second. Give chunk_time, or call signal_point(from, to), for a time in a long recording.';

-- The points of current, voltage and power side by side.
CREATE VIEW measurement AS
SELECT c.start_time + (greatest((c.first_sample / b.size + p.place - 1) * b.size, c.first_sample) - c.first_sample) / s.rate_hz
           * interval '1 second' AS time,
       s.device,
       CASE WHEN coalesce(p.i_count, (p.i_min IS NOT NULL)::integer) > 0 THEN coalesce(p.i_sum, p.i_min) / coalesce(p.i_count, 1) END AS current,
       CASE WHEN coalesce(p.v_count, (p.v_min IS NOT NULL)::integer) > 0 THEN coalesce(p.v_sum, p.v_min) / coalesce(p.v_count, 1) END AS voltage,
       CASE WHEN coalesce(p.w_count, (p.w_min IS NOT NULL)::integer) > 0 THEN coalesce(p.w_sum, p.w_min) / coalesce(p.w_count, 1) END AS power,
       p.i_min AS current_min, coalesce(p.i_max, p.i_min) AS current_max,
       p.v_min AS voltage_min, coalesce(p.v_max, p.v_min) AS voltage_max,
       p.w_min AS power_min, coalesce(p.w_max, p.w_min) AS power_max,
       c.loaded_at, s.run, s.stream_id, c.seq, c.start_time AS chunk_time, chunk_lasts_at_most(s.rate_hz) AS chunk_lasts_at_most
  FROM (SELECT id AS stream_id, device, run, rate_hz,
               (SELECT (e ->> 'number')::integer FROM jsonb_array_elements(signals) AS e WHERE e ->> 'name' = 'current' AND e ->> 'unit' = 'A') AS i_number,
               (SELECT (e ->> 'number')::integer FROM jsonb_array_elements(signals) AS e WHERE e ->> 'name' = 'voltage' AND e ->> 'unit' = 'V') AS v_number,
               coalesce((SELECT (e ->> 'number')::integer FROM jsonb_array_elements(signals) AS e WHERE e ->> 'name' = 'power'), 65536) AS w_number
          FROM stream) AS s
  JOIN chunk c ON c.stream_id = s.stream_id AND c.kind = 1 AND NOT c.quarantined
  LEFT JOIN LATERAL (SELECT point_level, point_count, point_min, point_max, point_sum FROM chunk_signal g
                      WHERE g.stream_id = c.stream_id AND g.signal = s.i_number AND g.seq = c.seq AND g.start_time = c.start_time
                      LIMIT 1) AS i ON true
  LEFT JOIN LATERAL (SELECT point_level, point_count, point_min, point_max, point_sum FROM chunk_signal g
                      WHERE g.stream_id = c.stream_id AND g.signal = s.v_number AND g.seq = c.seq AND g.start_time = c.start_time
                      LIMIT 1) AS v ON true
  LEFT JOIN LATERAL (SELECT point_level, point_count, point_min, point_max, point_sum FROM chunk_signal g
                      WHERE g.stream_id = c.stream_id AND g.signal = s.w_number AND g.seq = c.seq AND g.start_time = c.start_time
                      LIMIT 1) AS w ON true
 CROSS JOIN LATERAL (SELECT (16::bigint ^ coalesce(i.point_level, v.point_level, w.point_level))::bigint AS size) AS b
 CROSS JOIN LATERAL unnest(i.point_count, i.point_min, i.point_max, i.point_sum, v.point_count, v.point_min, v.point_max, v.point_sum,
                           w.point_count, w.point_min, w.point_max, w.point_sum) WITH ORDINALITY
         AS p(i_count, i_min, i_max, i_sum, v_count, v_min, v_max, v_sum, w_count, w_min, w_max, w_sum, place)
 WHERE coalesce(s.i_number, s.v_number) IS NOT NULL;
COMMENT ON VIEW measurement IS 'Current (A), voltage (V) and power (W), point by point: mean, min and max. Give chunk_time, or call measurement(from, to), for a time in a long recording.';
COMMENT ON COLUMN measurement.time IS 'UTC of the point''s first sample.';
COMMENT ON COLUMN measurement.current IS 'Mean of the point''s finite samples, in ampere; the sample itself in slow streams.';
COMMENT ON COLUMN measurement.power IS 'Mean of the product of current and voltage, sample by sample, in watt.';
COMMENT ON COLUMN measurement.loaded_at IS 'The transaction that committed its chunk.';
COMMENT ON COLUMN measurement.chunk_time IS 'Start of its chunk. Partitions and indexes go by it.';

-- Chunks are found by their start, so a range of time begins with the chunks that may reach into it. The planner sees through both.
CREATE FUNCTION measurement(from_time timestamptz, to_time timestamptz, of_device text DEFAULT NULL) RETURNS SETOF measurement
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT * FROM measurement m
     WHERE m.chunk_time > from_time - interval '3601 s' AND m.chunk_time > from_time - m.chunk_lasts_at_most
       AND m.chunk_time < to_time
       AND m.time >= from_time AND m.time < to_time AND (of_device IS NULL OR m.device = of_device);
END;
COMMENT ON FUNCTION measurement(timestamptz, timestamptz, text) IS 'Rows of the view measurement with from_time <= time < to_time, found by partition and index.';

CREATE FUNCTION signal_point(from_time timestamptz, to_time timestamptz, of_device text DEFAULT NULL) RETURNS SETOF signal_point
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT * FROM signal_point p
     WHERE p.chunk_time > from_time - interval '3601 s' AND p.chunk_time > from_time - p.chunk_lasts_at_most
       AND p.chunk_time < to_time
       AND p.time >= from_time AND p.time < to_time AND (of_device IS NULL OR p.device = of_device);
END;
COMMENT ON FUNCTION signal_point(timestamptz, timestamptz, text) IS 'Rows of the view signal_point with from_time <= time < to_time, found by partition and index.';

-- As DESIGN numbers them; see docs/PROTOCOL.md.
CREATE FUNCTION reason_name(reason smallint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE reason WHEN 0 THEN 'none' WHEN 1 THEN 'evicted' WHEN 2 THEN 'corrupt' WHEN 3 THEN 'lost_by_server' WHEN 16 THEN 'usb_overrun' WHEN 17 THEN 'device_overflow' WHEN 18 THEN 'host_suspend' WHEN 19 THEN 'unplugged' WHEN 20 THEN 'source_loss' WHEN 21 THEN 'signal_off' WHEN 22 THEN 'file_gap' WHEN 23 THEN 'not_finite' WHEN 48 THEN 'quarantined' WHEN 64 THEN 'closed' WHEN 65 THEN 'crashed' ELSE 'reason ' || reason END;
COMMENT ON FUNCTION reason_name(smallint) IS 'A reason as people say it.';

CREATE VIEW gap AS
SELECT c.start_time AS time, c.start_time + c.sample_count / s.rate_hz * interval '1 second' AS until, s.device,
       reason_name(CASE WHEN c.quarantined THEN 48::smallint ELSE c.reason END) AS reason, NULL::text[] AS signals,
       c.first_sample, c.sample_count, s.run, c.stream_id, c.seq, c.loaded_at
  FROM chunk c JOIN stream s ON s.id = c.stream_id
 WHERE c.kind = 2 OR c.quarantined
UNION ALL
SELECT g.start_time, g.start_time + g.sample_count / s.rate_hz * interval '1 second', s.device, reason_name(g.absent_reason),
       array_agg(s.name ORDER BY s.number), g.first_sample, g.sample_count, s.run, g.stream_id, g.seq, NULL::timestamptz
  FROM chunk_signal g JOIN signal s ON s.stream_id = g.stream_id AND s.number = g.signal
 WHERE g.absent_reason IS NOT NULL
 GROUP BY g.start_time, g.sample_count, s.rate_hz, s.device, g.absent_reason, g.first_sample, s.run, g.stream_id, g.seq;
COMMENT ON VIEW gap IS 'What is missing, and why: of all signals (signals is NULL) or of some.';

CREATE VIEW ingest_lag AS
SELECT device, NOT ended AS live, to_timestamp(last_time_ns / 1e9) AS captured_until, committed_at,
       committed_at - to_timestamp(last_time_ns / 1e9) AS lag, CASE WHEN NOT ended THEN now() - to_timestamp(last_time_ns / 1e9) END AS behind,
       watermark, stored_bytes, run, id AS stream_id
  FROM stream WHERE committed_at IS NOT NULL;
COMMENT ON VIEW ingest_lag IS 'How far behind the instrument the database is, for each stream.';
COMMENT ON COLUMN ingest_lag.lag IS 'From the last committed sample to its commit.';
COMMENT ON COLUMN ingest_lag.behind IS 'From the last committed sample until now, while the stream is captured.';
