/** Structured logs on standard output. Messages are static; what varies is in the fields. */
import { pino, stdSerializers, type Logger as PinoLogger, type LoggerOptions } from "pino";
import { standardOutput, type LogOutput } from "./log-output.ts";

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
 * their tasks. An error of a cluster holds those of its nodes.
 */
function serializeError(error: unknown): unknown {
  return error instanceof Error ? withoutCommands(stdSerializers.err(error)) : error;
}

const WITH_ARGUMENTS: ReadonlySet<string> = new Set(["command", "previousErrors"]);

/** Leaves what is not JSON, and so what could hold itself, to pino. */
function withoutCommands(shown: object): Record<string, unknown> {
  const fields = Object.entries(shown).filter(([field]) => !WITH_ARGUMENTS.has(field));
  return Object.fromEntries(fields.map(([field, value]) => [field, Array.isArray(value) ? value.map(shownWithin) : shownWithin(value)]));
}

function shownWithin(value: unknown): unknown {
  return isError(value) ? withoutCommands(value) : value;
}

/** As pino's serializer leaves an error within an error. */
function isError(value: unknown): value is object {
  return typeof value === "object" && value !== null && "message" in value && "stack" in value;
}

/** A logger of JSON lines; `role`, if given, is in every line. */
export function createLogger(role: string | undefined, level: string, output: LogOutput = standardOutput("json")): Logger {
  const options: LoggerOptions = {
    level,
    base: role === undefined ? {} : { role },
    serializers: { err: serializeError },
    redact: { paths: REDACTED, censor: "[redacted]" },
    formatters: { level: (label) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
  };
  return pino(options, output);
}
