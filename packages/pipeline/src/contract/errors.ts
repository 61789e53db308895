import { CodedError } from "@celery-metrics-exporter/runtime";

/**
 * Thrown by an exporter when the data itself is at fault, so that no retry can help. The host splits the batch until the bad event is alone,
 * and puts that one into the dead-letter queue if there is evidence that the event is at fault: others like it got through since.
 */
export class PermanentError extends CodedError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("ERR_EVENT_REFUSED", message, options);
  }
}

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
