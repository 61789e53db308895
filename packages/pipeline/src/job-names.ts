/** The names of our jobs, as BullMQ and its dashboards show them. */
export const JOB_NAMES = {
  /** A batch of events. */
  batch: "batch",
  /** The ids of one `schedule` call. */
  ids: "ids",
  /** Part of a job that ended the process it ran in: run alone. */
  suspect: "suspect",
} as const;
