export type { Labels, Wait } from "./attempts.ts";
export type { Completion } from "./completions.ts";
export type { FactOptions, Facts, FinalState } from "./fact.ts";
export { summarise, type Lack, type Settlement, type Summary } from "./summarise.ts";
export type { TaskEntry } from "./task-entry.ts";
export { TaskStore, type Claim, type DropReason, type OpenTasks, type TaskStoreOptions } from "./task-store.ts";
