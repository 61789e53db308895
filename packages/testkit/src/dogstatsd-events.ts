/** DogStatsD's events (`_e`) and service checks (`_sc`). */
import { parseTags, parseTimestamp, refuse } from "./dogstatsd-fields.ts";

export interface ServiceEvent {
  readonly kind: "event" | "check";
  /** An event's title, a check's name. */
  readonly name: string;
  /** An event's text, a check's message. */
  readonly text: string;
  /** A check's 0 (ok) to 3 (unknown). */
  readonly status: number | undefined;
  readonly tags: readonly string[];
  /** The other fields by their letter, such as `d` (Unix seconds), `h` (host), `k`, `p`, `s`, `t`. */
  readonly fields: Readonly<Record<string, string>>;
  readonly line: string;
}

const PRIORITIES = ["normal", "low"];
const ALERT_TYPES = ["error", "warning", "info", "success"];

/** @throws {DogstatsdSyntaxError} */
export function parseServiceEvent(line: string): ServiceEvent {
  return line.startsWith("_e") ? parseEvent(line) : parseCheck(line);
}

/** `_e{<bytes of title>,<bytes of text>}:<title>|<text>|<fields>` */
function parseEvent(line: string): ServiceEvent {
  const head = /^_e\{([1-9]\d*),(\d+)\}:/.exec(line);
  if (head === null) return refuse("bad event header", line);
  const body = Buffer.from(line.slice(head[0].length));
  const titleBytes = Number(head[1]);
  const textEnd = titleBytes + 1 + Number(head[2]);
  if (body.length < textEnd || body[titleBytes] !== 0x7c) refuse("event lengths do not fit", line);
  if (body.length > textEnd && body[textEnd] !== 0x7c) refuse("event lengths do not fit", line);
  const { tags, fields } = parseFields(body.subarray(textEnd + 1).toString(), "dhkpstce", line);
  if (fields["p"] !== undefined && !PRIORITIES.includes(fields["p"])) refuse("unknown priority", line);
  if (fields["t"] !== undefined && !ALERT_TYPES.includes(fields["t"])) refuse("unknown alert type", line);
  const name = body.subarray(0, titleBytes).toString();
  return { kind: "event", name, text: body.subarray(titleBytes + 1, textEnd).toString(), status: undefined, tags, fields, line };
}

/** `_sc|<name>|<status>|<fields>`, the message `m:` last. */
function parseCheck(line: string): ServiceEvent {
  const [, name = "", status = "", ...rest] = line.split("|");
  if (name === "") refuse("check without a name", line);
  if (!/^[0-3]$/.test(status)) refuse("check status not 0 to 3", line);
  const messageAt = rest.findIndex((field) => field.startsWith("m:"));
  if (messageAt >= 0 && messageAt !== rest.length - 1) refuse("a check's message must be last", line);
  const { tags, fields } = parseFields(rest.join("|"), "dhmce", line);
  return { kind: "check", name, text: fields["m"] ?? "", status: Number(status), tags, fields, line };
}

function parseFields(text: string, letters: string, line: string): Pick<ServiceEvent, "tags" | "fields"> {
  const fields: Record<string, string> = {};
  let tags: string[] | undefined;
  for (const field of text === "" ? [] : text.split("|")) {
    if (field.startsWith("#")) {
      if (tags !== undefined) refuse("tags twice", line);
      tags = parseTags(field.slice(1), line);
      continue;
    }
    const letter = field.slice(0, 1);
    if (letter === "" || !letters.includes(letter) || field[1] !== ":") refuse(`unknown field ${JSON.stringify(field)}`, line);
    if (letter in fields) refuse(`field ${letter} twice`, line);
    fields[letter] = field.slice(2);
  }
  if (fields["d"] !== undefined) parseTimestamp(fields["d"], line);
  return { tags: tags ?? [], fields };
}
