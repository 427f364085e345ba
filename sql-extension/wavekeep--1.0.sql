-- What sample() and signal_sample() of a workspace call for each chunk: its migrations hold those. Places count a chunk's samples from 0.
-- A workspace's schema has functions of the same names and arguments, which say that this extension is missing; pg_catalog is searched first.
\echo Use "CREATE EXTENSION wavekeep" to load this file. \quit

CREATE FUNCTION wavekeep_place(utc_ns bigint, rate_hz float8, sample_count bigint, time_ns bigint) RETURNS integer
AS 'MODULE_PATHNAME' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION wavekeep_place IS 'The first sample of a chunk that was taken at or after time_ns; sample_count where none was. utc_ns is when its first one was taken.';

CREATE FUNCTION wavekeep_time(utc_ns bigint, rate_hz float8, place integer) RETURNS timestamptz
AS 'MODULE_PATHNAME' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION wavekeep_time IS 'When a sample of a chunk was taken, rounded down to microseconds.';

CREATE FUNCTION wavekeep_time_ns(utc_ns bigint, rate_hz float8, place integer) RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION wavekeep_time_ns IS 'The same in UTC nanoseconds, exact.';

CREATE FUNCTION wavekeep_values(signal integer, sample_type smallint, encoding smallint, sample_count bigint, hash bytea, payload bytea,
                                from_place integer, to_place integer) RETURNS float8[]
AS 'MODULE_PATHNAME' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION wavekeep_values IS 'Samples of a row of chunk_signal, decoded and held against their hash; exact for all types but i64, u64 and i128.';

CREATE FUNCTION wavekeep_digits(signal integer, sample_type smallint, encoding smallint, sample_count bigint, hash bytea, payload bytea,
                                from_place integer, to_place integer) RETURNS text[]
AS 'MODULE_PATHNAME' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION wavekeep_digits IS 'The same of i64, u64 and i128 as decimal digits; empty for every other type.';
