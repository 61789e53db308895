-- IF NOT EXISTS, so that a table that is missing can be created without the others.
CREATE TABLE IF NOT EXISTS "celery_queue_minute" (
	"minute" timestamp with time zone NOT NULL,
	"queue" text COLLATE "C" NOT NULL,
	"observed_at" timestamp with time zone NOT NULL,
	"messages" bigint,
	"messages_max" bigint,
	"consumers" integer,
	"unacked" bigint,
	"unacked_max" bigint,
	"oldest_at" timestamp with time zone,
	CONSTRAINT "celery_queue_minute_minute_queue_pk" PRIMARY KEY("minute","queue")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "celery_rollup" (
	"name" text PRIMARY KEY NOT NULL,
	"rolled_up_at" timestamp with time zone,
	"sealed_before" timestamp with time zone,
	"hours_before" timestamp with time zone,
	"days_before" timestamp with time zone,
	"minutes_since" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "celery_task_minute" (
	"minute" timestamp with time zone NOT NULL,
	"name" text COLLATE "C" NOT NULL,
	"queue" text COLLATE "C" NOT NULL,
	"status" text COLLATE "C" NOT NULL,
	"n" integer NOT NULL,
	"runtime_sum" double precision NOT NULL,
	"runtime_hist" numeric NOT NULL,
	"wait_sum" double precision NOT NULL,
	"wait_hist" numeric NOT NULL,
	"runtime_max" double precision,
	"slowest_id" text,
	"last_failed_id" text,
	CONSTRAINT "celery_task_minute_minute_name_queue_status_pk" PRIMARY KEY("minute","name","queue","status")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "celery_task_minute_dirty" (
	"minute" timestamp with time zone NOT NULL,
	"noted_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "celery_task_period" (
	"width" smallint NOT NULL,
	"at" timestamp with time zone NOT NULL,
	"name" text COLLATE "C" NOT NULL,
	"queue" text COLLATE "C" NOT NULL,
	"status" text COLLATE "C" NOT NULL,
	"n" integer NOT NULL,
	"runtime_sum" double precision NOT NULL,
	"runtime_hist" numeric NOT NULL,
	"wait_sum" double precision NOT NULL,
	"wait_hist" numeric NOT NULL,
	"runtime_max" double precision,
	"slowest_id" text,
	"last_failed_id" text,
	CONSTRAINT "celery_task_period_width_at_name_queue_status_pk" PRIMARY KEY("width","at","name","queue","status")
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "celery_worker" (
	"hostname" text COLLATE "C" PRIMARY KEY NOT NULL,
	"heard_at" timestamp with time zone,
	"last_event_at" timestamp with time zone,
	"last_event_type" text,
	"online_at" timestamp with time zone,
	"heartbeat_at" timestamp with time zone,
	"freq" double precision,
	"active" integer,
	"processed" bigint,
	"loadavg" double precision[],
	"pid" integer,
	"sw_ident" text,
	"sw_ver" text,
	"sw_sys" text,
	"first_seen_at" timestamp with time zone NOT NULL,
	"queues" text[],
	"queues_at" timestamp with time zone,
	"pool" text,
	"concurrency" integer,
	"prefetch_count" integer,
	"started_at" timestamp with time zone,
	"stats_at" timestamp with time zone,
	"observed_at" timestamp with time zone GENERATED ALWAYS AS (greatest(queues_at, stats_at)) STORED
);
--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "celery_queue_minute_queue_idx" ON "celery_queue_minute" USING btree ("queue","minute");--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "celery_task_period_name_idx" ON "celery_task_period" USING btree ("width","name","at");--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "celery_task_period_all_idx" ON "celery_task_period" USING btree ("width","at") WHERE name = '(all)' and queue = '(all)';--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "celery_task_minute_name_idx" ON "celery_task_minute" USING btree ("name","minute");--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "celery_task_minute_running_idx" ON "celery_task_minute" USING btree ("minute") WHERE status in ('RECEIVED', 'STARTED');
--> statement-breakpoint
-- A worker's row is written with every heartbeat, twice a second or less, and a roll-up's every five seconds for two minutes. Room in the page keeps
-- these updates HOT.
ALTER TABLE "celery_worker" SET (fillfactor = 50);
--> statement-breakpoint
ALTER TABLE "celery_task_minute" SET (fillfactor = 70);
--> statement-breakpoint
ALTER TABLE "celery_task_period" SET (fillfactor = 70);
--> statement-breakpoint
-- A queue: what is added is deleted seconds later, and it is read as a whole.
ALTER TABLE "celery_task_minute_dirty" SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
--> statement-breakpoint
-- The minutes of the tasks that are there already. Looks up one row per minute, and does not read the table.
INSERT INTO "celery_task_minute_dirty" ("minute")
WITH RECURSIVE minutes AS (
	SELECT date_trunc('minute', min("seen_at"), 'UTC') AS minute FROM "celery_task"
	UNION ALL
	SELECT date_trunc('minute', (SELECT min("seen_at") FROM "celery_task" WHERE "seen_at" >= minutes.minute + interval '1 minute'), 'UTC')
	FROM minutes WHERE minutes.minute IS NOT NULL
)
SELECT minute FROM minutes WHERE minute IS NOT NULL;
