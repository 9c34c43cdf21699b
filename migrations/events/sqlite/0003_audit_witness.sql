-- The second copy of the audit trail's hashes: an entry that is altered, or taken out at the end of its
-- chain, is told by it. Rows are only ever added.
CREATE TABLE audit_witness (
    workspace_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (workspace_id, sequence)
);
