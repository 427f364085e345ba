-- Samples as rows: sample() and signal_sample() unnest what the extension `wavekeep` decodes. See docs/adr/0020.

-- Where the extension is, its functions are in pg_catalog, which is searched before this schema. Where it is not, these say so.
CREATE FUNCTION samples_need_extension() RETURNS void LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RAISE 'samples are stored encoded, and the extension that decodes them is not in this database'
        USING ERRCODE = 'feature_not_supported',
              HINT = 'Where it is installed on the server: CREATE EXTENSION wavekeep. Where it cannot be: \copy … from program ''wavekeep export …''. docs/SQL.md, "Raw samples", has both. The views measurement and signal_point need neither.';
END $$;
COMMENT ON FUNCTION samples_need_extension() IS 'Fails, and says what to do.';

CREATE FUNCTION wavekeep_place(utc_ns bigint, rate_hz float8, sample_count bigint, time_ns bigint) RETURNS integer
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$ BEGIN PERFORM samples_need_extension(); END $$;
CREATE FUNCTION wavekeep_time(utc_ns bigint, rate_hz float8, place integer) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$ BEGIN PERFORM samples_need_extension(); END $$;
CREATE FUNCTION wavekeep_time_ns(utc_ns bigint, rate_hz float8, place integer) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$ BEGIN PERFORM samples_need_extension(); END $$;
CREATE FUNCTION wavekeep_values(signal integer, sample_type smallint, encoding smallint, sample_count bigint, hash bytea, payload bytea,
                                from_place integer, to_place integer) RETURNS float8[]
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$ BEGIN PERFORM samples_need_extension(); END $$;
CREATE FUNCTION wavekeep_digits(signal integer, sample_type smallint, encoding smallint, sample_count bigint, hash bytea, payload bytea,
                                from_place integer, to_place integer) RETURNS text[]
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$ BEGIN PERFORM samples_need_extension(); END $$;

