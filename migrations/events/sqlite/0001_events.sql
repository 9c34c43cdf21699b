-- The log of usage events, the authority on what counts.
--
-- Instants are milliseconds since the Unix epoch, money is in nano-units. Hashes stand in the
-- indexes in place of ids: random text as a key halves the speed of inserts. Texts that are absent
-- are empty; numbers that are absent are NULL, since absent and zero are different. What no query
-- asks for is in `details`, JSON whose shape is `details_version`.

-- One row: the position of the last event. Every writer takes its positions from it, so that a
-- position is never given twice, also after the newest events were deleted.
CREATE TABLE head (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    position BIGINT NOT NULL
);
INSERT INTO head (only_row, position) VALUES (1, 0);

-- Workspaces by a small number, which every index of events begins with.
CREATE TABLE workspaces (
    number INTEGER NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE
);

CREATE TABLE events (
    position INTEGER NOT NULL PRIMARY KEY,
    workspace INTEGER NOT NULL,
    event_hash BLOB NOT NULL,
    event_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    request_hash BIGINT,
    request_id TEXT NOT NULL,
    reservation_hash BLOB,
    reservation TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    occurred_at BIGINT NOT NULL,
    accounted_at BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    api TEXT NOT NULL,
    key_id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    method TEXT NOT NULL,
    subject TEXT NOT NULL,
    model TEXT NOT NULL,
    status INTEGER NOT NULL,
    error_type TEXT NOT NULL,
    rate_limited INTEGER NOT NULL,
    cache_hit INTEGER NOT NULL,
    latency_ms BIGINT,
    input_tokens BIGINT,
    cached_input_tokens BIGINT,
    output_tokens BIGINT,
    cost_nanos BIGINT NOT NULL,
    flags BIGINT NOT NULL,
    details_version INTEGER NOT NULL,
    details TEXT NOT NULL
);

-- An id counts once. The hash covers the workspace.
CREATE UNIQUE INDEX events_by_id ON events (event_hash);
-- An attempt is settled once; attempt 0 is the server's own and may recur.
CREATE UNIQUE INDEX events_by_attempt ON events (reservation_hash, nullif(attempt, 0))
    WHERE reservation_hash IS NOT NULL;
CREATE INDEX events_by_request ON events (request_hash) WHERE request_hash IS NOT NULL;
-- These three grow at their ends, nearly in the order of inserts. Within equal values SQLite keeps
-- an index in the order of positions.
CREATE INDEX events_by_workspace ON events (workspace);
CREATE INDEX events_by_occurrence ON events (workspace, occurred_at);
CREATE INDEX events_by_accounting ON events (workspace, accounted_at);
