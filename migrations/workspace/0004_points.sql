-- A chunk's points are one field of bytes: as arrays, Postgres calls a function for each element that it takes or sends, which made up
-- most of a picture of some seconds, and a quarter of a commit. See docs/adr/0009.

DROP FUNCTION measurement(timestamptz, timestamptz, text), signal_point(timestamptz, timestamptz, text);
DROP VIEW measurement, signal_point;

ALTER TABLE chunk_signal
    DROP COLUMN point_count, DROP COLUMN point_min, DROP COLUMN point_max, DROP COLUMN point_sum, DROP COLUMN point_sumsq,
    ADD COLUMN points bytea;
ALTER TABLE chunk_signal ALTER COLUMN points SET STORAGE EXTERNAL;
COMMENT ON COLUMN chunk_signal.points IS 'Of level 0 each sample (double precision); else of each point count (integer), min, max, sum, sumsq (double precision); big-endian, NaN where no sample is finite. Functions point_* read them.';

COMMENT ON COLUMN envelope.children IS 'Its 16 buckets of the level below: min, max and sum (double precision) of each; if any is not full of finite samples, each with its counts of samples and of finite ones before (bigint), and all 0 without samples. Big-endian.';

-- What is stored is folded again, from its samples, while the server runs.
TRUNCATE envelope;
UPDATE stream SET folded_seq = 0;

-- Multiplying by a power of two is exact.
CREATE FUNCTION f64_at(bytes bytea, at integer) RETURNS float8 LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    bits bigint := ('x' || encode(substring(bytes FROM at + 1 FOR 8), 'hex'))::bit(64)::bigint;
    exponent integer := (bits >> 52) & 2047;
    fraction bigint := bits & 4503599627370495;
    magnitude float8;
BEGIN
    IF exponent = 2047 THEN
        RETURN NULL;
    ELSIF exponent > 0 THEN
        magnitude := (fraction + 4503599627370496)::float8 * 2::float8 ^ (exponent - 1075);
    ELSIF fraction > 0 THEN
        magnitude := fraction::float8 * 2::float8 ^ (-1074);
    ELSE
        magnitude := 0;
    END IF;
    RETURN CASE WHEN bits < 0 THEN -magnitude ELSE magnitude END;
END $$;
COMMENT ON FUNCTION f64_at(bytea, integer) IS 'The big-endian IEEE 754 double at this byte, counted from 0; NULL where it is not finite.';

CREATE FUNCTION point_bytes(level smallint) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE level WHEN 0 THEN 8 ELSE 36 END;
COMMENT ON FUNCTION point_bytes(smallint) IS 'Bytes of a point in chunk_signal.points.';

CREATE FUNCTION point_min(points bytea, level smallint, place integer) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN f64_at(points, CASE level WHEN 0 THEN 8 * place ELSE 36 * place + 4 END);
COMMENT ON FUNCTION point_min(bytea, smallint, integer) IS 'Smallest finite sample of a point, NULL where it has none. Places are counted from 0.';

CREATE FUNCTION point_max(points bytea, level smallint, place integer) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN f64_at(points, CASE level WHEN 0 THEN 8 * place ELSE 36 * place + 12 END);
COMMENT ON FUNCTION point_max(bytea, smallint, integer) IS 'Largest finite sample of a point, NULL where it has none.';

CREATE FUNCTION point_count(points bytea, level smallint, place integer) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE level WHEN 0 THEN (f64_at(points, 8 * place) IS NOT NULL)::integer
                  ELSE ('x' || encode(substring(points FROM 36 * place + 1 FOR 4), 'hex'))::bit(32)::integer END;
COMMENT ON FUNCTION point_count(bytea, smallint, integer) IS 'Finite samples of a point.';

CREATE FUNCTION point_mean(points bytea, level smallint, place integer) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE level WHEN 0 THEN f64_at(points, 8 * place)
                  ELSE f64_at(points, 36 * place + 20)
                       / nullif(('x' || encode(substring(points FROM 36 * place + 1 FOR 4), 'hex'))::bit(32)::integer, 0) END;
COMMENT ON FUNCTION point_mean(bytea, smallint, integer) IS 'Mean of the finite samples of a point, NULL where it has none.';

