-- Runs that people make afterwards, over any device and time; markers that they add; labels by index.

ALTER TABLE run
    ADD COLUMN parent     text REFERENCES run (name) ON DELETE SET NULL,
    ADD COLUMN note       text        NOT NULL DEFAULT '',
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX run_parent ON run (parent) WHERE parent IS NOT NULL;
CREATE INDEX run_labels ON run USING gin (labels jsonb_path_ops);
COMMENT ON COLUMN run.labels IS 'key=value of people, its own: see view run_label for those that it shares with all of its streams.';
COMMENT ON COLUMN run.parent IS 'The run that it is a part of; its members are not its parent''s.';
COMMENT ON COLUMN run.note IS 'What people say about it.';
COMMENT ON COLUMN run.updated_at IS 'When its labels, note, parent or ranges last changed.';

-- No commit of chunks changes labels: updates of a stream's row stay within their page.
CREATE INDEX stream_labels ON stream USING gin (labels jsonb_path_ops);

-- Not deleted with a stream: one that is sent again is a member again.
CREATE TABLE run_member (
    run       text   NOT NULL REFERENCES run (name) ON DELETE CASCADE,
    device    text,
    stream_id bytea  CHECK (octet_length(stream_id) = 16),
    from_ns   bigint,
    to_ns     bigint CHECK (to_ns > from_ns),
    CONSTRAINT run_member_of_one CHECK ((device IS NULL) <> (stream_id IS NULL))
);
CREATE UNIQUE INDEX run_member_once ON run_member
    (run, coalesce(device, ''), coalesce(stream_id, ''), coalesce(from_ns, -9223372036854775808), coalesce(to_ns, 9223372036854775807));
CREATE INDEX run_member_device ON run_member (device) WHERE device IS NOT NULL;
CREATE INDEX run_member_stream ON run_member (stream_id) WHERE stream_id IS NOT NULL;
COMMENT ON TABLE run_member IS 'What was made part of a run afterwards: a time of a device, or of a stream. The streams that were recorded for it are part of it by stream.run.';
COMMENT ON COLUMN run_member.device IS 'All of its streams; NULL where one stream is meant.';
COMMENT ON COLUMN run_member.stream_id IS 'This one alone; NULL where a device is meant.';
COMMENT ON COLUMN run_member.from_ns IS 'From this time on; NULL: from the beginning.';
COMMENT ON COLUMN run_member.to_ns IS 'Up to this time, not included; NULL: to the end.';

-- A range of int8 without an end reaches to infinity. Ranges that overlap, or meet, are one: nothing is part of a run twice.
CREATE VIEW run_range AS
SELECT g.run, g.stream_id, g.device, lower(r.range) AS from_ns, upper(r.range) AS to_ns, g.by_id
  FROM (SELECT p.run, p.stream_id, p.device, range_agg(int8range(p.from_ns, p.to_ns)) AS ranges, bool_and(p.by_id) AS by_id
          FROM (SELECT s.run, s.id AS stream_id, s.device, NULL::bigint AS from_ns, NULL::bigint AS to_ns, false AS by_id
                  FROM stream s WHERE s.run IS NOT NULL
                UNION ALL
                SELECT m.run, s.id, s.device, m.from_ns, m.to_ns, true
                  FROM run_member m JOIN stream s ON s.id = m.stream_id
                UNION ALL
                SELECT m.run, s.id, s.device, m.from_ns, m.to_ns, false
                  FROM run_member m JOIN stream s ON s.device = m.device
                       AND (m.to_ns IS NULL OR s.first_time_ns < m.to_ns) AND (m.from_ns IS NULL OR s.last_time_ns > m.from_ns)) AS p
         GROUP BY p.run, p.stream_id, p.device) AS g
 CROSS JOIN LATERAL unnest(g.ranges) AS r(range);
COMMENT ON VIEW run_range IS 'What a run consists of: ranges of time of streams, none of them twice.';
COMMENT ON COLUMN run_range.from_ns IS 'UTC nanoseconds; NULL: from the stream''s beginning.';
COMMENT ON COLUMN run_range.to_ns IS 'UTC nanoseconds, not included; NULL: to the stream''s end.';
COMMENT ON COLUMN run_range.by_id IS 'The stream was named itself: it is read to its own end, whether a successor continues it or not.';

-- What it says of itself goes before what all of its streams say.
CREATE VIEW run_label AS
SELECT r.name AS run, l.key, l.value, true AS own FROM run r CROSS JOIN LATERAL jsonb_each_text(r.labels) AS l
UNION ALL
SELECT g.run, g.key, g.value, false
  FROM (SELECT m.run, l.key, l.value, count(*) AS streams
          FROM (SELECT DISTINCT run, stream_id FROM run_range) AS m JOIN stream s ON s.id = m.stream_id
         CROSS JOIN LATERAL jsonb_each_text(s.labels) AS l
         GROUP BY m.run, l.key, l.value) AS g
  JOIN run r ON r.name = g.run AND NOT r.labels ? g.key
 WHERE g.streams = (SELECT count(DISTINCT n.stream_id) FROM run_range n WHERE n.run = g.run);
COMMENT ON VIEW run_label IS 'The labels of runs: their own, and those that all streams of a run share.';

CREATE FUNCTION point_sum(points bytea, level smallint, place integer) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(f64_at(points, CASE level WHEN 0 THEN 8 * place ELSE 36 * place + 20 END), 0);
COMMENT ON FUNCTION point_sum(bytea, smallint, integer) IS 'Sum of the finite samples of a point; 0 where it has none. Places are counted from 0.';

