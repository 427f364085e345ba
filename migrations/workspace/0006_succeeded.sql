-- A successor holds again what its predecessor has after the seq where it continues it, or other samples of the same axis: whoever reads rows
-- by device gets the successor's alone, as readers over gRPC do. The predecessor's stay in `chunk`.

-- In both views LIMIT 1 keeps a chunk's rows looked up by index, however many there are, and `|| ''` reads its points from disk once.
CREATE OR REPLACE VIEW signal_point AS
SELECT c.start_time + (greatest((c.first_sample / b.size + place) * b.size, c.first_sample) - c.first_sample) / s.rate_hz
           * interval '1 second' AS time,
       s.device, s.name AS signal, s.unit,
       point_mean(g.points, g.level, place) AS mean, point_min(g.points, g.level, place) AS min,
       point_max(g.points, g.level, place) AS max, point_count(g.points, g.level, place) AS count,
       c.loaded_at, s.run, s.stream_id, c.seq, c.start_time AS chunk_time, chunk_lasts_at_most(s.rate_hz) AS chunk_lasts_at_most
  FROM signal s
  JOIN chunk c ON c.stream_id = s.stream_id AND c.kind = 1 AND NOT c.quarantined
       AND NOT EXISTS (SELECT FROM stream n WHERE n.predecessor_id = c.stream_id AND n.predecessor_seq < c.seq)
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
  JOIN chunk c ON c.stream_id = s.stream_id AND c.kind = 1 AND NOT c.quarantined
       AND NOT EXISTS (SELECT FROM stream n WHERE n.predecessor_id = c.stream_id AND n.predecessor_seq < c.seq)
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
  FROM chunk c JOIN stream s ON s.id = c.stream_id
 WHERE (c.kind = 2 OR c.quarantined)
   AND NOT EXISTS (SELECT FROM stream n WHERE n.predecessor_id = c.stream_id AND n.predecessor_seq < c.seq)
UNION ALL
SELECT g.start_time, g.start_time + g.sample_count / s.rate_hz * interval '1 second', s.device, reason_name(g.absent_reason),
       array_agg(s.name ORDER BY s.number), g.first_sample, g.sample_count, s.run, g.stream_id, g.seq, NULL::timestamptz
  FROM chunk_signal g JOIN signal s ON s.stream_id = g.stream_id AND s.number = g.signal
 WHERE g.absent_reason IS NOT NULL
   AND NOT EXISTS (SELECT FROM stream n WHERE n.predecessor_id = g.stream_id AND n.predecessor_seq < g.seq)
 GROUP BY g.start_time, g.sample_count, s.rate_hz, s.device, g.absent_reason, g.first_sample, s.run, g.stream_id, g.seq;
