-- Of a stream and its successor, whichever reaches further is the one that rows by device are of: a successor that has not everything yet, or that
-- a clone began while the original went on, must not hide what its predecessor has. They are never mixed.

CREATE FUNCTION kept_seq(stream_id bytea) RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT least((SELECT min(n.predecessor_seq) FROM stream n WHERE n.predecessor_id = s.id AND n.next_sample >= s.next_sample),
                     (SELECT 0 FROM stream p WHERE p.id = s.predecessor_id AND p.next_sample > s.next_sample),
                     9223372036854775807)
          FROM stream s WHERE s.id = kept_seq.stream_id);
COMMENT ON FUNCTION kept_seq(bytea) IS 'Up to which seq rows of a stream are those of its device: what comes after it is read from a successor, or from the predecessor of one that does not reach as far.';

-- OFFSET 0: once for each stream, not for each chunk.
-- In both views LIMIT 1 keeps a chunk's rows looked up by index, however many there are, and `|| ''` reads its points from disk once.
CREATE OR REPLACE VIEW signal_point AS
SELECT c.start_time + (greatest((c.first_sample / b.size + place) * b.size, c.first_sample) - c.first_sample) / s.rate_hz
           * interval '1 second' AS time,
       s.device, s.name AS signal, s.unit,
       point_mean(g.points, g.level, place) AS mean, point_min(g.points, g.level, place) AS min,
       point_max(g.points, g.level, place) AS max, point_count(g.points, g.level, place) AS count,
       c.loaded_at, s.run, s.stream_id, c.seq, c.start_time AS chunk_time, chunk_lasts_at_most(s.rate_hz) AS chunk_lasts_at_most
  FROM signal s
 CROSS JOIN LATERAL (SELECT kept_seq(s.stream_id) AS seq OFFSET 0) AS kept
  JOIN chunk c ON c.stream_id = s.stream_id AND c.kind = 1 AND NOT c.quarantined AND c.seq <= kept.seq
 CROSS JOIN LATERAL (SELECT point_level AS level, points || ''::bytea AS points FROM chunk_signal g
                      WHERE g.stream_id = c.stream_id AND g.signal = s.number AND g.seq = c.seq AND g.start_time = c.start_time
                      LIMIT 1) AS g
 CROSS JOIN LATERAL (SELECT 1::bigint << (4 * g.level) AS size) AS b
 CROSS JOIN LATERAL generate_series(0, length(g.points) / point_bytes(g.level) - 1) AS place;

-- The points of current, voltage and power side by side.
CREATE OR REPLACE VIEW measurement AS
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
 CROSS JOIN LATERAL (SELECT kept_seq(s.stream_id) AS seq OFFSET 0) AS kept
  JOIN chunk c ON c.stream_id = s.stream_id AND c.kind = 1 AND NOT c.quarantined AND c.seq <= kept.seq
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

CREATE OR REPLACE VIEW gap AS
SELECT c.start_time AS time, c.start_time + c.sample_count / s.rate_hz * interval '1 second' AS until, s.device,
       reason_name(CASE WHEN c.quarantined THEN 48::smallint ELSE c.reason END) AS reason, NULL::text[] AS signals,
       c.first_sample, c.sample_count, s.run, c.stream_id, c.seq, c.loaded_at
  FROM stream s CROSS JOIN LATERAL (SELECT kept_seq(s.id) AS seq OFFSET 0) AS kept
  JOIN chunk c ON c.stream_id = s.id AND (c.kind = 2 OR c.quarantined) AND c.seq <= kept.seq
UNION ALL
SELECT g.start_time, g.start_time + g.sample_count / s.rate_hz * interval '1 second', s.device, reason_name(g.absent_reason),
       array_agg(s.name ORDER BY s.number), g.first_sample, g.sample_count, s.run, g.stream_id, g.seq, NULL::timestamptz
  FROM signal s CROSS JOIN LATERAL (SELECT kept_seq(s.stream_id) AS seq OFFSET 0) AS kept
  JOIN chunk_signal g ON g.stream_id = s.stream_id AND g.signal = s.number AND g.absent_reason IS NOT NULL AND g.seq <= kept.seq
 GROUP BY g.start_time, g.sample_count, s.rate_hz, s.device, g.absent_reason, g.first_sample, s.run, g.stream_id, g.seq;
