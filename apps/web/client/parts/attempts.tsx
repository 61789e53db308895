/** The tries of a task, the latest first. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Attempt, Outcome, TaskAnswer } from "../api/types.ts";
import { changed, href, navigate, query } from "../location.ts";
import { Icon } from "./icon.tsx";
import { Traceback } from "./python.tsx";
import { Setting } from "./say.tsx";
import { Badge, WorkerName, exceptionName, type State } from "./task.tsx";
import { duration, number } from "./format.ts";
import { Time, now } from "./time.tsx";

/** What a browser draws at once: a task that polls has thousands. */
const MOST_DRAWN = 20;

const STATES: Readonly<Record<Outcome, State>> = {
  success: "SUCCESS",
  failure: "FAILURE",
  retry: "RETRY",
  replaced: "SENT",
  rejected: "REJECTED",
  revoked: "REVOKED",
  lost: "LOST",
  running: "STARTED",
  waiting: "PENDING",
};

/** Why an attempt has no traceback, or what is known instead. */
const WITHOUT: Readonly<Record<Outcome, string>> = {
  success: "It succeeded.",
  failure: "",
  retry: "",
  replaced: "It sent another task in its place.",
  rejected: "The worker rejected it.",
  revoked: "It was revoked.",
  lost: "Nothing tells how it ended: its worker is gone, or another attempt ended since. A task that raises Ignore looks the same.",
  running: "It runs now.",
  waiting: "It has not started.",
};

function stateOfAttempt({ outcome }: Attempt): State {
  return STATES[outcome];
}

/** Seconds from one time to another. */
export function secondsBetween(from: string | null, to: string | null): number | undefined {
  return from === null || to === null ? undefined : Math.max(0, (Date.parse(to) - Date.parse(from)) / 1_000);
}

/** How long an attempt ran, in seconds. Celery measures that of a success; its events are some milliseconds further apart. */
export function ranSeconds({ attempts, runtime }: Pick<TaskAnswer, "attempts" | "runtime">, attempt: Attempt): number | undefined {
  const isMeasured = attempt.outcome === "success" && attempt === attempts.at(-1);
  return isMeasured && runtime !== null ? runtime : secondsBetween(attempt.started_at, attempt.ended_at);
}

/** How long an attempt waited, in seconds: the first one by the task's `wait_time`, as everywhere; later ones since the end of the one before. */
export function waitedSeconds({ attempts, wait_time }: Pick<TaskAnswer, "attempts" | "wait_time">, attempt: Attempt): number | undefined {
  if (attempt.number === 1) return wait_time ?? undefined;
  const before = attempts[attempts.indexOf(attempt) - 1];
  return secondsBetween(before?.ended_at ?? null, attempt.started_at);
}

export interface AttemptsProps {
  readonly task: TaskAnswer;
  /** How many there were, as far as Celery counts them. */
  readonly counted: number;
  readonly isHidden: boolean;
  /** Whether its worker says that it runs nothing. */
  readonly isWorkerIdle: boolean;
}

/** The chosen one is in the address, so that a link shows it. */
export function Attempts({ task, counted, isHidden, isWorkerIdle }: AttemptsProps): JSX.Element {
  const { attempts } = task;
  const [isWhole, setWhole] = useState(false);
  const last = attempts.at(-1);
  const latest = attempts.findLast(({ traceback }) => traceback !== null) ?? last;
  const chosen = query.value.has("attempt") ? Number(query.value.get("attempt")) : latest?.number;
  const isFar = attempts.length - attempts.findIndex((one) => one.number === chosen) > MOST_DRAWN;
  const shown = attempts.slice(isWhole || isFar ? 0 : -MOST_DRAWN);
  const missing = counted - attempts.length;
  return (
    <>
      {shown.toReversed().map((attempt) => (
        <One
          key={attempt.number}
          attempt={attempt}
          waited={waitedSeconds(task, attempt)}
          seconds={ranSeconds(task, attempt)}
          isOpen={attempt.number === chosen}
          isHidden={isHidden}
          isWorkerIdle={isWorkerIdle}
          alike={attempts.find((other) => other.number > attempt.number && isAlike(other, attempt))?.number}
        />
      ))}
      {(shown.length < attempts.length || missing > 0) && (
        <footer>
          {shown.length < attempts.length && (
            <button class="link" type="button" onClick={() => setWhole(true)}>
              Show all {number(attempts.length)}
            </button>
          )}
          {missing > 0 && (
            <span class="muted">
              {missing === 1 ? "One more attempt is" : `${number(missing)} more attempts are`} not stored.{" "}
              <Setting>POSTGRES_HISTORY=unusual</Setting> keeps them, for <code>POSTGRES_HISTORY_DAYS</code>.
            </span>
          )}
        </footer>
      )}
    </>
  );
}

