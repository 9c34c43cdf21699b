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
