/** A command line we cannot make sense of. */
import { CodedError } from "@celery-metrics-exporter/runtime";

/** The command line is wrong (`EX_USAGE` of BSD `sysexits.h`). */
const EXIT_USAGE = 64;

/** Thrown when a command or option is unknown, or an option lacks its value. */
export class UsageError extends CodedError {
  constructor(message: string) {
    super("ERR_USAGE", message, { exitCode: EXIT_USAGE });
  }
}
