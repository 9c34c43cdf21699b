-- Lists are ordered by what people look for: when a thing was made or changed, and its name. Of keys there may be a
-- million in a workspace; of all else few enough to be sorted on the way.

ALTER TABLE apis ADD COLUMN display_name TEXT
    GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.display_name') END) VIRTUAL;
ALTER TABLE keys ADD COLUMN display_name TEXT
    GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.display_name') END) VIRTUAL;
ALTER TABLE rules ADD COLUMN display_name TEXT
    GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.name') END) VIRTUAL;
ALTER TABLE budgets ADD COLUMN display_name TEXT
    GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.name') END) VIRTUAL;

CREATE INDEX keys_by_creation ON keys (workspace_id, created_at, id);
CREATE INDEX keys_by_change ON keys (workspace_id, updated_at, id);
CREATE INDEX keys_by_name ON keys (workspace_id, display_name, id);
