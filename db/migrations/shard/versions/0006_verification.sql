-- What `reprocess verify` saw: known when the command has long ended.
CREATE TABLE verification (
    verification_id UUID NOT NULL,
    verified_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    topic TEXT NOT NULL,
    window_start TIMESTAMP WITH TIME ZONE NOT NULL,
    window_end TIMESTAMP WITH TIME ZONE NOT NULL,
    merchant_id BIGINT,
    kafka_partition INTEGER,
    slices INTEGER NOT NULL,
    messages BIGINT NOT NULL,
    differences BIGINT NOT NULL,
    repaired BOOLEAN NOT NULL,
    PRIMARY KEY (verification_id)
);
CREATE INDEX verification_window ON verification (topic, window_end);
