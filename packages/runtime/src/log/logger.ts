/** Structured logs on standard output. Messages are static; fields carry the variable parts. */
import { type Logger as PinoLogger, type LoggerOptions, pino, stdSerializers } from "pino";
import { fstatSync, writeSync } from "node:fs";
import { readableLine } from "./readable-line.ts";

export type Logger = PinoLogger;

/** Fields that contain user data or secrets, in case they are logged by mistake. */
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
 * Omits the command from an error: ioredis attaches it with its arguments, which may contain a password or task data. A cluster's error
 * contains the errors of its nodes.
 */
function serializeError(error: unknown): unknown {
  return error instanceof Error ? withoutCommands(stdSerializers.err(error)) : error;
}

const WITH_ARGUMENTS: ReadonlySet<string> = new Set(["command", "previousErrors"]);

/** Descends only into plain JSON values. pino handles the rest, which may be circular. */
function withoutCommands(shown: object): Record<string, unknown> {
  const fields = Object.entries(shown).filter(([field]) => !WITH_ARGUMENTS.has(field));
  return Object.fromEntries(fields.map(([field, value]) => [field, Array.isArray(value) ? value.map(shownWithin) : shownWithin(value)]));
}

function shownWithin(value: unknown): unknown {
  return isError(value) ? withoutCommands(value) : value;
}

/** Matches the form in which pino's serializer leaves a nested error. */
function isError(value: unknown): value is object {
  return typeof value === "object" && value !== null && "message" in value && "stack" in value;
}

/** Creates a logger of JSON lines. Every line contains `role`, if given. */
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

// Log output. If standard output is full, closed or blocked, lines are lost and the process keeps running.

/** `auto` is `text` on a terminal and `json` elsewhere. */
export type LogFormat = "auto" | "json" | "text";

/** Whether log lines are key=value text for people instead of JSON. */
export function isTextFormat(format: LogFormat): boolean {
  return format === "text" || (format === "auto" && process.stdout.isTTY);
}

export interface LogOutput {
  /** Never throws and never blocks. */
  write(line: string): void;
}

/** Limit on buffered output. Beyond it, lines are dropped: a stalled reader must not cost unbounded memory. */
const MAX_WAITING_BYTES = 1_024 * 1_024;

/** Writes to standard output. After lost lines, the first line that can be written says how many. */
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

/** Returns whether all of the text was accepted. */
type Writer = (text: string) => boolean;

/** For a pipe, socket or terminal, whose reader may be slow, stalled or gone. */
function createStreamWriter(): Writer {
  const { stdout } = process;
  // Without a listener, an error would end the process.
  if (stdout.listenerCount("error") === 0) stdout.on("error", () => {});
  // Node blocks on a terminal, and Ctrl-S can pause a terminal indefinitely.
  (stdout as { readonly _handle?: { setBlocking?(blocking: boolean): void } })._handle?.setBlocking?.(false);
  return (text) => {
    if (stdout.errored !== null || stdout.writableLength > MAX_WAITING_BYTES) return false;
    stdout.write(text);
    return true;
  };
}

/** For a file or a device. Node's own stream stops writing for good after an error such as a full disk. */
function createFileWriter(): Writer {
  let isTorn = false;
  return (text) => {
    // Ends a line that was cut off.
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
