-- People: accounts, what they belong to, how they are logged in, and the feed of what access tokens
-- must be held against. Instants are milliseconds since the Unix epoch; roles are the contract's
-- numbers.

ALTER TABLE workspaces ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE workspaces ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;

-- One row: the revision of the last entry of the feed. Every writer of more than one row updates it
-- first, and so waits for the writer before it.
CREATE TABLE people_revisions (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    revision BIGINT NOT NULL
);
INSERT INTO people_revisions (only_row, revision) VALUES (1, 0);

-- What has changed, not how: a reader joins what is true now. Old entries are dropped.
CREATE TABLE people_changes (
    revision BIGINT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    session_id TEXT,
    workspace_id TEXT,
    user_id TEXT,
    changed_at BIGINT NOT NULL
);

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL,
    display_name TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_by_email ON users (email);

CREATE TABLE memberships (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    role BIGINT NOT NULL,
    version BIGINT NOT NULL,
    joined_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, user_id)
);
CREATE INDEX memberships_by_user ON memberships (user_id, joined_at);

-- Only live sessions. `family_sha256` names all refresh tokens that a session ever had,
-- `secret_sha256` the present one.
CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    workspace_id TEXT REFERENCES workspaces (id),
    family_sha256 BLOB NOT NULL,
    secret_sha256 BLOB NOT NULL,
    user_agent TEXT NOT NULL,
    ip TEXT,
    created_at BIGINT NOT NULL,
    refreshed_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX sessions_by_family ON sessions (family_sha256);
CREATE INDEX sessions_by_user ON sessions (user_id, refreshed_at);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- Only open invitations.
CREATE TABLE invitations (
    id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    token_sha256 BLOB NOT NULL,
    email TEXT,
    role BIGINT NOT NULL,
    inviter_id TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX invitations_by_token ON invitations (token_sha256);
CREATE INDEX invitations_by_workspace ON invitations (workspace_id, id);

-- The secret halves are sealed with the installation's encryption key.
CREATE TABLE signing_keys (
    id TEXT NOT NULL PRIMARY KEY,
    sealed BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    signs_from BIGINT NOT NULL
);
