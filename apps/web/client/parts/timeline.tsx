/** What happened to a task, as far as its events tell. */
import type { ComponentChildren, JSX } from "preact";
import type { Attempt, Outcome, TaskAnswer } from "../api/types.ts";
import { changed, href } from "../location.ts";
import { ranSeconds, secondsBetween } from "./attempts.tsx";
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
    const { number: place, worker, received_at, started_at, ended_at, outcome, exception } = attempt;
    const before = attempts[index - 1]?.ended_at ?? (place === 1 ? task.sent_at : null);
    const isLater = task.eta !== null && index === attempts.length - 1;
    const received = `Received${worker === null ? "" : ` by ${worker}`}${isLater ? ", to run later" : ""}`;
    const later = secondsBetween(before, received_at);
    const waited = secondsBetween(received_at ?? before, started_at);
    const ran = ranSeconds(task, attempt);
    const [state, icon, word] = OUTCOMES[outcome] ?? [];
    return [
      received_at === null
        ? undefined
        : {
            at: received_at,
            state: "received",
            icon: "received",
            text: received,
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
                <a class="link" href={href("task", changed({ attempt: String(place) }))}>
                  Attempt {place}
                </a>{" "}
                started{received_at === null && worker !== null && ` on ${worker}`}
              </>
            ),
            note: waited === undefined ? undefined : `${place > 1 ? "backed off or " : ""}waited ${duration(waited)}`,
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

function stepsOf(task: TaskAnswer): Step[] {
  const steps = stepsOfAttempts(task, task.attempts.slice(-MOST_ATTEMPTS));
  const sent = sentOf(task);
  // The sender's clock may be ahead of the worker's.
  return [...(sent === undefined ? [] : [sent]), ...steps.sort((one, other) => Date.parse(one.at) - Date.parse(other.at))];
}

export function Timeline({ task }: { readonly task: TaskAnswer }): JSX.Element {
  const { attempts } = task;
  const before = attempts.length - MOST_ATTEMPTS;
  return (
    <div class="pad stack">
      <Life task={task} />
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

interface Part {
  readonly fill: string;
  readonly from: number;
  readonly to: number;
}

/** Waited, ran and backed off, from the first attempt to the last. */
function partsOf(task: TaskAnswer): Part[] {
  const parts: Part[] = [];
  let at = task.sent_at === null ? undefined : Date.parse(task.sent_at);
  for (const { number: count, received_at, started_at, ended_at, outcome } of task.attempts) {
    const start = started_at === null ? undefined : Date.parse(started_at);
    const end = ended_at === null ? (outcome === "running" ? now.value : undefined) : Date.parse(ended_at);
    const begin = at ?? (received_at === null ? start : Date.parse(received_at));
    const waitedTo = start ?? end ?? (outcome === "waiting" ? now.value : undefined);
    if (begin !== undefined && waitedTo !== undefined) parts.push({ fill: count === 1 ? "a-wait" : "a-hollow", from: begin, to: waitedTo });
    if (start !== undefined && end !== undefined)
      parts.push({ fill: outcome === "failure" || outcome === "lost" ? "a-fail" : "a-run", from: start, to: end });
    at = end ?? start ?? at;
  }
  return parts;
}

const HEIGHTS: Readonly<Record<string, readonly [y: number, height: number]>> = { "a-wait": [6, 8], "a-hollow": [8, 4] };

/** One line for the whole life: waited, ran, backed off, ran again. */
function Life({ task }: { readonly task: TaskAnswer }): JSX.Element | null {
  const parts = partsOf(task);
  const from = parts[0]?.from ?? 0;
  const whole = Math.max(1, (parts.at(-1)?.to ?? 0) - from);
  if (parts.length === 0) return null;
  const share = (length: number): string => `${((Math.max(0, length) / whole) * 100).toFixed(2)}%`;
  const sum = (fills: readonly string[]): string =>
    duration(parts.reduce((total, part) => total + (fills.includes(part.fill) ? Math.max(0, part.to - part.from) : 0), 0) / 1_000);
  const says = [
    `${duration(whole / 1_000)}: waited ${sum(["a-wait"])}`,
    ...(parts.some(({ fill }) => fill === "a-hollow") ? [`between attempts ${sum(["a-hollow"])}`] : []),
    ...(parts.some(({ fill }) => fill === "a-run" || fill === "a-fail") ? [`ran ${sum(["a-run", "a-fail"])}`] : []),
  ].join(", ");
  return (
    <>
      <svg class="life" role="img" aria-label={`In ${says}.`}>
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
