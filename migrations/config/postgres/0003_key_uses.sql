-- When keys were used last, in milliseconds since the Unix epoch. A use is no change of the key: it
-- moves neither its version nor the feed, and so it stands beside it.

CREATE TABLE key_uses (
    workspace_id TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    last_used_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, key_id),
    FOREIGN KEY (workspace_id, key_id) REFERENCES keys (workspace_id, id) ON DELETE CASCADE
);

ALTER TABLE key_uses ENABLE ROW LEVEL SECURITY;
ALTER TABLE key_uses FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON key_uses USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));
