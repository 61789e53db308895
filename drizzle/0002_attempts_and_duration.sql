ALTER TABLE "celery_task" ADD COLUMN "first_name" text;--> statement-breakpoint
ALTER TABLE "celery_task" ADD COLUMN "first_queue" text;--> statement-breakpoint
ALTER TABLE "celery_task" ADD COLUMN "revoked_by" text;--> statement-breakpoint
ALTER TABLE "celery_task" ADD COLUMN "state_order_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "celery_task" ADD COLUMN "name_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "celery_task" ADD COLUMN "run_started_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "celery_task" ADD COLUMN "run_hostname" text;--> statement-breakpoint
ALTER TABLE "celery_task" ADD COLUMN "duration" double precision GENERATED ALWAYS AS (case when runtime is not null then runtime when state_precedence >= 2 and run_hostname = state_hostname and run_started_at <= state_at and (status <> 'REVOKED' or revoked_by like 'terminated%') then date_part('epoch', state_at - run_started_at) end) STORED;