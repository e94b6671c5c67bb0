-- Programs since 0001_security run on this.
-- Gateways before it take an admin token of one tenant for one of all: renew them before you make such tokens.
ALTER TABLE "admin_token" ADD COLUMN "tenant_id" integer;--> statement-breakpoint
ALTER TABLE "admin_token" ADD CONSTRAINT "admin_token_tenant_id_tenant_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenant"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "admin_token" ADD CONSTRAINT "admin_token_tenant_check" CHECK ("admin_token"."tenant_id" is null or "admin_token"."role" = 'viewer');--> statement-breakpoint
COMMENT ON COLUMN "admin_token"."tenant_id" IS 'The token reads what is of this tenant, and nothing else; null: of all';
