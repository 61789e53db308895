import { CodedError } from "@celery-metrics-exporter/runtime";

/**
 * Thrown by an exporter when the data itself is at fault, so that no retry can help. The host splits the batch until the bad event is alone,
 * and puts that one into the dead-letter queue if there is evidence that the event is at fault: the sink takes others.
 */
export class PermanentError extends CodedError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("ERR_EVENT_REFUSED", message, options);
  }
}

/** Thrown for a payload of a newer release. It is not bad data: the job is kept for a process that can read it. */
export class NewerPayloadError extends Error {
  constructor(what: string, version: number) {
    super(`${what} of version ${version}, written by a newer release`);
    this.name = "NewerPayloadError";
  }
}
