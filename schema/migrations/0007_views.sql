-- Programs since 0001_security run on this.
CREATE TABLE "rollup_fleet_1h" (
	"metric_id" integer NOT NULL,
	"bucket" timestamp with time zone NOT NULL,
	"devices" integer NOT NULL,
	"count" bigint NOT NULL,
	"min" double precision,
	"max" double precision,
	"sum" double precision,
	CONSTRAINT "rollup_fleet_1h_metric_id_bucket_pk" PRIMARY KEY("metric_id","bucket")
);
--> statement-breakpoint
CREATE TABLE "rollup_fleet_dirty" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "rollup_fleet_dirty_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"metric_id" integer NOT NULL,
	"bucket" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "tenant_reader" (
	"tenant_id" integer PRIMARY KEY NOT NULL,
	"role" text NOT NULL,
	CONSTRAINT "tenant_reader_role_unique" UNIQUE("role")
);
--> statement-breakpoint
ALTER TABLE "tenant_reader" ADD CONSTRAINT "tenant_reader_tenant_id_tenant_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenant"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "rollup_1h_metric_id_bucket_index" ON "rollup_1h" USING btree ("metric_id","bucket");
--> statement-breakpoint
-- By hand -------------------------------------------------------------------------------------------------------------------
-- Views: columns are only ever added at the end, since CREATE OR REPLACE VIEW and the copies that tenants read allow nothing else.
CREATE VIEW "telemetry_10m" AS
  SELECT t.name AS tenant, d.external_id AS device, m.name AS metric, m.unit, r.bucket AS "time", r.count, r.sum / r.count AS avg, r.min, r.max,
    r.last_value AS last, r.last_text, r.last_flag, r.last_time
  FROM "rollup_10m" r
  JOIN "device" d ON d.id = r.device_id
  JOIN "metric" m ON m.id = r.metric_id
  JOIN "tenant" t ON t.id = d.tenant_id;--> statement-breakpoint
CREATE VIEW "telemetry_1h" AS
  SELECT t.name AS tenant, d.external_id AS device, m.name AS metric, m.unit, r.bucket AS "time", r.count, r.sum / r.count AS avg, r.min, r.max,
    r.last_value AS last, r.last_text, r.last_flag, r.last_time
  FROM "rollup_1h" r
  JOIN "device" d ON d.id = r.device_id
  JOIN "metric" m ON m.id = r.metric_id
  JOIN "tenant" t ON t.id = d.tenant_id;--> statement-breakpoint
CREATE OR REPLACE VIEW "device_status" AS
  SELECT t.name AS tenant, d.external_id AS device, d.status, d.type, d.site, s.metrics, s.last_time, s.last_ingest_time, d.created_at,
    now() - s.last_ingest_time AS silent_for,
    coalesce(d.attributes ->> 'firmware', d.attributes ->> 'fw_version') AS firmware,
    -- Not a join: who does not ask for it does not pay for it.
    (SELECT l.value FROM "metric" m JOIN "latest" l ON l.metric_id = m.id AND l.device_id = d.id
      WHERE m.tenant_id = d.tenant_id AND m.name IN ('battery', 'battery_level') AND m.unit IN ('%EL', '%') AND l.value IS NOT NULL
      ORDER BY l.event_time DESC LIMIT 1) AS battery,
    d.attributes
  FROM "device" d
  JOIN "tenant" t ON t.id = d.tenant_id
  CROSS JOIN LATERAL (
    SELECT count(*) AS metrics, max(l.event_time) AS last_time, max(l.ingest_time) AS last_ingest_time
    FROM "latest" l WHERE l.device_id = d.id
  ) s;--> statement-breakpoint
