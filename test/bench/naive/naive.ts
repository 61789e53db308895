/** Shared code of the naive processes: one event per job, one write to Redis per event, one row per statement. */
export const DATADOG_QUEUE = "naive-datadog";
export const POSTGRES_QUEUE = "naive-postgres";
/** Concurrent jobs of a naive processor. */
export const CONCURRENCY = 20;

/** Settings of the naive processes, from their environment. */
export function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

/** Reports readiness to the benchmark. */
export function ready(): void {
  process.stdout.write("ready\n");
}

/** An event without any checks. */
export interface NaiveEvent {
  readonly type: string;
  readonly uuid: string;
  readonly timestamp: number;
  readonly name?: string;
  readonly queue?: string;
  readonly runtime?: number;
  readonly [field: string]: unknown;
}

export const FINAL_STATES: Readonly<Record<string, string>> = {
  "task-succeeded": "SUCCESS",
  "task-failed": "FAILURE",
  "task-revoked": "REVOKED",
  "task-rejected": "REJECTED",
};
