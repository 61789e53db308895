/** Why a host lets go of a job as it is. */

/** Thrown to let go of a job as it is: it says nothing about its data, and whoever repeats what fails passes it on at once. */
export abstract class LetGo extends Error {}

/** Thrown for a payload of a newer release. It is not bad data: the job is kept for a process that can read it. */
export class NewerPayloadError extends LetGo {
  constructor(what: string, version: number) {
    super(`${what} of version ${version}, written by a newer release`);
    this.name = "NewerPayloadError";
  }
}

/** Thrown when a job is gone, or another process has it: its lock had expired while this one was slow. */
export class LostJobError extends LetGo {
  constructor(what: string, options: { cause?: unknown } = {}) {
    super(`${what}: the job is another's meanwhile`, options);
    this.name = "LostJobError";
  }
}
