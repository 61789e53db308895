/** A strict parser of DogStatsD datagrams, protocol versions 1.0 to 1.6: it refuses what an agent would silently drop, cut or rewrite. */
import { parseServiceEvent, type ServiceEvent } from "./dogstatsd-events.ts";
import { DogstatsdSyntaxError, parseTags, parseTimestamp, refuse } from "./dogstatsd-fields.ts";

/** The wire's `c`, `g`, `h`, `d`, `ms` and `s`. */
export type MetricType = "count" | "gauge" | "histogram" | "distribution" | "timing" | "set";

export interface DogstatsdMetric {
  readonly kind: "metric";
  readonly name: string;
  readonly type: MetricType;
  /** Several when packed (1.1). A set's members are not numbers: they are in `members`. */
  readonly values: readonly number[];
  readonly members: readonly string[];
  /** 1 when the line names none. */
  readonly sampleRate: number;
  readonly tags: readonly string[];
  /** Unix seconds (1.3), only of counts and gauges. */
  readonly timestamp: number | undefined;
  readonly containerId: string | undefined;
  readonly externalData: string | undefined;
  readonly cardinality: string | undefined;
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
 * @throws {DogstatsdSyntaxError} for the first thing wrong; then nothing of the datagram is given.
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

/** What follows the type, in any order, each at most once. */
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
