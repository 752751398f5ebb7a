-- Sums of money saturate at the limits of int8 instead of failing. The query of a continuous
-- aggregate cannot be altered: the twelve rollups that hold money are dropped, made again without data,
-- and refilled by the refresh, oldest day first. Until a day is refilled its numbers come from the raw
-- rows, by real-time aggregation.
DROP MATERIALIZED VIEW product_daily;
DROP MATERIALIZED VIEW product_hourly;
DROP MATERIALIZED VIEW page_daily;
DROP MATERIALIZED VIEW page_hourly;
DROP MATERIALIZED VIEW device_daily;
DROP MATERIALIZED VIEW device_hourly;
DROP MATERIALIZED VIEW place_daily;
DROP MATERIALIZED VIEW place_hourly;
DROP MATERIALIZED VIEW source_daily;
DROP MATERIALIZED VIEW source_hourly;
DROP MATERIALIZED VIEW traffic_daily;
DROP MATERIALIZED VIEW traffic_hourly;

CREATE MATERIALIZED VIEW traffic_hourly
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '1 hours', ts) AS bucket,
       merchant_id,
       event,
       currency,
       count(*) AS events,
       count(*) FILTER (WHERE event = 'purchase' AND counted) AS orders,
       greatest(least(coalesce(sum(units) FILTER (WHERE event = 'purchase' AND counted), 0), 9223372036854775807), -9223372036854775807)::int8 AS units,
       greatest(least(coalesce(sum(value_minor) FILTER (WHERE counted), 0), 9223372036854775807), -9223372036854775807)::int8 AS value_minor
  FROM events
 WHERE NOT is_bot
 GROUP BY 1, 2, 3, 4
  WITH NO DATA;
CREATE INDEX traffic_hourly_merchant ON traffic_hourly (merchant_id, bucket);
ALTER MATERIALIZED VIEW traffic_hourly SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');

CREATE MATERIALIZED VIEW traffic_daily
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '24 hours', bucket) AS bucket,
       merchant_id,
       event,
       currency,
       sum(events)::int8 AS events,
       sum(orders)::int8 AS orders,
       greatest(least(coalesce(sum(units), 0), 9223372036854775807), -9223372036854775807)::int8 AS units,
       greatest(least(coalesce(sum(value_minor), 0), 9223372036854775807), -9223372036854775807)::int8 AS value_minor
  FROM traffic_hourly
 GROUP BY 1, 2, 3, 4
  WITH NO DATA;
CREATE INDEX traffic_daily_merchant ON traffic_daily (merchant_id, bucket);
ALTER MATERIALIZED VIEW traffic_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');

CREATE MATERIALIZED VIEW source_hourly
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '1 hours', ts) AS bucket,
       merchant_id,
       source,
       channel,
       campaign,
       event,
       currency,
       count(*) AS events,
       count(*) FILTER (WHERE event = 'purchase' AND counted) AS orders,
       greatest(least(coalesce(sum(units) FILTER (WHERE event = 'purchase' AND counted), 0), 9223372036854775807), -9223372036854775807)::int8 AS units,
       greatest(least(coalesce(sum(value_minor) FILTER (WHERE counted), 0), 9223372036854775807), -9223372036854775807)::int8 AS value_minor
  FROM events
 WHERE NOT is_bot
 GROUP BY 1, 2, 3, 4, 5, 6, 7
  WITH NO DATA;
CREATE INDEX source_hourly_merchant ON source_hourly (merchant_id, bucket);
ALTER MATERIALIZED VIEW source_hourly SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');

CREATE MATERIALIZED VIEW source_daily
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '24 hours', bucket) AS bucket,
       merchant_id,
       source,
       channel,
       campaign,
       event,
       currency,
       sum(events)::int8 AS events,
       sum(orders)::int8 AS orders,
       greatest(least(coalesce(sum(units), 0), 9223372036854775807), -9223372036854775807)::int8 AS units,
       greatest(least(coalesce(sum(value_minor), 0), 9223372036854775807), -9223372036854775807)::int8 AS value_minor
  FROM source_hourly
 GROUP BY 1, 2, 3, 4, 5, 6, 7
  WITH NO DATA;
