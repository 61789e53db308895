/** One queue: what comes in, what is taken, what waits, and who takes it. */
import type { JSX } from "preact";
import { useQuery } from "../api/query.ts";
import { lengthMs } from "../api/statistics.ts";
import type { Queue, QueueList, Waiting, Worker } from "../api/types.ts";
import { href } from "../location.ts";
import { Chart } from "./chart.tsx";
import { duration, number, rate, shortTime } from "./format.ts";
import { Loading } from "./say.tsx";
import { Shares } from "./shares.tsx";
import { takersOf } from "./takers.tsx";
import { IdLink, TaskName, WorkerName, argumentsLine, taskHref } from "./task.tsx";
import { Time, Wait, now } from "./time.tsx";
import { WorkerBadge } from "./worker.tsx";
import { Heads } from "./heads.tsx";

/** For how long the oldest has been waiting. */
export function Age({ at }: { readonly at: string | null }): JSX.Element {
  if (at === null) return <span class="nil">–</span>;
  return (
    <time dateTime={at} title={shortTime(new Date(at))}>
      <Wait seconds={Math.max(0, (now.value - Date.parse(at)) / 1_000)} />
    </time>
  );
}

const MINUTE_MS = 60_000;

/** What was sent in each step, and what must have been taken, a minute. */
function Flows({
  queue: { name, lengths, sent },
  times,
  step,
}: {
  readonly queue: Queue;
  readonly times: readonly number[];
  readonly step: string;
}): JSX.Element | null {
  if (sent === null) return <p class="small soft">What comes in is not known: no task-sent event names this queue.</p>;
  const minutes = lengthMs(step) / MINUTE_MS;
  const whole = times.slice(0, -1);
  const taken = whole.map((_, index) => {
    const [before, after] = [lengths[index - 1] ?? null, lengths[index] ?? null];
    return before === null || after === null ? null : Math.max(0, (sent[index] ?? 0) - (after - before)) / minutes;
  });
  return (
    <>
      <h3>In and out, a minute</h3>
      <Chart
        times={whole}
        stepMs={lengthMs(step)}
        series={[
          { name: "in", tone: "wait", values: whole.map((_, index) => (sent[index] ?? 0) / minutes) },
          { name: "out", tone: "run", values: taken, dashed: true },
        ]}
        kind="lines"
        height="lo"
        format={rate}
        label={`Tasks a minute sent to ${name}, and taken from it`}
      />
    </>
  );
}

const EVERY_MS = 5_000;

export interface OpenQueueProps {
  readonly queue: Queue;
  readonly list: QueueList;
  readonly step: string;
  readonly workers: readonly Worker[];
}

export function OpenQueue({ queue, list, step, workers }: OpenQueueProps): JSX.Element {
  const times = queue.lengths.map((_, index) => Date.parse(list.from) + index * lengthMs(step));
  const { taken } = queue.lately;
  const asked = new URLSearchParams({ name: queue.name, messages: String(queue.messages ?? 0) });
  const { data: waiting } = useQuery<Waiting>(`queues/waiting?${asked.toString()}`, { everyMs: EVERY_MS });
  const hasTakers = takersOf(queue, workers).count !== 0;
  const work = !hasTakers || taken === null || taken < 0.1 ? undefined : ((queue.messages ?? 0) / taken) * 60;
  return (
    <div class="qopen">
      <h2 class="sr">Queue {queue.name}</h2>
      <div class="cols">
        <div class="sub-panel">
          <div class="row">
            <h3>Waiting</h3>
            <span class="small muted">
              {number(queue.messages ?? 0)} now{work !== undefined && work > 1 && `: ${duration(work)} of work at this rate`}
            </span>
          </div>
          <Chart
            times={times}
            stepMs={lengthMs(step)}
            series={[{ name: "waiting", tone: "ink", values: queue.lengths }]}
            kind="lines"
            height="mid"
            label={`Tasks waiting in ${queue.name}`}
          />
          <Flows queue={queue} times={times} step={step} />
        </div>
        <div class="stack">
          <Kinds waiting={waiting} messages={queue.messages ?? 0} />
          <Consumers queue={queue} workers={workers} />
        </div>
      </div>
      <Oldest queue={queue} waiting={waiting} />
    </div>
  );
}

