-- The same estimator as one plain expression: the planner then puts it in the place of the call, which
-- saves a statement of its own each time. The twenty terms are the series that it had as a subquery.
CREATE OR REPLACE FUNCTION visitor_estimate(filled bigint, inverse_sum double precision) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE
  WHEN coalesce(filled, 0) = 0 THEN 0
  WHEN filled = 4096 THEN round(0.5 / ln(2::float8) * 4096.0::float8 ^ 2 / inverse_sum)::bigint
  ELSE round(0.5 / ln(2::float8) * 4096.0::float8 ^ 2 / (inverse_sum + 4096 * (
          (4096 - filled) / 4096.0::float8
          + exp(greatest(2 * ln((4096 - filled) / 4096.0::float8), -700)) * 1.0::float8
          + exp(greatest(4 * ln((4096 - filled) / 4096.0::float8), -700)) * 2.0::float8
          + exp(greatest(8 * ln((4096 - filled) / 4096.0::float8), -700)) * 4.0::float8
          + exp(greatest(16 * ln((4096 - filled) / 4096.0::float8), -700)) * 8.0::float8
          + exp(greatest(32 * ln((4096 - filled) / 4096.0::float8), -700)) * 16.0::float8
          + exp(greatest(64 * ln((4096 - filled) / 4096.0::float8), -700)) * 32.0::float8
          + exp(greatest(128 * ln((4096 - filled) / 4096.0::float8), -700)) * 64.0::float8
          + exp(greatest(256 * ln((4096 - filled) / 4096.0::float8), -700)) * 128.0::float8
          + exp(greatest(512 * ln((4096 - filled) / 4096.0::float8), -700)) * 256.0::float8
          + exp(greatest(1024 * ln((4096 - filled) / 4096.0::float8), -700)) * 512.0::float8
          + exp(greatest(2048 * ln((4096 - filled) / 4096.0::float8), -700)) * 1024.0::float8
          + exp(greatest(4096 * ln((4096 - filled) / 4096.0::float8), -700)) * 2048.0::float8
          + exp(greatest(8192 * ln((4096 - filled) / 4096.0::float8), -700)) * 4096.0::float8
          + exp(greatest(16384 * ln((4096 - filled) / 4096.0::float8), -700)) * 8192.0::float8
          + exp(greatest(32768 * ln((4096 - filled) / 4096.0::float8), -700)) * 16384.0::float8
          + exp(greatest(65536 * ln((4096 - filled) / 4096.0::float8), -700)) * 32768.0::float8
          + exp(greatest(131072 * ln((4096 - filled) / 4096.0::float8), -700)) * 65536.0::float8
          + exp(greatest(262144 * ln((4096 - filled) / 4096.0::float8), -700)) * 131072.0::float8
          + exp(greatest(524288 * ln((4096 - filled) / 4096.0::float8), -700)) * 262144.0::float8
          + exp(greatest(1048576 * ln((4096 - filled) / 4096.0::float8), -700)) * 524288.0::float8
       )))::bigint END
$$;
