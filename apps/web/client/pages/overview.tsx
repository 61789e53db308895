/** Overview: how much, how well, how fast, and what needs a person. */
import type { ComponentChildren, JSX } from "preact";
import { useQuery } from "../api/query.ts";
import { lengthMs, perMinute, seriesOf, stepFor, timesOf, useStatistics } from "../api/statistics.ts";
import type { FailureList, QueueList, Statistics, StatisticsItem, WorkerList } from "../api/types.ts";
import { href, query } from "../location.ts";
import { Bar, LiveButton, RangeTabs, isLive, rangeName } from "../parts/bar.tsx";
import { Chart, Spark } from "../parts/chart.tsx";
import { Notes } from "../parts/notes.tsx";
import { Empty, Failing, Loading, Setting } from "../parts/say.tsx";
import { duration, number, rate, zone } from "../parts/format.ts";
import { Busy, WorkerBadge } from "../parts/worker.tsx";
import { Groups } from "./failures.tsx";
import { WORKERS_EVERY_MS } from "./workers.tsx";

const STANDARD_RANGE = "3h";
const MOST_FAILURES = 5;
const MOST_WORKERS = 12;
const MOST_QUEUES = 8;

export function Overview(): JSX.Element {
  const step = stepFor(STANDARD_RANGE);
  const byStatus = useStatistics({ range: STANDARD_RANGE, step, by: "status" });
  const durations = useStatistics({ range: STANDARD_RANGE, step });
  const whole = useStatistics({ range: STANDARD_RANGE });
  const everyMs = isLive.value ? WORKERS_EVERY_MS : undefined;
  const { data: workers } = useQuery<WorkerList>("workers", { everyMs });
  const { data: queues } = useQuery<QueueList>("queues?range=15m&step=1m", { everyMs });
  return (
    <>
      <Bar title="Overview" sub={`${rangeName(query.value, STANDARD_RANGE)}, times in ${zone()}`}>
        <RangeTabs standard={STANDARD_RANGE} />
        <LiveButton />
      </Bar>
      <div class="body">
        <Failing query={byStatus} />
        <Figures byStatus={byStatus.data} durations={durations.data} whole={whole.data} step={step} workers={workers} queues={queues} />
        <div class="cols">
          <div class="stack">
            <Panel title="Throughput" sub="Tasks a minute, by when they were sent and how they ended">
              {byStatus.data === undefined ? <Loading rows={4} /> : <Throughput data={byStatus.data} step={step} />}
            </Panel>
            <Inbox />
            <div class="cols even">
              <Panel title="Wait" sub="from sent to started">
                {durations.data !== undefined && <Percentiles data={durations.data} step={step} of="wait" tone="wait" />}
              </Panel>
              <Panel title="Runtime" sub="of the last run">
                {durations.data !== undefined && <Percentiles data={durations.data} step={step} of="runtime" tone="run" />}
              </Panel>
            </div>
          </div>
          <div class="stack">
            <Panel title="Health of the data" id="health">
              <Notes />
            </Panel>
            <WorkerPanel workers={workers} />
            <QueuePanel queues={queues} />
          </div>
        </div>
      </div>
    </>
  );
}

interface PanelProps {
  readonly title: string;
  readonly sub?: string | undefined;
  readonly id?: string;
  readonly link?: ComponentChildren;
  readonly children: ComponentChildren;
}

function Panel({ title, sub, id, link, children }: PanelProps): JSX.Element {
  return (
    <section class="panel" aria-label={title} id={id}>
      <header>
        <h2>{title}</h2>
        {sub !== undefined && <p>{sub}</p>}
        {link}
      </header>
      {children}
    </section>
  );
}

const NO_COUNT = { value: ({ count }: StatisticsItem): number => count, missing: 0 };

function ofStatus({ items }: Statistics, ...statuses: readonly string[]): readonly StatisticsItem[] {
  return items.filter(({ status }) => statuses.includes(status ?? ""));
}

