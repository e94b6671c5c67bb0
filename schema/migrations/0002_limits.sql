-- Programs since 0001_security run on this.
CREATE TABLE "limit_override" (
	"id" integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "limit_override_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 2147483647 START WITH 1 CACHE 1),
	"tenant_id" integer NOT NULL,
	"device_type" text,
	"device_id" integer,
	"setting" text NOT NULL,
	"windows" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "limit_override_owner_setting_unique" UNIQUE NULLS NOT DISTINCT("tenant_id","device_type","device_id","setting"),
	CONSTRAINT "limit_override_owner_check" CHECK ("limit_override"."device_type" is null or "limit_override"."device_id" is null),
	CONSTRAINT "limit_override_windows_check" CHECK ("limit_override"."windows" ~ '^(none|[1-9][0-9]{0,8}:[1-9][0-9]{0,5}(,[1-9][0-9]{0,8}:[1-9][0-9]{0,5})*)$')
);
--> statement-breakpoint
ALTER TABLE "limit_override" ADD CONSTRAINT "limit_override_tenant_id_tenant_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenant"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "limit_override" ADD CONSTRAINT "limit_override_device_id_device_id_fk" FOREIGN KEY ("device_id") REFERENCES "public"."device"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "limit_override_device_id_index" ON "limit_override" USING btree ("device_id");--> statement-breakpoint
-- By hand -------------------------------------------------------------------------------------------------------------------
COMMENT ON TABLE "limit_override" IS 'Limits other than the configuration''s: the narrowest of device, device type and tenant holds, for each setting on its own';--> statement-breakpoint
COMMENT ON COLUMN "limit_override"."device_type" IS 'Set: for all devices of this type in the tenant; with device_id null too: for the tenant';--> statement-breakpoint
COMMENT ON COLUMN "limit_override"."setting" IS 'As in the configuration: device, deviceReadings, fleetBytes, tenant, …';--> statement-breakpoint
COMMENT ON COLUMN "limit_override"."windows" IS '100:1,2000:60, or none';--> statement-breakpoint
CREATE TRIGGER "limit_override_touch" BEFORE UPDATE ON "limit_override"
  FOR EACH ROW EXECUTE FUNCTION "fleetbridge_touch"();--> statement-breakpoint
CREATE TRIGGER "limit_override_notify" AFTER INSERT OR UPDATE OR DELETE ON "limit_override"
  FOR EACH STATEMENT EXECUTE FUNCTION "fleetbridge_notify_registry"();--> statement-breakpoint
-- A device's type says which limits it has.
DROP TRIGGER "device_notify" ON "device";--> statement-breakpoint
CREATE TRIGGER "device_notify" AFTER UPDATE OF status, type ON "device"
  FOR EACH STATEMENT EXECUTE FUNCTION "fleetbridge_notify_registry"();
