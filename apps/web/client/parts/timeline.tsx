/** What happened to a task, as far as its events tell. */
import type { ComponentChildren, JSX } from "preact";
import type { Attempt, Outcome, TaskAnswer } from "../api/types.ts";
import { changed, href } from "../location.ts";
import { secondsBetween } from "./attempts.tsx";
import { Icon, type IconName } from "./icon.tsx";
import { exceptionName } from "./task.tsx";
import { duration, number } from "./format.ts";
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

/** A task that polls has thousands; the newest tell most. */
const MOST_ATTEMPTS = 6;
/** More are too thin to see. */
const MOST_PARTS = 200;

const OUTCOMES: Readonly<Partial<Record<Outcome, readonly [state: string, icon: IconName, word: string]>>> = {
  success: ["success", "success", "Succeeded"],
  failure: ["failure", "failure", "Failed"],
  retry: ["retry", "retry", "Retry"],
  replaced: ["sent", "sent", "Replaced by another task"],
  rejected: ["rejected", "rejected", "Rejected"],
  revoked: ["revoked", "revoked", "Revoked"],
  lost: ["lost", "lost", "Lost with its worker"],
};

function sentOf({ sent_at, first_queue, queue }: TaskAnswer): Step | undefined {
  if (sent_at === null) return undefined;
  return { at: sent_at, state: "sent", icon: "sent", text: <>Sent to {first_queue ?? queue ?? "a queue"}</> };
}

/** Received, started and ended, for each attempt. */
function stepsOfAttempts(task: TaskAnswer, attempts: readonly Attempt[]): Step[] {
  const steps = attempts.flatMap((attempt, index): (Step | undefined)[] => {
    const { number, worker, received_at, started_at, ended_at, outcome, exception } = attempt;
    const before = attempts[index - 1]?.ended_at ?? (number === 1 ? task.sent_at : null);
    const where = worker === null ? "" : ` by ${worker}`;
    const later = secondsBetween(before, received_at);
    const waited = secondsBetween(received_at ?? before, started_at);
    const ran = secondsBetween(started_at, ended_at);
    const [state, icon, word] = OUTCOMES[outcome] ?? [];
    return [
      received_at === null
        ? undefined
        : {
            at: received_at,
            state: "received",
            icon: "received",
            text: <>Received{where}</>,
            note: later === undefined ? undefined : `${duration(later)} later`,
          },
      started_at === null
        ? undefined
        : {
            at: started_at,
            state: "started",
            icon: "started",
            text: (
              <>
                <a class="link" href={href("task", changed({ attempt: String(number) }))}>
                  Attempt {number}
                </a>{" "}
                started{received_at === null && worker !== null && ` on ${worker}`}
              </>
            ),
            note: waited === undefined ? undefined : `waited ${duration(waited)}`,
          },
      ended_at === null || state === undefined || icon === undefined
        ? undefined
        : {
            at: ended_at,
            state,
            icon,
            text: (
              <>
                {outcome === "failure" ? <b>{word}</b> : word}
                {exception !== null && ` ${outcome === "retry" ? "after" : "with"} ${exceptionName(exception) ?? exception}`}
              </>
            ),
            note: ran === undefined ? undefined : `ran ${duration(ran)}`,
          },
    ];
  });
  return steps.filter((step) => step !== undefined);
}

/** Without attempts, from the times of the row. */
function stepsOfRow(task: TaskAnswer): Step[] {
  const { sent_at, received_at, started_at, run_started_at, finished_at, last_event_at, status, retries, eta } = task;
  const lateBy = secondsBetween(sent_at, received_at);
  const waited = task.wait_time;
  const isLaterRun = run_started_at !== null && started_at !== null && run_started_at !== started_at;
  const [icon, word] = ENDS[status] ?? [];
  const onWorker = task.worker === null ? "" : ` by ${task.worker}`;
  return [
    sentOf(task),
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
  ].filter((step) => step !== undefined);
}

function stepsOf(task: TaskAnswer): Step[] {
  const attempts = task.attempts ?? [];
  const steps =
    attempts.length === 0
      ? stepsOfRow(task)
      : [sentOf(task), ...stepsOfAttempts(task, attempts.slice(-MOST_ATTEMPTS))].filter((step) => step !== undefined);
  return steps.sort((one, other) => Date.parse(one.at) - Date.parse(other.at));
}

export function Timeline({ task }: { readonly task: TaskAnswer }): JSX.Element {
  const { attempts = [] } = task;
  const before = attempts.length - MOST_ATTEMPTS;
  return (
    <div class="pad stack">
      {attempts.length > 1 ? <Lives task={task} attempts={attempts} /> : <Life task={task} />}
      {before > 0 && (
        <p class="small muted">
          The last {MOST_ATTEMPTS} attempts; {number(before)} before them are below.
        </p>
      )}
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

interface Part {
  readonly fill: string;
  readonly from: number;
  readonly to: number;
}

/** Waited, ran and backed off, from the first attempt to the last. */
function partsOf(task: TaskAnswer, attempts: readonly Attempt[]): Part[] {
  const parts: Part[] = [];
  let at = task.sent_at === null ? undefined : Date.parse(task.sent_at);
  for (const { number: count, received_at, started_at, ended_at, outcome } of attempts) {
    const start = started_at === null ? undefined : Date.parse(started_at);
    const end = ended_at === null ? (outcome === "running" ? now.value : undefined) : Date.parse(ended_at);
    const begin = at ?? (received_at === null ? start : Date.parse(received_at));
    if (begin !== undefined && start !== undefined) parts.push({ fill: count === 1 ? "a-wait" : "a-hollow", from: begin, to: start });
    if (start !== undefined && end !== undefined)
      parts.push({ fill: outcome === "failure" || outcome === "lost" ? "a-fail" : "a-run", from: start, to: end });
    at = end ?? start ?? at;
  }
  return parts;
}

const HEIGHTS: Readonly<Record<string, readonly [y: number, height: number]>> = { "a-wait": [6, 8], "a-hollow": [8, 4] };

function Lives({ task, attempts }: { readonly task: TaskAnswer; readonly attempts: readonly Attempt[] }): JSX.Element | null {
  const parts = partsOf(task, attempts);
  const from = parts[0]?.from ?? 0;
  const whole = Math.max(1, (parts.at(-1)?.to ?? 0) - from);
  if (parts.length === 0) return null;
  const share = (length: number): string => `${((Math.max(0, length) / whole) * 100).toFixed(2)}%`;
  const sum = (fills: readonly string[]): string =>
    duration(parts.reduce((total, part) => total + (fills.includes(part.fill) ? Math.max(0, part.to - part.from) : 0), 0) / 1_000);
  const says = `${duration(whole / 1_000)}: ran ${sum(["a-run", "a-fail"])}, waited ${sum(["a-wait"])}, was backed off ${sum(["a-hollow"])}`;
  return (
    <>
      <svg class="life" role="img" aria-label={`${number(attempts.length)} attempts in ${says}.`}>
        {parts.slice(-MOST_PARTS).map((part, index) => {
          const [y, height] = HEIGHTS[part.fill] ?? [2, 16];
          return (
            <rect
              key={index}
              class={part.fill}
              x={share(part.from - from)}
              width={share(part.to - part.from)}
              y={y}
              height={height}
              rx="2"
            />
          );
        })}
      </svg>
      <p class="small soft">{says}.</p>
    </>
  );
}
