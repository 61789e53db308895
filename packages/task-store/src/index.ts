export { BASES, type Labels, type Wait } from "./completions/attempts.ts";
export type { Completion } from "./completions/summarise.ts";
export { FINAL_STATES, type FactOptions, type Facts, type FinalState } from "./facts/fact.ts";
export { MISSING, summarise, type Lack, type Missing, type Retry, type Settlement, type Summary } from "./completions/summarise.ts";
export {
  FinishedTasks,
  type FinishedTaskSink,
  type FinishedTasksOptions,
  PUT_OFF_REASONS,
  type PutOffReason,
  type Reported,
  type Step,
} from "./feed/finished-tasks.ts";
export type { TaskEntry } from "./facts/task-entry.ts";
export { DROP_REASONS, TaskStore, type Claim, type DropReason, type OpenTasks, type TaskStoreOptions } from "./task-store.ts";
export { type Contribution, contribute } from "./counts/contribution.ts";
export { tally, type Tally, type TalliedEvent, type TalliedKind, type WaitingMessage } from "./counts/tally.ts";
export { Observations, consumersByQueue, type Observed, type ObservationsOptions, type Watched } from "./watching/observations.ts";
export { Workers, isUp, workersUp, type KnownWorkers, type WorkerState, type WorkersOptions } from "./watching/workers.ts";
export { CountTable, SetCounts, type Counts, type GaugeCount } from "./counts/count-table.ts";
export { TaskCounts, type Look, type LookedAt, type ShardCounts, type TaskCountsOptions } from "./counts/task-counts.ts";
export { IN_PARTS } from "./scripts/in-parts.ts";
export { StoreScript } from "./scripts/store-script.ts";
