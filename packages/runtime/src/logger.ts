/** Structured logs on standard output. Messages are static; what varies is in the fields. */
import { pino, stdSerializers, type Logger as PinoLogger, type LoggerOptions } from "pino";

export type Logger = PinoLogger;

/** Fields that hold user data or secrets, wherever someone logs them by mistake. */
const REDACTED = [
  "args",
  "kwargs",
  "result",
  "traceback",
  "password",
  "url",
  "*.args",
  "*.kwargs",
  "*.result",
  "*.traceback",
  "*.password",
  "*.url",
];

/**
 * An error without what it was doing: ioredis keeps the command and its arguments in it, which may be a password or what users put into
 * their tasks.
 */
function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { command: _command, previousErrors: _previousErrors, ...shown } = stdSerializers.err(error);
  return shown;
}

/** A JSON logger; `role`, if given, is in every line. Writes to standard output, or where it is told to. */
export function createLogger(role: string | undefined, level: string, destination?: { write(line: string): void }): Logger {
  const options: LoggerOptions = {
    level,
    base: role === undefined ? {} : { role },
    serializers: { err: serializeError },
    redact: { paths: REDACTED, censor: "[redacted]" },
    formatters: { level: (label) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}