-- Both are seen through by the planner, which is why their bodies are text: so the functions above are looked up when they are called.
-- Tables are named with their schema, and so may the function be: whose search path lacks the schema needs the extension. An end of time
-- that is NULL reaches as far as i64 nanoseconds do. A chunk's start is rounded to microseconds, and so is how long it lasts at most: 2 us. Several sets in one SELECT advance together, and one that is shorter or NULL, as of an absent column, is filled with
-- NULL: the places decide how many rows there are. What is computed from a place is outside, for those who ask for it. LIMIT 1 keeps a
-- chunk's rows looked up by index. OFFSET 0: once for each stream, or chunk.
DO $migration$
BEGIN
    EXECUTE format($function$
CREATE FUNCTION sample(of_device text, from_time timestamptz DEFAULT NULL, to_time timestamptz DEFAULT NULL)
RETURNS TABLE ("time" timestamptz, device text, current float8, voltage float8, time_ns bigint, sample bigint, run text, stream_id bytea)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1000000 AS $body$
SELECT wavekeep_time(u.utc_ns, u.rate_hz, u.place), u.device, u.current, u.voltage,
       wavekeep_time_ns(u.utc_ns, u.rate_hz, u.place), u.first_sample + u.place, u.run, u.stream_id
  FROM (
SELECT p.stream_id, p.device, p.run, p.rate_hz, p.utc_ns, p.first_sample, generate_series(p.from_place, p.to_place - 1) AS place,
       unnest(wavekeep_values(p.i_number, p.i_type, p.i_encoding, p.sample_count, p.i_hash, p.i_payload, p.from_place, p.to_place)) AS current,
       unnest(wavekeep_values(p.v_number, p.v_type, p.v_encoding, p.sample_count, p.v_hash, p.v_payload, p.from_place, p.to_place)) AS voltage
  FROM (SELECT s.stream_id, s.device, s.run, s.rate_hz, c.utc_ns, c.first_sample, c.sample_count,
               s.i_number, i.sample_type AS i_type, i.encoding AS i_encoding, i.hash AS i_hash, i.payload AS i_payload,
               s.v_number, v.sample_type AS v_type, v.encoding AS v_encoding, v.hash AS v_hash, v.payload AS v_payload,
               wavekeep_place(c.utc_ns, s.rate_hz, c.sample_count, s.from_ns) AS from_place,
               wavekeep_place(c.utc_ns, s.rate_hz, c.sample_count, s.to_ns) AS to_place
          FROM (SELECT id AS stream_id, device, run, rate_hz, t.from_ns, t.to_ns,
                       (SELECT (e ->> 'number')::integer FROM jsonb_array_elements(signals) AS e WHERE e ->> 'name' = 'current' AND e ->> 'unit' = 'A') AS i_number,
                       (SELECT (e ->> 'number')::integer FROM jsonb_array_elements(signals) AS e WHERE e ->> 'name' = 'voltage' AND e ->> 'unit' = 'V') AS v_number
                  FROM %1$I.stream
                 CROSS JOIN LATERAL (SELECT least(greatest(from_time, '1677-09-22 00:00:00+00'), '2262-04-11 00:00:00+00') AS from_time,
                                            greatest(least(to_time, '2262-04-11 00:00:00+00'), '1677-09-22 00:00:00+00') AS to_time) AS a
                 CROSS JOIN LATERAL (SELECT (extract(epoch FROM a.from_time) * 1000000)::bigint * 1000 AS from_ns,
                                            (extract(epoch FROM a.to_time) * 1000000)::bigint * 1000 AS to_ns) AS t
                 WHERE device = of_device AND first_time_ns < t.to_ns AND last_time_ns >= t.from_ns) AS s
         CROSS JOIN LATERAL (SELECT %1$I.kept_seq(s.stream_id) AS seq OFFSET 0) AS kept
          JOIN %1$I.chunk c ON c.stream_id = s.stream_id AND c.kind = 1 AND NOT c.quarantined AND c.seq <= kept.seq
               AND c.start_time > greatest(from_time, '1677-09-22 00:00:00+00') - interval '3601 s'
               AND c.start_time > greatest(from_time, '1677-09-22 00:00:00+00') - %1$I.chunk_lasts_at_most(s.rate_hz) - interval '2 us'
               AND c.start_time < least(to_time, '2262-04-11 00:00:00+00')
          LEFT JOIN LATERAL (SELECT sample_type, encoding, hash, payload FROM %1$I.chunk_signal g
                              WHERE g.stream_id = c.stream_id AND g.signal = s.i_number AND g.seq = c.seq AND g.start_time = c.start_time
                              LIMIT 1) AS i ON true
          LEFT JOIN LATERAL (SELECT sample_type, encoding, hash, payload FROM %1$I.chunk_signal g
                              WHERE g.stream_id = c.stream_id AND g.signal = s.v_number AND g.seq = c.seq AND g.start_time = c.start_time
                              LIMIT 1) AS v ON true
         WHERE i.payload IS NOT NULL OR v.payload IS NOT NULL
        OFFSET 0) AS p) AS u
$body$ $function$, current_schema());

    EXECUTE format($function$
CREATE FUNCTION signal_sample(of_device text, of_signal text, from_time timestamptz DEFAULT NULL, to_time timestamptz DEFAULT NULL)
RETURNS TABLE ("time" timestamptz, device text, signal text, unit text, value float8, exact numeric, time_ns bigint, sample bigint, run text, stream_id bytea)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1000000 AS $body$
SELECT wavekeep_time(u.utc_ns, u.rate_hz, u.place), u.device, u.signal, u.unit, u.value, u.digits::numeric,
       wavekeep_time_ns(u.utc_ns, u.rate_hz, u.place), u.first_sample + u.place, u.run, u.stream_id
  FROM (
SELECT p.stream_id, p.device, p.run, p.signal, p.unit, p.rate_hz, p.utc_ns, p.first_sample, generate_series(p.from_place, p.to_place - 1) AS place,
       unnest(wavekeep_values(p.number, p.sample_type, p.encoding, p.sample_count, p.hash, p.payload, p.from_place, p.to_place)) AS value,
       unnest(CASE WHEN p.sample_type IN (6, 10, 13)
                   THEN wavekeep_digits(p.number, p.sample_type, p.encoding, p.sample_count, p.hash, p.payload, p.from_place, p.to_place) END) AS digits
  FROM (SELECT s.stream_id, s.device, s.run, s.rate_hz, s.name AS signal, s.unit, s.number, c.utc_ns, c.first_sample, c.sample_count,
               g.sample_type, g.encoding, g.hash, g.payload,
               wavekeep_place(c.utc_ns, s.rate_hz, c.sample_count, s.from_ns) AS from_place,
               wavekeep_place(c.utc_ns, s.rate_hz, c.sample_count, s.to_ns) AS to_place
          FROM (SELECT id AS stream_id, device, run, rate_hz, t.from_ns, t.to_ns, e ->> 'name' AS name, e ->> 'unit' AS unit,
                       (e ->> 'number')::integer AS number
                  FROM %1$I.stream
                 CROSS JOIN LATERAL jsonb_array_elements(signals) AS e
                 CROSS JOIN LATERAL (SELECT least(greatest(from_time, '1677-09-22 00:00:00+00'), '2262-04-11 00:00:00+00') AS from_time,
                                            greatest(least(to_time, '2262-04-11 00:00:00+00'), '1677-09-22 00:00:00+00') AS to_time) AS a
                 CROSS JOIN LATERAL (SELECT (extract(epoch FROM a.from_time) * 1000000)::bigint * 1000 AS from_ns,
                                            (extract(epoch FROM a.to_time) * 1000000)::bigint * 1000 AS to_ns) AS t
                 WHERE device = of_device AND e ->> 'name' = of_signal AND first_time_ns < t.to_ns AND last_time_ns >= t.from_ns) AS s
         CROSS JOIN LATERAL (SELECT %1$I.kept_seq(s.stream_id) AS seq OFFSET 0) AS kept
          JOIN %1$I.chunk c ON c.stream_id = s.stream_id AND c.kind = 1 AND NOT c.quarantined AND c.seq <= kept.seq
               AND c.start_time > greatest(from_time, '1677-09-22 00:00:00+00') - interval '3601 s'
               AND c.start_time > greatest(from_time, '1677-09-22 00:00:00+00') - %1$I.chunk_lasts_at_most(s.rate_hz) - interval '2 us'
               AND c.start_time < least(to_time, '2262-04-11 00:00:00+00')
         CROSS JOIN LATERAL (SELECT sample_type, encoding, hash, payload FROM %1$I.chunk_signal g
                              WHERE g.stream_id = c.stream_id AND g.signal = s.number AND g.seq = c.seq AND g.start_time = c.start_time
                                AND g.payload IS NOT NULL
                              LIMIT 1) AS g
        OFFSET 0) AS p) AS u
$body$ $function$, current_schema());
END $migration$;
COMMENT ON FUNCTION sample(text, timestamptz, timestamptz) IS 'Every sample of current (A) and voltage (V) of a device with from_time <= time < to_time, exactly as it was captured. What is missing has no row; a signal that is missing alone is NULL.';
COMMENT ON FUNCTION signal_sample(text, text, timestamptz, timestamptz) IS 'Every sample of any captured signal of a device with from_time <= time < to_time; power is current * voltage of sample(). exact is set where value, a double precision number, may not be: for i64, u64 and i128.';