CREATE VIEW "dead_letter_summary" AS
  SELECT l.tenant, l.code, l.stage, l.acknowledged, count(*) AS messages, count(*) FILTER (WHERE l.replayed_at IS NULL) AS waiting,
    count(*) FILTER (WHERE l.ingest_time > now() - interval '1 hour') AS last_hour,
    count(*) FILTER (WHERE l.ingest_time > now() - interval '1 day') AS last_day,
    count(DISTINCT l.device) AS devices, min(l.ingest_time) AS first_time, max(l.ingest_time) AS last_time
  FROM "dead_letter" l
  GROUP BY l.tenant, l.code, l.stage, l.acknowledged;--> statement-breakpoint
-- What is marked is computed here, so the view is right whether or not a worker has been by. By metric, so that a name opens its own hours only.
CREATE VIEW "telemetry_fleet_1h" AS
  SELECT t.name AS tenant, m.name AS metric, m.unit, f.bucket AS "time", f.devices, f.count, f.sum / f.count AS avg, f.min, f.max
  FROM "tenant" t
  JOIN "metric" m ON m.tenant_id = t.id
  CROSS JOIN LATERAL (
    SELECT k.bucket, k.devices, k.count, k.min, k.max, k.sum
    FROM "rollup_fleet_1h" k
    WHERE k.metric_id = m.id AND NOT EXISTS (SELECT FROM "rollup_fleet_dirty" x WHERE x.metric_id = k.metric_id AND x.bucket = k.bucket)
    UNION ALL
    SELECT x.bucket, h.devices, h.count, h.min, h.max, h.sum
    FROM (SELECT DISTINCT y.bucket FROM "rollup_fleet_dirty" y WHERE y.metric_id = m.id) x
    CROSS JOIN LATERAL (
      SELECT count(*)::integer AS devices, coalesce(sum(r.count) FILTER (WHERE r.min IS NOT NULL), sum(r.count)) AS count,
        min(r.min) AS min, max(r.max) AS max, CASE WHEN NOT bool_or(r.min IS NOT NULL AND r.sum IS NULL) THEN sum(r.sum) END AS sum
      FROM "rollup_1h" r WHERE r.metric_id = m.id AND r.bucket = x.bucket
    ) h
    WHERE h.devices > 0
  ) f;--> statement-breakpoint
