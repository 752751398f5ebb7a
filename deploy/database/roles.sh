#!/bin/sh
# Run once, when a shard's data directory is made: the logins of ingesters, API and Grafana.
# `footfall migrate` grants each role what it needs, and nothing else.
set -eu
psql --set ON_ERROR_STOP=1 --set ingest="$FOOTFALL_INGEST_PASSWORD" \
    --set serve="$FOOTFALL_SERVE_PASSWORD" --set grafana="$GRAFANA_DATABASE_PASSWORD" \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
SELECT format('CREATE ROLE %I %s', name, login)
  FROM (VALUES ('footfall_ingest', 'LOGIN'), ('footfall_serve', 'LOGIN'),
               ('footfall_analyst', 'NOLOGIN')) AS role (name, login)
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE footfall_ingest PASSWORD :'ingest';
ALTER ROLE footfall_serve PASSWORD :'serve';
CREATE ROLE grafana LOGIN PASSWORD :'grafana' IN ROLE footfall_analyst CONNECTION LIMIT 20;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';
SQL
