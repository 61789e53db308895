/** A strict parser of DogStatsD datagrams, protocol versions 1.0 to 1.6: it refuses anything that an agent would silently drop, cut or rewrite. */

/** The type codes on the wire: `c`, `g`, `h`, `d`, `ms` and `s`. */
export type MetricType = "count" | "gauge" | "histogram" | "distribution" | "timing" | "set";

export interface DogstatsdMetric {
  readonly kind: "metric";
  readonly name: string;
  readonly type: MetricType;
  /** Several values if packed (1.1). The members of a set are not numbers, and are in `members`. */
  readonly values: readonly number[];
  readonly members: readonly string[];
  /** 1 if the line contains none. */
  readonly sampleRate: number;
  readonly tags: readonly string[];
  /** Unix seconds (1.3); only for counts and gauges. */
  readonly timestamp: number | undefined;
  readonly containerId: string | undefined;
  readonly externalData: string | undefined;
  readonly cardinality: string | undefined;
  readonly line: string;
}

/** An event (`_e`) or a service check (`_sc`). */
interface ServiceEvent {
  readonly kind: "event" | "check";
  /** An event's title or a check's name. */
  readonly name: string;
  /** An event's text or a check's message. */
  readonly text: string;
  /** A check's status, from 0 (ok) to 3 (unknown). */
  readonly status: number | undefined;
  readonly tags: readonly string[];
  /** The other fields by their letter, such as `d` (Unix seconds), `h` (host), `k`, `p`, `s`, `t`. */
  readonly fields: Readonly<Record<string, string>>;
  readonly line: string;
}

export type DogstatsdMessage = DogstatsdMetric | ServiceEvent;

const TYPES: Readonly<Record<string, MetricType>> = { c: "count", g: "gauge", h: "histogram", d: "distribution", ms: "timing", s: "set" };
const CARDINALITIES = ["none", "low", "orchestrator", "high"];
const NAME = /^[A-Za-z][A-Za-z0-9_.]*$/;
const MAX_NAME_CHARACTERS = 200;
const DECIMAL = /^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/;

/**
 * Every message of one datagram, in order.
 *
 * @throws {DogstatsdSyntaxError} for the first error; then no message of the datagram is returned.
 */
export function parseDatagram(datagram: Uint8Array): DogstatsdMessage[] {
  const lines = decodeUtf8(datagram).split("\n");
  if (lines.length > 1 && lines.at(-1) === "") lines.pop();
  return lines.map(parseLine);
}

/** One message, without its newline. @throws {DogstatsdSyntaxError} */
export function parseLine(line: string): DogstatsdMessage {
  if (line === "") return refuse("empty line", line);
  if (line.startsWith("_e") || line.startsWith("_sc|")) return parseServiceEvent(line);
  return parseMetric(line);
}

function parseMetric(line: string): DogstatsdMetric {
  const [head = "", typeCode = "", ...rest] = line.split("|");
  const [name = "", ...texts] = head.split(":");
  if (!NAME.test(name) || name.length > MAX_NAME_CHARACTERS) refuse("bad metric name", line);
  const type = TYPES[typeCode] ?? refuse(`unknown type ${JSON.stringify(typeCode)}`, line);
  if (texts.length === 0) refuse("no value", line);
  if (type === "set" && texts.length > 1) refuse("a set cannot be packed", line);
  const fields = parseFields(rest, line);
  if (fields.timestamp !== undefined && type !== "count" && type !== "gauge") refuse(`a timestamp on a ${type}`, line);
  if (fields.sampleRate !== 1 && (type === "gauge" || type === "set")) refuse(`a sample rate on a ${type}`, line);
  return {
    kind: "metric",
    name,
    type,
    values: type === "set" ? [] : texts.map((text) => parseNumber(text, line)),
    members: type === "set" ? texts.map((text) => (text === "" ? refuse("empty value", line) : text)) : [],
    ...fields,
    line,
  };
}

type MetricFields = Pick<DogstatsdMetric, "sampleRate" | "tags" | "timestamp" | "containerId" | "externalData" | "cardinality">;

