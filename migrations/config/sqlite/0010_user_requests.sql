-- Requests that people's clients have named, and the workspace or invitation that each made, so that sending
-- one again makes no other one. They are forgotten after a day, in milliseconds since the Unix epoch.

CREATE TABLE user_requests (
    user_id TEXT NOT NULL REFERENCES users (id),
    request_id TEXT NOT NULL,
    -- Tells other content under the same name.
    content_sha256 BLOB NOT NULL,
    workspace_id TEXT NOT NULL,
    -- The id of what was made: the workspace's own, or an invitation to it.
    made_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, request_id)
);
CREATE INDEX user_requests_by_end ON user_requests (expires_at);
CREATE INDEX user_requests_by_made ON user_requests (made_id);