CREATE INDEX source_daily_merchant ON source_daily (merchant_id, bucket);
ALTER MATERIALIZED VIEW source_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');

CREATE MATERIALIZED VIEW place_hourly
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '1 hours', ts) AS bucket,
       merchant_id,
       country,
       event,
       currency,
       count(*) AS events,
       count(*) FILTER (WHERE event = 'purchase' AND counted) AS orders,
       greatest(least(coalesce(sum(units) FILTER (WHERE event = 'purchase' AND counted), 0), 9223372036854775807), -9223372036854775807)::int8 AS units,
       greatest(least(coalesce(sum(value_minor) FILTER (WHERE counted), 0), 9223372036854775807), -9223372036854775807)::int8 AS value_minor
  FROM events
 WHERE NOT is_bot
 GROUP BY 1, 2, 3, 4, 5
  WITH NO DATA;
CREATE INDEX place_hourly_merchant ON place_hourly (merchant_id, bucket);
ALTER MATERIALIZED VIEW place_hourly SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');

CREATE MATERIALIZED VIEW place_daily
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '24 hours', bucket) AS bucket,
       merchant_id,
       country,
       event,
       currency,
       sum(events)::int8 AS events,
       sum(orders)::int8 AS orders,
       greatest(least(coalesce(sum(units), 0), 9223372036854775807), -9223372036854775807)::int8 AS units,
       greatest(least(coalesce(sum(value_minor), 0), 9223372036854775807), -9223372036854775807)::int8 AS value_minor
  FROM place_hourly
 GROUP BY 1, 2, 3, 4, 5
  WITH NO DATA;
CREATE INDEX place_daily_merchant ON place_daily (merchant_id, bucket);
ALTER MATERIALIZED VIEW place_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');

CREATE MATERIALIZED VIEW device_hourly
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '1 hours', ts) AS bucket,
       merchant_id,
       device,
       browser,
       os,
       event,
       currency,
       count(*) AS events,
       count(*) FILTER (WHERE event = 'purchase' AND counted) AS orders,
       greatest(least(coalesce(sum(units) FILTER (WHERE event = 'purchase' AND counted), 0), 9223372036854775807), -9223372036854775807)::int8 AS units,
       greatest(least(coalesce(sum(value_minor) FILTER (WHERE counted), 0), 9223372036854775807), -9223372036854775807)::int8 AS value_minor
  FROM events
 GROUP BY 1, 2, 3, 4, 5, 6, 7
  WITH NO DATA;
CREATE INDEX device_hourly_merchant ON device_hourly (merchant_id, bucket);
ALTER MATERIALIZED VIEW device_hourly SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');

CREATE MATERIALIZED VIEW device_daily
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '24 hours', bucket) AS bucket,
       merchant_id,
       device,
       browser,
       os,
       event,
       currency,
       sum(events)::int8 AS events,
       sum(orders)::int8 AS orders,
       greatest(least(coalesce(sum(units), 0), 9223372036854775807), -9223372036854775807)::int8 AS units,
       greatest(least(coalesce(sum(value_minor), 0), 9223372036854775807), -9223372036854775807)::int8 AS value_minor
  FROM device_hourly
 GROUP BY 1, 2, 3, 4, 5, 6, 7
  WITH NO DATA;
CREATE INDEX device_daily_merchant ON device_daily (merchant_id, bucket);
ALTER MATERIALIZED VIEW device_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');

CREATE MATERIALIZED VIEW page_hourly
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '1 hours', ts) AS bucket,
       merchant_id,
       page,
       event,
       currency,
       count(*) AS events,
       count(*) FILTER (WHERE event = 'purchase' AND counted) AS orders,
       greatest(least(coalesce(sum(units) FILTER (WHERE event = 'purchase' AND counted), 0), 9223372036854775807), -9223372036854775807)::int8 AS units,
       greatest(least(coalesce(sum(value_minor) FILTER (WHERE counted), 0), 9223372036854775807), -9223372036854775807)::int8 AS value_minor
  FROM events
 WHERE NOT is_bot
 GROUP BY 1, 2, 3, 4, 5
  WITH NO DATA;
