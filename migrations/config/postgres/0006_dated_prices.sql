-- A model has one override in a workspace from any one instant on, in milliseconds since the Unix epoch.

ALTER TABLE price_overrides ADD COLUMN effective_from_ms BIGINT
    GENERATED ALWAYS AS ((body::JSONB ->> 'effective_from_ms')::BIGINT) STORED;

DROP INDEX price_overrides_by_model;
CREATE UNIQUE INDEX price_overrides_by_model
    ON price_overrides (workspace_id, provider, model, effective_from_ms);
