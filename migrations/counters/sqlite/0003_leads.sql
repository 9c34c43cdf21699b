-- What calls may have taken of plain counters since these were written down, so that a crash gives
-- none of it back.

-- Starts that found no clean stop; in a counter the last of them whose loss is in its state.
ALTER TABLE positions ADD COLUMN crashes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE counters ADD COLUMN crashes BIGINT NOT NULL DEFAULT 0;

-- For each limit, named by the family of its counters' ids: how far each of them may be ahead of its
-- row, those included that have none, and what crashes have lost of each before. `state` is a
-- compact encoding that carries its version.
CREATE TABLE leads (
    workspace_id TEXT NOT NULL,
    family BIGINT NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (workspace_id, family)
) WITHOUT ROWID;