CREATE INDEX page_hourly_merchant ON page_hourly (merchant_id, bucket);
ALTER MATERIALIZED VIEW page_hourly SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');

CREATE MATERIALIZED VIEW page_daily
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '24 hours', bucket) AS bucket,
       merchant_id,
       page,
       event,
       currency,
       sum(events)::int8 AS events,
       sum(orders)::int8 AS orders,
       greatest(least(coalesce(sum(units), 0), 9223372036854775807), -9223372036854775807)::int8 AS units,
       greatest(least(coalesce(sum(value_minor), 0), 9223372036854775807), -9223372036854775807)::int8 AS value_minor
  FROM page_hourly
 GROUP BY 1, 2, 3, 4, 5
  WITH NO DATA;
CREATE INDEX page_daily_merchant ON page_daily (merchant_id, bucket);
ALTER MATERIALIZED VIEW page_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');

CREATE MATERIALIZED VIEW product_hourly
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '1 hours', ts) AS bucket,
       merchant_id,
       product_id,
       event,
       currency,
       count(*) AS events,
       count(*) FILTER (WHERE event = 'purchase' AND counted) AS orders,
       greatest(least(coalesce(sum(quantity) FILTER (WHERE event = 'purchase' AND counted), 0), 9223372036854775807), -9223372036854775807)::int8 AS units,
       greatest(least(coalesce(sum(CASE WHEN price_minor > 4294967295 OR price_minor < -4294967295 THEN greatest(least(price_minor::numeric * quantity, 9223372036854775807), -9223372036854775807)::int8 ELSE price_minor * quantity END) FILTER (WHERE counted), 0), 9223372036854775807), -9223372036854775807)::int8 AS value_minor
  FROM event_items
 WHERE NOT is_bot
 GROUP BY 1, 2, 3, 4, 5
  WITH NO DATA;
CREATE INDEX product_hourly_merchant ON product_hourly (merchant_id, bucket);
ALTER MATERIALIZED VIEW product_hourly SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');

CREATE MATERIALIZED VIEW product_daily
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '24 hours', bucket) AS bucket,
       merchant_id,
       product_id,
       event,
       currency,
       sum(events)::int8 AS events,
       sum(orders)::int8 AS orders,
       greatest(least(coalesce(sum(units), 0), 9223372036854775807), -9223372036854775807)::int8 AS units,
       greatest(least(coalesce(sum(value_minor), 0), 9223372036854775807), -9223372036854775807)::int8 AS value_minor
  FROM product_hourly
 GROUP BY 1, 2, 3, 4, 5
  WITH NO DATA;
CREATE INDEX product_daily_merchant ON product_daily (merchant_id, bucket);
ALTER MATERIALIZED VIEW product_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');

-- Per rollup: batches that began before noted_at are in the rollup or have left a row in refresh_day.
-- What lies at or beyond the watermark comes from raw rows.
ALTER TABLE refresh_state ADD COLUMN noted_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT '2000-01-01Z';
ALTER TABLE refresh_state ADD COLUMN watermark TIMESTAMP WITH TIME ZONE;
UPDATE refresh_state SET noted_at = refreshed_at;
DELETE FROM refresh_state WHERE rollup IN ('traffic_hourly', 'traffic_daily', 'source_hourly', 'source_daily',
    'place_hourly', 'place_daily', 'device_hourly', 'device_daily',
    'page_hourly', 'page_daily', 'product_hourly', 'product_daily');

-- The days that a rollup has yet to take in, and those where that fails.
CREATE TABLE refresh_day (
    rollup TEXT NOT NULL,
    day TIMESTAMP WITH TIME ZONE NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    logged_at TIMESTAMP WITH TIME ZONE NOT NULL,
    kafka_partitions INTEGER[] NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    failed_at TIMESTAMP WITH TIME ZONE,
    retry_at TIMESTAMP WITH TIME ZONE,
    error TEXT,
    PRIMARY KEY (rollup, day)
);