interface FiguresProps {
  readonly byStatus: Statistics | undefined;
  readonly durations: Statistics | undefined;
  readonly whole: Statistics | undefined;
  readonly step: string;
  readonly workers: WorkerList | undefined;
  readonly queues: QueueList | undefined;
}

function Figures({ byStatus, durations, whole, step, workers, queues }: FiguresProps): JSX.Element {
  const times = byStatus === undefined ? [] : timesOf(byStatus, step);
  const series = (...statuses: readonly string[]): readonly number[] =>
    byStatus === undefined ? [] : seriesOf(ofStatus(byStatus, ...statuses), times, NO_COUNT);
  const success = series("SUCCESS");
  const failure = series("FAILURE");
  const finished = success.map((count, index) => count + (failure[index] ?? 0));
  const minutes = Math.max(1, (times.length * lengthMs(step)) / 60_000);
  const share = totalOf(finished) === 0 ? undefined : totalOf(failure) / totalOf(finished);
  const all = whole?.items[0];
  const percentile = (of: "wait" | "runtime"): readonly (number | null)[] =>
    durations === undefined
      ? []
      : seriesOf<number | null>(durations.items, timesOf(durations, step), { value: (item) => item[of].p95, missing: null });
  const up = workers?.items.filter(({ state }) => state === "up") ?? [];
  const slots = up.reduce((total, { concurrency }) => total + (concurrency ?? 0), 0);
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
        value={share === undefined ? "–" : `${(share * 100).toFixed(share < 0.1 ? 2 : 1)} %`}
        isBad={share !== undefined && share >= 0.01}
        sub={`${number(totalOf(failure))} tasks`}
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
        unit="tasks"
        value={waiting === undefined || queues?.items.length === 0 ? "–" : number(waiting)}
        sub={queues?.items.length === 0 ? "needs the role monitor" : `in ${number(queues?.items.length ?? 0)} queues`}
      />
      <Figure
        name="Running"
        unit={slots > 0 ? `of ${number(slots)} slots` : "tasks"}
        value={up.length === 0 ? "–" : number(up.reduce((total, { active }) => total + (active ?? 0), 0))}
        sub={up.length === 0 ? "no worker was heard" : `on ${number(up.length)} ${up.length === 1 ? "worker" : "workers"}`}
      />
    </dl>
  );
}

