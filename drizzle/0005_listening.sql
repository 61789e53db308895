-- IF NOT EXISTS, so that a table that is missing can be created without the others.
CREATE TABLE IF NOT EXISTS "celery_listening" (
	"is_only" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"since" timestamp with time zone NOT NULL,
	"until" timestamp with time zone NOT NULL
);
