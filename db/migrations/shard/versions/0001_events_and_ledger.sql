CREATE TABLE events (
    merchant_id BIGINT NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    event TEXT NOT NULL,
    visitor BIGINT NOT NULL,
    visitor_register SMALLINT NOT NULL,
    visitor_rank SMALLINT NOT NULL,
    session BIGINT,
    event_id TEXT,
    page TEXT,
    source TEXT NOT NULL,
    channel TEXT NOT NULL,
    campaign TEXT,
    utm_medium TEXT,
    utm_term TEXT,
    utm_content TEXT,
    country TEXT,
    device TEXT NOT NULL,
    browser TEXT,
    os TEXT,
    is_bot BOOLEAN NOT NULL,
    value_minor BIGINT,
    currency TEXT,
    order_id TEXT,
    counted BOOLEAN NOT NULL,
    units INTEGER NOT NULL,
    properties JSON,
    kafka_partition INTEGER NOT NULL,
    log_offset BIGINT NOT NULL,
    logged_at TIMESTAMP WITH TIME ZONE NOT NULL
);

CREATE TABLE event_items (
    merchant_id BIGINT NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    event TEXT NOT NULL,
    product_id TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    price_minor BIGINT,
    currency TEXT,
    is_bot BOOLEAN NOT NULL,
    counted BOOLEAN NOT NULL,
    kafka_partition INTEGER NOT NULL,
    log_offset BIGINT NOT NULL,
    item_index SMALLINT NOT NULL
);

CREATE TABLE rejected_event (
    topic_id TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    log_offset BIGINT NOT NULL,
    logged_at TIMESTAMP WITH TIME ZONE NOT NULL,
    merchant_id BIGINT,
    event_id TEXT,
    reason TEXT NOT NULL,
    field TEXT,
    detail TEXT NOT NULL,
    raw BYTEA
);

CREATE TABLE duplicate_event (
    merchant_id BIGINT NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    event_id TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    log_offset BIGINT NOT NULL,
    logged_at TIMESTAMP WITH TIME ZONE NOT NULL
);

CREATE TABLE first_order (
    merchant_id BIGINT NOT NULL,
    order_id TEXT NOT NULL,
    ts TIMESTAMP WITH TIME ZONE NOT NULL,
    kafka_partition INTEGER NOT NULL,
    log_offset BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, order_id)
);

CREATE TABLE ingest_offset (
    topic TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    topic_id TEXT NOT NULL,
    next_offset BIGINT NOT NULL,
    leader_epoch INTEGER,
    applied_until TIMESTAMP WITH TIME ZONE,
    halted_reason TEXT,
    PRIMARY KEY (topic, kafka_partition)
);

CREATE TABLE ingest_batch (
    topic_id TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    start_offset BIGINT NOT NULL,
    end_offset BIGINT NOT NULL,
    messages BIGINT NOT NULL,
    event_rows BIGINT NOT NULL,
    item_rows BIGINT NOT NULL,
    rejects BIGINT NOT NULL,
    duplicates BIGINT NOT NULL,
    min_ts TIMESTAMP WITH TIME ZONE,
    max_ts TIMESTAMP WITH TIME ZONE,
    min_logged_at TIMESTAMP WITH TIME ZONE NOT NULL,
    max_logged_at TIMESTAMP WITH TIME ZONE NOT NULL,
    logic_version INTEGER NOT NULL,
    committed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL
);

CREATE TABLE refresh_state (
    rollup TEXT NOT NULL,
    refreshed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (rollup)
);

-- Event time cuts the chunks of what merchants ask for, log time those of what operators ask for.
SELECT create_hypertable('events', by_range('ts', INTERVAL '1 day'), create_default_indexes => false);
SELECT create_hypertable('event_items', by_range('ts', INTERVAL '1 day'), create_default_indexes => false);
SELECT create_hypertable('rejected_event', by_range('logged_at', INTERVAL '7 days'), create_default_indexes => false);
SELECT create_hypertable('duplicate_event', by_range('logged_at', INTERVAL '7 days'), create_default_indexes => false);
SELECT create_hypertable('ingest_batch', by_range('committed_at', INTERVAL '7 days'), create_default_indexes => false);

-- One B-tree serves every question and the search for retried events; batches arrive sorted by it.
CREATE INDEX events_merchant_ts ON events (merchant_id, ts);
-- Almost free to keep, and enough to find the last minutes' events when a partition changes hands.
CREATE INDEX events_logged_at ON events USING brin (logged_at);
CREATE INDEX event_items_merchant_ts ON event_items (merchant_id, ts);
CREATE INDEX rejected_event_place ON rejected_event (kafka_partition, log_offset);
CREATE INDEX rejected_event_merchant ON rejected_event (merchant_id, event_id);
CREATE INDEX duplicate_event_merchant ON duplicate_event (merchant_id, event_id);
CREATE INDEX ingest_batch_range ON ingest_batch (kafka_partition, start_offset);
CREATE INDEX ingest_batch_window ON ingest_batch (kafka_partition, min_ts, max_ts);

ALTER TABLE events SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'ts');
ALTER TABLE event_items SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'ts');
