-- Programs since 0001_security run on this.
-- Older ones would let an operator's credential publish as a device.
CREATE TABLE "admin_token" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"name" text NOT NULL,
	"role" text NOT NULL,
	"secret_hash" "bytea" NOT NULL,
	"expires_at" timestamp with time zone,
	"revoked_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "admin_token_secret_hash_unique" UNIQUE("secret_hash"),
	CONSTRAINT "admin_token_role_check" CHECK ("admin_token"."role" in ('viewer', 'operator', 'admin'))
);
--> statement-breakpoint
CREATE TABLE "audit" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "audit_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"actor" text NOT NULL,
	"action" text NOT NULL,
	"tenant" text,
	"subject" text,
	"details" jsonb DEFAULT '{}'::jsonb NOT NULL
);
--> statement-breakpoint
ALTER TABLE "device" DROP CONSTRAINT "device_status_check";--> statement-breakpoint
ALTER TABLE "tenant" ADD COLUMN "removed_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "credential" ADD COLUMN "password_hash" text;--> statement-breakpoint
ALTER TABLE "credential" ADD COLUMN "operator" boolean DEFAULT false NOT NULL;--> statement-breakpoint
CREATE INDEX "audit_at_index" ON "audit" USING btree ("at");--> statement-breakpoint
ALTER TABLE "credential" ADD CONSTRAINT "credential_kind_check" CHECK ("credential"."kind" in ('token', 'password', 'certificate'));--> statement-breakpoint
ALTER TABLE "credential" ADD CONSTRAINT "credential_secret_check" CHECK (("credential"."kind" = 'password') = ("credential"."password_hash" is not null) and ("credential"."kind" = 'password') = ("credential"."secret_hash" is null));--> statement-breakpoint
ALTER TABLE "credential" ADD CONSTRAINT "credential_role_check" CHECK (not ("credential"."fleet" and "credential"."operator"));--> statement-breakpoint
ALTER TABLE "device" ADD CONSTRAINT "device_status_check" CHECK ("device"."status" in ('enabled', 'disabled', 'removed'));--> statement-breakpoint
-- By hand -------------------------------------------------------------------------------------------------------------------
COMMENT ON TABLE "credential" IS 'How devices prove who they are: hashes only; several may be live for a device';--> statement-breakpoint
COMMENT ON COLUMN "credential"."kind" IS 'token, password (then password_hash), or certificate (then secret_hash is its SHA-256 fingerprint)';--> statement-breakpoint
COMMENT ON COLUMN "credential"."operator" IS 'True: it only subscribes, and sees its whole tenant';--> statement-breakpoint
COMMENT ON COLUMN "device"."status" IS 'enabled; disabled: may come back; removed: gone but for its readings, its id is never given to another';--> statement-breakpoint
COMMENT ON COLUMN "tenant"."removed_at" IS 'When it was removed, and its devices before it; its readings stay until the retention takes them';--> statement-breakpoint
COMMENT ON TABLE "admin_token" IS 'Who may use the admin API: the SHA-256 of each token, and its role';--> statement-breakpoint
COMMENT ON TABLE "audit" IS 'Who changed what by the admin API or the command line';--> statement-breakpoint
DROP TRIGGER "credential_touch" ON "credential";--> statement-breakpoint
DROP TRIGGER "credential_notify" ON "credential";--> statement-breakpoint
CREATE TRIGGER "credential_touch" BEFORE UPDATE OF device_id, kind, secret_hash, password_hash, fleet, operator, pattern, name, expires_at, revoked_at ON "credential"
  FOR EACH ROW EXECUTE FUNCTION "fleetbridge_touch"();--> statement-breakpoint
CREATE TRIGGER "credential_notify"
  AFTER INSERT OR DELETE OR UPDATE OF device_id, kind, secret_hash, password_hash, fleet, operator, pattern, name, expires_at, revoked_at ON "credential"
  FOR EACH STATEMENT EXECUTE FUNCTION "fleetbridge_notify_registry"();
