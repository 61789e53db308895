/** The figures across the top of the overview. */
import type { JSX } from "preact";
import { lengthMs, seriesOf, timesOf } from "../api/statistics.ts";
import type { QueueList, Statistics, StatisticsItem, WorkerList } from "../api/types.ts";
import { Spark } from "./chart.tsx";
import { BAD_SHARE } from "./failed-share.tsx";
import { duration, number, percent, rate } from "./format.ts";
import { isMonitored } from "./monitored.ts";

export const NO_COUNT = { value: ({ count }: StatisticsItem): number => count, missing: 0 };

export function ofStatus({ items }: Statistics, ...statuses: readonly string[]): readonly StatisticsItem[] {
  return items.filter(({ status }) => statuses.includes(status ?? ""));
}

export interface FiguresProps {
  readonly byStatus: Statistics | undefined;
  readonly durations: Statistics | undefined;
  readonly whole: Statistics | undefined;
  readonly step: string;
  readonly workers: WorkerList | undefined;
  readonly queues: QueueList | undefined;
}

export function Figures({ byStatus, durations, whole, step, workers, queues }: FiguresProps): JSX.Element {
  const times = byStatus === undefined ? [] : timesOf(byStatus, step);
  const series = (...statuses: readonly string[]): readonly number[] =>
    byStatus === undefined ? [] : seriesOf(ofStatus(byStatus, ...statuses), times, NO_COUNT);
  const success = series("SUCCESS");
  const failure = series("FAILURE");
  const finished = success.map((count, index) => count + (failure[index] ?? 0));
  // Nothing is known of the time before the first task.
  const first = Math.max(
    0,
    finished.findIndex((count) => count > 0),
  );
  const minutes = Math.max(1, ((times.length - first) * lengthMs(step)) / 60_000);
  const share = totalOf(finished) === 0 ? undefined : totalOf(failure) / totalOf(finished);
  const all = whole?.items[0];
  const percentile = (of: "wait" | "runtime"): readonly (number | null)[] =>
    durations === undefined
      ? []
      : seriesOf<number | null>(durations.items, timesOf(durations, step), { value: (item) => item[of].p95, missing: null });
  const up = workers?.items.filter(({ state }) => state === "up") ?? [];
  const running = totalOf(up.map(({ active }) => active ?? 0));
  // Of some workers only, they would be fewer than what runs.
  const slots = up.some(({ concurrency }) => concurrency === null) ? 0 : totalOf(up.map(({ concurrency }) => concurrency ?? 0));
  const waiting = queues?.items.reduce((total, { messages }) => total + (messages ?? 0), 0);
  return (
    <dl class="panel kpis" aria-label="Now">
      <Figure
        name="Finished"
        unit="a minute"
        value={rate(totalOf(finished) / minutes)}
        sub={`${number(totalOf(finished))} in this range`}
        spark={<Spark wide values={finished} tone="ok" label="Finished" />}
      />
      <Figure
        name="Failed"
        value={share === undefined ? "–" : percent(share)}
        isBad={share !== undefined && share >= BAD_SHARE}
        sub={`${number(totalOf(failure))} ${totalOf(failure) === 1 ? "task" : "tasks"}`}
        spark={<Spark wide values={failure} tone="fail" label="Failed" />}
      />
      <Figure
        name="Wait, p95"
        value={lengthOr(all?.wait.p95)}
        sub={all?.wait.p50 === null || all === undefined ? "needs task-sent events" : `p50 is ${duration(all.wait.p50)}`}
        spark={<Spark wide values={percentile("wait")} tone="wait" label="Wait, p95" />}
      />
      <Figure
        name="Runtime, p95"
        value={lengthOr(all?.runtime.p95)}
        sub={all?.runtime.p50 === null || all === undefined ? undefined : `p50 is ${duration(all.runtime.p50)}`}
        spark={<Spark wide values={percentile("runtime")} tone="run" label="Runtime, p95" />}
      />
      <Figure
        name="Waiting"
        unit={waiting === 1 ? "task" : "tasks"}
        value={waiting === undefined || queues?.items.length === 0 ? "–" : number(waiting)}
        sub={
          queues?.items.length === 0
            ? isMonitored(queues, workers?.items)
              ? "no queue has been seen yet"
              : "needs the role monitor"
            : `in ${number(queues?.items.length ?? 0)} ${queues?.items.length === 1 ? "queue" : "queues"}`
        }
        {...(queues !== undefined &&
          queues.items.length > 0 && { spark: <Spark wide values={lengthsOf(queues)} tone="ink" label="Waiting, last 3 hours" /> })}
      />
      <Figure
        name="Running"
        unit={slots > 0 ? `of ${number(slots)} slots` : running === 1 ? "task" : "tasks"}
        value={up.length === 0 ? "–" : number(running)}
        sub={up.length === 0 ? "no worker was heard" : `on ${number(up.length)} ${up.length === 1 ? "worker" : "workers"}`}
      />
    </dl>
  );
}

/** Of all queues together; null where nobody asked. */
function lengthsOf({ items }: QueueList): readonly (number | null)[] {
  const steps = items[0]?.lengths.length ?? 0;
  return Array.from({ length: steps }, (_, step) => {
    const known = items.flatMap(({ lengths }) => lengths[step] ?? []);
    return known.length === 0 ? null : totalOf(known);
  });
}

export function totalOf(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function lengthOr(seconds: number | null | undefined): string {
  return seconds === null || seconds === undefined ? "–" : duration(seconds);
}

interface FigureProps {
  readonly name: string;
  readonly value: string;
  readonly unit?: string;
  readonly sub?: string | undefined;
  readonly isBad?: boolean;
  readonly spark?: JSX.Element;
}

function Figure({ name, value, unit, sub, isBad = false, spark }: FigureProps): JSX.Element {
  return (
    <div class="kpi">
      <dt>{name}</dt>
      <dd>
        <span class={isBad ? "bad" : undefined}>{value}</span> {unit !== undefined && <small>{unit}</small>}
      </dd>
      {spark !== undefined && <dd class="k">{spark}</dd>}
      {sub !== undefined && <dd class="sub">{sub}</dd>}
    </div>
  );
}
