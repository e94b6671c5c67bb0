CREATE INDEX "device_aliases_index" ON "device" USING gin ("aliases") WHERE "device"."aliases" <> '{}';--> statement-breakpoint
-- By hand -------------------------------------------------------------------------------------------------------------------
COMMENT ON COLUMN "device"."aliases" IS 'Other names under which its messages come: a Tasmota topic, a devEui, GROUP/NODE; unique in the tenant, and never an id of another';--> statement-breakpoint
DROP TRIGGER "device_notify" ON "device";--> statement-breakpoint
CREATE TRIGGER "device_notify" AFTER UPDATE OF status, aliases ON "device"
  FOR EACH STATEMENT EXECUTE FUNCTION "fleetbridge_notify_registry"();
