-- IF NOT EXISTS, so that a table that is missing can be created without the others.
CREATE TABLE IF NOT EXISTS "celery_listening" (
	"source" text PRIMARY KEY NOT NULL,
	"until" timestamp with time zone NOT NULL,
	"enough_until" timestamp with time zone,
	"quiet_since" timestamp with time zone,
	"quiet_until" timestamp with time zone,
	"silent_since" timestamp with time zone,
	"stored_at" timestamp with time zone DEFAULT now() NOT NULL
);
