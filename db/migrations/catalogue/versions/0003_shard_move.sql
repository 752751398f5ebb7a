CREATE TABLE shard_move (
    kafka_partition INTEGER NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    from_shard INTEGER NOT NULL,
    to_shard INTEGER NOT NULL,
    state TEXT NOT NULL,
    switched_at TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (kafka_partition, started_at)
);
-- One move of a partition at a time.
CREATE UNIQUE INDEX shard_move_open ON shard_move (kafka_partition) WHERE ended_at IS NULL;
