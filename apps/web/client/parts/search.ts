/** The language of the search bar: qualifiers such as `state:failure`, and any other text. */
import { duration } from "./format.ts";

/** A filter as it is written and shown. `parameter` is its name in the API. */
export interface Filter {
  readonly qualifier: string;
  readonly value: string;
  readonly parameter: string;
  /** The value in the API. */
  readonly wanted: string;
}

export interface Problem {
  /** The first character that is wrong, counted from 1. */
  readonly at: number;
  readonly message: string;
}

const STATES = ["failure", "retry", "started", "received", "sent", "success", "revoked", "rejected"] as const;

/** Qualifiers by what is known of their values. */
const PARAMETERS: ReadonlyMap<string, string> = new Map([
  ["state", "status"],
  ["name", "name"],
  ["queue", "queue"],
  ["worker", "worker"],
  ["exception", "exception"],
  ["runtime", "runtime_min"],
  ["wait", "wait_min"],
  ["retries", "retries_min"],
  ["id", "id"],
  ["root", "root"],
  ["parent", "parent"],
  ["text", "text"],
]);
/** `is:lost` is the parameter `lost=true`. */
const FLAGS: readonly string[] = ["lost"];
const QUALIFIERS: readonly { readonly name: string; readonly hint: string }[] = [
  { name: "state", hint: "such as failure" },
  { name: "is", hint: "lost: unfinished, and its worker is gone" },
  { name: "name", hint: "such as shop.*" },
  { name: "queue", hint: "such as celery" },
  { name: "worker", hint: "such as *@atlas" },
  { name: "exception", hint: "text in the exception" },
  { name: "kwargs.", hint: "an argument: kwargs.customer_id:1234" },
  { name: "args.", hint: "a position: args.0:1234" },
  { name: "runtime", hint: "at least, such as 10s" },
  { name: "wait", hint: "at least, such as 5m" },
  { name: "retries", hint: "at least, such as 1" },
  { name: "id", hint: "how it begins" },
  { name: "root", hint: "id of the first task" },
  { name: "parent", hint: "id of the task that sent it" },
];

/** Parameters that a list may have several times. */
const REPEATED = new Set(["name", "queue", "worker"]);
const RANGE = new Set(["range", "from", "to", "cursor", "limit"]);

/** An argument may be written as lists show it, such as `kwargs.full=True`. */
const TOKEN = /(?:(kwargs\.[^\s:=]+(?=[:=])|args\.\d+(?=[:=])|[a-z]+(?=:))[:=])?(?:"((?:[^"\\]|\\.)*)"|(\S+))/g;
const LENGTH = /^>?=?(\d+(?:\.\d+)?)\s*([a-z]*)$/i;
const UNITS: Readonly<Record<string, number>> = { "": 1, ms: 0.001, s: 1, m: 60, min: 60, h: 3_600, d: 86_400 };

/** Reads what was typed. */
export function parseSearch(typed: string): { readonly filters: Filter[]; readonly problem?: Problem } {
  const filters: Filter[] = [];
  const words: string[] = [];
  for (const { 0: token, 1: qualifier, 2: quoted, 3: plain = "", index } of typed.matchAll(TOKEN)) {
    const value = quoted?.replace(/\\(.)/g, "$1") ?? plain;
    const parameter = qualifier === undefined ? undefined : parameterOf(qualifier, value);
    if (qualifier === undefined || parameter === undefined) {
      words.push(qualifier === undefined ? value : token);
      continue;
    }
    const wanted = wantedOf(qualifier, value);
    if (typeof wanted !== "string") {
      const at = index + qualifier.length + 2;
      return { filters, problem: { at, message: `At character ${at}: ${wanted.message}` } };
    }
    filters.push({ qualifier, value, parameter, wanted });
  }
  if (words.length > 0) filters.push({ qualifier: "text", value: words.join(" "), parameter: "text", wanted: words.join(" ") });
  return { filters };
}

function parameterOf(qualifier: string, value: string): string | undefined {
  if (qualifier === "is") return value.toLowerCase();
  return qualifier.includes(".") ? qualifier : PARAMETERS.get(qualifier);
}

