/// <reference lib="es2024.string" />
/** Checks what every decoded event must satisfy, whatever it was decoded from: the promises of event.ts and text.ts. */
import { TASK_EVENT_TYPES, type CeleryEvent } from "../model/event.ts";
import { MAX_ID_LENGTH } from "../model/normalise.ts";
import { MAX_TIMESTAMP } from "../model/time.ts";
import { MAX_NAME_LENGTH, MAX_TEXT_LENGTH } from "../python/text.ts";

type Check = (value: unknown) => boolean;

const isText =
  (maxLength: number, minLength = 0): Check =>
  (value) =>
    typeof value === "string" && value.length >= minLength && value.length <= maxLength && value.isWellFormed() && !value.includes("\0");
const isNumber =
  (max: number): Check =>
  (value) =>
    typeof value === "number" && value >= 0 && value <= max;
const isBoolean: Check = (value) => typeof value === "boolean";
const isCount: Check = (value) => Number.isInteger(value) && isNumber(2_147_483_647)(value);

const text = isText(MAX_TEXT_LENGTH);
const name = isText(MAX_NAME_LENGTH, 1);
const id = isText(MAX_ID_LENGTH, 1);
const instant = isNumber(MAX_TIMESTAMP);
const quantity = isNumber(Number.MAX_VALUE);

const isTrue = (value: unknown): boolean => value === true;

const BASE = {
  type: (value: unknown) => typeof value === "string" && /^[^\s\p{C}]{1,128}$/u.test(value),
  hostname: name,
  timestamp: instant,
};
const DESCRIPTION = {
  name,
  args: text,
  kwargs: text,
  root_id: id,
  parent_id: id,
  retries: isCount,
  eta: instant,
  expires: instant,
  again: isTrue,
  excluded: isTrue,
};
const FAILURE = { exception: text, traceback: text };
const isLoad: Check = (value) => Array.isArray(value) && value.length >= 1 && value.length <= 3 && value.every(quantity);
const WORKER = {
  freq: quantity,
  active: quantity,
  processed: quantity,
  pid: isCount,
  loadavg: isLoad,
  sw_ident: name,
  sw_ver: name,
  sw_sys: name,
};

/** The fields that each type may have in addition to the common ones. */
const FIELDS: Readonly<Record<string, Readonly<Record<string, Check>>>> = {
  "task-sent": { ...DESCRIPTION, queue: name },
  "task-received": DESCRIPTION,
  "task-started": {},
  "task-succeeded": { result: text, runtime: instant },
  "task-failed": { ...FAILURE, exited: isTrue },
  "task-retried": FAILURE,
  "task-revoked": { terminated: isBoolean, expired: isBoolean, signum: name },
  "task-rejected": { requeue: isBoolean },
  "worker-online": WORKER,
  "worker-heartbeat": WORKER,
  "worker-offline": WORKER,
};

/** The fields that are wrong, missing or unexpected; empty for a valid event. */
export function eventProblems(event: CeleryEvent): string[] {
  const isTask = (TASK_EVENT_TYPES as readonly string[]).includes(event.type);
  const own = Object.hasOwn(FIELDS, event.type) ? FIELDS[event.type] : {};
  const checks: Readonly<Record<string, Check>> = { ...BASE, ...(!event.type.startsWith("worker-") && { uuid: id }), ...own };
  const required = [...Object.keys(BASE), ...(isTask ? ["uuid"] : [])];
  const problems = required.filter((field) => !Object.hasOwn(event, field));
  for (const [field, value] of Object.entries(event)) {
    if (!Object.hasOwn(checks, field) || checks[field]?.(value) !== true) problems.push(field);
  }
  if (Object.getPrototypeOf(event) !== Object.prototype) problems.push("prototype");
  if ("parent_id" in event && event.parent_id === event.uuid) problems.push("parent_id is its own");
  return problems;
}
