-- A login for Grafana and people: fleetbridge_reader, with what a migration gave it; again does no harm. psql -v password=… -f reader.sql
SELECT fleetbridge_create_reader() \g /dev/null
ALTER ROLE fleetbridge_reader LOGIN PASSWORD :'password' CONNECTION LIMIT 20;
