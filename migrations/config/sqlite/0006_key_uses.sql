-- When keys were used last, in milliseconds since the Unix epoch. A use is no change of the key: it
-- moves neither its version nor the feed, and so it stands beside it.

CREATE TABLE key_uses (
    workspace_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    last_used_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, key_id),
    FOREIGN KEY (workspace_id, key_id) REFERENCES keys (workspace_id, id) ON DELETE CASCADE
);
