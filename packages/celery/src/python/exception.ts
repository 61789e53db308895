/**
 * Finds the exception with which a task really failed, as a Python `repr`.
 *
 * For hard time limits, killed pool processes (the OOM killer) and, in Celery 5.2, every failure in a thread pool, Celery sends billiard's
 * wrapper `ExceptionWithTraceback()` instead (billiard/einfo.py). It contains neither class nor message. The traceback of the same event ends
 * with both, so they are read from there. The traceback itself stays as it was sent.
 *
 * For retries, thread pools and solo pools send a `Retry` that contains the exception; it is unwrapped.
 *
 * A message may quote a traceback, and a quoted one looks like a real one. Text that is indented, has no frames, or is between a wrapper's
 * quotes is part of a message. So is every traceback after a message that quotes one: the exception with that message may have been the cause
 * of another, but the text does not show which, and the chain may be quoted too.
 *
 * Everything here takes linear time, because a task's sender controls these texts.
 */
import { MAX_TEXT_LENGTH } from "./text.ts";

const WRAPPER = "ExceptionWithTraceback";
/** The wrapper prints the traceback of the wrapped exception between quotes. */
const QUOTED = `${WRAPPER}: \n"""\n`;
const QUOTES = '"""';
/** A wrapper may contain another; Celery never nests more than this. */
const MAX_WRAPPERS = 8;

const RETRY = "Retry(Retry(...), ";
const WHEN = /^, (?:None|[\d.e+-]+)\)$/;

const HEADER = "Traceback (most recent call last):";
const GROUP_HEADER = `  + Exception Group ${HEADER}`;
/** The prefix of each line of an exception group. */
const GROUP_MARGIN = "  | ";
const FRAME = '  File "';
/** The separators between chained tracebacks; the last traceback belongs to the raised exception (CPython's Lib/traceback.py). */
const CHAINS = [
  "\nThe above exception was the direct cause of the following exception:\n\n",
  "\nDuring handling of the above exception, another exception occurred:\n\n",
];

/** The class with its module, as `module.f.<locals>.Name` within a function, then the message. A module is named after its file. */
const ERROR_LINE = /^([\p{XIDC}.<>-]+)(?:: ?|$)/u;
/** Python identifiers. */
const CLASS = /^[\p{XIDS}_]\p{XIDC}*$/u;
const MAX_CLASS_LENGTH = 512;

/**
 * `exception` as Celery sent it, or the exception in the traceback if `exception` is only billiard's wrapper and the traceback can be read.
 * The message of the result is the last line's, with the lines that follow it (more lines of the message, or notes).
 */
export function realException(exception: string, traceback: string): string {
  if (exception.startsWith(RETRY)) return retriedException(exception);
  if (!isWrapper(exception)) return exception;
  const error = lastError(traceback);
  // A copy: a slice would keep the whole traceback in memory.
  return error === undefined ? exception : Buffer.from(error).toString();
}

/** Thread pools and solo pools send the `Retry` itself, with its exception and time; process pools send the exception, or `None`. */
function retriedException(exception: string): string {
  const comma = exception.lastIndexOf(", ");
  const end = WHEN.test(exception.slice(comma)) ? comma : exception.lastIndexOf(", datetime.datetime(");
  return end <= RETRY.length ? exception : Buffer.from(exception.slice(RETRY.length, end)).toString();
}

/** `ExceptionWithTraceback()`, or a text that quotes it, such as `<MaybeEncodingError: …>` for an exception that cannot be pickled. */
function isWrapper(exception: string): boolean {
  return exception.startsWith(`${WRAPPER}(`) || (exception.startsWith("<") && exception.includes(`${WRAPPER}(`));
}

function lastError(traceback: string): string | undefined {
  let text = traceback;
  for (let wrappers = 0; wrappers < MAX_WRAPPERS; wrappers += 1) {
    const start = text.indexOf(QUOTED);
    if (start === -1) return toRepr(errorText(lastTraceback(text)));
    const end = text.lastIndexOf(QUOTES);
    const isClosed = end >= start + QUOTED.length;
    const after = isClosed ? lastTraceback(text.slice(end)) : "";
    if (after.includes(HEADER)) return toRepr(errorText(after));
    text = text.slice(start + QUOTED.length, isClosed ? end : undefined);
  }
  return undefined;
}

