-- The role that Grafana and people look with; again does no harm. psql -v password=… -f reader.sql
SELECT 'CREATE ROLE fleetbridge_reader' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fleetbridge_reader') \gexec
ALTER ROLE fleetbridge_reader LOGIN PASSWORD :'password' CONNECTION LIMIT 20;
-- A chart that asks for too much ends, and takes nothing from the workers.
ALTER ROLE fleetbridge_reader SET statement_timeout = '30s';
ALTER ROLE fleetbridge_reader SET default_transaction_read_only = on;
ALTER ROLE fleetbridge_reader SET timezone = 'UTC';
GRANT USAGE ON SCHEMA public TO fleetbridge_reader;
GRANT SELECT ON telemetry, telemetry_latest, device_status, ingest_health TO fleetbridge_reader;
-- By number, so that the planner opens one of the four parts of each day.
GRANT SELECT ON reading, latest, metric, device, tenant TO fleetbridge_reader;
-- Not the payload: it is what a device sent, as it sent it.
GRANT SELECT (id, tenant, device, source, topic, content_type, stage, code, message, acknowledged, ingest_time, replayed_at) ON dead_letter TO fleetbridge_reader;
