-- One statement, so that the table is rewritten once.
ALTER TABLE "celery_task"
	DROP COLUMN "wait_time",
	ADD COLUMN "first_name" text,
	ADD COLUMN "first_queue" text,
	ADD COLUMN "revoked_by" text,
	ADD COLUMN "state_order_at" timestamp with time zone,
	ADD COLUMN "name_at" timestamp with time zone,
	ADD COLUMN "run_started_at" timestamp with time zone,
	ADD COLUMN "run_hostname" text,
	ADD COLUMN "wait_time" double precision GENERATED ALWAYS AS (case when started_at < coalesce(sent_at, received_at) and name_at = coalesce(sent_at, received_at) and (retries > 0 or run_started_at > started_at) then null when started_at < greatest(sent_at, eta) then 0 else date_part('epoch', started_at - greatest(sent_at, eta)) end) STORED,
	ADD COLUMN "duration" double precision GENERATED ALWAYS AS (case when runtime is not null then runtime when state_precedence >= 2 and run_hostname = state_hostname and run_started_at <= state_at and (status <> 'REVOKED' or revoked_by like 'terminated%') and (name_at is null or name_at <= coalesce(sent_at, received_at) or name_at <= run_started_at) and coalesce(exception, '') not like 'NotRegistered(%' then date_part('epoch', state_at - run_started_at) end) STORED;
