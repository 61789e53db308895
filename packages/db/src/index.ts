export { checkMayDelete, checkMigrated } from "./migrate/migrate.ts";
export { connectDatabase, type ConnectDatabaseOptions } from "./connect/connect-database.ts";
export { RefusedDataError } from "./connect/database-error.ts";
export type { Database } from "./tables/database.ts";
export { databaseUrlProblem, isEmbedded } from "./connect/database-url.ts";
export { DATABASE_URL, databaseUrl } from "./connect/settings.ts";
export { isoInstant } from "./read/iso-instant.ts";
export { connectReader, type ConnectReaderOptions, type Reader } from "./read/reader.ts";
export { storableText } from "./merge/task-row.ts";
export { deleteOldTasks, deleteTasks, type DeleteOldTasksOptions } from "./tables/delete-tasks.ts";
export { OUTCOMES, attemptsColumn, attemptsOf, type Attempt, type AttemptsFacts, type Outcome } from "./history/attempts.ts";
export { HISTORY_MODES, type HistoryMode } from "./history/task-events.ts";
export { checkMayMaintainPartitions, maintainPartitions } from "./history/partitions.ts";
export { migrate } from "./migrate/migrate.ts";
export { StatementError, readRows, type ReadRowsOptions, type SelectedColumn, type SelectedRows } from "./merge/read-rows.ts";
export {
  celeryQueueMinute,
  celeryListening,
  celeryRollup,
  celeryTask,
  celeryTaskEvent,
  celeryTaskMinute,
  celeryTaskPeriod,
  celeryWorker,
} from "./tables/schema.ts";
export { checkQueueMinutes, deleteOldQueueMinutes, mergeQueueMinutes } from "./rollups/queue-minutes.ts";
export { type StatisticsDays, checkRollUps, deleteOldRollUps, rollUp, sealRollUps } from "./rollups/roll-up.ts";
export { idIn, idOfGreatest } from "./rollups/counts.ts";
export { percentile } from "./rollups/histogram.ts";
export { readStatistics, type Durations, type Statistics, type StatisticsGroup, type StatisticsOptions } from "./rollups/statistics.ts";
export { checkWorkers, deleteSilentWorkers, mergeListened, mergeObservedWorkers, mergeWorkerEvents } from "./workers/merge-workers.ts";
export {
  WORKER_LOST_AFTER_SECONDS,
  STUCK,
  isLost,
  listenedUntil,
  receiversNow,
  lostRows,
  runningRows,
  stuckAfterSeconds,
  usualRuntimesStatement,
  workerState,
  type UsualRuntime,
  type WorkerSigns,
  type WorkerState,
} from "./workers/worker-state.ts";
export { upsertTasks } from "./merge/upsert.ts";
export { copyEmbeddedDatabase, type EmbeddedCopy } from "./embedded/embedded-copy.ts";
