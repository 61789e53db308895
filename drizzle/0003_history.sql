-- One statement, so that the table is rewritten once. `IF NOT EXISTS` throughout, so that one table can be restored or created again without the other.
ALTER TABLE "celery_task"
	ADD COLUMN IF NOT EXISTS "started_hostname" text,
	ADD COLUMN IF NOT EXISTS "seen_at" timestamp with time zone GENERATED ALWAYS AS (coalesce(sent_at, received_at, started_at, state_at)) STORED NOT NULL,
	ADD COLUMN IF NOT EXISTS "seen_before" timestamp with time zone,
	ADD COLUMN IF NOT EXISTS "left_out" jsonb,
	ADD COLUMN IF NOT EXISTS "problem" text GENERATED ALWAYS AS (case when status in ('FAILURE', 'RETRY', 'REVOKED', 'REJECTED') then status end) STORED;--> statement-breakpoint
-- Each index costs about as much as the new one on "seen_at", which also serves retention.
DROP INDEX IF EXISTS "celery_task_created_at_idx";--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "celery_task_seen_at_idx" ON "celery_task" USING btree ("seen_at","task_id");--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "celery_task_name_idx" ON "celery_task" USING btree ("name","seen_at","task_id");--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "celery_task_problem_idx" ON "celery_task" USING btree ("problem","seen_at","task_id") WHERE problem is not null;--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "celery_task_problem_name_idx" ON "celery_task" USING btree ("problem","name","seen_at","task_id") WHERE problem is not null;--> statement-breakpoint
CREATE INDEX IF NOT EXISTS "celery_task_root_id_idx" ON "celery_task" USING btree ("root_id") WHERE root_id <> task_id;--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "celery_task_event" (
	"task_id" text COLLATE "C" NOT NULL,
	"at" timestamp with time zone NOT NULL,
	"type" text COLLATE "C" NOT NULL,
	"hostname" text COLLATE "C" NOT NULL,
	"name" text,
	"queue" text,
	"retries" integer,
	"again" boolean,
	"runtime" double precision,
	"exception" text,
	"traceback" text,
	"revoked_by" text,
	"requeue" boolean,
	"exited" boolean,
	CONSTRAINT "celery_task_event_task_id_at_type_hostname_pk" PRIMARY KEY("task_id","at","type","hostname")
) PARTITION BY RANGE ("at");--> statement-breakpoint
-- For days without a partition: events from long ago, or while nothing creates partitions.
CREATE TABLE IF NOT EXISTS "celery_task_event_default" PARTITION OF "celery_task_event" DEFAULT;--> statement-breakpoint
-- Only the owner of a table may add partitions to it and drop them. So the function runs as its owner, and may be executed only by users to whom the
-- owner grants it. It resolves no name through the caller's search_path: all names in it have the schema of this migration.
DO $migration$
BEGIN
	EXECUTE replace(replace($create$
CREATE OR REPLACE FUNCTION {schema}.celery_task_event_partitions(keep_days integer, ahead_days integer, OUT created integer, OUT dropped integer)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET lock_timeout = '2s'
AS $function$
DECLARE
	-- Days are in UTC.
	today CONSTANT date := now()::date;
	day date;
	partition text;
BEGIN
	created := 0;
	dropped := 0;
	-- A call without arguments only shows whether the caller may execute it.
	IF keep_days IS NULL OR ahead_days IS NULL THEN
		RETURN;
	END IF;
	FOR day IN SELECT today + ahead FROM generate_series(-1, ahead_days) AS ahead LOOP
		partition := {text} || '.celery_task_event_' || to_char(day, 'YYYYMMDD');
		CONTINUE WHEN to_regclass(partition) IS NOT NULL;
		-- Attached as a finished table: CREATE TABLE … PARTITION OF would lock out everyone who uses the parent.
		EXECUTE 'CREATE TABLE ' || partition || ' (LIKE ' || {text} || '.celery_task_event INCLUDING ALL)';
		LOCK TABLE {schema}.celery_task_event_default IN ACCESS EXCLUSIVE MODE;
		EXECUTE 'WITH moved AS (DELETE FROM ' || {text} || '.celery_task_event_default WHERE at >= $1 AND at < $2 RETURNING *) INSERT INTO ' || partition || ' SELECT * FROM moved'
			USING day::timestamptz, (day + 1)::timestamptz;
		EXECUTE 'ALTER TABLE ' || {text} || '.celery_task_event ATTACH PARTITION ' || partition
			|| ' FOR VALUES FROM (' || quote_literal(day::timestamptz) || ') TO (' || quote_literal((day + 1)::timestamptz) || ')';
		created := created + 1;
	END LOOP;
	IF keep_days <= 0 THEN
		RETURN;
	END IF;
	FOR partition IN
		SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
		WHERE inhparent = ({text} || '.celery_task_event')::regclass AND relname ~ '^celery_task_event_[0-9]{8}$'
			AND to_date(right(relname, 8), 'YYYYMMDD') < today - keep_days
		ORDER BY relname
	LOOP
		EXECUTE 'DROP TABLE ' || {text} || '.' || quote_ident(partition);
		dropped := dropped + 1;
	END LOOP;
	DELETE FROM {schema}.celery_task_event_default WHERE at < (today - keep_days)::timestamptz;
END
$function$
$create$, '{schema}', quote_ident(current_schema())), '{text}', quote_literal(quote_ident(current_schema())));
END
$migration$;--> statement-breakpoint
REVOKE ALL ON FUNCTION celery_task_event_partitions(integer, integer) FROM PUBLIC;--> statement-breakpoint
SELECT celery_task_event_partitions(0, 3);
