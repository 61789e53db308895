-- One statement, so that the table is rewritten once.
ALTER TABLE "celery_task"
	ADD COLUMN "started_hostname" text,
	ADD COLUMN "seen_at" timestamp with time zone GENERATED ALWAYS AS (coalesce(sent_at, received_at, started_at, state_at)) STORED NOT NULL,
	ADD COLUMN "seen_before" timestamp with time zone,
	ADD COLUMN "problem" text GENERATED ALWAYS AS (case when status in ('FAILURE', 'RETRY', 'REVOKED', 'REJECTED') then status end) STORED;--> statement-breakpoint
CREATE INDEX "celery_task_seen_at_idx" ON "celery_task" USING btree ("seen_at","task_id");--> statement-breakpoint
CREATE INDEX "celery_task_name_idx" ON "celery_task" USING btree ("name","seen_at","task_id");--> statement-breakpoint
CREATE INDEX "celery_task_problem_idx" ON "celery_task" USING btree ("problem","seen_at","task_id") WHERE problem is not null;--> statement-breakpoint
CREATE INDEX "celery_task_problem_name_idx" ON "celery_task" USING btree ("problem","name","seen_at","task_id") WHERE problem is not null;--> statement-breakpoint
CREATE INDEX "celery_task_root_id_idx" ON "celery_task" USING btree ("root_id") WHERE root_id <> task_id;
