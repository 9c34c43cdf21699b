-- What people manage, with the feed of its changes; the accounts of people; and which installation this
-- is. The same tables as in SQLite, with its first four migrations in one.
--
-- Each table of resources has columns for what is unique or looked up; the rest is `body`, JSON
-- whose shape is `body_version`. Instants are milliseconds since the Unix epoch. Whole numbers and
-- booleans (0 or 1) are BIGINT everywhere, and text is compared and ordered byte by byte, so that the
-- same SQL answers the same on both kinds of database.

-- One row: the revision of the last change. Every writer updates it first, and so waits for the
-- writer before it: revisions become visible in their order.
CREATE TABLE revisions (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    revision BIGINT NOT NULL
);
INSERT INTO revisions (only_row, revision) VALUES (1, 0);

CREATE TABLE workspaces (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    zone TEXT COLLATE "C" NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1,
    updated_at BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE changes (
    revision BIGINT NOT NULL PRIMARY KEY,
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    kind TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE TABLE apis (
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    id TEXT COLLATE "C" NOT NULL,
    slug TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    body_version BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (workspace_id, id)
);
CREATE UNIQUE INDEX apis_by_slug ON apis (workspace_id, slug);

CREATE TABLE keys (
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    id TEXT COLLATE "C" NOT NULL,
    secret_sha256 BYTEA NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    body_version BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (workspace_id, id)
);
CREATE UNIQUE INDEX keys_by_secret ON keys (secret_sha256);

CREATE TABLE rules (
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    id TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    body_version BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (workspace_id, id)
);

CREATE TABLE budgets (
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    id TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    body_version BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (workspace_id, id)
);

-- A model has one override in a workspace.
CREATE TABLE price_overrides (
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    id TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    body_version BIGINT NOT NULL,
    body TEXT NOT NULL,
    provider TEXT COLLATE "C" GENERATED ALWAYS AS (body::JSONB ->> 'provider') STORED,
    model TEXT COLLATE "C" GENERATED ALWAYS AS (body::JSONB ->> 'model') STORED,
    PRIMARY KEY (workspace_id, id)
);
CREATE UNIQUE INDEX price_overrides_by_model ON price_overrides (workspace_id, provider, model);

-- People: accounts, what they belong to, how they are logged in, and the feed of what access tokens
-- must be held against. Roles are the contract's numbers.

-- One row: the revision of the last entry of the feed. Every writer of more than one row updates it
-- first, and so waits for the writer before it.
CREATE TABLE people_revisions (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    revision BIGINT NOT NULL
);
INSERT INTO people_revisions (only_row, revision) VALUES (1, 0);

-- What has changed, not how: a reader joins what is true now. Old entries are dropped.
CREATE TABLE people_changes (
    revision BIGINT NOT NULL PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C",
    workspace_id TEXT COLLATE "C",
    user_id TEXT COLLATE "C",
    changed_at BIGINT NOT NULL
);

CREATE TABLE users (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    email TEXT COLLATE "C" NOT NULL,
    display_name TEXT COLLATE "C" NOT NULL,
    password_hash TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_by_email ON users (email);

CREATE TABLE memberships (
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    role BIGINT NOT NULL,
    version BIGINT NOT NULL,
    joined_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, user_id)
);
CREATE INDEX memberships_by_user ON memberships (user_id, joined_at);

-- Only live sessions. `family_sha256` names all refresh tokens that a session ever had,
-- `secret_sha256` the present one.
CREATE TABLE sessions (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    workspace_id TEXT COLLATE "C" REFERENCES workspaces (id),
    family_sha256 BYTEA NOT NULL,
    secret_sha256 BYTEA NOT NULL,
    user_agent TEXT COLLATE "C" NOT NULL,
    ip TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    refreshed_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX sessions_by_family ON sessions (family_sha256);
CREATE INDEX sessions_by_user ON sessions (user_id, refreshed_at);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- Only open invitations.
CREATE TABLE invitations (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    token_sha256 BYTEA NOT NULL,
    email TEXT COLLATE "C",
    role BIGINT NOT NULL,
    inviter_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX invitations_by_token ON invitations (token_sha256);
CREATE INDEX invitations_by_workspace ON invitations (workspace_id, id);

-- The secret halves are sealed with the installation's encryption key.
CREATE TABLE signing_keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    signs_from BIGINT NOT NULL
);

-- Which installation this store belongs to: the same id stands in every store, so that one
-- that was lost, emptied or taken from elsewhere is noticed at the start.

CREATE TABLE installation (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    id TEXT COLLATE "C" NOT NULL,
    -- 1 once all stores of the installation have the id; read in the configuration's store alone.
    whole BIGINT NOT NULL CHECK (whole IN (0, 1))
);

-- One row: a known text, sealed with the key that seals credentials, so that another key is noticed
-- at the start.
CREATE TABLE encryption_check (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    sealed BYTEA NOT NULL
);

-- The second wall around workspaces: a statement sees and changes only rows of the workspace that its
-- transaction has stated in the setting `rateguard.workspace`, or of all where it has stated `*`. Without
-- a statement it sees none: the setting is absent, or empty once a connection has been used before. The
-- owner of the tables is held back as well (FORCE), a superuser or a role with BYPASSRLS is not. The
-- inner SELECT is run once a statement, not once a row.

ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY;
ALTER TABLE workspaces FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON workspaces USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', id));

ALTER TABLE changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE changes FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON changes USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));

ALTER TABLE apis ENABLE ROW LEVEL SECURITY;
ALTER TABLE apis FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON apis USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));

ALTER TABLE keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE keys FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON keys USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));

ALTER TABLE rules ENABLE ROW LEVEL SECURITY;
ALTER TABLE rules FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON rules USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));

ALTER TABLE budgets ENABLE ROW LEVEL SECURITY;
ALTER TABLE budgets FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON budgets USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));

ALTER TABLE price_overrides ENABLE ROW LEVEL SECURITY;
ALTER TABLE price_overrides FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON price_overrides USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));

ALTER TABLE memberships ENABLE ROW LEVEL SECURITY;
ALTER TABLE memberships FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON memberships USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));

ALTER TABLE invitations ENABLE ROW LEVEL SECURITY;
ALTER TABLE invitations FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON invitations USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));

-- Some rows of these two belong to no workspace: they are for those who stated `*`.
ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON sessions USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));

ALTER TABLE people_changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE people_changes FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON people_changes USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));
