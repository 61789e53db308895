/** Structured logs on standard output. Messages are static; what varies is in the fields. */
import { pino, type Logger as PinoLogger } from "pino";

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

/** A JSON logger; `role` is in every line. */
export function createLogger(role: string, level: string): Logger {
  return pino({
    level,
    base: { role },
    redact: { paths: REDACTED, censor: "[redacted]" },
    formatters: { level: (label) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
  });
}
