-- Programs since 0001_security run on this.
CREATE TABLE "device_type" (
	"tenant_id" integer NOT NULL,
	"name" text NOT NULL,
	"identity" text DEFAULT 'value' NOT NULL,
	"contract_mode" text DEFAULT 'off' NOT NULL,
	"contract" jsonb,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "device_type_tenant_id_name_pk" PRIMARY KEY("tenant_id","name"),
	CONSTRAINT "device_type_identity_check" CHECK ("device_type"."identity" in ('value', 'message')),
	CONSTRAINT "device_type_contract_mode_check" CHECK ("device_type"."contract_mode" in ('off', 'warn', 'park'))
);
--> statement-breakpoint
CREATE TABLE "recent_message" (
	"device_id" integer NOT NULL,
	"stored_day" date NOT NULL,
	"message_key" uuid NOT NULL,
	"ingest_time" timestamp with time zone NOT NULL,
	"repeated" boolean DEFAULT false NOT NULL,
	CONSTRAINT "recent_message_device_id_message_key_stored_day_pk" PRIMARY KEY("device_id","message_key","stored_day")
) PARTITION BY RANGE ("stored_day");
--> statement-breakpoint
ALTER TABLE "dead_letter" ADD COLUMN "replay_outcome" text;--> statement-breakpoint
ALTER TABLE "dead_letter" ADD COLUMN "tried_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "dead_letter" ADD COLUMN "context" jsonb;--> statement-breakpoint
ALTER TABLE "device_type" ADD CONSTRAINT "device_type_tenant_id_tenant_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenant"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "dead_letter" ADD CONSTRAINT "dead_letter_replay_outcome_check" CHECK ("dead_letter"."replay_outcome" in ('stored', 'duplicate', 'ignored', 'parked'));--> statement-breakpoint
-- By hand: PARTITION BY above, and the rest. Days of "recent_message" are made and dropped by the worker (worker/store/recent-days.ts).
COMMENT ON TABLE "recent_message" IS 'What messages were called, by device and day of writing: one that comes again is a duplicate';--> statement-breakpoint
COMMENT ON COLUMN "recent_message"."message_key" IS 'First 16 bytes of the SHA-256 of what names the message (docs/schema.md)';--> statement-breakpoint
COMMENT ON TABLE "device_type" IS 'What holds for all devices of a type: how messages are told apart, and its data contract';--> statement-breakpoint
COMMENT ON COLUMN "dead_letter"."replayed_at" IS 'When its replay became rows, known ones, or nothing to store; null while it waits';--> statement-breakpoint
COMMENT ON COLUMN "dead_letter"."replay_outcome" IS 'Of its last replay: stored, duplicate, ignored, or parked again, and then code and message are the newest';--> statement-breakpoint
CREATE TRIGGER "device_type_touch" BEFORE UPDATE ON "device_type"
  FOR EACH ROW EXECUTE FUNCTION "fleetbridge_touch"();--> statement-breakpoint
CREATE TRIGGER "device_type_notify" AFTER INSERT OR UPDATE OR DELETE ON "device_type"
  FOR EACH STATEMENT EXECUTE FUNCTION "fleetbridge_notify_registry"();--> statement-breakpoint
DROP TRIGGER "device_notify" ON "device";--> statement-breakpoint
CREATE TRIGGER "device_notify" AFTER UPDATE OF status, type ON "device"
  FOR EACH STATEMENT EXECUTE FUNCTION "fleetbridge_notify_registry"();
