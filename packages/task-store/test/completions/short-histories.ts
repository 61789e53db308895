/**
 * Histories of one task in short, such as `sent1 recv2 start3 fail5`: events in any order, each with its time in seconds.
 *
 *   sent1m+2@9x   task-sent: `m` of the task `mail`, otherwise `cart`; after two retries; with an ETA of 9 s; excluded by a filter
 *   recv2Bm+2@9x  task-received, on worker B; otherwise on A
 *   start3 ok5/2  task-started; task-succeeded with a runtime of 2 s, none without `/2`
 *   fail5 exit5   task-failed, by an exception or because a signal made the process exit
 *   unk5          task-failed, as the worker does not know the task
 *   term5 exp5    task-revoked, as the task was terminated or has expired
 *   rej5          task-rejected
 *   =fail5        an event of which everything was sent already
 */
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import {
  taskFailed,
  taskNotRegistered,
  taskReceived,
  taskRejected,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import { summarise, type Completion, type Summary } from "../../src/completions/summarise.ts";
import type { Wait } from "../../src/completions/attempts.ts";
import type { TaskEntry } from "../../src/facts/task-entry.ts";
import { entryOf } from "../summary-of.ts";

const START = 1_000;
const EVENT = /^(=?)([a-z]+?)([\d.]+)(B?)(m?)(?:\+(\d))?(?:@([\d.]+))?(x?)(?:\/([\d.]+))?$/;

/** The entry that a history in short leaves. */
function shortEntry(history: string): TaskEntry {
  const events = history.split(" ");
  const sent = events.filter((event) => event.startsWith("="));
  return entryOf(events.filter((event) => !event.startsWith("=")).map(eventOf), sent.map(eventOf));
}

/** What is to be sent after a history in short, in short. */
export function told(history: string): string {
  return tell(summarise(shortEntry(history)));
}

function tell({ completions, waits, lacks, fields }: Summary): string {
  const parts = [...completions.map(tellCompletion), ...waits.map(tellWait)];
  return [...parts, ...(lacks === undefined ? [] : [`lacks ${lacks}`]), `marks ${fields.length}`].join("; ");
}

function tellCompletion({ state, name, queue, runTime, finishedAt, ...lacks }: Completion): string {
  const lacking = Object.entries(lacks).filter(([flag, is]) => flag.startsWith("lacks") && is === true);
  return [`${finishedAt - START}`, state, name ?? "?", queue ?? "?", runTime ?? "", ...lacking.map(([flag]) => flag)].join(" ").trim();
}

function tellWait({ startedAt, name, queue, seconds, basis, skewed }: Wait): string {
  return `${startedAt - START} waits ${name ?? "?"} ${queue ?? "?"} ${seconds} ${basis}${skewed ? " skewed" : ""}`;
}

function eventOf(text: string): TaskEvent {
  const [, , kind, time, worker, name, retries, eta, excluded, runtime] = EVENT.exec(text) ?? [];
  const common = { uuid: "t", timestamp: START + Number(time), hostname: worker === "B" ? "w2@host-b" : "w1@host-a" };
  const message = {
    name: name === "m" ? "mail" : "cart",
    retries: Number(retries ?? 0),
    ...(eta !== undefined && { eta: START + Number(eta) }),
    ...(excluded === "x" && { excluded: true }),
  };
  switch (kind) {
    case "sent":
      return taskSent({ ...common, ...message, queue: name === "m" ? "post" : "shop" });
    case "recv":
      return taskReceived({ ...common, ...message });
    case "start":
      return taskStarted(common);
    case "ok": {
      const { runtime: _runtime, ...success } = taskSucceeded(common);
      return runtime === undefined ? success : { ...success, runtime: Number(runtime) };
    }
    case "fail":
      return taskFailed(common);
    case "exit":
      return taskFailed({ ...common, exception: "SystemExit(-241)" });
    case "unk":
      return taskNotRegistered(common);
    case "term":
      return taskRevoked({ ...common, terminated: true });
    case "exp":
      return taskRevoked({ ...common, terminated: false, expired: true });
    case "rej":
      return taskRejected(common);
    default:
      throw new Error(`no event: ${text}`);
  }
}
