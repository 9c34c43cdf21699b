-- What is asked of a workspace's changes and of its trail is found without reading all of it.

-- The last change of a workspace, whether there is one after a revision, and which are old enough to go.
CREATE INDEX changes_by_workspace ON changes (workspace_id, revision);
-- Pages of one kind, and of one span of time.
CREATE INDEX audit_entries_by_kind ON audit_entries (workspace_id, kind, sequence);
CREATE INDEX audit_entries_by_time ON audit_entries (workspace_id, changed_at, sequence);
