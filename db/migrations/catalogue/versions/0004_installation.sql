-- One row: secrets and settings of the whole installation.
CREATE TABLE installation (
    only_one BOOLEAN DEFAULT true NOT NULL,
    visitor_hash_key BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    rotated_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (only_one),
    CONSTRAINT installation_is_one CHECK (only_one),
    CONSTRAINT installation_key_length CHECK (octet_length(visitor_hash_key) = 32)
);

-- Append-only: who did what to which key.
CREATE TABLE key_audit (
    audit_id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    key_id BIGINT NOT NULL,
    merchant_id BIGINT,
    action TEXT NOT NULL,
    actor TEXT NOT NULL,
    detail TEXT DEFAULT '' NOT NULL,
    PRIMARY KEY (audit_id),
    CONSTRAINT key_audit_action CHECK (action IN ('created', 'rotated', 'revoked'))
);
CREATE INDEX key_audit_key ON key_audit (key_id, at);
CREATE INDEX key_audit_merchant ON key_audit (merchant_id, at);
ALTER TABLE api_key ADD COLUMN last_used_at TIMESTAMP WITH TIME ZONE;
