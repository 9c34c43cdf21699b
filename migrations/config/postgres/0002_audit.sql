-- Who changed what. Entries are only ever appended, each by the transaction of the change. Instants are
-- milliseconds since the Unix epoch; `state_before` and `state_after` are canonical JSON without secrets.

-- A chain for each workspace, and one with an empty id for what belongs to none. No reference to the
-- workspace: the trail outlives it. `hash` is SHA-256 over the fields and `previous_hash`.
CREATE TABLE audit_entries (
    workspace_id TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    actor_kind TEXT COLLATE "C" NOT NULL,
    actor_id TEXT COLLATE "C" NOT NULL,
    method TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    state_before TEXT,
    state_after TEXT,
    ip TEXT COLLATE "C",
    user_agent TEXT COLLATE "C",
    request_id TEXT COLLATE "C",
    previous_hash BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (workspace_id, sequence)
);
CREATE INDEX audit_entries_by_id ON audit_entries (workspace_id, id, sequence);
CREATE INDEX audit_entries_by_actor ON audit_entries (workspace_id, actor_id, sequence);

-- The last entry of each chain. A writer takes the next place from it, and holds it until it commits.
CREATE TABLE audit_heads (
    workspace_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL,
    hash BYTEA NOT NULL
);

-- Hashes on their way to the other store.
CREATE TABLE audit_outbox (
    workspace_id TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (workspace_id, sequence)
);

-- Behind the same wall as all that belongs to a workspace. The chain of what belongs to none has an empty
-- id, which no scope is, so that it is for those who stated `*`.
ALTER TABLE audit_entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_entries FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON audit_entries USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));

ALTER TABLE audit_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_heads FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON audit_heads USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));

ALTER TABLE audit_outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON audit_outbox USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));
