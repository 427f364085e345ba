-- One workspace. Runs with search_path set to its schema and nothing else, in the transaction that creates it.
-- 128-bit ids and hashes are 16 raw bytes; sample ids, seqs and counts are below 2^62; times in `_ns` are UTC nanoseconds.

CREATE TABLE device (
    name       text        PRIMARY KEY,
    labels     jsonb       NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE device IS 'An instrument, a simulator or a recorded file.';
COMMENT ON COLUMN device.name IS 'As people call it; streams refer to it.';

CREATE TABLE run (
    name       text        PRIMARY KEY,
    labels     jsonb       NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE run IS 'A named, labelled set of streams or time ranges. It moves no data.';

-- Exactly-once rests on this row and on nothing else (I1, I7).
-- A commit updates it in place: no index holds a column that a commit changes, and pages keep room (HOT updates).
CREATE TABLE stream (
    id               bytea       PRIMARY KEY CHECK (octet_length(id) = 16),
    definition       bytea       NOT NULL,
    definition_hash  bytea       NOT NULL CHECK (octet_length(definition_hash) = 16),
    device           text        NOT NULL,
    epoch            bytea       NOT NULL CHECK (octet_length(epoch) = 16),
    file_identity    bytea,
    predecessor_id   bytea,
    predecessor_seq  bigint,
    rate_hz          float8      NOT NULL,
    first_sample     bigint      NOT NULL,
    signals          jsonb       NOT NULL,
    signal_numbers   integer[]   NOT NULL,
    sample_types     smallint[]  NOT NULL,
    attributes       jsonb       NOT NULL,
    labels           jsonb       NOT NULL,
    run              text,
    watermark        bigint      NOT NULL,
    next_sample      bigint      NOT NULL,
    digest           bytea       NOT NULL CHECK (octet_length(digest) = 16),
    ended            boolean     NOT NULL,
    end_reason       smallint,
    owner            bytea       NOT NULL CHECK (octet_length(owner) = 16),
    first_time_ns    bigint,
    last_time_ns     bigint,
    sample_count     bigint      NOT NULL DEFAULT 0,
    gap_sample_count bigint      NOT NULL GENERATED ALWAYS AS (next_sample - first_sample - sample_count) STORED,
    chunk_count      bigint      NOT NULL DEFAULT 0,
    stored_bytes     bigint      NOT NULL DEFAULT 0,
    quarantined      bigint      NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL DEFAULT now(),
    opened_at        timestamptz NOT NULL DEFAULT now(),
    committed_at     timestamptz,
    CONSTRAINT i13_counts_add_up CHECK (next_sample - first_sample >= sample_count)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
CREATE INDEX stream_device ON stream (device, first_time_ns);
CREATE INDEX stream_run ON stream (run) WHERE run IS NOT NULL;
COMMENT ON TABLE stream IS 'One sample axis of a device within an epoch, and where it stands. Its row outlives its chunks. Deleting it deletes them.';
COMMENT ON COLUMN stream.definition IS 'An encoded wavekeep.v1.StreamDefinition. Never changes.';
COMMENT ON COLUMN stream.definition_hash IS 'Digest 0: what the chain of digests starts from.';
COMMENT ON COLUMN stream.epoch IS 'One uninterrupted life of the device''s sample counter.';
COMMENT ON COLUMN stream.file_identity IS 'What identifies a file''s content; NULL for a live stream.';
COMMENT ON COLUMN stream.predecessor_id IS 'Of a successor: the diverged stream that it continues after predecessor_seq.';
COMMENT ON COLUMN stream.rate_hz IS 'Samples per second of each signal.';
COMMENT ON COLUMN stream.signals IS 'number, name, type, unit, finite_only; in order of number.';
COMMENT ON COLUMN stream.signal_numbers IS 'Of `signals`, for the writer.';
COMMENT ON COLUMN stream.sample_types IS 'Of `signals`, as numbers, in the same order.';
COMMENT ON COLUMN stream.attributes IS 'Facts about the capture: model, serial, firmware.';
COMMENT ON COLUMN stream.labels IS 'key=value of people.';
COMMENT ON COLUMN stream.run IS 'The run it was recorded for; NULL for none.';
COMMENT ON COLUMN stream.watermark IS 'The last seq committed; 0 before the first. Moves in the transaction that stores the rows it counts.';
COMMENT ON COLUMN stream.next_sample IS 'Where the next chunk must start.';
COMMENT ON COLUMN stream.digest IS 'Of the capture, after the watermark.';
COMMENT ON COLUMN stream.ended IS 'The watermark is an end: nothing follows.';
COMMENT ON COLUMN stream.end_reason IS '64 closed, 65 crashed.';
COMMENT ON COLUMN stream.owner IS 'The claim of the last Open. Whoever holds another one is fenced.';
COMMENT ON COLUMN stream.first_time_ns IS 'The earliest start of a chunk.';
COMMENT ON COLUMN stream.last_time_ns IS 'The latest end of a chunk.';
COMMENT ON COLUMN stream.sample_count IS 'Samples of the axis that are stored and not quarantined.';
COMMENT ON COLUMN stream.gap_sample_count IS 'All others: gaps, and quarantined chunks until they are replayed.';
COMMENT ON COLUMN stream.stored_bytes IS 'Encoded bytes of all columns.';
COMMENT ON COLUMN stream.quarantined IS 'Chunks in quarantine.';
COMMENT ON COLUMN stream.opened_at IS 'When it was last taken by a session.';

-- The three big tables. Columns first; what they become is decided below.
CREATE TABLE chunk (
    stream_id    bytea       NOT NULL,
    first_seq    bigint      NOT NULL,
    seq          bigint      NOT NULL,
    kind         smallint    NOT NULL,
    reason       smallint    NOT NULL,
    quarantined  boolean     NOT NULL,
    first_sample bigint      NOT NULL,
    sample_count bigint      NOT NULL,
    start_time   timestamptz NOT NULL,
    utc_ns       bigint      NOT NULL,
    stored_bytes bigint      NOT NULL,
    hash         bytea       NOT NULL,
    digest       bytea       NOT NULL,
    header       bytea       NOT NULL,
    loaded_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN chunk.stream_id IS 'Its stream.';
COMMENT ON COLUMN chunk.first_seq IS 'The first seq it stands for: below seq only for a gap that replaces a run of chunks.';
COMMENT ON COLUMN chunk.seq IS 'Its seq. Those of a stream have no holes.';
COMMENT ON COLUMN chunk.kind IS '1 samples, 2 gap, 3 end.';
COMMENT ON COLUMN chunk.reason IS 'Of a gap or an end; 0 for samples.';
COMMENT ON COLUMN chunk.quarantined IS 'Intact but unacceptable: its bytes are in `quarantine`, readers see a gap.';
COMMENT ON COLUMN chunk.first_sample IS 'Where it starts on the sample axis: where the one before it ended.';
COMMENT ON COLUMN chunk.sample_count IS 'Samples of the axis that it covers; 0 for an end.';
COMMENT ON COLUMN chunk.start_time IS 'utc_ns, rounded down to microseconds: for people and for partitions.';
COMMENT ON COLUMN chunk.utc_ns IS 'UTC of the first sample, exact.';
COMMENT ON COLUMN chunk.stored_bytes IS 'Encoded bytes of its columns.';
COMMENT ON COLUMN chunk.hash IS 'Of the header with its markers and column hashes. Chained into the digest, but for a replacing gap.';
COMMENT ON COLUMN chunk.digest IS 'Of the capture, after this chunk.';
COMMENT ON COLUMN chunk.header IS 'An encoded wavekeep.v1.ChunkHeader.';
COMMENT ON COLUMN chunk.loaded_at IS 'The transaction that committed it.';

CREATE TABLE chunk_signal (
    stream_id     bytea       NOT NULL,
    signal        integer     NOT NULL,
    seq           bigint      NOT NULL,
    start_time    timestamptz NOT NULL,
    first_sample  bigint      NOT NULL,
    sample_count  bigint      NOT NULL,
    sample_type   smallint    NOT NULL,
    encoding      smallint,
    absent_reason smallint,
    hash          bytea,
    finite_count  bigint,
    min           float8,
    max           float8,
    min_exact     numeric,
    max_exact     numeric,
    sum           float8,
    sumsq         float8,
    point_level   smallint,
    point_count   integer[],
    point_min     float8[],
    point_max     float8[],
    point_sum     float8[],
    point_sumsq   float8[],
    payload       bytea
);
-- Payloads arrive encoded: compressing them again would cost time and gain nothing.
ALTER TABLE chunk_signal ALTER COLUMN payload SET STORAGE EXTERNAL;
COMMENT ON COLUMN chunk_signal.signal IS 'The signal''s number in the stream''s definition.';
COMMENT ON COLUMN chunk_signal.seq IS 'Of its chunk.';
COMMENT ON COLUMN chunk_signal.start_time IS 'Of its chunk.';
COMMENT ON COLUMN chunk_signal.sample_type IS '1 f32, 2 f64, 3-6 i8-i64, 7-10 u8-u64, 11 u4, 12 u1, 13 i128.';
COMMENT ON COLUMN chunk_signal.encoding IS '1 plain, 2 shuffle+zstd, 3 pco; NULL where the signal is absent.';
COMMENT ON COLUMN chunk_signal.absent_reason IS 'Why this signal alone was lost; NULL where it is present.';
COMMENT ON COLUMN chunk_signal.hash IS 'XXH3-128 of the decoded samples, as docs/PROTOCOL.md specifies.';
COMMENT ON COLUMN chunk_signal.finite_count IS 'Samples that the envelope folds: the finite ones. NULL: not folded yet.';
COMMENT ON COLUMN chunk_signal.min IS 'Smallest finite sample; exact for all types but i64, u64 and i128.';
COMMENT ON COLUMN chunk_signal.min_exact IS 'Of i64, u64 and i128 only.';
COMMENT ON COLUMN chunk_signal.sum IS 'Of the finite samples.';
COMMENT ON COLUMN chunk_signal.sumsq IS 'Of their squares.';
COMMENT ON COLUMN chunk_signal.point_level IS 'A point covers 16^level samples, aligned to 0; the first and last may be cut by the chunk.';
COMMENT ON COLUMN chunk_signal.payload IS 'The samples, encoded; NULL where the signal is absent.';

CREATE TABLE envelope (
    stream_id    bytea       NOT NULL,
    signal       integer     NOT NULL,
    level        smallint    NOT NULL,
    bucket       bigint      NOT NULL,
    start_time   timestamptz NOT NULL,
    utc_ns       bigint      NOT NULL,
    sample_count bigint      NOT NULL,
    finite_count bigint      NOT NULL,
    min          float8,
    max          float8,
    min_exact    numeric,
    max_exact    numeric,
    sum          float8,
    sumsq        float8,
    child_sample_count bigint[],
    child_finite_count bigint[],
    child_min    float8[],
    child_max    float8[],
    child_sum    float8[],
    child_sumsq  float8[]
);
COMMENT ON COLUMN envelope.level IS 'A bucket covers 16^level samples, aligned to 0.';
COMMENT ON COLUMN envelope.bucket IS 'Sample id of its start, divided by 16^level.';
COMMENT ON COLUMN envelope.start_time IS 'Of the chunk that completed it, so that both are in one partition.';
COMMENT ON COLUMN envelope.utc_ns IS 'UTC of the bucket''s start.';
COMMENT ON COLUMN envelope.sample_count IS 'Samples that it covers and that are stored; the finite ones of them are folded.';
COMMENT ON COLUMN envelope.child_min IS 'Of its 16 buckets of the level below; NULL where one has no samples.';

-- Hypertables where TimescaleDB is in this database (its Apache edition is enough), native range partitions where not.
DO $$
DECLARE
    big       text;
    timescale text := (SELECT n.nspname FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
                        WHERE x.extname = 'timescaledb');
BEGIN
    FOREACH big IN ARRAY ARRAY['chunk', 'chunk_signal', 'envelope'] LOOP
        IF timescale IS NOT NULL THEN
            EXECUTE format(
                'SELECT %1$I.create_hypertable(%2$L::regclass, %1$I.by_range(''start_time'', INTERVAL ''1 day''), create_default_indexes => false)',
                timescale, format('%I.%I', current_schema(), big));
        ELSE
            EXECUTE format('ALTER TABLE %I RENAME TO %I', big, big || '_columns');
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) PARTITION BY RANGE (start_time)', big, big || '_columns');
            EXECUTE format('DROP TABLE %I', big || '_columns');
        END IF;
    END LOOP;
END $$;

COMMENT ON TABLE chunk IS 'A range of a stream''s samples, a gap or an end. Rows are never updated, but by replaying a quarantined chunk.';
COMMENT ON TABLE chunk_signal IS 'One signal of a samples chunk: its samples as they were encoded, its envelope and its points.';
COMMENT ON TABLE envelope IS 'Count, min, max, sum and sum of squares of a complete bucket. Written once, by the transaction that completes it.';

-- No unique index: that of a partitioned table would have to contain time, and so could not guard seqs. The stream's row does.
CREATE INDEX chunk_seq ON chunk (stream_id, seq);
CREATE INDEX chunk_sample ON chunk (stream_id, first_sample);
CREATE INDEX chunk_time ON chunk (stream_id, start_time);
CREATE INDEX chunk_gap ON chunk (stream_id, seq) WHERE kind = 2 OR quarantined;
CREATE INDEX chunk_signal_seq ON chunk_signal (stream_id, signal, seq);
CREATE INDEX chunk_signal_absent ON chunk_signal (stream_id, seq) WHERE absent_reason IS NOT NULL;
CREATE INDEX envelope_bucket ON envelope (stream_id, signal, level, bucket);

CREATE TABLE time_partition (
    from_time  timestamptz PRIMARY KEY,
    to_time    timestamptz NOT NULL CHECK (to_time > from_time),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE time_partition IS 'The ranges for which chunk, chunk_signal and envelope have a native partition each, named for its first day. Written and deleted with them.';

CREATE TABLE marker (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_id  bytea       NOT NULL,
    seq        bigint,
    sample     bigint      NOT NULL,
    time_ns    bigint      NOT NULL,
    kind       integer     NOT NULL,
    "group"    smallint    NOT NULL,
    y          float8      NOT NULL,
    format     smallint    NOT NULL,
    content    bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX marker_sample ON marker (stream_id, sample);
COMMENT ON TABLE marker IS 'A note at a sample.';
COMMENT ON COLUMN marker.seq IS 'The chunk it rode in; NULL when it was added later.';
COMMENT ON COLUMN marker.kind IS '0 text, 1 vertical, 2 horizontal; sources may add.';
COMMENT ON COLUMN marker.y IS 'Height on the axis; NaN when it has none.';
COMMENT ON COLUMN marker.format IS '1 text, 2 JSON, 3 bytes.';

CREATE TABLE quarantine (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_id      bytea       NOT NULL,
    seq            bigint      NOT NULL,
    start_time     timestamptz NOT NULL,
    header         bytea       NOT NULL,
    digest         bytea       NOT NULL,
    columns        bytea[]     NOT NULL,
    why            text        NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT now(),
    resolved_at    timestamptz
);
ALTER TABLE quarantine ALTER COLUMN columns SET STORAGE EXTERNAL;
CREATE INDEX quarantine_seq ON quarantine (stream_id, seq);
COMMENT ON TABLE quarantine IS 'Chunks that were intact but unacceptable, as they were sent. Poison never blocks a stream.';
COMMENT ON COLUMN quarantine.columns IS 'The present columns'' encoded bytes, in the header''s order.';
COMMENT ON COLUMN quarantine.why IS 'For people: what was wrong with which column.';
COMMENT ON COLUMN quarantine.resolved_at IS 'When it was replayed; NULL while readers see a gap.';

-- A stream whose row is gone is sent again from the start: rows left behind would then be there twice.
CREATE FUNCTION stream_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    part text;
BEGIN
    FOREACH part IN ARRAY ARRAY['chunk', 'chunk_signal', 'envelope', 'marker', 'quarantine'] LOOP
        EXECUTE format('DELETE FROM %I.%I WHERE stream_id = $1', TG_TABLE_SCHEMA, part) USING OLD.id;
    END LOOP;
    RETURN OLD;
END $$;
CREATE TRIGGER stream_deleted AFTER DELETE ON stream FOR EACH ROW EXECUTE FUNCTION stream_deleted();
COMMENT ON FUNCTION stream_deleted() IS 'Deletes what a deleted stream stored.';