COMMENT ON TABLE "rollup_fleet_1h" IS 'Hours of a metric over all devices of its tenant, computed from rollup_1h; query the view telemetry_fleet_1h';--> statement-breakpoint
COMMENT ON TABLE "rollup_fleet_dirty" IS 'Hours that rollup_fleet_1h does not have as rollup_1h has them now; an hour may be there often';--> statement-breakpoint
COMMENT ON TABLE "tenant_reader" IS 'Tenants with a role of their own: fleetbridge_create_tenant_reader()';--> statement-breakpoint
COMMENT ON VIEW "telemetry_10m" IS 'Readings by 10 minutes, with names. Give a range of time, or every partition is read';--> statement-breakpoint
COMMENT ON VIEW "telemetry_1h" IS 'Readings by hours, with names. Give a range of time, or every partition is read';--> statement-breakpoint
COMMENT ON VIEW "telemetry_fleet_1h" IS 'Readings by hours over all devices of a tenant';--> statement-breakpoint
COMMENT ON VIEW "device_status" IS 'One row a device: what it is, when it was last heard, its battery';--> statement-breakpoint
COMMENT ON VIEW "dead_letter_summary" IS 'Dead letters, counted by tenant, reason, stage and what the sender was told';--> statement-breakpoint
-- A column that several views have means the same in each.
DO $$
DECLARE
  c record;
  words constant jsonb := '{
    "telemetry": {
      "time": "When it was measured, by the device''s clock; the arrival where clock is not 0",
      "value": "The reading, when it is a number; else text or flag holds it",
      "text": "The reading, when it is a text", "flag": "The reading, when it is true or false",
      "clock": "0 the device''s clock; 1 it named no time; 2 it was more than 10 min ahead", "ingest_time": "When the gateway received it"},
    "telemetry_10m": {"time": "First instant of the 10 minutes"},
    "telemetry_1h": {"time": "First instant of the hour"},
    "telemetry_fleet_1h": {
      "time": "First instant of the hour", "devices": "That sent the metric in this hour",
      "avg": "Mean of all numbers of the hour, each counted alike"},
    "device_status": {
      "status": "enabled, disabled or removed", "type": "Device type, as registered", "site": "Where it is, as registered",
      "metrics": "How many it has sent so far", "last_time": "Newest event time among its metrics",
      "last_ingest_time": "Arrival of the newest of its latest readings; null when it never sent any",
      "created_at": "When it was registered, or first seen", "silent_for": "Time since last_ingest_time",
      "firmware": "Its attribute firmware or fw_version",
      "battery": "Percent: its newest metric battery or battery_level with the unit %EL or %",
      "attributes": "What the registry was told of it"},
    "ingest_health": {
      "stream": "The event log: direct without Kafka, else cluster and topic", "partition": "Partition of the event log",
      "next_offset": "The first offset that is not in the tables yet; a position, no count", "stored": "Messages that became new rows",
      "duplicate": "Messages whose readings were all known", "parked": "Messages that became dead letters", "readings": "New rows of reading",
      "updated_at": "When the worker last wrote", "idle_seconds": "How long ago that is"},
    "dead_letter_summary": {
      "tenant": "As the message named it", "code": "Why it could not become rows", "stage": "Who gave up: decode the gateway, store the worker",
      "acknowledged": "True: the sender was told that we have it; false: it was refused with this code", "messages": "How many are kept",
      "waiting": "Of these, not replayed yet", "last_hour": "Of these, from the last hour", "last_day": "Of these, from the last 24 hours",
      "devices": "How many devices they are from", "first_time": "Arrival of the oldest", "last_time": "Arrival of the newest"},
    "": {
      "tenant": "Name of the owner", "device": "The id that the device itself uses", "metric": "Name of what was measured",
      "unit": "SenML or UCUM name; null when none was named. The same name with another unit is another metric",
      "count": "Of its numbers; where it holds none, of its texts and flags", "avg": "Mean of its numbers", "min": "Smallest number",
      "max": "Largest number", "last": "The newest reading, when it is a number", "last_text": "The newest reading, when it is a text",
      "last_flag": "The newest reading, when it is true or false", "last_time": "Event time of the newest reading"}}';
BEGIN
  FOR c IN
    SELECT v.relname AS view, a.attname AS name,
      coalesce(words -> replace(v.relname, 'telemetry_latest', 'telemetry') ->> a.attname::text, words -> '' ->> a.attname::text) AS said
    FROM pg_class v JOIN pg_attribute a ON a.attrelid = v.oid AND a.attnum > 0
    WHERE v.relnamespace = 'public'::regnamespace AND v.relname IN ('telemetry', 'telemetry_latest', 'telemetry_10m', 'telemetry_1h',
      'telemetry_fleet_1h', 'device_status', 'ingest_health', 'dead_letter_summary')
  LOOP
    EXECUTE format('COMMENT ON COLUMN public.%I.%I IS %L', c.view, c.name, c.said);
  END LOOP;
END $$;--> statement-breakpoint
-- Hours of the fleet. A mark is written in the transaction that changes the hour, and goes in the one that computes it: each snapshot sees the
-- row right or the mark. Never unique, or two workers would wait for each other.
CREATE FUNCTION "fleetbridge_mark_fleet"() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO public.rollup_fleet_dirty (metric_id, bucket) SELECT DISTINCT metric_id, bucket FROM changed;
  RETURN NULL;
