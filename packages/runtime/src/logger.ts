/** Structured logs on standard output. Messages are static; what varies is in the fields. */
import { pino, type Logger as PinoLogger, type LoggerOptions } from "pino";

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

/** A JSON logger; `role` is in every line. Writes to standard output, or where it is told to. */
export function createLogger(role: string, level: string, destination?: { write(line: string): void }): Logger {
  const options: LoggerOptions = {
    level,
    base: { role },
    redact: { paths: REDACTED, censor: "[redacted]" },
    formatters: { level: (label) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}
