import { CodedError } from "@celery-metrics-exporter/runtime";

/**
 * Thrown by an exporter when the data itself is at fault, so that no retry can help. The host splits the batch until the bad event stands
 * alone, and puts that one into the dead-letter queue.
 */
export class PermanentError extends CodedError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("ERR_EVENT_REFUSED", message, options);
  }
}
