-- Rollups of the event log, and the position up to which they hold it.
--
-- `start` is where a piece of time begins, in milliseconds since the Unix epoch, by UTC; `grain_ms`
-- is its length. A cost is cost_high * 10^9 + cost_low nano-units, with cost_low from 0 to below
-- 10^9, since a sum may pass 64 bits. `latencies` is a histogram: `bucket:calls;` for each bucket
-- that is not empty, so that putting two texts together adds the histograms. Text is compared
-- byte by byte, as in SQLite.

CREATE TABLE progress (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    position BIGINT NOT NULL
);
INSERT INTO progress (only_row, position) VALUES (1, 0);

-- The tables of rollups are partitioned by the month, by UTC, of `start`.

-- By the minute, the hour and the day.
CREATE TABLE usage_by_key (
    workspace TEXT COLLATE "C" NOT NULL,
    grain_ms BIGINT NOT NULL,
    start BIGINT NOT NULL,
    api TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    error_type TEXT COLLATE "C" NOT NULL,
    requests BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    rate_limited BIGINT NOT NULL,
    cache_hits BIGINT NOT NULL,
    cost_high BIGINT NOT NULL,
    cost_low BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    latencies TEXT NOT NULL,
    PRIMARY KEY (workspace, grain_ms, start, api, key_id, status, error_type)
) PARTITION BY RANGE (start);

-- By the hour and the day.
CREATE TABLE usage_by_endpoint (
    workspace TEXT COLLATE "C" NOT NULL,
    grain_ms BIGINT NOT NULL,
    start BIGINT NOT NULL,
    api TEXT COLLATE "C" NOT NULL,
    endpoint TEXT COLLATE "C" NOT NULL,
    method TEXT COLLATE "C" NOT NULL,
    requests BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    rate_limited BIGINT NOT NULL,
    cache_hits BIGINT NOT NULL,
    cost_high BIGINT NOT NULL,
    cost_low BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    latencies TEXT NOT NULL,
    PRIMARY KEY (workspace, grain_ms, start, api, endpoint, method)
) PARTITION BY RANGE (start);

-- By the hour and the day.
CREATE TABLE usage_by_subject (
    workspace TEXT COLLATE "C" NOT NULL,
    grain_ms BIGINT NOT NULL,
    start BIGINT NOT NULL,
    api TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    model TEXT COLLATE "C" NOT NULL,
    requests BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    rate_limited BIGINT NOT NULL,
    cache_hits BIGINT NOT NULL,
    cost_high BIGINT NOT NULL,
    cost_low BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    latencies TEXT NOT NULL,
    PRIMARY KEY (workspace, grain_ms, start, api, subject, model)
) PARTITION BY RANGE (start);

-- Makes the partition of `parent` for the month, by UTC, of an instant in milliseconds, where there is
-- none yet. It is made beside the parent and attached, which keeps nobody from reading. Row-level security
-- without a policy shuts the partition to whoever names it directly: the parent's policy is asked only by
-- those who name the parent.
CREATE FUNCTION make_month(parent TEXT, instant_ms BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    epoch CONSTANT TIMESTAMP := TIMESTAMP '1970-01-01';
    first_day CONSTANT TIMESTAMP := date_trunc('month', epoch + instant_ms * INTERVAL '1 millisecond');
    partition CONSTANT TEXT := parent || to_char(first_day, '_YYYY_MM');
    from_ms CONSTANT BIGINT := extract(EPOCH FROM first_day - epoch) * 1000;
    to_ms CONSTANT BIGINT := extract(EPOCH FROM first_day + INTERVAL '1 month' - epoch) * 1000;
BEGIN
    IF to_regclass(quote_ident(partition)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition, parent);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', partition);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', partition);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
        parent, partition, from_ms, to_ms);
END
$$;

-- Which installation this store belongs to: the same id stands in every store, so that one
-- that was lost, emptied or taken from elsewhere is noticed at the start.

CREATE TABLE installation (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    id TEXT COLLATE "C" NOT NULL,
    -- 1 once all stores of the installation have the id; read in the configuration's store alone.
    whole BIGINT NOT NULL CHECK (whole IN (0, 1))
);

-- The second wall around workspaces: a statement sees and changes only rows of the workspace that its
-- transaction has stated in the setting `rateguard.workspace`, or of all where it has stated `*`. Without
-- a statement it sees none: the setting is absent, or empty once a connection has been used before. The
-- owner of the tables is held back as well (FORCE), a superuser or a role with BYPASSRLS is not. The
-- inner SELECT is run once a statement, not once a row.

ALTER TABLE usage_by_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_by_key FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON usage_by_key USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace));

ALTER TABLE usage_by_endpoint ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_by_endpoint FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON usage_by_endpoint USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace));

ALTER TABLE usage_by_subject ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_by_subject FORCE ROW LEVEL SECURITY;
CREATE POLICY scope ON usage_by_subject USING
    ((SELECT nullif(current_setting('rateguard.workspace', true), '')) IN ('*', workspace));