-- In both views LIMIT 1 keeps a chunk's rows looked up by index, however many there are, and `|| ''` reads its points from disk once.
CREATE VIEW signal_point AS
SELECT c.start_time + (greatest((c.first_sample / b.size + place) * b.size, c.first_sample) - c.first_sample) / s.rate_hz
           * interval '1 second' AS time,
       s.device, s.name AS signal, s.unit,
       point_mean(g.points, g.level, place) AS mean, point_min(g.points, g.level, place) AS min,
       point_max(g.points, g.level, place) AS max, point_count(g.points, g.level, place) AS count,
       c.loaded_at, s.run, s.stream_id, c.seq, c.start_time AS chunk_time, chunk_lasts_at_most(s.rate_hz) AS chunk_lasts_at_most
  FROM signal s
  JOIN chunk c ON c.stream_id = s.stream_id AND c.kind = 1 AND NOT c.quarantined
 CROSS JOIN LATERAL (SELECT point_level AS level, points || ''::bytea AS points FROM chunk_signal g
                      WHERE g.stream_id = c.stream_id AND g.signal = s.number AND g.seq = c.seq AND g.start_time = c.start_time
                      LIMIT 1) AS g
 CROSS JOIN LATERAL (SELECT 1::bigint << (4 * g.level) AS size) AS b
 CROSS JOIN LATERAL generate_series(0, length(g.points) / point_bytes(g.level) - 1) AS place;
COMMENT ON VIEW signal_point IS 'Every point of every signal: mean, min and max of up to 4,000 points a second. Give chunk_time, or call signal_point(from, to), for a time in a long recording.';

-- The points of current, voltage and power side by side.
CREATE VIEW measurement AS
SELECT c.start_time + (greatest((c.first_sample / b.size + place) * b.size, c.first_sample) - c.first_sample) / s.rate_hz
           * interval '1 second' AS time,
       s.device,
       point_mean(i.points, i.level, place) AS current,
       point_mean(v.points, v.level, place) AS voltage,
       point_mean(w.points, w.level, place) AS power,
       point_min(i.points, i.level, place) AS current_min, point_max(i.points, i.level, place) AS current_max,
       point_min(v.points, v.level, place) AS voltage_min, point_max(v.points, v.level, place) AS voltage_max,
       point_min(w.points, w.level, place) AS power_min, point_max(w.points, w.level, place) AS power_max,
       c.loaded_at, s.run, s.stream_id, c.seq, c.start_time AS chunk_time, chunk_lasts_at_most(s.rate_hz) AS chunk_lasts_at_most
  FROM (SELECT id AS stream_id, device, run, rate_hz,
               (SELECT (e ->> 'number')::integer FROM jsonb_array_elements(signals) AS e WHERE e ->> 'name' = 'current' AND e ->> 'unit' = 'A') AS i_number,
               (SELECT (e ->> 'number')::integer FROM jsonb_array_elements(signals) AS e WHERE e ->> 'name' = 'voltage' AND e ->> 'unit' = 'V') AS v_number,
               coalesce((SELECT (e ->> 'number')::integer FROM jsonb_array_elements(signals) AS e WHERE e ->> 'name' = 'power'), 65536) AS w_number
          FROM stream) AS s
  JOIN chunk c ON c.stream_id = s.stream_id AND c.kind = 1 AND NOT c.quarantined
  LEFT JOIN LATERAL (SELECT point_level AS level, points || ''::bytea AS points FROM chunk_signal g
                      WHERE g.stream_id = c.stream_id AND g.signal = s.i_number AND g.seq = c.seq AND g.start_time = c.start_time
                      LIMIT 1) AS i ON true
  LEFT JOIN LATERAL (SELECT point_level AS level, points || ''::bytea AS points FROM chunk_signal g
                      WHERE g.stream_id = c.stream_id AND g.signal = s.v_number AND g.seq = c.seq AND g.start_time = c.start_time
                      LIMIT 1) AS v ON true
  LEFT JOIN LATERAL (SELECT point_level AS level, points || ''::bytea AS points FROM chunk_signal g
                      WHERE g.stream_id = c.stream_id AND g.signal = s.w_number AND g.seq = c.seq AND g.start_time = c.start_time
                      LIMIT 1) AS w ON true
 CROSS JOIN LATERAL (SELECT coalesce(i.level, v.level, w.level) AS level) AS l
 CROSS JOIN LATERAL (SELECT 1::bigint << (4 * l.level) AS size) AS b
 CROSS JOIN LATERAL generate_series(0, greatest(length(i.points), length(v.points), length(w.points)) / point_bytes(l.level) - 1) AS place
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