END $$;--> statement-breakpoint
CREATE TRIGGER "rollup_1h_inserted" AFTER INSERT ON "rollup_1h" REFERENCING NEW TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION "fleetbridge_mark_fleet"();--> statement-breakpoint
CREATE TRIGGER "rollup_1h_updated" AFTER UPDATE ON "rollup_1h" REFERENCING NEW TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION "fleetbridge_mark_fleet"();--> statement-breakpoint
CREATE TRIGGER "rollup_1h_deleted" AFTER DELETE ON "rollup_1h" REFERENCING OLD TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION "fleetbridge_mark_fleet"();--> statement-breakpoint
INSERT INTO "rollup_fleet_dirty" ("metric_id", "bucket") SELECT DISTINCT metric_id, bucket FROM "rollup_1h";--> statement-breakpoint
ALTER TABLE "rollup_fleet_dirty" SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);--> statement-breakpoint
-- Computes hours that are marked, at most so many; one at a time. Returns how many it computed.
CREATE FUNCTION "fleetbridge_fleet_rollup"(most integer DEFAULT 200) RETURNS integer LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  done integer;
BEGIN
  -- platform/advisory-locks.ts: space and fleetRollup.
  IF NOT pg_try_advisory_xact_lock(1718379122, 20) THEN
    RETURN 0;
  END IF;
  -- One statement, one snapshot: marks that it does not see stay.
  WITH chosen AS MATERIALIZED (
    SELECT metric_id, bucket FROM public.rollup_fleet_dirty GROUP BY metric_id, bucket ORDER BY min(id) LIMIT most
  ), gone AS (
    DELETE FROM public.rollup_fleet_dirty x USING chosen c WHERE x.metric_id = c.metric_id AND x.bucket = c.bucket
  ), computed AS MATERIALIZED (
    SELECT c.metric_id, c.bucket, h.*
    FROM chosen c
    CROSS JOIN LATERAL (
      SELECT count(*)::integer AS devices, coalesce(sum(r.count) FILTER (WHERE r.min IS NOT NULL), sum(r.count)) AS count,
        min(r.min) AS min, max(r.max) AS max, CASE WHEN NOT bool_or(r.min IS NOT NULL AND r.sum IS NULL) THEN sum(r.sum) END AS sum
      FROM public.rollup_1h r WHERE r.metric_id = c.metric_id AND r.bucket = c.bucket
    ) h
  ), emptied AS (
    DELETE FROM public.rollup_fleet_1h k USING computed c WHERE c.devices = 0 AND k.metric_id = c.metric_id AND k.bucket = c.bucket
  ), written AS (
    INSERT INTO public.rollup_fleet_1h (metric_id, bucket, devices, count, min, max, sum)
    SELECT metric_id, bucket, devices, count, min, max, sum FROM computed WHERE devices > 0
    ON CONFLICT (metric_id, bucket) DO UPDATE
      SET devices = excluded.devices, count = excluded.count, min = excluded.min, max = excluded.max, sum = excluded.sum
  )
  SELECT count(*) INTO done FROM chosen;
  RETURN done;
END $$;--> statement-breakpoint
COMMENT ON FUNCTION "fleetbridge_fleet_rollup"(integer) IS 'Computes marked hours of rollup_fleet_1h; called by workers';--> statement-breakpoint
-- A series for a chart, from the cheapest table that can tell it. Bins lie at multiples of the step from Monday 2001-01-01 UTC, and those at both
-- ends are whole. Exact: buckets that are marked or not computed yet are taken from the readings, in one snapshot.
CREATE FUNCTION "telemetry_series"(device text, metric text, "from" timestamptz, "to" timestamptz, step interval, tenant text DEFAULT 'default')
RETURNS TABLE ("time" timestamptz, avg double precision, min double precision, max double precision, count bigint, last double precision,
  last_text text, last_flag boolean, unit text)
LANGUAGE plpgsql STABLE ROWS 300 SET search_path = pg_catalog, pg_temp AS $series$
#variable_conflict use_column
DECLARE
  origin constant timestamptz := '2001-01-01 00:00:00+00';
  seconds constant numeric := extract(epoch FROM step);
  -- Of the buckets that rollups are asked for.
  width interval := '10 minutes';
  first_bin timestamptz;
  past_last timestamptz;
  -- From here on readings are kept.
  kept timestamptz;
  -- Rollups are asked up to here, readings from here on.
  cut timestamptz;
  dirty timestamptz[] := '{}';
  owner record;
  measured record;
  parts text;
  -- Of readings, what a rollup has.
  computed constant text := $$count, g.min, g.max, g.sum, g.last_time, (g.newest).value, (g.newest).text, (g.newest).flag$$;
  aggregates constant text := $$CASE WHEN count(r.value) > 0 THEN count(r.value) ELSE count(*) END AS count, min(r.value) AS min, max(r.value) AS max,
    CASE WHEN bool_or(abs(r.value) > 1e290) IS NOT TRUE THEN sum(r.value) FILTER (WHERE abs(r.value) <= 1e290) END AS sum,
    max(r.event_time) AS last_time, (array_agg(r ORDER BY r.event_time DESC, r.ordinal DESC))[1] AS newest$$;
