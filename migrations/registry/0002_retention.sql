-- How long a workspace keeps what it stores.

ALTER TABLE workspace ADD COLUMN retention_days integer CHECK (retention_days BETWEEN 1 AND 36500);
COMMENT ON COLUMN workspace.retention_days IS 'Partitions whose newest time is older than this many days are dropped; NULL: nothing ever is.';
