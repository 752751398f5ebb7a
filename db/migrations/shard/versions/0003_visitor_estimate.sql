-- Distinct visitors from 4096 registers: Ertl's improved HyperLogLog estimator ("New cardinality
-- estimation algorithms for HyperLogLog sketches", 2017), unbiased from one visitor to billions.
-- filled: registers that hold a rank; inverse_sum: the sum of 2^-rank over them.
CREATE FUNCTION visitor_estimate(filled bigint, inverse_sum double precision) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE WHEN coalesce(filled, 0) = 0 THEN 0
       ELSE round(0.5 / ln(2) * 4096.0 ^ 2 / (inverse_sum + 4096 * CASE WHEN filled = 4096 THEN 0
            ELSE (SELECT x + sum(exp(greatest(2.0 ^ k * ln(x), -700)) * 2.0 ^ (k - 1))
                    FROM generate_series(1, 20) AS k) END))::bigint END
  FROM (SELECT ((4096 - coalesce(filled, 0)) / 4096.0)::float8 AS x) AS empty
$$;