BEGIN
  IF NOT coalesce(isfinite("from") AND isfinite("to"), false) THEN
    RAISE EXCEPTION 'a series needs a from and a to' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF NOT coalesce(seconds > 0 AND extract(year FROM step) = 0 AND extract(month FROM step) = 0, false) THEN
    RAISE EXCEPTION 'a step is positive and has no months or years: %', step
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Write them as days: ''30 days''';
  END IF;
  IF "to" <= "from" THEN
    RETURN;
  END IF;
  first_bin := date_bin(step, "from", origin);
  past_last := date_bin(step, "to" - interval '1 microsecond', origin) + step;
  SELECT d.id, d.tenant_id, s.processed_until, s.readings_from INTO owner
  FROM public.tenant t
  JOIN public.device d ON d.tenant_id = t.id
  LEFT JOIN public.rollup_state s ON s.tenant_id = t.id
  WHERE t.name = telemetry_series.tenant AND d.external_id = telemetry_series.device;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  IF seconds % 3600 = 0 THEN
    width := '1 hour';
  END IF;
  kept := least(past_last, coalesce(date_bin(width, owner.readings_from - interval '1 microsecond', origin) + width, '-infinity'));
  cut := greatest(kept, first_bin);
  IF seconds % 600 = 0 AND owner.processed_until IS NOT NULL THEN
    cut := greatest(cut, least(past_last, date_bin(width, owner.processed_until, origin)));
  END IF;
  FOR measured IN
    SELECT m.id, m.unit FROM public.metric m
    WHERE m.tenant_id = owner.tenant_id AND m.name = telemetry_series.metric
    ORDER BY m.unit
  LOOP
    IF cut > greatest(kept, first_bin) THEN
      SELECT coalesce(array_agg(DISTINCT date_bin(width, x.bucket, origin)), '{}') INTO dirty
      FROM public.rollup_dirty x
      WHERE x.device_id = owner.id AND x.metric_id = measured.id AND x.bucket >= greatest(kept, first_bin) AND x.bucket < cut;
    END IF;
    parts := $$SELECT g.bucket, g.$$ || computed || $$ FROM (
        SELECT date_bin($6, r.event_time, $7) AS bucket, $$ || aggregates || $$
        FROM public.reading r
        WHERE r.device_id = $1 AND r.metric_id = $2 AND r.event_time >= $4 AND r.event_time < $8
        GROUP BY 1) g$$;
    IF cut > first_bin AND width = interval '1 hour' THEN
      parts := parts || $$ UNION ALL SELECT r.bucket, r.count, r.min, r.max, r.sum, r.last_time, r.last_value, r.last_text, r.last_flag
        FROM public.rollup_1h r
        WHERE r.device_id = $1 AND r.metric_id = $2 AND r.bucket >= $3 AND r.bucket < $4 AND r.bucket <> ALL ($5)$$;
    ELSIF cut > first_bin THEN
      -- Hours stand in for tens of minutes that the retention took.
      parts := parts || $$ UNION ALL SELECT r.bucket, r.count, r.min, r.max, r.sum, r.last_time, r.last_value, r.last_text, r.last_flag
        FROM public.rollup_10m r
        WHERE r.device_id = $1 AND r.metric_id = $2 AND r.bucket >= $3 AND r.bucket < $4 AND r.bucket <> ALL ($5)
        UNION ALL SELECT h.bucket, h.count, h.min, h.max, h.sum, h.last_time, h.last_value, h.last_text, h.last_flag
        FROM public.rollup_1h h
        WHERE h.device_id = $1 AND h.metric_id = $2 AND h.bucket >= $3 AND h.bucket < $4
          AND date_bin('1 hour', h.bucket, $7) NOT IN (SELECT date_bin('1 hour', s.bucket, $7) FROM public.rollup_10m s
            WHERE s.device_id = $1 AND s.metric_id = $2 AND s.bucket >= date_bin('1 hour', $3, $7) AND s.bucket < $4 + interval '1 hour')$$;
    END IF;
    IF cardinality(dirty) > 0 THEN
      parts := parts || $$ UNION ALL SELECT g.bucket, g.$$ || computed || $$ FROM (
        SELECT x.bucket, $$ || aggregates || $$
        FROM unnest($5) x (bucket) JOIN public.reading r ON r.event_time >= x.bucket AND r.event_time < x.bucket + $9
        WHERE r.device_id = $1 AND r.metric_id = $2 AND r.event_time >= $3 AND r.event_time < $4
        GROUP BY 1) g$$;
    END IF;
    RETURN QUERY EXECUTE $$
      SELECT date_bin($6, p.bucket, $7),
        CASE WHEN NOT bool_or(p.min IS NOT NULL AND p.sum IS NULL) THEN sum(p.sum) / sum(p.count) FILTER (WHERE p.min IS NOT NULL) END::double precision,
        min(p.min), max(p.max), coalesce(sum(p.count) FILTER (WHERE p.min IS NOT NULL), sum(p.count))::bigint,
        (array_agg(p.last_value ORDER BY p.last_time DESC))[1], (array_agg(p.last_text ORDER BY p.last_time DESC))[1],
        (array_agg(p.last_flag ORDER BY p.last_time DESC))[1], $10
      FROM ($$ || parts || $$) p (bucket, count, min, max, sum, last_time, last_value, last_text, last_flag)
      GROUP BY 1 ORDER BY 1$$
    USING owner.id, measured.id, first_bin, cut, dirty, step, origin, past_last, width, measured.unit;
  END LOOP;
END $series$;--> statement-breakpoint
COMMENT ON FUNCTION "telemetry_series"(text, text, timestamptz, timestamptz, interval, text) IS
  'A metric of a device in bins of a step, from readings or rollups by step and age: time, avg, min, max, count, last, last_text, last_flag, unit';--> statement-breakpoint
-- Who reads. The list of what readers see is this function: a migration that adds a view replaces it and then calls fleetbridge_refresh_readers().
CREATE FUNCTION "fleetbridge_reader_views"() RETURNS TABLE (name text, of_tenant boolean) LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  VALUES ('telemetry', true), ('telemetry_latest', true), ('telemetry_10m', true), ('telemetry_1h', true), ('telemetry_fleet_1h', true),
    ('device_status', true), ('dead_letter_summary', true), ('ingest_health', false)
$$;--> statement-breakpoint
COMMENT ON FUNCTION "fleetbridge_reader_views"() IS 'Views that fleetbridge_reader may read; of_tenant: tenants'' own roles their part of it, by the column tenant';--> statement-breakpoint
CREATE FUNCTION "fleetbridge_limit_role"(role text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = role AND array_to_string(rolconfig, ',') LIKE '%statement_timeout=%') THEN
    RETURN; -- somebody's own setting, or ours: two databases of a server do not write it at once
  END IF;
  EXECUTE format('ALTER ROLE %I SET statement_timeout = %L', role, '30s');
  EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', role);
  EXECUTE format('ALTER ROLE %I SET timezone = %L', role, 'UTC');
EXCEPTION WHEN insufficient_privilege THEN
  RAISE WARNING 'the role % has no limit of time: this user may not set one', role
    USING HINT = format('As an administrator: ALTER ROLE %I SET statement_timeout = ''30s''', role);
