-- Whether an event came by a public key, which stands in a shop's page for everybody to use.
ALTER TABLE events ADD COLUMN from_public_key BOOLEAN DEFAULT false NOT NULL;

-- Of the purchases of one order the one with the lowest precedence counts: 0 a person's by a
-- server's key or the topic, 1 a person's by a public key, 2 and 3 a bot's likewise.
ALTER TABLE first_order ADD COLUMN precedence SMALLINT DEFAULT 0 NOT NULL;

-- Purchases that counted until a better one of the same order came: what a cached answer of their
-- day may not know yet. Kept for a day.
CREATE TABLE overtaken_order (
    kafka_partition INTEGER NOT NULL,
    log_offset BIGINT NOT NULL,
    merchant_id BIGINT NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    overtaken_by BIGINT NOT NULL,
    overtaken_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (kafka_partition, log_offset, overtaken_by)
);
CREATE INDEX overtaken_order_by ON overtaken_order (kafka_partition, overtaken_by);