function totalOf(values: readonly number[]): number {
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

function Throughput({ data, step }: { readonly data: Statistics; readonly step: string }): JSX.Element {
  if (data.items.length === 0) {
    return (
      <Empty icon="overview" title="Nothing is counted in this range">
        <p>
          Tasks are counted from their events: start the workers with <Setting>celery worker -E</Setting>. The role postgres-processor
          counts them.
        </p>
      </Empty>
    );
  }
  const times = timesOf(data, step);
  const values = (...statuses: readonly string[]): number[] =>
    seriesOf(ofStatus(data, ...statuses), times, NO_COUNT).map((count) => perMinute(count, step));
  const open = ["PENDING", "RECEIVED", "STARTED"].map((status) => values(status));
  const series = [
    { name: "Failure", tone: "fail", values: values("FAILURE") },
    { name: "Retry", tone: "retry", values: values("RETRY") },
    { name: "Open", tone: "wait", values: times.map((_, index) => open.reduce((sum, each) => sum + (each[index] ?? 0), 0)) },
    { name: "Success", tone: "ok", values: values("SUCCESS") },
  ];
  return (
    <div class="pad">
      <Chart
        times={times}
        stepMs={lengthMs(step)}
        series={series}
        kind="bars"
        canZoom
        format={rate}
        label="Tasks a minute, by how they ended. Drag to choose a range of time."
      />
    </div>
  );
}

interface PercentilesProps {
  readonly data: Statistics;
  readonly step: string;
  readonly of: "wait" | "runtime";
  readonly tone: string;
}

function Percentiles({ data, step, of, tone }: PercentilesProps): JSX.Element {
  const times = timesOf(data, step);
  const values = (percentile: "p50" | "p95"): readonly (number | null)[] =>
    seriesOf<number | null>(data.items, times, { value: (item) => item[of][percentile], missing: null });
  return (
    <div class="pad">
      <Chart
        times={times}
        stepMs={lengthMs(step)}
        series={[
          { name: "p95", tone, values: values("p95") },
          { name: "p50", tone, values: values("p50"), dashed: true },
        ]}
        kind="lines"
        height="mid"
        format={duration}
        label={`${of === "wait" ? "Waiting" : "Run"} times: the median, and what 95 % of the tasks stay below`}
      />
    </div>
  );
}

function Inbox(): JSX.Element {
  const range = { range: query.value.get("range") ?? STANDARD_RANGE, from: query.value.get("from"), to: query.value.get("to") };
  const asked = new URLSearchParams(Object.entries(range).flatMap(([name, value]) => (value === null ? [] : [[name, value]])));
  const { data } = useQuery<FailureList>(`failures?${asked.toString()}`, { everyMs: isLive.value ? 10_000 : undefined });
  const groups = data?.items ?? [];
  const count = groups.reduce((sum, group) => sum + group.count, 0);
  const all = (
    <a class="link push" href={href("failures", asked)}>
      All failures
    </a>
  );
  return (
    <Panel
      title="Failures"
      sub={
        data === undefined ? undefined : `${number(count)} tasks in ${number(groups.length)} ${groups.length === 1 ? "group" : "groups"}`
      }
      link={all}
    >
      {groups.length > 0 ? (
        <Groups groups={groups.slice(0, MOST_FAILURES)} />
      ) : (
        data !== undefined && <p class="pad small soft">None in this range.</p>
      )}
    </Panel>
  );
}

function WorkerPanel({ workers }: { readonly workers: WorkerList | undefined }): JSX.Element {
  const items = workers?.items ?? [];
  const lost = items.filter(({ state }) => state === "lost").length;
  const up = items.filter(({ state }) => state === "up").length;
  const all = (
    <a class="link push" href={href("workers")}>
      All workers
    </a>
  );
  return (
    <Panel
      title="Workers"
      sub={workers === undefined ? undefined : `${number(up)} up${lost === 0 ? "" : `, ${number(lost)} lost`}`}
      link={all}
    >
      {workers === undefined ? (
        <Loading rows={3} />
      ) : items.length === 0 ? (
        <p class="pad small soft">
          No worker was heard. Start them with <Setting>celery worker -E</Setting>
        </p>
      ) : (
        <div class="ws">
          {items.slice(0, MOST_WORKERS).map((worker) => (
            <a key={worker.name} class={worker.state === "lost" ? "lost" : undefined} href={href("worker", { name: worker.name })}>
              <span class="row">
                <WorkerBadge state={worker.state} glyph />
                <span class="cut" title={worker.name}>
                  {worker.name}
                </span>
              </span>
              <small>
                <Busy worker={worker} />
              </small>
            </a>
          ))}
        </div>
      )}
    </Panel>
  );
}

function QueuePanel({ queues }: { readonly queues: QueueList | undefined }): JSX.Element {
  const items = queues?.items ?? [];
  const all = (
    <a class="link push" href={href("queues")}>
      All queues
    </a>
  );
  return (
    <Panel title="Queues" link={all}>
      {queues === undefined ? (
        <Loading rows={3} />
      ) : items.length === 0 ? (
        <p class="pad small soft">Not known: the role monitor asks the broker for their lengths. Is it running?</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">Queue</th>
              <th scope="col" class="n">
                Waiting
              </th>
            </tr>
          </thead>
          <tbody>
            {items.slice(0, MOST_QUEUES).map(({ name, messages }) => (
              <tr key={name}>
                <th scope="row" class="w">
                  <a class="cut" href={href("queues", { queue: name })}>
                    {name}
                  </a>
                </th>
                <td class="n">{messages === null ? "–" : number(messages)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}
