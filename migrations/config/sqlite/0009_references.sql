-- What names what: `user_kind` and `user_id` tell the resource whose body names the other one. Written with the
-- bodies, so that what is in use is found without reading them all.

CREATE TABLE resource_references (
    workspace_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    user_kind TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (workspace_id, kind, id, user_kind, user_id)
);
CREATE INDEX resource_references_by_user ON resource_references (workspace_id, user_kind, user_id);

INSERT OR IGNORE INTO resource_references
    SELECT owner.workspace_id, 'api', named.value, 'key', owner.id
    FROM keys owner, json_each(CASE WHEN json_valid(owner.body) THEN owner.body ELSE '{}' END, '$.apis') named;

INSERT OR IGNORE INTO resource_references
    SELECT owner.workspace_id, 'api', named.value, 'rule', owner.id
    FROM rules owner, json_each(CASE WHEN json_valid(owner.body) THEN owner.body ELSE '{}' END, '$.matches.apis') named;

INSERT OR IGNORE INTO resource_references
    SELECT owner.workspace_id, 'key', named.value, 'rule', owner.id
    FROM rules owner, json_each(CASE WHEN json_valid(owner.body) THEN owner.body ELSE '{}' END, '$.matches.keys') named;

INSERT OR IGNORE INTO resource_references
    SELECT owner.workspace_id, 'api', named.value, 'budget', owner.id
    FROM budgets owner, json_each(CASE WHEN json_valid(owner.body) THEN owner.body ELSE '{}' END, '$.matches.apis') named;

INSERT OR IGNORE INTO resource_references
    SELECT owner.workspace_id, 'key', named.value, 'budget', owner.id
    FROM budgets owner, json_each(CASE WHEN json_valid(owner.body) THEN owner.body ELSE '{}' END, '$.matches.keys') named;