function isAlike(one: Attempt, other: Attempt): boolean {
  return one.traceback !== null && one.traceback === other.traceback;
}

interface OneProps {
  readonly attempt: Attempt;
  /** Since it was sent, or since the attempt before; undefined if that is not known. */
  readonly waited: number | undefined;
  /** How long it ran; undefined if that is not known. */
  readonly seconds: number | undefined;
  readonly isOpen: boolean;
  readonly isHidden: boolean;
  readonly isWorkerIdle: boolean;
  /** A later attempt with the same traceback. */
  readonly alike: number | undefined;
}

function One({ attempt, waited, seconds, isOpen, isHidden, isWorkerIdle, alike }: OneProps): JSX.Element {
  const { number: count, worker, started_at, outcome, exception } = attempt;
  const ran = outcome === "running" && !isWorkerIdle ? secondsBetween(started_at, new Date(now.value).toISOString()) : seconds;
  const whole = useRef<HTMLDetailsElement>(null);
  // Chosen in the timeline, it may be out of sight.
  useEffect(() => {
    if (isOpen && query.value.has("attempt")) whole.current?.scrollIntoView({ block: "nearest" });
  }, [isOpen]);
  const choose = (event: Event): void => {
    event.preventDefault();
    navigate(href("task", changed({ attempt: isOpen ? "0" : String(count) })), { replace: true });
  };
  return (
    <details class="att" ref={whole} open={isOpen}>
      <summary onClick={choose}>
        <Icon name="chev" class="chev" />
        <b>Attempt {count}</b>
        <Badge state={stateOfAttempt(attempt)} word={outcome === "replaced" ? "REPLACED" : outcome === "waiting" ? "WAITING" : undefined} />
        <span class="cut">
          {worker !== null && <WorkerName name={worker} />}
          {exception !== null && <span class="args"> {exceptionName(exception) ?? exception}</span>}
        </span>
        <span class="n muted">{waited !== undefined && `${count > 1 ? "after" : "waited"} ${duration(waited)}`}</span>
        <span class="n">{ran !== undefined && `ran ${duration(ran)}${outcome === "running" ? "…" : ""}`}</span>
      </summary>
      {isOpen && (
        <div class="in">
          <Where attempt={attempt} />
          <What attempt={attempt} isHidden={isHidden} isWorkerIdle={isWorkerIdle} />
          {alike !== undefined && <p class="small soft">The same traceback as that of attempt {alike}.</p>}
        </div>
      )}
    </details>
  );
}

function Where({ attempt: { worker, queue, received_at, started_at, ended_at } }: { readonly attempt: Attempt }): JSX.Element {
  const times: readonly (readonly [string, string | null])[] = [
    ["received", received_at],
    ["started", started_at],
    ["ended", ended_at],
  ];
  return (
    <p class="row small soft">
      {worker === null ? (
        <span>no worker yet</span>
      ) : (
        <span>
          on{" "}
          <a class="link" href={href("worker", { name: worker })}>
            {worker}
          </a>
        </span>
      )}
      {queue !== null && <span>from {queue}</span>}
      {times.map(
        ([word, at]) =>
          at !== null && (
            <span key={word}>
              {word} <Time at={at} clock />
            </span>
          ),
      )}
    </p>
  );
}

type WhatProps = Pick<OneProps, "attempt" | "isHidden" | "isWorkerIdle">;

function What({ attempt: { outcome, exception, traceback }, isHidden, isWorkerIdle }: WhatProps): ComponentChildren {
  const said = exception !== null && <p class="exc mono">{exception}</p>;
  if (traceback !== null) {
    return (
      <>
        {said}
        <Traceback text={traceback} />
      </>
    );
  }
  if (WITHOUT[outcome] !== "") {
    return (
      <>
        {said}
        <p class="small soft">
          {outcome === "running" && isWorkerIdle
            ? "It started, and no end was reported: its worker now says that it runs nothing. Some pools lose events, and a task that raises Ignore sends none."
            : WITHOUT[outcome]}
        </p>
      </>
    );
  }
  if (isHidden) return <p class="small soft">Your role, viewer, does not see tracebacks. A reader does.</p>;
  return (
    <>
      {said}
      <p class="small soft">
        Its traceback is not stored. <Setting>POSTGRES_HISTORY=unusual</Setting> keeps those of attempts before the last one, for{" "}
        <code>POSTGRES_HISTORY_DAYS</code>.
      </p>
    </>
  );
}
