-- Envelopes are written with the chunks. What was stored before has none yet: `folded_seq` tells, and they are made later.

ALTER TABLE stream ADD COLUMN folded_seq bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN stream.folded_seq IS 'Chunks up to this seq are folded, and every bucket that they complete is in `envelope`. The watermark, but for streams from before envelopes were.';

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
COMMENT ON COLUMN envelope.child_min IS 'Of its 16 buckets of the level below; NULL where one has no finite samples.';
