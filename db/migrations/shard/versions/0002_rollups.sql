CREATE MATERIALIZED VIEW traffic_hourly
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '1 hours', ts) AS bucket,
       merchant_id,
       event,
       currency,
       count(*) AS events,
       count(*) FILTER (WHERE event = 'purchase' AND counted) AS orders,
       coalesce(sum(units) FILTER (WHERE event = 'purchase' AND counted), 0)::int8 AS units,
       coalesce(sum(value_minor) FILTER (WHERE counted), 0)::int8 AS value_minor
  FROM events
 WHERE NOT is_bot
 GROUP BY 1, 2, 3, 4
  WITH NO DATA;
CREATE INDEX traffic_hourly_merchant ON traffic_hourly (merchant_id, bucket);

CREATE MATERIALIZED VIEW traffic_daily
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '24 hours', bucket) AS bucket,
       merchant_id,
       event,
       currency,
       sum(events)::int8 AS events,
       sum(orders)::int8 AS orders,
       sum(units)::int8 AS units,
       sum(value_minor)::int8 AS value_minor
  FROM traffic_hourly
 GROUP BY 1, 2, 3, 4
  WITH NO DATA;
CREATE INDEX traffic_daily_merchant ON traffic_daily (merchant_id, bucket);

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
       coalesce(sum(units) FILTER (WHERE event = 'purchase' AND counted), 0)::int8 AS units,
       coalesce(sum(value_minor) FILTER (WHERE counted), 0)::int8 AS value_minor
  FROM events
 WHERE NOT is_bot
 GROUP BY 1, 2, 3, 4, 5, 6, 7
  WITH NO DATA;
CREATE INDEX source_hourly_merchant ON source_hourly (merchant_id, bucket);

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
       sum(units)::int8 AS units,
       sum(value_minor)::int8 AS value_minor
  FROM source_hourly
 GROUP BY 1, 2, 3, 4, 5, 6, 7
  WITH NO DATA;
CREATE INDEX source_daily_merchant ON source_daily (merchant_id, bucket);

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
       coalesce(sum(units) FILTER (WHERE event = 'purchase' AND counted), 0)::int8 AS units,
       coalesce(sum(value_minor) FILTER (WHERE counted), 0)::int8 AS value_minor
  FROM events
 WHERE NOT is_bot
 GROUP BY 1, 2, 3, 4, 5
  WITH NO DATA;
CREATE INDEX place_hourly_merchant ON place_hourly (merchant_id, bucket);

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
       sum(units)::int8 AS units,
       sum(value_minor)::int8 AS value_minor
  FROM place_hourly
 GROUP BY 1, 2, 3, 4, 5
  WITH NO DATA;
CREATE INDEX place_daily_merchant ON place_daily (merchant_id, bucket);

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
       coalesce(sum(units) FILTER (WHERE event = 'purchase' AND counted), 0)::int8 AS units,
       coalesce(sum(value_minor) FILTER (WHERE counted), 0)::int8 AS value_minor
  FROM events
 GROUP BY 1, 2, 3, 4, 5, 6, 7
  WITH NO DATA;
CREATE INDEX device_hourly_merchant ON device_hourly (merchant_id, bucket);

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
       sum(units)::int8 AS units,
       sum(value_minor)::int8 AS value_minor
  FROM device_hourly
 GROUP BY 1, 2, 3, 4, 5, 6, 7
  WITH NO DATA;
CREATE INDEX device_daily_merchant ON device_daily (merchant_id, bucket);

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
       coalesce(sum(units) FILTER (WHERE event = 'purchase' AND counted), 0)::int8 AS units,
       coalesce(sum(value_minor) FILTER (WHERE counted), 0)::int8 AS value_minor
  FROM events
 WHERE NOT is_bot
 GROUP BY 1, 2, 3, 4, 5
  WITH NO DATA;
