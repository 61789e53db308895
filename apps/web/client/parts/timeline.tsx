/** What happened to a task, as far as its events tell. */
import type { ComponentChildren, JSX } from "preact";
import type { Attempt, Outcome, TaskAnswer } from "../api/types.ts";
import { changed, href } from "../location.ts";
import { ranSeconds, secondsBetween, waitedSeconds } from "./attempts.tsx";
import { Bars } from "./bars.tsx";
import { Icon, type IconName } from "./icon.tsx";
import { lifeOf, partsOf, sumsOf, type Part } from "./life.ts";
import { Panel } from "./panel.tsx";
import { exceptionName } from "./task.tsx";
import { duration, number } from "./format.ts";
import { Time, currentTime } from "./time.tsx";

interface Step {
  readonly at: string;
  readonly state: string;
  readonly icon: IconName;
  readonly text: ComponentChildren;
  readonly note?: string | undefined;
}

/** A task that polls has thousands; the newest tell most. */
const MOST_ATTEMPTS = 6;

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
    const waited = waitedSeconds(task, attempt);
    const prefetched = secondsBetween(received_at, started_at);
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
            note:
              waited !== undefined
                ? `${place > 1 ? "backed off or " : ""}waited ${duration(waited)}`
                : prefetched !== undefined
                  ? `${duration(prefetched)} later`
                  : undefined,
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
  const parts = partsOf(task, currentTime);
  const life = lifeOf(parts);
  return (
    <Panel title="Timeline" sub={parts.length === 1 ? sumsOf(parts) : life}>
      <div class="pad stack">
        {life !== undefined && <Life parts={parts} label={`In ${life}.`} />}
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
    </Panel>
  );
}

/** The whole life as one bar. */
function Life({ parts, label }: { readonly parts: readonly Part[]; readonly label: string }): JSX.Element {
  return <Bars parts={parts} from={parts[0]?.from ?? 0} to={parts.at(-1)?.to ?? 0} class="life" label={label} />;
}
