-- Top-ups of prepaid budgets. The sum stands in the budget's body too, changed by the same transaction.
-- Entries are only ever appended; they stay when the budget goes. Instants are milliseconds since the Unix
-- epoch.

CREATE TABLE budget_top_ups (
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    budget_id TEXT COLLATE "C" NOT NULL,
    -- Place in the budget's ledger, from 1.
    sequence BIGINT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C" NOT NULL,
    amount_nanos BIGINT NOT NULL,
    note TEXT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, budget_id, sequence)
);
CREATE UNIQUE INDEX budget_top_ups_by_id ON budget_top_ups (workspace_id, id);
CREATE UNIQUE INDEX budget_top_ups_by_request ON budget_top_ups (workspace_id, budget_id, request_id);

ALTER TABLE budget_top_ups ENABLE ROW LEVEL SECURITY;
ALTER TABLE budget_top_ups FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON budget_top_ups USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));

-- Requests that clients have named, and what was made under each, so that sending one again makes nothing
-- twice. They are forgotten after a day.

CREATE TABLE client_requests (
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    request_id TEXT COLLATE "C" NOT NULL,
    -- Tells other content under the same name.
    content_sha256 BYTEA NOT NULL,
    kind TEXT NOT NULL,
    resource_id TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, request_id)
);
CREATE INDEX client_requests_by_end ON client_requests (workspace_id, expires_at);

ALTER TABLE client_requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE client_requests FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON client_requests USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));

-- What names what: `user_kind` and `user_id` tell the resource whose body names the other one. Written with the
-- bodies, so that what is in use is found without reading them all.

CREATE TABLE resource_references (
    workspace_id TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    user_kind TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (workspace_id, kind, id, user_kind, user_id)
);
CREATE INDEX resource_references_by_user ON resource_references (workspace_id, user_kind, user_id);

ALTER TABLE resource_references ENABLE ROW LEVEL SECURITY;
ALTER TABLE resource_references FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON resource_references USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));

-- The policies show nothing without a scope.
SELECT set_config('rateguard.workspace', '*', true);

INSERT INTO resource_references (workspace_id, kind, id, user_kind, user_id)
    SELECT owner.workspace_id, 'api', named, 'key', owner.id
    FROM keys owner, jsonb_array_elements_text(owner.body::jsonb -> 'apis') named
    ON CONFLICT DO NOTHING;

INSERT INTO resource_references (workspace_id, kind, id, user_kind, user_id)
    SELECT owner.workspace_id, 'api', named, 'rule', owner.id
    FROM rules owner, jsonb_array_elements_text(owner.body::jsonb -> 'matches' -> 'apis') named
    ON CONFLICT DO NOTHING;

INSERT INTO resource_references (workspace_id, kind, id, user_kind, user_id)
    SELECT owner.workspace_id, 'key', named, 'rule', owner.id
    FROM rules owner, jsonb_array_elements_text(owner.body::jsonb -> 'matches' -> 'keys') named
    ON CONFLICT DO NOTHING;

INSERT INTO resource_references (workspace_id, kind, id, user_kind, user_id)
    SELECT owner.workspace_id, 'api', named, 'budget', owner.id
    FROM budgets owner, jsonb_array_elements_text(owner.body::jsonb -> 'matches' -> 'apis') named
    ON CONFLICT DO NOTHING;

INSERT INTO resource_references (workspace_id, kind, id, user_kind, user_id)
    SELECT owner.workspace_id, 'key', named, 'budget', owner.id
    FROM budgets owner, jsonb_array_elements_text(owner.body::jsonb -> 'matches' -> 'keys') named
    ON CONFLICT DO NOTHING;

-- Requests that people's clients have named, and the workspace or invitation that each made, so that sending
-- one again makes no other one. They are forgotten after a day, in milliseconds since the Unix epoch.

CREATE TABLE user_requests (
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    request_id TEXT COLLATE "C" NOT NULL,
    -- Tells other content under the same name.
    content_sha256 BYTEA NOT NULL,
    workspace_id TEXT COLLATE "C" NOT NULL,
    -- The id of what was made: the workspace's own, or an invitation to it.
    made_id TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, request_id)
);
CREATE INDEX user_requests_by_end ON user_requests (expires_at);
CREATE INDEX user_requests_by_made ON user_requests (made_id);

ALTER TABLE user_requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE user_requests FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON user_requests USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace_id));
