/** What the API answers: the types of its schemas. Nothing of them gets into the browser. */
import type { z } from "zod";
import type { STATUSES, TaskItem } from "../../src/queries/columns.ts";
import type { DataHealth } from "../../src/queries/data-health.ts";
import type { FailureDetails, FailureGroup } from "../../src/queries/failures.ts";
import type { TaskLink } from "../../src/queries/find-task.ts";
import type { TaskType } from "../../src/queries/names.ts";
import type { Waiting } from "../../src/queries/queue-flow.ts";
import type { StatisticsItem } from "../../src/queries/statistics.ts";
import type { TreeNode } from "../../src/queries/tree.ts";
import type { TypeTrend } from "../../src/queries/type-trends.ts";
import type { WorkerActivity } from "../../src/queries/worker-activity.ts";
import type { Worker } from "../../src/queries/workers.ts";
import type { About } from "../../src/routes/about.ts";
import type { Counts } from "../../src/routes/counts.ts";
import type { FailuresAnswer, NamesAnswer } from "../../src/routes/overview.ts";
import type { ActivityAnswer, QueuesAnswer, StatisticsAnswer, TrendsAnswer, WorkersAnswer } from "../../src/routes/statistics.ts";
import type { Task, Tree } from "../../src/routes/task.ts";
import type { TaskPage } from "../../src/routes/tasks.ts";
import type { UserRole } from "../../src/access/user.ts";

export type Status = (typeof STATUSES)[number];
export type {
  DataHealth,
  FailureDetails,
  FailureGroup,
  StatisticsItem,
  TaskItem,
  TaskLink,
  TaskType,
  TypeTrend,
  Waiting,
  Worker,
  WorkerActivity,
};

export type Attempt = TaskAnswer["attempts"][number];
export type Outcome = Attempt["outcome"];
export type TaskAnswer = z.output<typeof Task>;
export type TreeAnswer = z.output<typeof Tree>;
export type TreeTask = z.output<typeof TreeNode>;
export type TaskPageAnswer = z.output<typeof TaskPage>;
export type FailureList = z.output<typeof FailuresAnswer>;
export type Names = z.output<typeof NamesAnswer>;
export type Statistics = z.output<typeof StatisticsAnswer>;
export type WorkerList = z.output<typeof WorkersAnswer>;
export type QueueList = z.output<typeof QueuesAnswer>;
export type CountsAnswer = z.output<typeof Counts>;
export type Queue = QueueList["items"][number];
export type ActivityList = z.output<typeof ActivityAnswer>;
export type TrendList = z.output<typeof TrendsAnswer>;
export type AboutAnswer = z.output<typeof About>;
export interface Me {
  readonly name: string;
  readonly role: UserRole;
  readonly logout: string | null;
}
