/** What the processes of the naive design share: one event per job, one write to Redis per event, one row per statement. */
export const DATADOG_QUEUE = "naive-datadog";
export const POSTGRES_QUEUE = "naive-postgres";
/** How many jobs a naive processor has in hand at once. */
export const CONCURRENCY = 20;

/** What the naive processes are told by their environment. */
export function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

/** Tells the benchmark that there is something to measure. */
export function ready(): void {
  process.stdout.write("ready\n");
}

/** An event, taken as it comes. */
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