END $$;--> statement-breakpoint
-- Gives readers what they shall see, as it is now. Does nothing for roles that are not there, and nothing twice.
CREATE FUNCTION "fleetbridge_refresh_readers"() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  item record;
  seen record;
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'fleetbridge_reader') THEN
    FOR item IN SELECT v.name FROM public.fleetbridge_reader_views() v LOOP
      EXECUTE format('GRANT SELECT ON public.%I TO fleetbridge_reader', item.name);
    END LOOP;
    -- By number the planner opens one of the four parts of each day; telemetry_series reads as its caller.
    GRANT SELECT ON public.reading, public.latest, public.metric, public.device, public.tenant, public.rollup_10m, public.rollup_1h,
      public.rollup_state, public.rollup_dirty TO fleetbridge_reader;
    -- Not the payload: it is what a device sent, as it sent it.
    GRANT SELECT (id, tenant, device, source, topic, content_type, stage, code, message, acknowledged, ingest_time, replayed_at, replay_outcome, tried_at)
      ON public.dead_letter TO fleetbridge_reader;
  END IF;
  FOR item IN
    SELECT r.role, t.name AS tenant FROM public.tenant_reader r JOIN public.tenant t ON t.id = r.tenant_id
    WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = r.role)
  LOOP
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', item.role);
    EXECUTE format('COMMENT ON SCHEMA %I IS %L', item.role, format('What the tenant %s may read', item.tenant));
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', item.role, item.role);
    FOR seen IN SELECT v.name FROM public.fleetbridge_reader_views() v WHERE v.of_tenant LOOP
      -- The barrier: no function of the reader's own sees a row before the tenant is compared.
      EXECUTE format('CREATE OR REPLACE VIEW %I.%I WITH (security_barrier) AS SELECT * FROM public.%I WHERE tenant = %L',
        item.role, seen.name, seen.name, item.tenant);
      EXECUTE format('GRANT SELECT ON %I.%I TO %I', item.role, seen.name, item.role);
      PERFORM public.fleetbridge_copy_comments(format('public.%I', seen.name)::regclass, format('%I.%I', item.role, seen.name)::regclass);
    END LOOP;
    -- As its owner, who may read the tables; of the arguments the tenant is not the caller's to choose.
    EXECUTE format($series$
      CREATE OR REPLACE FUNCTION %1$I.telemetry_series(device text, metric text, "from" timestamptz, "to" timestamptz, step interval, tenant text DEFAULT %2$L)
      RETURNS TABLE ("time" timestamptz, avg double precision, min double precision, max double precision, count bigint, last double precision,
        last_text text, last_flag boolean, unit text)
      LANGUAGE sql STABLE SECURITY DEFINER ROWS 300 SET search_path = pg_catalog, pg_temp AS
      $body$ SELECT * FROM public.telemetry_series($1, $2, $3, $4, $5, %2$L) WHERE $6 = %2$L $body$
    $series$, item.role, item.tenant);
    EXECUTE format('REVOKE ALL ON FUNCTION %I.telemetry_series(text, text, timestamptz, timestamptz, interval, text) FROM PUBLIC', item.role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %1$I.telemetry_series(text, text, timestamptz, timestamptz, interval, text) TO %1$I', item.role);
  END LOOP;
END $$;--> statement-breakpoint
COMMENT ON FUNCTION "fleetbridge_refresh_readers"() IS 'Gives fleetbridge_reader and the tenants'' roles what they may read';--> statement-breakpoint
CREATE FUNCTION "fleetbridge_copy_comments"(original regclass, copy regclass) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  c record;
BEGIN
  EXECUTE format('COMMENT ON VIEW %s IS %L', copy, obj_description(original, 'pg_class'));
  FOR c IN SELECT a.attname, col_description(original, a.attnum) AS said FROM pg_attribute a WHERE a.attrelid = original AND a.attnum > 0 LOOP
    EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', copy, c.attname, c.said);
  END LOOP;
END $$;--> statement-breakpoint
CREATE FUNCTION "fleetbridge_create_reader"() RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM public.fleetbridge_create_role('fleetbridge_reader');
  PERFORM public.fleetbridge_limit_role('fleetbridge_reader');
  PERFORM public.fleetbridge_refresh_readers();
  RETURN 'fleetbridge_reader';
END $$;--> statement-breakpoint
COMMENT ON FUNCTION "fleetbridge_create_reader"() IS 'Makes the role fleetbridge_reader, which reads all views; again does no harm';--> statement-breakpoint
CREATE FUNCTION "fleetbridge_create_role"(role text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
    EXECUTE format('CREATE ROLE %I NOLOGIN', role);
  END IF;
EXCEPTION
  WHEN duplicate_object OR unique_violation THEN
    NULL; -- roles are the whole server's: another database was first
  WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'this user may not create the role %', role USING ERRCODE = 'insufficient_privilege',
      HINT = format('Run "CREATE ROLE %I NOLOGIN" as an administrator, and then this again', role);
END $$;--> statement-breakpoint
-- The role and its schema have the same name, so a login of its own finds its views without naming the schema.
CREATE FUNCTION "fleetbridge_create_tenant_reader"(tenant text) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- A name has 63 bytes; longer ones end in a hash.
  role constant text := CASE WHEN length(tenant) <= 44 THEN 'fleetbridge_tenant_' || tenant
    ELSE 'fleetbridge_tenant_' || left(tenant, 35) || '-' || left(encode(sha256(convert_to(tenant, 'UTF8')), 'hex'), 8) END;
  found_id integer;
BEGIN
  SELECT t.id INTO found_id FROM public.tenant t WHERE t.name = tenant AND t.removed_at IS NULL;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no tenant "%"', tenant USING ERRCODE = 'no_data_found', HINT = 'fleetbridge tenants list';
  END IF;
  PERFORM public.fleetbridge_create_role(role);
  PERFORM public.fleetbridge_limit_role(role);
  INSERT INTO public.tenant_reader (tenant_id, role) VALUES (found_id, role) ON CONFLICT DO NOTHING;
  PERFORM public.fleetbridge_refresh_readers();
  RETURN role;
END $$;--> statement-breakpoint
COMMENT ON FUNCTION "fleetbridge_create_tenant_reader"(text) IS 'Makes a role that reads one tenant only, by views in a schema of the role''s name; returns the name';--> statement-breakpoint
CREATE FUNCTION "fleetbridge_drop_tenant_reader"(tenant text) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  gone text;
BEGIN
  DELETE FROM public.tenant_reader r USING public.tenant t WHERE t.id = r.tenant_id AND t.name = tenant RETURNING r.role INTO gone;
  IF gone IS NOT NULL THEN
    EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', gone);
    EXECUTE format('DROP ROLE IF EXISTS %I', gone);
  END IF;
  RETURN gone;
END $$;--> statement-breakpoint
COMMENT ON FUNCTION "fleetbridge_drop_tenant_reader"(text) IS 'Takes a tenant''s role and its views away';--> statement-breakpoint
REVOKE EXECUTE ON FUNCTION "fleetbridge_limit_role"(text), "fleetbridge_refresh_readers"(), "fleetbridge_copy_comments"(regclass, regclass),
  "fleetbridge_create_reader"(), "fleetbridge_create_role"(text), "fleetbridge_create_tenant_reader"(text), "fleetbridge_drop_tenant_reader"(text),
  "fleetbridge_fleet_rollup"(integer) FROM PUBLIC;--> statement-breakpoint
-- The owner of a database need not be one who may create roles: then everything is there but the role.
DO $$
BEGIN
  PERFORM public.fleetbridge_create_reader();
EXCEPTION WHEN insufficient_privilege THEN
  RAISE WARNING 'there is no role fleetbridge_reader: this user may not create it'
    USING HINT = 'Run "CREATE ROLE fleetbridge_reader NOLOGIN" as an administrator, and then "SELECT fleetbridge_create_reader()" as this user';
END $$;
