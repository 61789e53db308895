/** Structured logs on standard output. Messages are static; what varies is in the fields. */
import { type Logger as PinoLogger, type LoggerOptions, pino, stdSerializers } from "pino";
import { fstatSync, writeSync } from "node:fs";
import { readableLine } from "./readable-line.ts";

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

// Where log lines go: standard output, which may be full, closed or blocked. Lines are lost then; the process goes on.

/** `auto` is `text` on a terminal and `json` elsewhere. */
export type LogFormat = "auto" | "json" | "text";

/** Whether log lines are for people: key=value text instead of JSON. */
export function isTextFormat(format: LogFormat): boolean {
  return format === "text" || (format === "auto" && process.stdout.isTTY);
}

export interface LogOutput {
  /** Never throws, never waits. */
  write(line: string): void;
}

/** What may wait for a reader. Past it, lines are lost: a reader that has stopped must not cost memory without end. */
const MAX_WAITING_BYTES = 1_024 * 1_024;

/** Standard output. When lines can be written again after some were lost, a line says how many. */
export function standardOutput(format: LogFormat): LogOutput {
  const { stdout } = process;
  const inColor = stdout.isTTY && stdout.hasColors();
  const asText = isTextFormat(format);
  const write = isFile() ? createFileWriter() : createStreamWriter();
  let lost = 0;
  const put = (line: string): boolean => write(asText ? readableLine(line, inColor) : line);
  return {
    write(line) {
      if (
        lost > 0 &&
        put(`${JSON.stringify({ level: "warn", time: new Date().toISOString(), lines: lost, msg: "log lines were lost" })}\n`)
      ) {
        lost = 0;
      }
      if (lost > 0 || !put(line)) lost += 1;
    },
  };
}

/** Returns whether all of the text has been taken. */
type Writer = (text: string) => boolean;

/** Of a pipe, a socket or a terminal, which may have a reader that is slow, has stopped, or is gone. */
function createStreamWriter(): Writer {
  const { stdout } = process;
  // An error without a listener would end the process.
  if (stdout.listenerCount("error") === 0) stdout.on("error", () => {});
  // Node waits for a terminal, which Ctrl-S stops for as long as one likes.
  (stdout as { readonly _handle?: { setBlocking?(blocking: boolean): void } })._handle?.setBlocking?.(false);
  return (text) => {
    if (stdout.errored !== null || stdout.writableLength > MAX_WAITING_BYTES) return false;
    stdout.write(text);
    return true;
  };
}

/** Of a file or a device. Node's own stream would never write again after an error, such as a full disk. */
function createFileWriter(): Writer {
  let isTorn = false;
  return (text) => {
    // What was cut off in the middle of a line ends there.
    const bytes = Buffer.from(isTorn ? `\n${text}` : text);
    let written = 0;
    try {
      while (written < bytes.length) written += writeSync(1, bytes, written);
      isTorn = false;
      return true;
    } catch {
      if (written > 0) isTorn = true;
      return false;
    }
  };
}

function isFile(): boolean {
  try {
    const status = fstatSync(1);
    return status.isFile() || (status.isCharacterDevice() && !process.stdout.isTTY);
  } catch {
    return true;
  }
}
