-- Requests that clients have named, and what was made under each, so that sending one again makes nothing
-- twice. They are forgotten after a day. Instants are milliseconds since the Unix epoch.

CREATE TABLE client_requests (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    request_id TEXT NOT NULL,
    -- Tells other content under the same name.
    content_sha256 BLOB NOT NULL,
    kind TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, request_id)
);
CREATE INDEX client_requests_by_end ON client_requests (workspace_id, expires_at);
