ALTER MATERIALIZED VIEW traffic_hourly SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW traffic_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW source_hourly SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW source_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW place_hourly SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW place_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW device_hourly SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW device_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW page_hourly SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW page_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW product_hourly SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW product_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW visitor_hourly SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW visitor_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW session_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
ALTER MATERIALIZED VIEW session_summary_daily SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'merchant_id', timescaledb.orderby = 'bucket');