function Kinds({ waiting, messages }: { readonly waiting: Waiting | undefined; readonly messages: number }): JSX.Element | null {
  if (waiting === undefined || waiting.types.length === 0) return null;
  const known = waiting.types.reduce((sum, { count }) => sum + count, 0);
  return (
    <div class="sub-panel">
      <h3>What waits</h3>
      <Shares
        tone="wait"
        of={waiting.types.map(({ name, count }) => ({
          key: name,
          label: <TaskName name={name === "" ? null : name} />,
          share: count / known,
          text: number(count),
        }))}
      />
      {known < messages && (
        <p class="small muted">
          By events, which know {number(known)} of {number(messages)}.
        </p>
      )}
    </div>
  );
}

function Consumers({ queue, workers }: { readonly queue: Queue; readonly workers: readonly Worker[] }): JSX.Element {
  const takers = workers.filter(({ queues }) => queues?.includes(queue.name) === true);
  const up = takers.filter(({ state }) => state === "up");
  const areAllAsked = workers.every(({ state, queues }) => state !== "up" || queues !== null);
  const isLeft = queue.consumers === 0 || (queue.consumers === null && areAllAsked);
  return (
    <div class="sub-panel">
      <h3>Consumers</h3>
      {takers.length === 0 && (
        <p class="small soft">
          {isLeft
            ? "No worker takes from it."
            : "Not known yet. The role monitor asks workers for their queues once a minute, unless MONITOR_INSPECT=false."}
        </p>
      )}
      {up.length > 0 && (
        <Shares
          tone="run"
          of={up.map(({ name, active, concurrency }) => ({
            key: name,
            label: <WorkerLink name={name} />,
            share: concurrency === null ? 0 : (active ?? 0) / Math.max(1, concurrency),
            text: concurrency === null ? `${active ?? "?"} busy` : `${active ?? "?"} of ${concurrency}`,
          }))}
        />
      )}
      {takers.length > up.length && (
        <ul>
          {takers
            .filter(({ state }) => state !== "up")
            .map(({ name, state, heard_at }) => (
              <li class="row small" key={name}>
                <WorkerBadge state={state} glyph />
                <WorkerLink name={name} />
                {heard_at !== null && (
                  <span class="muted">
                    {state} <Time at={heard_at} />
                  </span>
                )}
              </li>
            ))}
        </ul>
      )}
    </div>
  );
}

function WorkerLink({ name }: { readonly name: string }): JSX.Element {
  return (
    <a href={href("worker", { name })} title={name}>
      <WorkerName name={name} />
    </a>
  );
}

/** Since it was sent, or since its ETA. */
function Waits({ task: { seen_at, eta } }: { readonly task: Waiting["tasks"][number] }): JSX.Element {
  if (eta === null || Date.parse(eta) <= Date.parse(seen_at)) return <Age at={seen_at} />;
  return Date.parse(eta) > now.value ? <span class="muted">not before its ETA</span> : <Age at={eta} />;
}

function Oldest({ queue, waiting }: { readonly queue: Queue; readonly waiting: Waiting | undefined }): JSX.Element {
  return (
    <div class="sub-panel flush">
      <div class="row qh">
        <h3>Oldest waiting</h3>
        <span class="small muted">by events: sent, and not received by a worker</span>
        <span class="push row small">
          <a class="link" href={href("tasks", { queue: queue.name })}>
            Tasks of this queue
          </a>
          <a class="link" href={href("tasks", { queue: queue.name, status: "PENDING" })}>
            those that wait
          </a>
        </span>
      </div>
      {waiting === undefined ? (
        <Loading rows={3} />
      ) : waiting.tasks.length === 0 ? (
        <p class="small soft pad">
          {(queue.messages ?? 0) === 0
            ? "Nothing waits."
            : waiting.types.length > 0
              ? "Too many other tasks were sent in the same minute to find them."
              : "Events tell of none: set task_send_sent_event = True where tasks are sent."}
        </p>
      ) : (
        <table>
          <Heads of={["Task and arguments", ["p3", "Id"], ["n", "Waits"]]} />
          <tbody>
            {waiting.tasks.map((task) => (
              <tr key={task.task_id}>
                <td class="w">
                  <a class="cut" href={taskHref(task.task_id)}>
                    <TaskName name={task.name} />
                  </a>
                  <span class="cut args">{argumentsLine(task)}</span>
                </td>
                <td class="p3">
                  <IdLink id={task.task_id} />
                </td>
                <td class="n">
                  <Waits task={task} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}
