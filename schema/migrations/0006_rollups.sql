-- Programs since 0001_security run on this.
CREATE TABLE "ingest_minute" (
	"stream" text NOT NULL,
	"partition" integer NOT NULL,
	"minute" timestamp with time zone NOT NULL,
	"stored" bigint DEFAULT 0 NOT NULL,
	"duplicate" bigint DEFAULT 0 NOT NULL,
	"parked" bigint DEFAULT 0 NOT NULL,
	"refused" bigint DEFAULT 0 NOT NULL,
	"letters" bigint DEFAULT 0 NOT NULL,
	"readings" bigint DEFAULT 0 NOT NULL,
	"from_event_time" timestamp with time zone,
	"to_event_time" timestamp with time zone,
	CONSTRAINT "ingest_minute_stream_partition_minute_pk" PRIMARY KEY("stream","partition","minute")
) WITH (fillfactor = 50);
--> statement-breakpoint
CREATE TABLE "rollup_10m" (
	"device_id" integer NOT NULL,
	"metric_id" integer NOT NULL,
	"bucket" timestamp with time zone NOT NULL,
	"count" integer NOT NULL,
	"min" double precision,
	"max" double precision,
	"sum" double precision,
	"last_time" timestamp with time zone NOT NULL,
	"last_value" double precision,
	"last_text" text,
	"last_flag" boolean,
	CONSTRAINT "rollup_10m_device_id_metric_id_bucket_pk" PRIMARY KEY("device_id","metric_id","bucket")
) PARTITION BY RANGE ("bucket");
--> statement-breakpoint
CREATE TABLE "rollup_1h" (
	"device_id" integer NOT NULL,
	"metric_id" integer NOT NULL,
	"bucket" timestamp with time zone NOT NULL,
	"count" integer NOT NULL,
	"min" double precision,
	"max" double precision,
	"sum" double precision,
	"last_time" timestamp with time zone NOT NULL,
	"last_value" double precision,
	"last_text" text,
	"last_flag" boolean,
	CONSTRAINT "rollup_1h_device_id_metric_id_bucket_pk" PRIMARY KEY("device_id","metric_id","bucket")
) PARTITION BY RANGE ("bucket");
--> statement-breakpoint
CREATE TABLE "rollup_dirty" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "rollup_dirty_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"epoch" integer NOT NULL,
	"device_id" integer NOT NULL,
	"metric_id" integer NOT NULL,
	"bucket" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "rollup_round" (
	"id" smallint PRIMARY KEY DEFAULT 1 NOT NULL,
	"epoch" integer DEFAULT 1 NOT NULL,
	"begun_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"next_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "rollup_round_id_check" CHECK ("rollup_round"."id" = 1)
);
--> statement-breakpoint
CREATE TABLE "rollup_state" (
	"tenant_id" integer PRIMARY KEY NOT NULL,
	"processed_until" timestamp with time zone,
	"readings_from" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "upkeep" (
	"task" text PRIMARY KEY NOT NULL,
	"finished_at" timestamp with time zone NOT NULL,
	"details" jsonb DEFAULT '{}'::jsonb NOT NULL
);
--> statement-breakpoint
ALTER TABLE "ingest_offset" ADD COLUMN "refused" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "ingest_offset" ADD COLUMN "skipped" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "ingest_offset" ADD COLUMN "counted_offset" bigint;--> statement-breakpoint
ALTER TABLE "tenant" ADD COLUMN "retention_days" integer;--> statement-breakpoint
ALTER TABLE "rollup_state" ADD CONSTRAINT "rollup_state_tenant_id_tenant_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenant"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "ingest_minute_minute_index" ON "ingest_minute" USING btree ("minute");--> statement-breakpoint
ALTER TABLE "tenant" ADD CONSTRAINT "tenant_retention_days_check" CHECK ("tenant"."retention_days" between 1 and 99999);--> statement-breakpoint
-- By hand: PARTITION BY and fillfactor above, and the rest. Ranges of the rollups are made by the worker (worker/store/partitions.ts).
INSERT INTO "rollup_round" DEFAULT VALUES;--> statement-breakpoint
-- The first run of the retention is a week from here: until then "rollups rebuild" can make rollups of what was stored before.
INSERT INTO "upkeep" ("task", "finished_at") VALUES ('retention', now() + interval '6 days');--> statement-breakpoint
-- Filled and emptied without end: dead marks go soon.
ALTER TABLE "rollup_dirty" SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_insert_threshold = -1);--> statement-breakpoint
COMMENT ON TABLE "rollup_10m" IS 'Readings by 10 minutes, computed from reading by the worker';--> statement-breakpoint
COMMENT ON TABLE "rollup_1h" IS 'Readings by hours, computed by the worker';--> statement-breakpoint
COMMENT ON COLUMN "rollup_10m"."bucket" IS 'Its first instant; buckets lie at whole multiples of their width since the epoch';--> statement-breakpoint
COMMENT ON COLUMN "rollup_10m"."count" IS 'Of its numbers; where it holds none, of its texts and flags: sum / count is always the mean';--> statement-breakpoint
COMMENT ON COLUMN "rollup_10m"."min" IS 'Smallest number; null without numbers';--> statement-breakpoint
COMMENT ON COLUMN "rollup_10m"."max" IS 'Largest number; null without numbers';--> statement-breakpoint
COMMENT ON COLUMN "rollup_10m"."sum" IS 'Of its numbers; null without numbers, and with one past 1e290 either way';--> statement-breakpoint
COMMENT ON COLUMN "rollup_10m"."last_time" IS 'Event time of its newest reading';--> statement-breakpoint
COMMENT ON COLUMN "rollup_10m"."last_value" IS 'The newest reading, when it is a number';--> statement-breakpoint
COMMENT ON COLUMN "rollup_10m"."last_text" IS 'The newest reading, when it is a text';--> statement-breakpoint
COMMENT ON COLUMN "rollup_10m"."last_flag" IS 'The newest reading, when it is a flag';--> statement-breakpoint
COMMENT ON COLUMN "rollup_10m"."device_id" IS 'device.id';--> statement-breakpoint
COMMENT ON COLUMN "rollup_10m"."metric_id" IS 'metric.id';--> statement-breakpoint
COMMENT ON COLUMN "rollup_1h"."bucket" IS 'Its first instant; buckets lie at whole multiples of their width since the epoch';--> statement-breakpoint
COMMENT ON COLUMN "rollup_1h"."count" IS 'Of its numbers; where it holds none, of its texts and flags: sum / count is always the mean';--> statement-breakpoint
COMMENT ON COLUMN "rollup_1h"."min" IS 'Smallest number; null without numbers';--> statement-breakpoint
COMMENT ON COLUMN "rollup_1h"."max" IS 'Largest number; null without numbers';--> statement-breakpoint
COMMENT ON COLUMN "rollup_1h"."sum" IS 'Of its numbers; null without numbers, and with one past 1e290 either way';--> statement-breakpoint
COMMENT ON COLUMN "rollup_1h"."last_time" IS 'Event time of its newest reading';--> statement-breakpoint
COMMENT ON COLUMN "rollup_1h"."last_value" IS 'The newest reading, when it is a number';--> statement-breakpoint
COMMENT ON COLUMN "rollup_1h"."last_text" IS 'The newest reading, when it is a text';--> statement-breakpoint
COMMENT ON COLUMN "rollup_1h"."last_flag" IS 'The newest reading, when it is a flag';--> statement-breakpoint
COMMENT ON COLUMN "rollup_1h"."device_id" IS 'device.id';--> statement-breakpoint
COMMENT ON COLUMN "rollup_1h"."metric_id" IS 'metric.id';--> statement-breakpoint
COMMENT ON TABLE "rollup_dirty" IS 'Buckets of 10 minutes that have to be computed again; written in the transaction of their rows';--> statement-breakpoint
COMMENT ON TABLE "rollup_round" IS 'One row: the epoch of new marks in rollup_dirty. Only marks of earlier epochs are worked on';--> statement-breakpoint
COMMENT ON COLUMN "rollup_round"."next_at" IS 'No worker begins the next epoch before';--> statement-breakpoint
COMMENT ON TABLE "rollup_state" IS 'How far the rollups of a tenant are';--> statement-breakpoint
COMMENT ON COLUMN "rollup_state"."processed_until" IS 'Readings that were stored before this are in the rollups';--> statement-breakpoint
COMMENT ON COLUMN "rollup_state"."readings_from" IS 'The retention took readings before this: their buckets are not computed again';--> statement-breakpoint
COMMENT ON TABLE "upkeep" IS 'When work that is done now and then was done last';--> statement-breakpoint
COMMENT ON TABLE "ingest_minute" IS 'What the messages that arrived in a minute became, by partition of the event log; written in the rows'' transaction, kept for some days';--> statement-breakpoint
COMMENT ON COLUMN "ingest_minute"."letters" IS 'New rows of dead_letter';--> statement-breakpoint
COMMENT ON COLUMN "ingest_minute"."readings" IS 'New rows of reading, between from_event_time and to_event_time';--> statement-breakpoint
COMMENT ON COLUMN "ingest_offset"."refused" IS 'Records that count nowhere else: dead letters of messages that were refused';--> statement-breakpoint
COMMENT ON COLUMN "ingest_offset"."skipped" IS 'Offsets without a record of ours: next_offset = stored + duplicate + parked + refused + skipped';--> statement-breakpoint
COMMENT ON COLUMN "ingest_offset"."counted_offset" IS 'next_offset as the last program left it that counts refused and skipped';--> statement-breakpoint
COMMENT ON COLUMN "tenant"."retention_days" IS 'Days that its readings are kept, where that is less than the configuration says';