CREATE INDEX page_hourly_merchant ON page_hourly (merchant_id, bucket);

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
       sum(units)::int8 AS units,
       sum(value_minor)::int8 AS value_minor
  FROM page_hourly
 GROUP BY 1, 2, 3, 4, 5
  WITH NO DATA;
CREATE INDEX page_daily_merchant ON page_daily (merchant_id, bucket);

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
       coalesce(sum(quantity) FILTER (WHERE event = 'purchase' AND counted), 0)::int8 AS units,
       coalesce(sum(price_minor * quantity) FILTER (WHERE counted), 0)::int8 AS value_minor
  FROM event_items
 WHERE NOT is_bot
 GROUP BY 1, 2, 3, 4, 5
  WITH NO DATA;
CREATE INDEX product_hourly_merchant ON product_hourly (merchant_id, bucket);

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
       sum(units)::int8 AS units,
       sum(value_minor)::int8 AS value_minor
  FROM product_hourly
 GROUP BY 1, 2, 3, 4, 5
  WITH NO DATA;
CREATE INDEX product_daily_merchant ON product_daily (merchant_id, bucket);

CREATE MATERIALIZED VIEW visitor_hourly
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '1 hours', ts) AS bucket,
       merchant_id,
       visitor_register,
       max(visitor_rank) AS visitor_rank
  FROM events
 WHERE NOT is_bot
 GROUP BY 1, 2, 3
  WITH NO DATA;
CREATE INDEX visitor_hourly_merchant ON visitor_hourly (merchant_id, bucket);

CREATE MATERIALIZED VIEW visitor_daily
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '24 hours', bucket) AS bucket,
       merchant_id,
       visitor_register,
       max(visitor_rank) AS visitor_rank
  FROM visitor_hourly
 GROUP BY 1, 2, 3
  WITH NO DATA;
CREATE INDEX visitor_daily_merchant ON visitor_daily (merchant_id, bucket);

CREATE MATERIALIZED VIEW session_daily
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '24 hours', ts) AS bucket,
       merchant_id,
       session,
       min(ts) AS started,
       max(ts) AS ended,
       count(*) AS events,
       count(*) FILTER (WHERE event = 'page_view') AS page_views,
       count(*) FILTER (WHERE event = 'add_to_cart') AS carts,
       count(*) FILTER (WHERE event = 'begin_checkout') AS checkouts,
       count(*) FILTER (WHERE event = 'purchase') AS purchases,
       first(source, ts) AS source,
       first(channel, ts) AS channel,
       first(campaign, ts) AS campaign,
       first(country, ts) AS country,
       first(device, ts) AS device,
       first(browser, ts) AS browser,
       first(os, ts) AS os
  FROM events
 WHERE session IS NOT NULL AND NOT is_bot
 GROUP BY 1, 2, 3
  WITH NO DATA;
CREATE INDEX session_daily_merchant ON session_daily (merchant_id, bucket);

CREATE MATERIALIZED VIEW session_summary_daily
  WITH (timescaledb.continuous, timescaledb.materialized_only = false,
        timescaledb.create_group_indexes = false) AS
SELECT time_bucket(INTERVAL '24 hours', bucket) AS bucket,
       merchant_id,
       date_bin('15 minutes', started, 'epoch'::timestamptz) AS started_quarter,
       source,
       channel,
       campaign,
       country,
       device,
       count(*) AS sessions,
       count(*) FILTER (WHERE page_views = 1 AND events = 1) AS bounces,
       coalesce(sum(extract(epoch FROM ended - started) * 1000), 0)::int8 AS duration_ms,
       sum(page_views)::int8 AS page_views,
       count(*) FILTER (WHERE carts > 0) AS sessions_with_cart,
       count(*) FILTER (WHERE purchases > 0) AS sessions_with_purchase
  FROM session_daily
 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
  WITH NO DATA;
CREATE INDEX session_summary_daily_merchant ON session_summary_daily (merchant_id, bucket);
