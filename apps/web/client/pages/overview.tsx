/** Overview: how much, how well, how fast, and what needs a person. */
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { useQuery } from "../api/query.ts";
import { askedRange, lengthMs, perMinute, seriesOf, stepFor, timesOf, useStatistics } from "../api/statistics.ts";
import type { FailureList, QueueList, Statistics, Worker, WorkerList } from "../api/types.ts";
import { href, query } from "../location.ts";
import { Bar, LiveButton, RangeTabs, rangeName } from "../parts/bar.tsx";
import { Brush } from "../parts/brush.tsx";
import { Chart, Numbers, type ChartProps } from "../parts/chart.tsx";
import { BAD_SHARE } from "../parts/failed-share.tsx";
import { Figures, NO_COUNT, ofStatus, totalOf } from "../parts/figures.tsx";
import { Heads } from "../parts/heads.tsx";
import { Notes } from "../parts/notes.tsx";
import { Empty, Failing, Loading, Setting } from "../parts/say.tsx";
import { duration, number, percent, rate, zone } from "../parts/format.ts";
import { Panel } from "../parts/panel.tsx";
import { Age } from "../parts/queue.tsx";
import { SlowestTypes } from "../parts/slowest-types.tsx";
import { isMonitored } from "../parts/monitored.ts";
import { Consumers, takersOf } from "../parts/takers.tsx";
import { WorkerName } from "../parts/task.tsx";
import { Busy, WorkerBadge } from "../parts/worker.tsx";
import { Time } from "../parts/time.tsx";
import { Groups } from "./failures.tsx";
import { WORKERS_EVERY_MS } from "./workers.tsx";

const STANDARD_RANGE = "3h";
const MOST_FAILURES = 5;
const MOST_WORKERS = 12;
const MOST_QUEUES = 8;
/** Of the brush: it shows every task. */
const ALL_TASKS = new URLSearchParams();

export function Overview(): JSX.Element {
  const step = stepFor(STANDARD_RANGE);
  const byStatus = useStatistics({ range: STANDARD_RANGE, step, by: "status" });
  const durations = useStatistics({ range: STANDARD_RANGE, step });
  const whole = useStatistics({ range: STANDARD_RANGE });
  const { data: workers } = useQuery<WorkerList>("workers", { everyMs: WORKERS_EVERY_MS });
  const { data: queues } = useQuery<QueueList>("queues?range=3h&step=3m", { everyMs: WORKERS_EVERY_MS });
  useEffect(() => {
    if (window.location.hash === "#health") document.getElementById("health")?.scrollIntoView();
  }, []);
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
            <SlowestTypes standard={STANDARD_RANGE} />
          </div>
          <div class="stack">
            <Panel title="Wait" sub="from sent to started">
              {durations.data !== undefined && <Percentiles data={durations.data} step={step} of="wait" tone="wait" />}
            </Panel>
            <Panel title="Runtime" sub="of the last run">
              {durations.data !== undefined && <Percentiles data={durations.data} step={step} of="runtime" tone="run" />}
            </Panel>
            <QueuePanel queues={queues} workers={workers} />
            <Panel title="Health of the data" sub="What this page cannot see, and why" id="health">
              <Notes />
            </Panel>
          </div>
        </div>
        <WorkerPanel workers={workers} />
      </div>
    </>
  );
}

function Throughput({ data, step }: { readonly data: Statistics; readonly step: string }): JSX.Element {
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
  const chart: ChartProps = {
    times,
    stepMs: lengthMs(step),
    series,
    kind: "bars",
    format: rate,
    label: "Tasks a minute, by how they ended",
    hasNumbers: false,
    more: (index) => <ShareOfStep failed={values("FAILURE")[index] ?? 0} succeeded={values("SUCCESS")[index] ?? 0} />,
  };
  const isEmpty = data.items.length === 0;
  return (
    <div class="pad">
      {isEmpty ? <NothingCounted /> : <Chart {...chart} />}
      <Brush standard={STANDARD_RANGE} isWider filters={ALL_TASKS} />
      {!isEmpty && <Numbers {...chart} />}
    </div>
  );
}

function NothingCounted(): JSX.Element {
  return (
    <Empty icon="overview" title="Nothing is counted in this range">
      <p>
        Tasks are counted from their events: start the workers with <Setting then=".">celery worker -E</Setting> The role postgres-processor
        counts them.
      </p>
    </Empty>
  );
}

