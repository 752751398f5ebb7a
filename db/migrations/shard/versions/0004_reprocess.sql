-- Event time of everything in a batch, stored or not: what a replay of a window must read.
ALTER TABLE ingest_batch ADD COLUMN first_ts TIMESTAMP WITH TIME ZONE;
ALTER TABLE ingest_batch ADD COLUMN last_ts TIMESTAMP WITH TIME ZONE;
CREATE INDEX ingest_batch_reach ON ingest_batch (kafka_partition, first_ts, last_ts);
ALTER TABLE rejected_event ADD COLUMN ts TIMESTAMP WITH TIME ZONE;

-- A replacement touches the row that live batches swap: one that overlapped it starts afresh.
ALTER TABLE ingest_offset ADD COLUMN replaced_at TIMESTAMP WITH TIME ZONE;
ALTER TABLE ingest_offset ADD COLUMN moved_to INTEGER;

CREATE TABLE processed_day (
    kafka_partition INTEGER NOT NULL,
    day DATE NOT NULL,
    logic_version INTEGER NOT NULL,
    PRIMARY KEY (kafka_partition, day)
);

CREATE TABLE reprocess_run (
    run_id UUID NOT NULL,
    topic TEXT NOT NULL,
    topic_id TEXT NOT NULL,
    window_start TIMESTAMP WITH TIME ZONE NOT NULL,
    window_end TIMESTAMP WITH TIME ZONE NOT NULL,
    merchant_id BIGINT,
    logic_version INTEGER NOT NULL,
    max_change DOUBLE PRECISION,
    misplaced INTERVAL NOT NULL,
    sources TEXT[] NOT NULL,
    started_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    state TEXT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (run_id)
);

CREATE TABLE reprocess_slice (
    run_id UUID NOT NULL,
    kafka_partition INTEGER NOT NULL,
    window_start TIMESTAMP WITH TIME ZONE NOT NULL,
    window_end TIMESTAMP WITH TIME ZONE NOT NULL,
    state TEXT NOT NULL,
    messages BIGINT,
    rows_before BIGINT,
    rows_after BIGINT,
    rows_changed BIGINT,
    columns_changed JSON,
    sums JSON,
    logic_before INTEGER,
    changed TSTZMULTIRANGE,
    detail TEXT,
    replaced_at TIMESTAMP WITH TIME ZONE,
    done_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (run_id, kafka_partition, window_start),
    FOREIGN KEY(run_id) REFERENCES reprocess_run (run_id)
);
CREATE INDEX reprocess_slice_window ON reprocess_slice (kafka_partition, window_start, window_end);
CREATE INDEX reprocess_run_merchant ON reprocess_run (merchant_id);
CREATE INDEX reprocess_slice_open ON reprocess_slice (kafka_partition) WHERE state <> 'done';

CREATE TABLE reprocess_change (
    run_id UUID NOT NULL,
    kafka_partition INTEGER NOT NULL,
    window_start TIMESTAMP WITH TIME ZONE NOT NULL,
    merchant_id BIGINT NOT NULL,
    day DATE NOT NULL,
    measure TEXT NOT NULL,
    before BIGINT NOT NULL,
    after BIGINT NOT NULL,
    PRIMARY KEY (run_id, kafka_partition, window_start, merchant_id, day, measure)
);
CREATE INDEX reprocess_change_merchant ON reprocess_change (merchant_id, day);
UPDATE ingest_batch SET first_ts = min_ts, last_ts = max_ts WHERE first_ts IS NULL;
UPDATE rejected_event SET ts = logged_at WHERE ts IS NULL;
INSERT INTO processed_day
SELECT kafka_partition, (min_ts AT TIME ZONE 'UTC')::date + step, min(logic_version)
  FROM ingest_batch, generate_series(0, (max_ts AT TIME ZONE 'UTC')::date
                                        - (min_ts AT TIME ZONE 'UTC')::date) AS step
 WHERE min_ts IS NOT NULL GROUP BY 1, 2;
