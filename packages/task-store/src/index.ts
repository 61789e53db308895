export type { Labels, Wait } from "./completions/attempts.ts";
export type { Completion } from "./completions/summarise.ts";
export type { FactOptions, Facts, FinalState } from "./facts/fact.ts";
export { LACKS, MISSING, summarise, type Lack, type Missing, type Settlement, type Summary } from "./completions/summarise.ts";
export {
  FinishedTasks,
  type FinishedTaskSink,
  type FinishedTasksOptions,
  type PutOffReason,
  type Reported,
  type Step,
} from "./feed/finished-tasks.ts";
export type { TaskEntry } from "./facts/task-entry.ts";
export { TaskStore, type Claim, type DropReason, type OpenTasks, type TaskStoreOptions } from "./task-store.ts";