/** Removes the tracebacks of causes and contexts. */
function lastTraceback(text: string): string {
  let start = 0;
  let quotes = 0;
  let isMessage = false;
  for (let position = 0, before = ""; position < text.length;) {
    const end = endOfLine(text, position);
    const next = end + 1;
    const line = text.slice(position, end);
    if (line === QUOTES) {
      if (/: ?$/.test(before)) quotes += 1;
      else if (quotes > 0) quotes -= 1;
    } else if (quotes === 0) {
      const chained = CHAINS.find((chain) => text.startsWith(chain, position - 1) && isTraceback(text, position - 1 + chain.length));
      if (chained !== undefined) {
        start = position - 1 + chained.length;
        isMessage = false;
        position = endOfLine(text, start) + 1;
        continue;
      }
      const isIndented = line.startsWith(" ");
      const isQuoting = !isIndented && line.endsWith(HEADER) && (isMessage || line !== HEADER);
      if (isQuoting && text.startsWith(FRAME, next)) break;
      isMessage ||= !isIndented && line !== "" && line !== HEADER;
    }
    before = line;
    position = next;
  }
  return text.slice(start);
}

function isTraceback(text: string, start: number): boolean {
  if (text.startsWith(GROUP_HEADER, start)) return true;
  return text.startsWith(`${HEADER}\n${FRAME}`, start);
}

/** The lines after the frames: `module.Class: message`, and what follows. */
function errorText(traceback: string): string | undefined {
  const isGroup = traceback.startsWith(GROUP_HEADER);
  const text = isGroup ? withoutMargin(traceback) : traceback;
  let position = firstFrame(text);
  while (position < text.length) {
    const end = endOfLine(text, position);
    const isFrame = text[position] === " " || end === position;
    if (!isFrame) return text.slice(position, position + MAX_CLASS_LENGTH + MAX_TEXT_LENGTH);
    position = end + 1;
  }
  return undefined;
}

/** Starts after the header. Without a header (its beginning was cut) starts at the first frame; without frames, at the beginning. */
function firstFrame(text: string): number {
  const header = text.startsWith(HEADER) ? 0 : text.indexOf(`\n${HEADER}\n`);
  if (header !== -1) return endOfLine(text, header + 1) + 1;
  return text.startsWith(FRAME) ? 0 : text.indexOf(`\n${FRAME}`) + 1;
}

/** Treats an exception group as a plain exception, and drops the exceptions in it. */
function withoutMargin(group: string): string {
  const lines = [HEADER];
  for (let start = endOfLine(group, 0) + 1; group.startsWith(GROUP_MARGIN, start);) {
    const end = endOfLine(group, start);
    lines.push(group.slice(start + GROUP_MARGIN.length, end));
    start = end + 1;
  }
  return lines.join("\n");
}

/** The position of the line break after `start`, or the end of the text. */
function endOfLine(text: string, start: number): number {
  const end = text.indexOf("\n", start);
  return end === -1 ? text.length : end;
}

function toRepr(error: string | undefined): string | undefined {
  if (error === undefined) return undefined;
  const line = error.slice(0, MAX_CLASS_LENGTH).split("\n", 1)[0] ?? "";
  const [start = "", path = ""] = ERROR_LINE.exec(line) ?? [];
  const name = path.slice(path.lastIndexOf(".") + 1);
  if (!CLASS.test(name)) return undefined;
  const message = error.slice(start.length).replace(/\n$/, "");
  if (message === "") return `${name}()`;
  // Some classes, such as TimeLimitExceeded, have their `repr` as their text.
  if (message.startsWith(`${name}(`) && message.endsWith(")")) return message;
  // The text of a KeyError is the `repr` of its key.
  return name === "KeyError" ? `${name}(${message})` : `${name}(${pythonRepr(message)})`;
}

const ESCAPES = new Map([
  ["\\", "\\\\"],
  ["\n", "\\n"],
  ["\r", "\\r"],
  ["\t", "\\t"],
]);
/** Characters that `str.isprintable` rejects, and those that delimit or escape. */
const TO_ESCAPE = /(?! )[\\'\p{C}\p{Z}]/gu;

/** Writes a text as Python's `repr` does. */
function pythonRepr(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replaceAll(TO_ESCAPE, (character) =>
    character === "'" ? (quote === "'" ? "\\'" : "'") : (ESCAPES.get(character) ?? escapedCode(character)),
  );
  return quote + escaped + quote;
}

function escapedCode(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  const digits = code.toString(16);
  if (code <= 0xff) return `\\x${digits.padStart(2, "0")}`;
  return code <= 0xffff ? `\\u${digits.padStart(4, "0")}` : `\\U${digits.padStart(8, "0")}`;
}
