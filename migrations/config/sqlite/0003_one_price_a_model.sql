-- A model has one override in a workspace.

ALTER TABLE price_overrides ADD COLUMN provider TEXT
    GENERATED ALWAYS AS (json_extract(body, '$.provider')) VIRTUAL;
ALTER TABLE price_overrides ADD COLUMN model TEXT
    GENERATED ALWAYS AS (json_extract(body, '$.model')) VIRTUAL;

-- Of two that were made in the same instant only the one in force last was used; it stays.
DELETE FROM price_overrides WHERE EXISTS (
    SELECT 1 FROM price_overrides other
    WHERE other.workspace_id = price_overrides.workspace_id
        AND other.provider = price_overrides.provider
        AND other.model = price_overrides.model
        AND (json_extract(other.body, '$.effective_from_ms'), other.id)
            > (json_extract(price_overrides.body, '$.effective_from_ms'), price_overrides.id)
);

CREATE UNIQUE INDEX price_overrides_by_model ON price_overrides (workspace_id, provider, model);
