-- Top-ups of prepaid budgets. The sum stands in the budget's body too, changed by the same transaction.
-- Entries are only ever appended; they stay when the budget goes. Instants are milliseconds since the Unix
-- epoch.

CREATE TABLE budget_top_ups (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    budget_id TEXT NOT NULL,
    -- Place in the budget's ledger, from 1.
    sequence BIGINT NOT NULL,
    id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    amount_nanos BIGINT NOT NULL,
    note TEXT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, budget_id, sequence)
);
CREATE UNIQUE INDEX budget_top_ups_by_id ON budget_top_ups (workspace_id, id);
CREATE UNIQUE INDEX budget_top_ups_by_request ON budget_top_ups (workspace_id, budget_id, request_id);
