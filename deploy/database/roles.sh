#!/bin/sh
# Run once, when a shard's data directory is made: Grafana's login. It reads what
# `footfall migrate` grants to footfall_analyst, and nothing else.
set -eu
psql --set ON_ERROR_STOP=1 --set password="$GRAFANA_DATABASE_PASSWORD" \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
SELECT 'CREATE ROLE footfall_analyst NOLOGIN'
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'footfall_analyst') \gexec
CREATE ROLE grafana LOGIN PASSWORD :'password' IN ROLE footfall_analyst CONNECTION LIMIT 20;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';
SQL
