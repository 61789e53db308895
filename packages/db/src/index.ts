export { checkMigrated } from "./check-migrated.ts";
export { connectDatabase, isEmbedded, type ConnectDatabaseOptions } from "./connect-database.ts";
export { RefusedDataError } from "./database-error.ts";
export type { Database } from "./database.ts";
export { deleteOldTasks, type DeleteOldTasksOptions } from "./delete-old-tasks.ts";
export { deleteTasks } from "./delete-tasks.ts";
export { migrate } from "./migrate.ts";
export { celeryTask } from "./schema.ts";
export { upsertTasks } from "./upsert-tasks.ts";
