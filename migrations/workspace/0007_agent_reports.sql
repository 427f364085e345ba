-- What agents say of what they hold, in heartbeats: whichever of several servers hears it, every one can tell it. A table of its own, so
-- that no commit waits for it, and no vacuum of `stream` either.
CREATE TABLE agent_report (
    stream_id         bytea       PRIMARY KEY CHECK (octet_length(stream_id) = 16),
    agent             text        NOT NULL,
    stored_seq        bigint      NOT NULL,
    next_sample       bigint      NOT NULL,
    outbox_bytes      bigint      NOT NULL,
    oldest_unacked_ms bigint      NOT NULL,
    heard_at          timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE agent_report IS 'What the agent that owns a stream last said of it; written down once in a while, and deleted with the stream.';
COMMENT ON COLUMN agent_report.agent IS 'Its name for people.';
COMMENT ON COLUMN agent_report.stored_seq IS 'The last seq in its outbox.';
COMMENT ON COLUMN agent_report.next_sample IS 'Where its next chunk will start: all before it was captured.';
COMMENT ON COLUMN agent_report.outbox_bytes IS 'In its outbox and not acknowledged.';
COMMENT ON COLUMN agent_report.oldest_unacked_ms IS 'Age of the oldest of them.';
COMMENT ON COLUMN agent_report.heard_at IS 'By the clock of the database.';

-- A stream whose row is gone is sent again from the start: rows left behind would then be there twice.
CREATE OR REPLACE FUNCTION stream_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    part text;
BEGIN
    FOREACH part IN ARRAY ARRAY['chunk', 'chunk_signal', 'envelope', 'marker', 'quarantine', 'agent_report'] LOOP
        EXECUTE format('DELETE FROM %I.%I WHERE stream_id = $1', TG_TABLE_SCHEMA, part) USING OLD.id;
    END LOOP;
    RETURN OLD;
END $$;
