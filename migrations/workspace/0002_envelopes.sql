-- Envelopes are written with the chunks. What was stored before has none yet: `folded_seq` tells, and they are made later.

ALTER TABLE stream ADD COLUMN folded_seq bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN stream.folded_seq IS 'Chunks up to this seq are folded, and every bucket that they complete is in `envelope`. The watermark, but for streams from before envelopes were.';

-- Where time never steps back, chunks are in order of time as of seq, and a time is found without looking at all between. What was
-- stored before may have any order.
ALTER TABLE stream ADD COLUMN last_start_ns bigint;
ALTER TABLE stream ADD COLUMN time_stepped boolean NOT NULL DEFAULT true;
ALTER TABLE stream ALTER COLUMN time_stepped SET DEFAULT false;
COMMENT ON COLUMN stream.last_start_ns IS 'The start of the last chunk.';
COMMENT ON COLUMN stream.time_stepped IS 'Some chunk starts before the one that it follows: the clock was set back.';

-- Points have times without a look at their chunk's row.
ALTER TABLE chunk_signal ADD COLUMN utc_ns bigint;
COMMENT ON COLUMN chunk_signal.utc_ns IS 'UTC of the first sample, exact; NULL where it is not folded yet.';

-- Sixteen buckets as arrays take Postgres six times as long to send as one string of bytes: see docs/adr/0009.
ALTER TABLE envelope
    DROP COLUMN child_sample_count, DROP COLUMN child_finite_count, DROP COLUMN child_min, DROP COLUMN child_max,
    DROP COLUMN child_sum, DROP COLUMN child_sumsq,
    ADD COLUMN children bytea;
COMMENT ON COLUMN envelope.children IS 'Its 16 buckets of the level below, each sample_count, finite_count (bigint), min, max, sum, sumsq (double precision), big-endian; without samples all are 0.';

-- Arrays of noise do not compress: trying costs time and gains nothing.
ALTER TABLE chunk_signal
    ALTER COLUMN point_count SET STORAGE EXTERNAL,
    ALTER COLUMN point_min SET STORAGE EXTERNAL,
    ALTER COLUMN point_max SET STORAGE EXTERNAL,
    ALTER COLUMN point_sum SET STORAGE EXTERNAL,
    ALTER COLUMN point_sumsq SET STORAGE EXTERNAL;

COMMENT ON COLUMN chunk_signal.signal IS 'The signal''s number in the stream''s definition; 65536 for power that is derived from current and voltage, which has no payload.';
COMMENT ON COLUMN chunk_signal.point_level IS 'A point covers 16^level samples, aligned to 0; the first and last may be cut by the chunk. The finest level with at most 4,000 points a second.';
COMMENT ON COLUMN chunk_signal.point_count IS 'Finite samples of each point; NULL for level 0, where a point is a sample.';
COMMENT ON COLUMN chunk_signal.point_min IS 'Smallest finite sample of each point, NULL where it has none. For level 0 the sample itself.';
COMMENT ON COLUMN chunk_signal.point_max IS 'Largest; NULL for level 0, where it is point_min.';
COMMENT ON COLUMN chunk_signal.point_sum IS 'Sum of the finite samples; NULL for level 0.';
COMMENT ON COLUMN chunk_signal.point_sumsq IS 'Of their squares; NULL for level 0.';