/** The fields after the type, in any order, each at most once. */
function parseFields(fields: readonly string[], line: string): MetricFields {
  const found = new Map<string, string>();
  for (const field of fields) {
    const prefix = ["@", "#", "T", "card:", "c:", "e:"].find((candidate) => field.startsWith(candidate));
    if (prefix === undefined) refuse(`unknown field ${JSON.stringify(field)}`, line);
    else if (found.has(prefix)) refuse(`field ${prefix} twice`, line);
    else if (field === prefix) refuse(`field ${prefix} without a value`, line);
    else found.set(prefix, field.slice(prefix.length));
  }
  const rate = found.get("@");
  const tags = found.get("#");
  const timestamp = found.get("T");
  const cardinality = found.get("card:");
  if (cardinality !== undefined && !CARDINALITIES.includes(cardinality)) refuse("unknown cardinality", line);
  return {
    sampleRate: rate === undefined ? 1 : parseRate(rate, line),
    tags: tags === undefined ? [] : parseTags(tags, line),
    timestamp: timestamp === undefined ? undefined : parseTimestamp(timestamp, line),
    containerId: found.get("c:"),
    externalData: found.get("e:"),
    cardinality,
  };
}

function parseNumber(text: string, line: string): number {
  const value = Number(text);
  return DECIMAL.test(text) && Number.isFinite(value) ? value : refuse(`bad number ${JSON.stringify(text)}`, line);
}

function parseRate(text: string, line: string): number {
  const rate = parseNumber(text, line);
  return rate > 0 && rate <= 1 ? rate : refuse("sample rate not in (0, 1]", line);
}

function decodeUtf8(datagram: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(datagram);
  } catch {
    throw new DogstatsdSyntaxError("not UTF-8", Buffer.from(datagram).toString("latin1"));
  }
}

const PRIORITIES = ["normal", "low"];
const ALERT_TYPES = ["error", "warning", "info", "success"];

/** @throws {DogstatsdSyntaxError} */
function parseServiceEvent(line: string): ServiceEvent {
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
  const { tags, fields } = parseServiceFields(body.subarray(textEnd + 1).toString(), "dhkpstce", line);
  if (fields["p"] !== undefined && !PRIORITIES.includes(fields["p"])) refuse("unknown priority", line);
  if (fields["t"] !== undefined && !ALERT_TYPES.includes(fields["t"])) refuse("unknown alert type", line);
  const name = body.subarray(0, titleBytes).toString();
  return { kind: "event", name, text: body.subarray(titleBytes + 1, textEnd).toString(), status: undefined, tags, fields, line };
}

/** `_sc|<name>|<status>|<fields>`, with the message `m:` last. */
function parseCheck(line: string): ServiceEvent {
  const [, name = "", status = "", ...rest] = line.split("|");
  if (name === "") refuse("check without a name", line);
  if (!/^[0-3]$/.test(status)) refuse("check status not 0 to 3", line);
  const messageAt = rest.findIndex((field) => field.startsWith("m:"));
  if (messageAt >= 0 && messageAt !== rest.length - 1) refuse("a check's message must be last", line);
  const { tags, fields } = parseServiceFields(rest.join("|"), "dhmce", line);
  return { kind: "check", name, text: fields["m"] ?? "", status: Number(status), tags, fields, line };
}

function parseServiceFields(text: string, letters: string, line: string): Pick<ServiceEvent, "tags" | "fields"> {
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

export class DogstatsdSyntaxError extends Error {
  override readonly name = "DogstatsdSyntaxError";
  readonly reason: string;
  readonly line: string;

  constructor(reason: string, line: string) {
    super(`${reason} in ${JSON.stringify(line)}`);
    this.reason = reason;
    this.line = line;
  }
}

/** Throws. Typed so that it can be used as a value. */
function refuse(reason: string, line: string): never {
  throw new DogstatsdSyntaxError(reason, line);
}

const MAX_TAG_CHARACTERS = 200;
/** Datadog's rule: a letter first. An agent would rewrite white space and control characters. */
const TAG = /^\p{L}[^\s\p{Cc}|,]*$/u;

/**
 * A list `key:value,key2:value2,key3`. A key may occur again with another value, as Datadog allows.
 *
 * @throws {DogstatsdSyntaxError} for tags that are empty, repeated, too long, malformed, or without a value after their colon.
 */
function parseTags(list: string, line: string): string[] {
  const tags = list.split(",");
  for (const tag of tags) {
    if (tag === "") refuse("empty tag", line);
    if (!TAG.test(tag)) refuse(`bad tag ${JSON.stringify(tag)}`, line);
    if (tag.endsWith(":")) refuse(`tag ${JSON.stringify(tag)} without a value`, line);
    if (tag.length > MAX_TAG_CHARACTERS) refuse("tag too long", line);
  }
  if (new Set(tags).size < tags.length) refuse("repeated tag", line);
  return tags;
}

/** Whole, positive Unix seconds. @throws {DogstatsdSyntaxError} */
function parseTimestamp(text: string, line: string): number {
  return /^[1-9]\d*$/.test(text) ? Number(text) : refuse(`bad timestamp ${JSON.stringify(text)}`, line);
}
