/** Decides which parts of a job are shown: batches as their events, and, while task data is hidden, only fields known to contain none. */
import { RECEIVER, decodeBatch } from "@celery-metrics-exporter/pipeline";

/** Visible fields of events (Celery's names), of our jobs and of dead letters. Any other field is hidden, so new fields are hidden too. */
const SHOWN: ReadonlySet<string> = new Set([
  "type",
  "uuid",
  "hostname",
  "timestamp",
  "name",
  "queue",
  "root_id",
  "parent_id",
  "retries",
  "eta",
  "expires",
  "runtime",
  "terminated",
  "expired",
  "signum",
  "requeue",
  "freq",
  "active",
  "processed",
  "pid",
  "loadavg",
  "sw_ident",
  "sw_ver",
  "sw_sys",
  "receivedAt",
  "v",
  "broker",
  "source",
  "reason",
  "ids",
]);

export const HIDDEN = "[hidden]";
/** Added to each job of which something is hidden. */
const HOW_TO_SEE = "shown with DASHBOARD_SHOW_TASK_DATA=true";

/** Job data for people: the payload of a batch is decoded, other data is unchanged. */
export function readable(data: unknown): unknown {
  try {
    return decodeBatch(data);
  } catch {
    return data;
  }
}

/** A copy of job data in which `HIDDEN` replaces every value outside the visible fields. Lists and objects keep their shape. */
export function hideTaskData(data: unknown): unknown {
  return hide(data, false);
}

/** The same for a job's data, with a note on how to see the hidden values. A dead letter keeps its description in our own words. */
export function hideInJob(data: unknown): unknown {
  const hidden = isLetter(data) ? hideInLetter(data) : hideTaskData(data);
  const isObject = typeof hidden === "object" && hidden !== null && !Array.isArray(hidden);
  return isObject && JSON.stringify(hidden).includes(`"${HIDDEN}`) ? { ...hidden, [HIDDEN]: HOW_TO_SEE } : hidden;
}

function hideInLetter(letter: Letter): object {
  const { source, detail, count } = letter;
  const hidden = hideTaskData(letter) as object;
  return { ...hidden, detail: source === RECEIVER ? detail : shownOf(detail), ...(typeof count === "number" && { count }) };
}

interface Letter {
  readonly source: string;
  readonly detail: string;
  readonly count?: unknown;
}

function isLetter(data: unknown): data is Letter {
  if (typeof data !== "object" || data === null || !("source" in data && "reason" in data && "detail" in data)) return false;
  return typeof data.source === "string" && typeof data.reason === "string" && typeof data.detail === "string";
}

/** The receiver's details contain only a host and a time. A sink's message may quote the refused data, but its SQLSTATE is only a code. */
function shownOf(detail: string): string {
  const [state] = /\(SQLSTATE [0-9A-Z]{5}\)/.exec(detail) ?? [];
  return state === undefined ? HIDDEN : `${HIDDEN} ${state}`;
}

function hide(value: unknown, shown: boolean): unknown {
  if (value === null || value === undefined) return value;
  if (Array.isArray(value)) return value.map((item) => hide(item, shown));
  if (typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, hide(item, SHOWN.has(key))]));
  }
  return shown ? value : HIDDEN;
}

/** What bull-board reads from a job or its template without calling a formatter. */
const BEYOND_FORMATS: ReadonlySet<string> = new Set([
  "failedReason",
  "stacktrace",
  "deferredFailure",
  "ignoredChildFailureReasons",
  "template",
]);
const LOGS = /\/logs$/;
/** Used in a flow, where it is not formatted. */
const FLOW = /\/flow$/;

/** A copy of an answer of bull-board's API that hides each text that may contain task data, beyond what the formatters have hidden. */
export function hideInAnswer<T>(route: string, body: T): T {
  if (LOGS.test(route)) return hideTaskData(body) as T;
  return hideFields(body, FLOW.test(route) ? new Set([...BEYOND_FORMATS, "progress"]) : BEYOND_FORMATS) as T;
}

function hideFields(value: unknown, fields: ReadonlySet<string>): unknown {
  if (Array.isArray(value)) return value.map((item) => hideFields(item, fields));
  if (typeof value !== "object" || value === null) return value;
  const shown = Object.entries(value).map(([key, item]) => [key, fields.has(key) ? hideTaskData(item) : hideFields(item, fields)]);
  return Object.fromEntries(shown) as unknown;
}
