-- What is shared by all workspaces. Runs in schema `wavekeep`, which exists by then.

CREATE TABLE workspace (
    name       text        PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{0,39}$'),
    schema     text        NOT NULL UNIQUE,
    kind       text        NOT NULL CHECK (kind IN ('hypertable', 'native')),
    ledger_id  bytea       NOT NULL UNIQUE CHECK (octet_length(ledger_id) = 16),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE workspace IS 'A use case with its own schema: its own tables, retention, access and size.';
COMMENT ON COLUMN workspace.name IS 'As agents and readers give it.';
COMMENT ON COLUMN workspace.schema IS 'Where its tables are. A transaction enters it by SET LOCAL search_path.';
COMMENT ON COLUMN workspace.kind IS 'What its big tables are: TimescaleDB hypertables or native partitions. Chosen when it was created; one cannot become the other.';
COMMENT ON COLUMN workspace.ledger_id IS 'Random, minted with the schema, kept by backups and replicas: an agent that meets another one stops.';

CREATE TABLE token (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text        NOT NULL,
    hash         bytea       NOT NULL UNIQUE,
    workspace    text        REFERENCES workspace (name) ON DELETE CASCADE,
    rights       text[]      NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);
COMMENT ON TABLE token IS 'Who may do what. The token itself is shown once, when it is issued, and never stored.';
COMMENT ON COLUMN token.name IS 'For people: whose it is.';
COMMENT ON COLUMN token.hash IS 'Of the token.';
COMMENT ON COLUMN token.workspace IS 'The only workspace it opens; NULL for all.';
COMMENT ON COLUMN token.rights IS 'What it allows.';

CREATE TABLE audit (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT now(),
    actor     text        NOT NULL,
    action    text        NOT NULL,
    workspace text,
    detail    jsonb       NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_at ON audit (at);
COMMENT ON TABLE audit IS 'Who changed what, for ever. Nothing updates or deletes its rows.';
COMMENT ON COLUMN audit.actor IS 'A token''s name, or the operating system user of a command.';
COMMENT ON COLUMN audit.action IS 'For example: workspace created.';