function ShareOfStep({ failed, succeeded }: { readonly failed: number; readonly succeeded: number }): JSX.Element | null {
  if (failed + succeeded === 0) return null;
  const share = failed / (failed + succeeded);
  return (
    <li class="muted">
      Failed <b class={share >= BAD_SHARE ? "bad" : undefined}>{percent(share)}</b>
    </li>
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
  const asked = askedRange(STANDARD_RANGE);
  const limited = new URLSearchParams([...new URLSearchParams(asked), ["limit", String(MOST_FAILURES)]]);
  const { data } = useQuery<FailureList>(`failures?${limited.toString()}`, { everyMs: 10_000 });
  const groups = data?.items ?? [];
  const all = (
    <a class="link push" href={href("failures", asked)}>
      All failures
    </a>
  );
  return (
    <Panel
      title="Failures"
      sub={
        data === undefined ? undefined : `${number(data.tasks)} tasks in ${number(data.groups)} ${data.groups === 1 ? "group" : "groups"}`
      }
      link={all}
    >
      {groups.length > 0 ? <Groups groups={groups} /> : data !== undefined && <p class="pad small soft">None in this range.</p>}
    </Panel>
  );
}

function WorkerPanel({ workers }: { readonly workers: WorkerList | undefined }): JSX.Element {
  const items = workers?.items ?? [];
  const counts = (["up", "lost", "unknown", "offline"] as const).map(
    (state) => [state, items.filter((worker) => worker.state === state).length] as const,
  );
  const parts = counts.filter(([state, count]) => state === "up" || count > 0).map(([state, count]) => `${number(count)} ${state}`);
  const all = (
    <a class="link push" href={href("workers")}>
      All workers
    </a>
  );
  return (
    <Panel title="Workers" sub={workers === undefined ? undefined : parts.join(", ")} link={all}>
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
                  <WorkerName name={worker.name} />
                </span>
              </span>
              <small>
                <WorkerLine worker={worker} />
              </small>
            </a>
          ))}
        </div>
      )}
    </Panel>
  );
}

/** What a person wants to know of it at a glance. */
function WorkerLine({ worker }: { readonly worker: Worker }): JSX.Element {
  const { state, heard_at, active } = worker;
  if (state === "up" || heard_at === null) return <Busy worker={worker} />;
  if (state === "offline" || state === "unknown")
    return (
      <>
        {state === "offline" ? "Stopped" : "Last heard"} <Time at={heard_at} />
      </>
    );
  return (
    <span class="lostt">
      Lost <Time at={heard_at} />
      {active !== null && active > 0 && ` with ${number(active)} ${active === 1 ? "task" : "tasks"}`}
    </span>
  );
}

interface QueuePanelProps {
  readonly queues: QueueList | undefined;
  readonly workers: WorkerList | undefined;
}

function QueuePanel({ queues, workers }: QueuePanelProps): JSX.Element {
  const items = queues?.items ?? [];
  const waiting = totalOf(items.map(({ messages }) => messages ?? 0));
  const all = (
    <a class="link push" href={href("queues")}>
      All queues
    </a>
  );
  return (
    <Panel title="Queues" sub={items.length === 0 ? undefined : `${number(waiting)} waiting`} link={all}>
      {queues === undefined ? (
        <Loading rows={3} />
      ) : items.length === 0 ? (
        <p class="pad small soft">
          {isMonitored(queues, workers?.items)
            ? "No queue has been seen yet."
            : "Not known: the role monitor asks the broker for their lengths. Is it running?"}
        </p>
      ) : (
        <table>
          <Heads of={["Queue", ["n", "Waiting"], ["n", "Oldest"], ["n", "Consumers"]]} />
          <tbody>
            {items.slice(0, MOST_QUEUES).map((queue) => (
              <tr key={queue.name}>
                <th scope="row" class="w">
                  <a class="cut" title={queue.name} href={href("queues", { queue: queue.name })}>
                    {queue.name}
                  </a>
                </th>
                <td class="n">{queue.messages === null ? <span class="nil">–</span> : number(queue.messages)}</td>
                <td class="n">
                  <Age at={queue.oldest_at} />
                </td>
                <td class="n">
                  <Consumers takers={takersOf(queue, workers?.items)} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}
