/** Log lines for people. */

interface Entry {
  readonly level?: string;
  readonly time?: string;
  readonly role?: string;
  readonly msg?: string;
  readonly err?: { readonly message?: string; readonly stack?: string };
}

const COLORS: Readonly<Record<string, number>> = { trace: 90, debug: 90, info: 32, warn: 33, error: 31, fatal: 31 };

/**
 * Formats one of our JSON log lines as text: time of day, level, role, message and fields, with an error's stack below. Returns a line that is
 * not JSON unchanged.
 */
export function readableLine(line: string, inColor: boolean): string {
  let entry: Entry;
  try {
    entry = JSON.parse(line) as Entry;
  } catch {
    return line;
  }
  const { level = "", time = "", role, msg, err, ...fields } = entry;
  const color = (code: number, text: string): string => (inColor ? `\u001B[${code}m${text}\u001B[0m` : text);
  const parts = [
    color(90, timeOfDay(time)),
    color(COLORS[level] ?? 0, level.toUpperCase().padEnd(5)),
    ...(role === undefined ? [] : [color(36, `${printable(role)}:`)]),
    printable(msg ?? err?.message ?? ""),
    ...Object.entries(fields).map(([name, value]) => `${color(90, `${name}=`)}${shown(value)}`),
  ];
  const stack = err === undefined ? "" : `${printable(err.stack ?? err.message ?? shown(err)).replace(/^/gm, "    ")}\n`;
  return `${parts.join(" ")}\n${stack}`;
}

function timeOfDay(iso: string): string {
  const time = new Date(iso);
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

/** Quotes a value only if it could be read as several fields. */
function shown(value: unknown): string {
  return typeof value === "string" && /^[^\s"=]+$/.test(value) ? printable(value) : printable(JSON.stringify(value));
}

/** Escapes control characters: values come from task senders, which must not control the terminal. */
function printable(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]/gu, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
