-- Programs since 0001_security run on this.
CREATE TABLE "device_event" (
	"device_id" integer NOT NULL,
	"time" timestamp with time zone NOT NULL,
	"id" uuid NOT NULL,
	"kind" text NOT NULL,
	"epoch" bigint,
	"details" jsonb DEFAULT '{}'::jsonb NOT NULL,
	CONSTRAINT "device_event_device_id_time_id_pk" PRIMARY KEY("device_id","time","id"),
	CONSTRAINT "device_event_kind_check" CHECK ("device_event"."kind" in ('connected', 'disconnected', 'lost', 'silent', 'back', 'limited'))
);
--> statement-breakpoint
CREATE TABLE "device_watch" (
	"device_id" integer PRIMARY KEY NOT NULL,
	"silent_after_seconds" double precision,
	"origin" text,
	"last_seen" timestamp with time zone,
	"silent_since" timestamp with time zone,
	"look_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"learn_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "gateway_instance" (
	"name" text NOT NULL,
	"incarnation" bigint NOT NULL,
	"seen_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"ended_at" timestamp with time zone,
	CONSTRAINT "gateway_instance_name_incarnation_pk" PRIMARY KEY("name","incarnation")
);
--> statement-breakpoint
CREATE TABLE "session" (
	"device_id" integer NOT NULL,
	"client" text NOT NULL,
	"epoch" bigint NOT NULL,
	"incarnation" bigint NOT NULL,
	"gateway" text NOT NULL,
	"connected_at" timestamp with time zone NOT NULL,
	"ended_at" timestamp with time zone,
	"ending" text,
	CONSTRAINT "session_device_id_client_pk" PRIMARY KEY("device_id","client"),
	CONSTRAINT "session_ending_check" CHECK (("session"."ended_at" is null) = ("session"."ending" is null))
) WITH (fillfactor = 70);
--> statement-breakpoint
CREATE TABLE "webhook_delivery" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "webhook_delivery_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"event_id" uuid NOT NULL,
	"subject" text NOT NULL,
	"body" jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"next_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"done_at" timestamp with time zone,
	"outcome" text,
	CONSTRAINT "webhook_delivery_event_id_unique" UNIQUE("event_id")
);
--> statement-breakpoint
ALTER TABLE "device_type" ADD COLUMN "silent_after_seconds" integer;--> statement-breakpoint
ALTER TABLE "device_watch" ADD CONSTRAINT "device_watch_device_id_device_id_fk" FOREIGN KEY ("device_id") REFERENCES "public"."device"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "session" ADD CONSTRAINT "session_device_id_device_id_fk" FOREIGN KEY ("device_id") REFERENCES "public"."device"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "device_event_time_index" ON "device_event" USING btree ("time");--> statement-breakpoint
CREATE INDEX "device_watch_look_at_index" ON "device_watch" USING btree ("look_at");--> statement-breakpoint
CREATE INDEX "device_watch_learn_at_index" ON "device_watch" USING btree ("learn_at");--> statement-breakpoint
CREATE INDEX "device_watch_silent_index" ON "device_watch" USING btree ("device_id") WHERE "device_watch"."silent_since" is not null;--> statement-breakpoint
CREATE INDEX "session_gateway_index" ON "session" USING btree ("gateway","incarnation") WHERE "session"."ended_at" is null;--> statement-breakpoint
CREATE INDEX "session_ended_at_index" ON "session" USING btree ("ended_at") WHERE "session"."ended_at" is not null;--> statement-breakpoint
CREATE INDEX "webhook_delivery_waiting_index" ON "webhook_delivery" USING btree ("subject","id") WHERE "webhook_delivery"."done_at" is null;--> statement-breakpoint
CREATE INDEX "webhook_delivery_done_at_index" ON "webhook_delivery" USING btree ("done_at") WHERE "webhook_delivery"."done_at" is not null;
--> statement-breakpoint
-- By hand: the fillfactor above, and the rest.
COMMENT ON TABLE "session" IS 'The latest connection of each MQTT client of each device; query the view device_status';--> statement-breakpoint
COMMENT ON COLUMN "session"."epoch" IS 'Rises with each connection of the client id, on whatever gateway: a late record of an earlier one changes nothing';--> statement-breakpoint
COMMENT ON COLUMN "session"."ending" IS 'disconnected: by its word or ours; lost: without a word, or with its gateway; null while connected';--> statement-breakpoint
COMMENT ON TABLE "gateway_instance" IS 'Gateway processes that hold sessions; one that is not heard for presence.gatewayExpirySeconds has ended, and its sessions are lost';--> statement-breakpoint
COMMENT ON COLUMN "gateway_instance"."seen_at" IS 'When a worker last read a sign of life of it';--> statement-breakpoint
COMMENT ON TABLE "device_event" IS 'What happened to devices: connected, disconnected, lost, silent, back, limited';--> statement-breakpoint
COMMENT ON COLUMN "device_event"."details" IS 'client, gateway and reason of a connection; limit, messages and waitMs of limited; lastSeen and silentAfterSeconds of silent and back';--> statement-breakpoint
COMMENT ON TABLE "device_watch" IS 'How long each device may be still, and whether it is silent';--> statement-breakpoint
COMMENT ON COLUMN "device_watch"."silent_after_seconds" IS 'Null: not known yet, or it is not watched';--> statement-breakpoint
COMMENT ON COLUMN "device_type"."silent_after_seconds" IS 'How long its devices may be still before they are silent; null: learnt for each device; 0: never silent';--> statement-breakpoint
COMMENT ON TABLE "webhook_delivery" IS 'What the webhook is told, in the order of id for each subject; delivered ones stay for a day';--> statement-breakpoint
-- New columns at the end, so that it is replaced whatever is built on it.
CREATE OR REPLACE VIEW "device_status" AS
  SELECT t.name AS tenant, d.external_id AS device, d.status, d.type, d.site, s.metrics, s.last_time, s.last_ingest_time, d.created_at,
    now() - s.last_ingest_time AS silent_for,
    coalesce(d.attributes ->> 'firmware', d.attributes ->> 'fw_version') AS firmware,
    -- Not a join: who does not ask for it does not pay for it.
    (SELECT l.value FROM "metric" m JOIN "latest" l ON l.metric_id = m.id AND l.device_id = d.id
      WHERE m.tenant_id = d.tenant_id AND m.name IN ('battery', 'battery_level') AND m.unit IN ('%EL', '%') AND l.value IS NOT NULL
      ORDER BY l.event_time DESC LIMIT 1) AS battery,
    d.attributes,
    EXISTS (SELECT FROM "session" c WHERE c.device_id = d.id AND c.ended_at IS NULL) AS online,
    (SELECT coalesce(min(c.connected_at) FILTER (WHERE c.ended_at IS NULL), max(c.ended_at)) FROM "session" c WHERE c.device_id = d.id) AS since,
    greatest(s.last_ingest_time, (SELECT max(greatest(c.connected_at, c.ended_at)) FROM "session" c WHERE c.device_id = d.id)) AS last_seen,
    (SELECT c.gateway FROM "session" c WHERE c.device_id = d.id AND c.ended_at IS NULL ORDER BY c.epoch DESC LIMIT 1) AS gateway,
    (SELECT w.silent_since FROM "device_watch" w WHERE w.device_id = d.id) AS silent_since
  FROM "device" d
  JOIN "tenant" t ON t.id = d.tenant_id
  CROSS JOIN LATERAL (
    SELECT count(*) AS metrics, max(l.event_time) AS last_time, max(l.ingest_time) AS last_ingest_time
    FROM "latest" l WHERE l.device_id = d.id
  ) s;--> statement-breakpoint