-- A chunk that lies in the range counts as it was folded; of one that the range cuts, the points that begin in it.
CREATE VIEW energy AS
SELECT m.run, m.device, n.name AS signal, n.unit,
       CASE n.unit WHEN 'A' THEN sum(part.sum / n.rate_hz) END AS charge_coulomb,
       CASE n.unit WHEN 'W' THEN sum(part.sum / n.rate_hz) END AS energy_joule,
       sum(part.count / n.rate_hz) AS seconds,
       min(c.start_time) AS from_time, max(c.start_time + c.sample_count / n.rate_hz * interval '1 second') AS to_time
  FROM run_range m
  JOIN signal n ON n.stream_id = m.stream_id AND n.unit IN ('A', 'W')
 CROSS JOIN LATERAL (SELECT CASE WHEN m.by_id THEN 9223372036854775807 ELSE kept_seq(m.stream_id) END AS seq OFFSET 0) AS kept
  JOIN chunk c ON c.stream_id = m.stream_id AND c.kind = 1 AND NOT c.quarantined AND c.seq <= kept.seq
       AND (m.to_ns IS NULL OR c.utc_ns < m.to_ns)
       AND (m.from_ns IS NULL OR c.utc_ns + (c.sample_count * 1e9 / n.rate_hz)::bigint > m.from_ns)
 CROSS JOIN LATERAL (SELECT g.finite_count, g.sum, g.point_level AS level, g.points FROM chunk_signal g
                      WHERE g.stream_id = c.stream_id AND g.signal = n.number AND g.seq = c.seq AND g.start_time = c.start_time
                      LIMIT 1) AS g
 CROSS JOIN LATERAL (
    SELECT g.sum, g.finite_count AS count
     WHERE (m.from_ns IS NULL OR c.utc_ns >= m.from_ns)
       AND (m.to_ns IS NULL OR c.utc_ns + (c.sample_count * 1e9 / n.rate_hz)::bigint <= m.to_ns)
    UNION ALL
    SELECT point_sum(g.points || ''::bytea, g.level, place), point_count(g.points || ''::bytea, g.level, place)
      FROM generate_series(0, length(g.points) / point_bytes(g.level) - 1) AS place
     CROSS JOIN LATERAL (SELECT 1::bigint << (4 * g.level) AS size) AS b
     CROSS JOIN LATERAL (SELECT c.utc_ns + ((greatest((c.first_sample / b.size + place) * b.size, c.first_sample) - c.first_sample)
                                            * 1e9 / n.rate_hz)::bigint AS ns) AS at
     WHERE NOT ((m.from_ns IS NULL OR c.utc_ns >= m.from_ns)
                AND (m.to_ns IS NULL OR c.utc_ns + (c.sample_count * 1e9 / n.rate_hz)::bigint <= m.to_ns))
       AND (m.from_ns IS NULL OR at.ns >= m.from_ns) AND (m.to_ns IS NULL OR at.ns < m.to_ns)) AS part
 GROUP BY m.run, m.device, n.name, n.unit;
COMMENT ON VIEW energy IS 'Charge and energy of each signal in ampere or watt of a run; exact but for the points that the ends of its ranges cut. What is missing adds nothing.';
COMMENT ON COLUMN energy.seconds IS 'Of finite samples.';

-- `marker` holds what came in chunks, and nothing else: it can be made again from their headers, which the digests prove.
COMMENT ON TABLE marker IS 'A note at a sample, as it came in a chunk. Those that people add are in added_marker.';
COMMENT ON COLUMN marker.seq IS 'The chunk it rode in.';

-- By device and time, so that it stays whatever becomes of a stream, and needs none.
CREATE TABLE added_marker (
    id         bytea       PRIMARY KEY CHECK (octet_length(id) = 16),
    device     text        NOT NULL,
    time_ns    bigint      NOT NULL,
    kind       integer     NOT NULL,
    "group"    smallint    NOT NULL,
    y          float8      NOT NULL,
    format     smallint    NOT NULL,
    content    bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX added_marker_time ON added_marker (device, time_ns, id);
COMMENT ON TABLE added_marker IS 'A note at a time of a device that was added afterwards.';
COMMENT ON COLUMN added_marker.id IS 'Chosen by whoever adds it, so that adding it again is adding it once.';
COMMENT ON COLUMN added_marker.kind IS '0 text, 1 vertical, 2 horizontal; sources may add.';
COMMENT ON COLUMN added_marker.y IS 'Height on the axis; NaN when it has none.';
COMMENT ON COLUMN added_marker.format IS '1 text, 2 JSON, 3 bytes.';

-- Bytes that are no text are no reason to fail.
CREATE FUNCTION marker_content(content bytea, format smallint) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN format IN (1, 2) THEN convert_from(content, 'UTF8') ELSE encode(content, 'hex') END;
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RETURN encode(content, 'hex');
END $$;
COMMENT ON FUNCTION marker_content(bytea, smallint) IS 'What a marker says: text, JSON as text, or bytes as hexadecimal digits.';

CREATE VIEW device_marker AS
SELECT to_timestamp(m.time_ns / 1e9) AS time, s.device, m.kind, m.format, marker_content(m.content, m.format) AS content,
       s.run, m.stream_id, m.sample, m.time_ns, false AS added
  FROM stream s CROSS JOIN LATERAL (SELECT kept_seq(s.id) AS seq OFFSET 0) AS kept
  JOIN marker m ON m.stream_id = s.id AND m.seq <= kept.seq
UNION ALL
SELECT to_timestamp(a.time_ns / 1e9), a.device, a.kind, a.format, marker_content(a.content, a.format), NULL, NULL, NULL, a.time_ns, true
  FROM added_marker a;
COMMENT ON VIEW device_marker IS 'All markers: those that came in chunks, and those that were added.';
