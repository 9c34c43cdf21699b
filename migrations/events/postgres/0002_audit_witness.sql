-- The second copy of the audit trail's hashes: an entry that is altered, or taken out at the end of its
-- chain, is told by it. Rows are only ever added.
CREATE TABLE audit_witness (
    workspace_id TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (workspace_id, sequence)
);

ALTER TABLE audit_witness ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_witness FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON audit_witness USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));