COMMENT ON VIEW "device_status" IS 'One row a device: what it is, whether it is online, when it was last heard, its battery';--> statement-breakpoint
COMMENT ON COLUMN "device_status"."online" IS 'Whether an MQTT client of it is connected; devices that use HTTP are never';--> statement-breakpoint
COMMENT ON COLUMN "device_status"."since" IS 'Since when it is online, or since when it is not any more; null: it never was';--> statement-breakpoint
COMMENT ON COLUMN "device_status"."last_seen" IS 'Newest of: arrival of a reading, a connection, its end';--> statement-breakpoint
COMMENT ON COLUMN "device_status"."gateway" IS 'Which gateway process has its newest connection; null when it is not online';--> statement-breakpoint
COMMENT ON COLUMN "device_status"."silent_since" IS 'Last arrival before it became silent; null: it reports as it uses to, or is not watched';--> statement-breakpoint
CREATE VIEW "device_events" AS
  SELECT t.name AS tenant, d.external_id AS device, e.time, e.kind, e.details ->> 'client' AS client, e.details ->> 'gateway' AS gateway,
    e.details ->> 'reason' AS reason, e.epoch, e.details, e.id
  FROM "device_event" e
  JOIN "device" d ON d.id = e.device_id
  JOIN "tenant" t ON t.id = d.tenant_id;--> statement-breakpoint
COMMENT ON VIEW "device_events" IS 'What happened to devices, with names: connected, disconnected, lost, silent, back, limited';--> statement-breakpoint
COMMENT ON COLUMN "device_events"."tenant" IS 'Name of the owner';--> statement-breakpoint
COMMENT ON COLUMN "device_events"."device" IS 'The id that the device itself uses';--> statement-breakpoint
COMMENT ON COLUMN "device_events"."time" IS 'When it happened, by the clock of the gateway; of lost gateways and silent devices when it was found';--> statement-breakpoint
COMMENT ON COLUMN "device_events"."kind" IS 'connected; disconnected: by its word or ours; lost: without a word; silent, back: it stopped reporting, or goes on; limited';--> statement-breakpoint
COMMENT ON COLUMN "device_events"."client" IS 'MQTT client id of the connection';--> statement-breakpoint
COMMENT ON COLUMN "device_events"."gateway" IS 'Gateway process of the connection';--> statement-breakpoint
COMMENT ON COLUMN "device_events"."reason" IS 'Why the connection ended: client_disconnected, taken_over, lost, keep_alive, gateway_lost, and others';--> statement-breakpoint
COMMENT ON COLUMN "device_events"."epoch" IS 'Rises with each connection of a client id';--> statement-breakpoint
COMMENT ON COLUMN "device_events"."details" IS 'All that is known; of limited: limit, messages, waitMs; of silent and back: lastSeen, silentAfterSeconds';--> statement-breakpoint
COMMENT ON COLUMN "device_events"."id" IS 'The same in the webhook and in Kafka';--> statement-breakpoint
CREATE OR REPLACE FUNCTION "fleetbridge_reader_views"() RETURNS TABLE (name text, of_tenant boolean) LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  VALUES ('telemetry', true), ('telemetry_latest', true), ('telemetry_10m', true), ('telemetry_1h', true), ('telemetry_fleet_1h', true),
    ('device_status', true), ('dead_letter_summary', true), ('ingest_health', false), ('device_events', true)
$$;--> statement-breakpoint
SELECT "fleetbridge_refresh_readers"();
