-- Programs since 0000_first run on this.
-- Made by drizzle-kit from schema/tables.ts, then completed by hand: PARTITION BY, fillfactors, and everything below "By hand".
-- Ranges of "reading" are made by the worker (worker/store/partitions.ts), since their width follows the retention.
CREATE TABLE "credential" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"device_id" integer NOT NULL,
	"kind" text DEFAULT 'token' NOT NULL,
	"secret_hash" "bytea",
	"fleet" boolean DEFAULT false NOT NULL,
	"pattern" text,
	"name" text,
	"expires_at" timestamp with time zone,
	"revoked_at" timestamp with time zone,
	"last_used_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "credential_secret_hash_unique" UNIQUE("secret_hash")
);
--> statement-breakpoint
CREATE TABLE "dead_letter" (
	"id" uuid PRIMARY KEY NOT NULL,
	"stream" text,
	"partition" integer,
	"record_offset" bigint,
	"tenant" text NOT NULL,
	"device" text NOT NULL,
	"source" text NOT NULL,
	"topic" text,
	"content_type" text,
	"stage" text NOT NULL,
	"code" text NOT NULL,
	"message" text NOT NULL,
	"acknowledged" boolean NOT NULL,
	"ingest_time" timestamp with time zone NOT NULL,
	"payload" "bytea",
	"replayed_at" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "device" (
	"id" integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "device_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 2147483647 START WITH 1 CACHE 1),
	"tenant_id" integer NOT NULL,
	"external_id" text NOT NULL,
	"status" text DEFAULT 'enabled' NOT NULL,
	"type" text,
	"site" text,
	"attributes" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"aliases" text[] DEFAULT '{}' NOT NULL,
	"created_by" uuid,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "device_tenant_id_external_id_unique" UNIQUE("tenant_id","external_id"),
	CONSTRAINT "device_status_check" CHECK ("device"."status" in ('enabled', 'disabled'))
);
--> statement-breakpoint
CREATE TABLE "ingest_offset" (
	"stream" text NOT NULL,
	"partition" integer NOT NULL,
	"next_offset" bigint NOT NULL,
	"stored" bigint DEFAULT 0 NOT NULL,
	"duplicate" bigint DEFAULT 0 NOT NULL,
	"parked" bigint DEFAULT 0 NOT NULL,
	"readings" bigint DEFAULT 0 NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "ingest_offset_stream_partition_pk" PRIMARY KEY("stream","partition")
) WITH (fillfactor = 50);
--> statement-breakpoint
CREATE TABLE "latest" (
	"device_id" integer NOT NULL,
	"metric_id" integer NOT NULL,
	"event_time" timestamp with time zone NOT NULL,
	"ingest_time" timestamp with time zone NOT NULL,
	"value" double precision,
	"clock" smallint DEFAULT 0 NOT NULL,
	"flag" boolean,
	"text" text,
	"device_time" timestamp with time zone,
	CONSTRAINT "latest_device_id_metric_id_pk" PRIMARY KEY("device_id","metric_id")
) WITH (fillfactor = 70);
--> statement-breakpoint
CREATE TABLE "metric" (
	"id" integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "metric_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 2147483647 START WITH 1 CACHE 1),
	"tenant_id" integer NOT NULL,
	"name" text NOT NULL,
	"unit" text,
	"first_device_id" integer,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "metric_tenant_id_name_unit_unique" UNIQUE NULLS NOT DISTINCT("tenant_id","name","unit")
);
--> statement-breakpoint
CREATE TABLE "reading" (
	"device_id" integer NOT NULL,
	"metric_id" integer NOT NULL,
	"event_time" timestamp with time zone NOT NULL,
	"ingest_time" timestamp with time zone NOT NULL,
	"value" double precision,
	"ordinal" smallint DEFAULT 0 NOT NULL,
	"clock" smallint DEFAULT 0 NOT NULL,
	"flag" boolean,
	"text" text,
	"device_time" timestamp with time zone,
	CONSTRAINT "reading_device_id_metric_id_event_time_ordinal_pk" PRIMARY KEY("device_id","metric_id","event_time","ordinal")
) PARTITION BY RANGE ("event_time");
--> statement-breakpoint
CREATE TABLE "tenant" (
	"id" integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "tenant_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 2147483647 START WITH 1 CACHE 1),
	"name" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "tenant_name_unique" UNIQUE("name"),
	CONSTRAINT "tenant_name_check" CHECK ("tenant"."name" ~ '^[a-z0-9-]{1,63}$')
);
--> statement-breakpoint
ALTER TABLE "credential" ADD CONSTRAINT "credential_device_id_device_id_fk" FOREIGN KEY ("device_id") REFERENCES "public"."device"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "device" ADD CONSTRAINT "device_tenant_id_tenant_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenant"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "device" ADD CONSTRAINT "device_created_by_credential_id_fk" FOREIGN KEY ("created_by") REFERENCES "public"."credential"("id") ON DELETE set null ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "latest" ADD CONSTRAINT "latest_device_id_device_id_fk" FOREIGN KEY ("device_id") REFERENCES "public"."device"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "latest" ADD CONSTRAINT "latest_metric_id_metric_id_fk" FOREIGN KEY ("metric_id") REFERENCES "public"."metric"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "metric" ADD CONSTRAINT "metric_tenant_id_tenant_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenant"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "metric" ADD CONSTRAINT "metric_first_device_id_device_id_fk" FOREIGN KEY ("first_device_id") REFERENCES "public"."device"("id") ON DELETE set null ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "credential_device_id_index" ON "credential" USING btree ("device_id");--> statement-breakpoint
CREATE INDEX "credential_updated_at_index" ON "credential" USING btree ("updated_at");--> statement-breakpoint
CREATE UNIQUE INDEX "dead_letter_record_unique" ON "dead_letter" USING btree ("stream","partition","record_offset") WHERE "dead_letter"."record_offset" is not null;--> statement-breakpoint
CREATE INDEX "dead_letter_ingest_time_index" ON "dead_letter" USING btree ("ingest_time");--> statement-breakpoint
CREATE INDEX "device_created_by_index" ON "device" USING btree ("created_by");--> statement-breakpoint
CREATE INDEX "device_updated_at_index" ON "device" USING btree ("updated_at");--> statement-breakpoint
CREATE INDEX "metric_first_device_id_index" ON "metric" USING btree ("first_device_id");
--> statement-breakpoint
-- By hand -------------------------------------------------------------------------------------------------------------------
COMMENT ON TABLE "tenant" IS 'Owners of devices; the row "default" always exists';--> statement-breakpoint
COMMENT ON TABLE "device" IS 'One row a device of a tenant; disabled, never deleted, since readings carry its number';--> statement-breakpoint
COMMENT ON COLUMN "device"."external_id" IS 'The id that the device itself uses; never changes';--> statement-breakpoint
COMMENT ON COLUMN "device"."created_by" IS 'The fleet credential that brought it on first sight; null when an operator added it';--> statement-breakpoint
COMMENT ON TABLE "credential" IS 'How devices prove who they are: only the SHA-256 of a token; several may be live for a device';--> statement-breakpoint
COMMENT ON COLUMN "credential"."pattern" IS 'Glob with * of the devices that a fleet credential may speak for; null: any of its tenant';--> statement-breakpoint
COMMENT ON TABLE "metric" IS 'The dictionary: one row a metric name and unit of a tenant, made on first sight';--> statement-breakpoint
COMMENT ON TABLE "reading" IS 'Every value, by range of event_time and hash of device_id; query the view telemetry';--> statement-breakpoint
COMMENT ON COLUMN "reading"."event_time" IS 'When it was measured, by the device''s clock; the arrival where clock is not 0';--> statement-breakpoint
COMMENT ON COLUMN "reading"."ordinal" IS '0 for the first value of a metric at an instant, then 1, 2, …';--> statement-breakpoint
COMMENT ON COLUMN "reading"."clock" IS '0 the device''s clock; 1 it named no time; 2 it was more than 10 min ahead (then device_time)';--> statement-breakpoint
COMMENT ON COLUMN "reading"."ingest_time" IS 'When the gateway received the message';--> statement-breakpoint
COMMENT ON TABLE "latest" IS 'The newest reading of each metric of each device by event time; query the view telemetry_latest';--> statement-breakpoint
COMMENT ON TABLE "ingest_offset" IS 'How far each partition of the event log has become rows, with counts of messages and readings; written in the rows'' transaction';--> statement-breakpoint
COMMENT ON TABLE "dead_letter" IS 'Messages that could not become rows, with their bytes and the reason';--> statement-breakpoint
COMMENT ON COLUMN "dead_letter"."acknowledged" IS 'True: the sender was told that we have it; false: it was refused with this code';--> statement-breakpoint
CREATE VIEW "telemetry" AS
  SELECT t.name AS tenant, d.external_id AS device, m.name AS metric, m.unit, r.event_time AS "time", r.value, r.text, r.flag, r.clock, r.ingest_time
  FROM "reading" r
  JOIN "device" d ON d.id = r.device_id
  JOIN "metric" m ON m.id = r.metric_id
  JOIN "tenant" t ON t.id = d.tenant_id;--> statement-breakpoint
COMMENT ON VIEW "telemetry" IS 'Every reading with names. Give a range of time, or every partition is read';--> statement-breakpoint
COMMENT ON COLUMN "telemetry"."time" IS 'When it was measured (event time)';--> statement-breakpoint
COMMENT ON COLUMN "telemetry"."value" IS 'The value, when it is a number; else text or flag holds it';--> statement-breakpoint
CREATE VIEW "telemetry_latest" AS
  SELECT t.name AS tenant, d.external_id AS device, m.name AS metric, m.unit, l.event_time AS "time", l.value, l.text, l.flag, l.clock, l.ingest_time
  FROM "latest" l
  JOIN "device" d ON d.id = l.device_id
  JOIN "metric" m ON m.id = l.metric_id
  JOIN "tenant" t ON t.id = d.tenant_id;--> statement-breakpoint
COMMENT ON VIEW "telemetry_latest" IS 'The newest reading of each metric of each device, with names';--> statement-breakpoint
CREATE VIEW "device_status" AS
  SELECT t.name AS tenant, d.external_id AS device, d.status, d.type, d.site, s.metrics, s.last_time, s.last_ingest_time, d.created_at
  FROM "device" d
  JOIN "tenant" t ON t.id = d.tenant_id
  CROSS JOIN LATERAL (
    SELECT count(*) AS metrics, max(l.event_time) AS last_time, max(l.ingest_time) AS last_ingest_time
    FROM "latest" l WHERE l.device_id = d.id
  ) s;--> statement-breakpoint
COMMENT ON VIEW "device_status" IS 'One row a device: is it enabled, how many metrics it has, when it was last heard';--> statement-breakpoint
COMMENT ON COLUMN "device_status"."last_time" IS 'Newest event time among its metrics';--> statement-breakpoint
COMMENT ON COLUMN "device_status"."last_ingest_time" IS 'Arrival of the newest of its latest readings';--> statement-breakpoint
CREATE VIEW "ingest_health" AS
  SELECT o.stream, o.partition, o.next_offset, o.stored, o.duplicate, o.parked, o.readings, o.updated_at,
    extract(epoch FROM clock_timestamp() - o.updated_at)::double precision AS idle_seconds
  FROM "ingest_offset" o;--> statement-breakpoint
COMMENT ON VIEW "ingest_health" IS 'What the worker made of each partition of the event log: messages stored, duplicate, parked, and readings';--> statement-breakpoint
-- Gateways hold all credentials in memory: they poll updated_at, and the notification tells them when.
CREATE FUNCTION "fleetbridge_touch"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := clock_timestamp();
  RETURN NEW;
END $$;--> statement-breakpoint
CREATE FUNCTION "fleetbridge_notify_registry"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NOTIFY fleetbridge_registry;
  RETURN NULL;
END $$;--> statement-breakpoint
-- Only a row trigger can change the row. last_used_at is left out: a mark of use is no news to anybody.
CREATE TRIGGER "device_touch" BEFORE UPDATE ON "device"
  FOR EACH ROW EXECUTE FUNCTION "fleetbridge_touch"();--> statement-breakpoint
CREATE TRIGGER "credential_touch" BEFORE UPDATE OF device_id, kind, secret_hash, fleet, pattern, name, expires_at, revoked_at ON "credential"
  FOR EACH ROW EXECUTE FUNCTION "fleetbridge_touch"();--> statement-breakpoint
CREATE TRIGGER "device_notify" AFTER UPDATE OF status ON "device"
  FOR EACH STATEMENT EXECUTE FUNCTION "fleetbridge_notify_registry"();--> statement-breakpoint
CREATE TRIGGER "credential_notify"
  AFTER INSERT OR DELETE OR UPDATE OF device_id, kind, secret_hash, fleet, pattern, name, expires_at, revoked_at ON "credential"
  FOR EACH STATEMENT EXECUTE FUNCTION "fleetbridge_notify_registry"();--> statement-breakpoint
INSERT INTO "tenant" ("name") VALUES ('default');