function wantedOf(qualifier: string, value: string): string | { readonly message: string } {
  if (qualifier === "is") {
    if (FLAGS.includes(value.toLowerCase())) return "true";
    if (value.toLowerCase() === "stuck")
      return { message: "Stuck tasks are marked in lists, but cannot be searched for. They are among state:started." };
    return { message: `“is:${value}” is not known. There is is:${FLAGS.join(", is:")}.` };
  }
  if (qualifier === "state") {
    const states = value.toLowerCase().split(",");
    const wrong = states.find((state) => !STATES.some((known) => known === state) && state !== "pending");
    if (wrong !== undefined) return { message: `“${wrong}” is no state. The states are ${STATES.join(", ")}.` };
    return states.map((state) => (state === "sent" ? "PENDING" : state.toUpperCase())).join(",");
  }
  if (qualifier === "retries") {
    const count = /^>?=?(\d+)$/.exec(value)?.[1];
    return count ?? { message: `“${value}” is no number.` };
  }
  if (qualifier === "runtime" || qualifier === "wait") {
    const [, amount, unit = ""] = LENGTH.exec(value) ?? [];
    if (amount === undefined) return { message: `“${value}” is no time. Write 10s, 10m or 10h.` };
    const size = UNITS[unit.toLowerCase()];
    return size === undefined ? { message: `“${unit}” is no unit. Write 10s, 10m or 10h.` } : String(Number(amount) * size);
  }
  return value;
}

/** The filters of an address, one for each value. */
export function filtersOf(query: URLSearchParams): Filter[] {
  const qualifiers = new Map([...PARAMETERS].map(([qualifier, parameter]) => [parameter, qualifier]));
  return [...query].flatMap(([parameter, given]) => {
    if (FLAGS.includes(parameter)) return [{ qualifier: "is", parameter, wanted: given, value: parameter }];
    const qualifier = parameter.includes(".") ? parameter : qualifiers.get(parameter);
    if (qualifier === undefined || RANGE.has(parameter)) return [];
    const values = parameter === "status" ? given.split(",") : [given];
    return values.map((wanted) => ({ qualifier, parameter, wanted, value: shown(parameter, wanted) }));
  });
}

function shown(parameter: string, wanted: string): string {
  if (parameter === "status") return wanted === "PENDING" ? "sent" : wanted.toLowerCase();
  if (parameter === "runtime_min" || parameter === "wait_min") return `>${duration(Number(wanted))}`;
  return parameter === "retries_min" ? `>=${wanted}` : wanted;
}

export function withFilters(query: URLSearchParams, filters: readonly Filter[]): URLSearchParams {
  const result = new URLSearchParams(query);
  result.delete("cursor");
  for (const { parameter, wanted } of filters) {
    if (parameter === "status") result.set("status", [...new Set([...statusesOf(result), ...wanted.split(",")])].join(","));
    else if (!REPEATED.has(parameter)) result.set(parameter, wanted);
    else if (!result.getAll(parameter).includes(wanted)) result.append(parameter, wanted);
  }
  return result;
}

export function withoutFilter(query: URLSearchParams, { parameter, wanted }: Filter): URLSearchParams {
  const rest =
    parameter === "status"
      ? [
          statusesOf(query)
            .filter((status) => status !== wanted)
            .join(","),
        ]
      : query.getAll(parameter).filter((value) => value !== wanted);
  const result = new URLSearchParams(query);
  result.delete("cursor");
  result.delete(parameter);
  for (const value of rest) if (value !== "") result.append(parameter, value);
  return result;
}

function statusesOf(query: URLSearchParams): string[] {
  return (query.get("status") ?? "").split(",").filter((status) => status !== "");
}

export interface Suggestion {
  /** What replaces the word at the end of the text. */
  readonly text: string;
  readonly hint: string;
}

export interface Known {
  readonly names: readonly string[];
  readonly queues: readonly string[];
  readonly workers: readonly string[];
}

const MOST_SUGGESTIONS = 8;

/** How the last word could go on. */
export function suggestionsFor(typed: string, { names, queues, workers }: Known): Suggestion[] {
  const word = /\S*$/.exec(typed)?.[0] ?? "";
  if (word === "") return [];
  const colon = word.indexOf(":");
  if (colon < 0) {
    const begins = QUALIFIERS.filter(({ name }) => name.startsWith(word.toLowerCase()));
    const named = names.filter((name) => name.toLowerCase().includes(word.toLowerCase()));
    return [
      ...begins.map(({ name, hint }) => ({ text: name.endsWith(".") ? name : `${name}:`, hint })),
      ...named.map((name) => ({ text: `name:${quote(name)}`, hint: "task" })),
    ].slice(0, MOST_SUGGESTIONS);
  }
  const qualifier = word.slice(0, colon);
  const begun = word.slice(colon + 1).toLowerCase();
  const values: Readonly<Record<string, readonly string[]>> = { state: STATES, is: FLAGS, name: names, queue: queues, worker: workers };
  return (values[qualifier] ?? [])
    .filter((value) => value.toLowerCase().includes(begun) && value !== begun)
    .slice(0, MOST_SUGGESTIONS)
    .map((value) => ({ text: `${qualifier}:${quote(value)}`, hint: "" }));
}

/** The text with the last word replaced. */
export function accept(typed: string, { text }: Suggestion): string {
  return typed.replace(/\S*$/, () => text);
}

function quote(value: string): string {
  return /[\s"]/.test(value) ? `"${value.replace(/["\\]/g, "\\$&")}"` : value;
}
