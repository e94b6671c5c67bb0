-- Programs since 0001_security run on this.
-- Gateways before it take an admin token of one tenant for one of all: renew them before you make such tokens.
CREATE TABLE "raw_message" (
	"device_id" integer NOT NULL,
	"ingest_time" timestamp with time zone NOT NULL,
	"event_id" uuid NOT NULL,
	"drop_day" date NOT NULL,
	"source" text NOT NULL,
	"topic" text NOT NULL,
	"content_type" text,
	"context" jsonb,
	"payload" "bytea" NOT NULL,
	"readings" jsonb NOT NULL,
	"redecoded_at" timestamp with time zone,
	CONSTRAINT "raw_message_device_id_ingest_time_event_id_drop_day_pk" PRIMARY KEY("device_id","ingest_time","event_id","drop_day")
) PARTITION BY RANGE ("drop_day");
--> statement-breakpoint
ALTER TABLE "admin_token" ADD COLUMN "tenant_id" integer;--> statement-breakpoint
ALTER TABLE "admin_token" ADD CONSTRAINT "admin_token_tenant_id_tenant_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenant"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "admin_token" ADD CONSTRAINT "admin_token_tenant_check" CHECK ("admin_token"."tenant_id" is null or "admin_token"."role" = 'viewer');--> statement-breakpoint
-- By hand: PARTITION BY above, and the comments. The days are made and dropped by the worker (worker/store/raw-days.ts).
COMMENT ON TABLE "raw_message" IS 'Bytes of messages, where a route says keepRaw, so that fleetbridge redecode can read them again';--> statement-breakpoint
COMMENT ON COLUMN "raw_message"."device_id" IS 'device.id';--> statement-breakpoint
COMMENT ON COLUMN "raw_message"."ingest_time" IS 'Its arrival: that of its rows in reading';--> statement-breakpoint
COMMENT ON COLUMN "raw_message"."drop_day" IS 'In UTC; from then on it is gone';--> statement-breakpoint
COMMENT ON COLUMN "raw_message"."payload" IS 'Its own bytes, after inflation and splitting';--> statement-breakpoint
COMMENT ON COLUMN "raw_message"."readings" IS 'What it became, as in the event log; after a redecode what it became then';--> statement-breakpoint
COMMENT ON COLUMN "admin_token"."tenant_id" IS 'The token reads what is of this tenant, and nothing else; null: of all';
