/** Errors that make a host let go of a job, unchanged. */

/** Thrown to let go of a job, unchanged. It says nothing about the job's data, and retry loops rethrow it at once. */
export abstract class LetGo extends Error {}

/** Thrown for a payload written by a newer release. It is not bad data: the job is kept for a process that can read it. */
export class NewerPayloadError extends LetGo {
  constructor(what: string, version: number) {
    super(`${what} of version ${version}, written by a newer release`);
    this.name = "NewerPayloadError";
  }
}

/** Thrown when a job is gone or another process has it, because its lock expired while this process was slow. */
export class LostJobError extends LetGo {
  constructor(what: string, options: { cause?: unknown } = {}) {
    super(`${what}: another process has the job now`, options);
    this.name = "LostJobError";
  }
}
