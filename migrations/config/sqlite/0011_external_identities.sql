-- Whom an identity provider knows, and the account that this is linked to. The subject names a person for
-- ever; an address may be given to another one, and so links nobody. Instants are milliseconds since the
-- Unix epoch.

CREATE TABLE external_identities (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    linked_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX external_identities_by_user ON external_identities (user_id);
