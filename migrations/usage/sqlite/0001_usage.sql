-- Rollups of the event log, and the position up to which they hold it.
--
-- `start` is where a piece of time begins, in milliseconds since the Unix epoch, by UTC; `grain_ms`
-- is its length. A cost is cost_high * 10^9 + cost_low nano-units, with cost_low from 0 to below
-- 10^9, since a sum may pass 64 bits. `latencies` is a histogram: `bucket:calls;` for each bucket
-- that is not empty, so that putting two texts together adds the histograms.

CREATE TABLE progress (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    position BIGINT NOT NULL
);
INSERT INTO progress (only_row, position) VALUES (1, 0);

-- By the minute, the hour and the day.
CREATE TABLE usage_by_key (
    workspace TEXT NOT NULL,
    grain_ms BIGINT NOT NULL,
    start BIGINT NOT NULL,
    api TEXT NOT NULL,
    key_id TEXT NOT NULL,
    status TEXT NOT NULL,
    error_type TEXT NOT NULL,
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
) WITHOUT ROWID;

-- By the hour and the day.
CREATE TABLE usage_by_endpoint (
    workspace TEXT NOT NULL,
    grain_ms BIGINT NOT NULL,
    start BIGINT NOT NULL,
    api TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    method TEXT NOT NULL,
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
) WITHOUT ROWID;

-- By the hour and the day.
CREATE TABLE usage_by_subject (
    workspace TEXT NOT NULL,
    grain_ms BIGINT NOT NULL,
    start BIGINT NOT NULL,
    api TEXT NOT NULL,
    subject TEXT NOT NULL,
    model TEXT NOT NULL,
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
) WITHOUT ROWID;
