-- Who changed what. Entries are only ever appended, each by the transaction of the change. Instants are
-- milliseconds since the Unix epoch; `state_before` and `state_after` are canonical JSON without secrets.

-- A chain for each workspace, and one with an empty id for what belongs to none. No reference to the
-- workspace: the trail outlives it. `hash` is SHA-256 over the fields and `previous_hash`.
CREATE TABLE audit_entries (
    workspace_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    method TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    state_before TEXT,
    state_after TEXT,
    ip TEXT,
    user_agent TEXT,
    request_id TEXT,
    previous_hash BLOB NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (workspace_id, sequence)
);
CREATE INDEX audit_entries_by_id ON audit_entries (workspace_id, id, sequence);
CREATE INDEX audit_entries_by_actor ON audit_entries (workspace_id, actor_id, sequence);

-- The last entry of each chain. A writer takes the next place from it, and holds it until it commits.
CREATE TABLE audit_heads (
    workspace_id TEXT NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL,
    hash BLOB NOT NULL
);

-- Hashes on their way to the other store.
CREATE TABLE audit_outbox (
    workspace_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (workspace_id, sequence)
);
