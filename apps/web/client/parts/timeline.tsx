/** What happened to a task, as far as its events tell. */
import type { ComponentChildren, JSX } from "preact";
import type { TaskAnswer } from "../api/types.ts";
import { Icon, type IconName } from "./icon.tsx";
import { duration } from "./format.ts";
import { Time, now } from "./time.tsx";

interface Step {
  readonly at: string;
  readonly state: string;
  readonly icon: IconName;
  readonly text: ComponentChildren;
  readonly note?: string | undefined;
}

const ENDS: Readonly<Record<string, readonly [IconName, string]>> = {
  SUCCESS: ["success", "Succeeded"],
  FAILURE: ["failure", "Failed"],
  REVOKED: ["revoked", "Revoked"],
  REJECTED: ["rejected", "Rejected"],
  RETRY: ["retry", "Will be tried again"],
};

function between(from: string | null, to: string | null): number | undefined {
  return from === null || to === null ? undefined : (Date.parse(to) - Date.parse(from)) / 1_000;
}

function stepsOf(task: TaskAnswer): Step[] {
  const { sent_at, received_at, started_at, run_started_at, finished_at, last_event_at, status, retries, eta } = task;
  const lateBy = between(sent_at, received_at);
  const waited = task.wait_time;
  const isLaterRun = run_started_at !== null && started_at !== null && run_started_at !== started_at;
  const [icon, word] = ENDS[status] ?? [];
  const onWorker = task.worker === null ? "" : ` by ${task.worker}`;
  return [
    sent_at === null
      ? undefined
      : { at: sent_at, state: "sent", icon: "sent" as const, text: <>Sent to {task.first_queue ?? task.queue ?? "a queue"}</> },
    received_at === null
      ? undefined
      : {
          at: received_at,
          state: "received",
          icon: "received" as const,
          text: (
            <>
              Received{onWorker}
              {eta === null ? "" : ", to run later"}
            </>
          ),
          note: lateBy === undefined ? undefined : `${duration(lateBy)} later`,
        },
    started_at === null
      ? undefined
      : {
          at: started_at,
          state: "started",
          icon: "started" as const,
          text: <>{isLaterRun ? "First attempt started" : "Started"}</>,
          note: waited === null ? undefined : `waited ${duration(waited)}`,
        },
    isLaterRun
      ? {
          at: run_started_at,
          state: "started",
          icon: "started" as const,
          text: <>Attempt {(retries ?? 0) + 1} started</>,
          note: "tries before, backed off and waited",
        }
      : undefined,
    icon === undefined || word === undefined
      ? undefined
      : {
          at: finished_at ?? last_event_at,
          state: status.toLowerCase(),
          icon,
          text: <b>{word}</b>,
          note: task.duration === null ? undefined : `ran ${duration(task.duration)}`,
        },
  ]
    .filter((step) => step !== undefined)
    .sort((one, other) => Date.parse(one.at) - Date.parse(other.at));
}

export function Timeline({ task }: { readonly task: TaskAnswer }): JSX.Element {
  return (
    <div class="pad stack">
      <Life task={task} />
      <ol class="tl">
        {stepsOf(task).map(({ at, state, icon, text, note }) => (
          <li class={`s-${state}`} key={`${state}${at}`}>
            <Time at={at} clock />
            <span class="rail">
              <Icon name={icon} />
            </span>
            <span>{text}</span>
            <span class="n">{note}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}

function seconds(from: number, to: number): string {
  return duration(Math.max(0, to - from) / 1_000);
}

/** One line for the whole life: waited, tried before, ran. */
function Life({ task }: { readonly task: TaskAnswer }): JSX.Element | null {
  const { sent_at, received_at, started_at, run_started_at, finished_at, status } = task;
  const first = sent_at ?? received_at ?? started_at;
  if (first === null) return null;
  const from = Date.parse(first);
  const isRunning = status === "STARTED";
  const to = Math.max(from + 1, finished_at !== null ? Date.parse(finished_at) : isRunning ? now.value : Date.parse(task.last_event_at));
  const start = started_at === null ? to : Date.parse(started_at);
  const lastStart = run_started_at === null ? start : Date.parse(run_started_at);
  const x = (at: number): string => `${Math.min(100, Math.max(0, ((at - from) / (to - from)) * 100)).toFixed(2)}%`;
  const width = (a: number, b: number): string => `${Math.max(0, (Math.max(0, b - a) / (to - from)) * 100).toFixed(2)}%`;
  const says = [
    `waited ${seconds(from, start)}`,
    ...(lastStart > start ? [`was tried before for ${seconds(start, lastStart)}`] : []),
    ...(started_at === null ? [] : [`ran ${seconds(lastStart, to)}`]),
  ].join(", ");
  return (
    <svg class="life" role="img" aria-label={`It ${says}.`}>
      <rect class="a-wait" x={x(from)} y="6" width={width(from, start)} height="8" rx="2" />
      {lastStart > start && <rect class="a-hollow" x={x(start)} y="8" width={width(start, lastStart)} height="4" rx="2" />}
      {started_at !== null && (
        <rect class={status === "FAILURE" ? "a-fail" : "a-run"} x={x(lastStart)} y="2" width={width(lastStart, to)} height="16" rx="2" />
      )}
    </svg>
  );
}
