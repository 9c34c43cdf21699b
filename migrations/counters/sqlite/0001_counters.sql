-- Counters as of their last checkpoint. `state` is a compact encoding that carries its version and
-- kind; `included` is the log position up to which settlements are in it.
CREATE TABLE counters (
    workspace_id TEXT NOT NULL,
    id BLOB NOT NULL,
    included BIGINT NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (workspace_id, id)
) WITHOUT ROWID;

-- One row: every counter includes the log up to here. `clean` is 1 from a clean stop until the next
-- start or the next write.
CREATE TABLE positions (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    position BIGINT NOT NULL,
    clean INTEGER NOT NULL CHECK (clean IN (0, 1))
);
INSERT INTO positions (only_row, position, clean) VALUES (1, 0, 0);

-- Reservations of a clean stop, until the next start takes them.
CREATE TABLE reservations (
    workspace_id TEXT NOT NULL,
    id TEXT NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (workspace_id, id)
) WITHOUT ROWID;
