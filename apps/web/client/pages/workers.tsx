/** Workers: which are alive, and what they do. */
import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import { useQuery } from "../api/query.ts";
import type { ActivityList, Worker, WorkerActivity, WorkerList } from "../api/types.ts";
import { changed, href, page, query } from "../location.ts";
import { Bar, LiveButton } from "../parts/bar.tsx";
import { Spark } from "../parts/chart.tsx";
import { Call, Empty, Failing, Loading, Setting } from "../parts/say.tsx";
import { number, rate, shortTime } from "../parts/format.ts";
import { Time } from "../parts/time.tsx";
import { Busy, WorkerBadge, poolName, version } from "../parts/worker.tsx";
import { Heads } from "../parts/heads.tsx";

export const WORKERS_EVERY_MS = 5_000;
export const ACTIVITY_EVERY_MS = 15_000;

const STATES = [
  ["", "All"],
  ["up", "Up"],
  ["lost", "Lost"],
  ["offline", "Offline"],
  ["unknown", "Unknown"],
] as const;

export function Workers(): JSX.Element {
  const [text, setText] = useState("");
  const asked = useQuery<WorkerList>("workers", { everyMs: WORKERS_EVERY_MS });
  const { data: activity } = useQuery<ActivityList>("workers/activity", { everyMs: ACTIVITY_EVERY_MS });
  const state = query.value.get("state") ?? "";
  const all = asked.data?.items ?? [];
  const counts = (wanted: string): number => all.filter((worker) => wanted === "" || worker.state === wanted).length;
  const found = text.trim().toLowerCase();
  const shown = all.filter(
    (worker) =>
      (state === "" || worker.state === state) && `${worker.name} ${worker.queues?.join(" ")} ${worker.pool}`.toLowerCase().includes(found),
  );
  const lost = all.filter((worker) => worker.state === "lost");
  const isUnasked = shown.every(({ concurrency }) => concurrency === null);

  return (
    <>
      <Bar title="Workers" sub={asked.data === undefined ? undefined : stateCounts(counts)}>
        <label class="sr" for="workers-search">
          Filter workers
        </label>
        <input
          class="field"
          id="workers-search"
          type="search"
          placeholder="Name, queue or pool"
          value={text}
          onInput={({ currentTarget }) => setText(currentTarget.value)}
        />
        <LiveButton />
      </Bar>
      <div class="body">
        <Failing query={asked} />
        {lost.slice(0, 3).map((worker) => (
          <Lost key={worker.name} worker={worker} />
        ))}
        <section class="panel" aria-labelledby="workers-all">
          <header>
            <h2 id="workers-all">All workers</h2>
            <p>{asked.data !== undefined && number(all.length)} in the last 24 hours</p>
            <span class="push row">
              <div class="seg" role="group" aria-label="Show">
                {STATES.filter(([value]) => value !== "unknown" || counts(value) > 0).map(([value, name]) => (
                  <a
                    key={value}
                    href={href(page.value, changed({ state: value === "" ? null : value }))}
                    aria-current={value === state ? "true" : undefined}
                  >
                    {name} {counts(value)}
                  </a>
                ))}
              </div>
            </span>
          </header>
          {asked.data === undefined ? (
            asked.error === undefined && <Loading />
          ) : shown.length > 0 ? (
            <Table workers={shown} activity={activity} />
          ) : all.length > 0 ? (
            <Empty icon="search" title="Nothing found" />
          ) : (
            <Empty icon="workers" title="No worker was heard">
              <p>
                Workers send heartbeats as events. Start them with <Setting then=",">celery worker -E</Setting> without{" "}
                <code>--without-heartbeat</code> and <code>--without-gossip</code>.
              </p>
            </Empty>
          )}
          {shown.length > 0 && (
            <footer class={isUnasked ? undefined : "p3"}>
              {isUnasked && (
                <span>
                  Pools, slots and queues are not known: the role monitor asks workers for them, unless <code>MONITOR_INSPECT=false</code>.
                  Is it running?
                </span>
              )}
              <span class="push muted p3">
                Processed: since each worker started.
                <span class="p2">
                  {" "}
                  Failed: {failedSince(activity)}.<span class="p1"> Tasks a minute: by when they were sent.</span>
                </span>
              </span>
            </footer>
          )}
        </section>
      </div>
    </>
  );
}

/** Since when failures are counted. */
function failedSince(activity: ActivityList | undefined): ComponentChildren {
  const isWhole = activity === undefined || Date.now() - Date.parse(activity.failed_since) > 86_000_000;
  return isWhole ? "in the last 24 hours" : <>of the newest 20,000 failures, since {shortTime(new Date(activity.failed_since))}</>;
}

/** Tasks a minute in the latest whole steps. */
export function rateOf({ tasks }: WorkerActivity, stepSeconds: number): number {
  const latest = tasks.slice(-1 - LATEST_STEPS, -1);
  return latest.reduce((sum, count) => sum + count, 0) / Math.max(1, latest.length) / (stepSeconds / 60);
}
const LATEST_STEPS = 2;

function Lost({ worker }: { readonly worker: Worker }): JSX.Element {
  return (
    <Call tone="lost" icon="lost" title={`${worker.name} is lost`}>
      {worker.heard_at !== null && (
        <>
          Its last heartbeat came <Time at={worker.heard_at} />
          {worker.freq !== null && `, one was due every ${worker.freq} s`}.{" "}
        </>
      )}
      {(worker.active ?? 0) > 0 && (
        <>
          It had {number(worker.active ?? 0)} {worker.active === 1 ? "task" : "tasks"}. With <code>acks_late</code> the broker hands them to
          another worker, otherwise they are gone.{" "}
        </>
      )}
      <a class="link" href={href("tasks", { worker: worker.name, status: "STARTED,RECEIVED", range: "7d" })}>
        Show its unfinished tasks
      </a>
    </Call>
  );
}

interface TableProps {
  readonly workers: readonly Worker[];
  readonly activity: ActivityList | undefined;
}

function Table({ workers, activity }: TableProps): JSX.Element {
  const byName = new Map((activity?.items ?? []).map((item) => [item.name, item]));
  return (
    <table>
      <Heads
        of={[
          ["p3", "State"],
          "Worker and queues",
          ["p1", "Celery"],
          ["p2", "Pool"],
          "Busy",
          ["n p3", "Processed"],
          ["n p2", "Failed"],
          ["n p2", <abbr title="Load of the host over 1, 5 and 15 minutes">Load</abbr>],
          ["n p1", "Tasks a minute, 3 hours", 2],
          ["n", "Heartbeat"],
        ]}
      />
      <tbody>
        {workers.map((worker) => (
          <Row key={worker.name} worker={worker} stepSeconds={activity?.step_seconds} activity={byName.get(worker.name)} />
        ))}
      </tbody>
    </table>
  );
}

interface RowProps {
  readonly worker: Worker;
  /** Undefined until it is known. */
  readonly stepSeconds: number | undefined;
  readonly activity: WorkerActivity | undefined;
}

function Row({ worker, stepSeconds, activity }: RowProps): JSX.Element {
  const failed = activity?.failed ?? 0;
  const at = worker.name.indexOf("@");
  const split = at < 0 ? worker.name.length : at;
  return (
    <tr class={worker.state === "lost" ? "lostrow" : undefined} data-row={worker.name}>
      <td class="nowrap p3">
        <WorkerBadge state={worker.state} />
      </td>
      <th scope="row" class="w">
        <span class="tk">
          <span class="on-s">
            <WorkerBadge state={worker.state} glyph />
          </span>
          <span class="tkn">
            <a class="cut" href={href("worker", { name: worker.name })} title={worker.name} data-open>
              <b class="fn">{worker.name.slice(0, split)}</b>
              <span class="mod">{worker.name.slice(split)}</span>
            </a>
            <Below worker={worker} />
          </span>
        </span>
      </th>
      <td class="p1 num">{worker.software === null ? <span class="nil">–</span> : version(worker.software)}</td>
      <td class="p2">{worker.pool === null ? <span class="nil">–</span> : poolName(worker.pool)}</td>
      <td class="nowrap">
        <Busy worker={worker} />
      </td>
      <td class="n p3">{worker.processed === null ? <span class="nil">–</span> : number(worker.processed)}</td>
      <td class="n p2">
        {stepSeconds === undefined ? (
          <span class="nil">–</span>
        ) : failed === 0 ? (
          <span class="nil">0</span>
        ) : (
          <a href={href("tasks", { worker: worker.name, status: "FAILURE" })}>{number(failed)}</a>
        )}
      </td>
      <td class="n p2">
        <Load worker={worker} />
      </td>
      <td class="p1">
        {activity !== undefined && <Spark values={activity.tasks.slice(0, -1)} tone="ink" label="Tasks a minute over 3 hours" />}
      </td>
      <td class="n p1">
        {activity === undefined || stepSeconds === undefined ? <span class="nil">–</span> : rate(rateOf(activity, stepSeconds))}
      </td>
      <td class={worker.state === "lost" ? "n lostt" : "n"}>
        {worker.heard_at === null ? <span class="nil">–</span> : <Time at={worker.heard_at} />}
      </td>
    </tr>
  );
}

function stateCounts(counts: (wanted: string) => number): string {
  const unknown = counts("unknown");
  return `${counts("up")} up, ${counts("lost")} lost, ${counts("offline")} offline${unknown > 0 ? `, ${unknown} unknown` : ""}`;
}

/** What is to be said about it, otherwise its queues. */
function Below({ worker: { state, active, queues } }: { readonly worker: Worker }): JSX.Element | null {
  const of = queues === null ? "" : queues.join(", ");
  if (state === "lost" && (active ?? 0) > 0)
    return (
      <span class="sub cut">
        <span class="lostt">
          Had {number(active ?? 0)} {active === 1 ? "task" : "tasks"} when it went silent
        </span>
        {of !== "" && `, ${of}`}
      </span>
    );
  if (state === "unknown") return <span class="sub cut">No receiver listens, or its events are processed late</span>;
  const says = state === "offline" ? `Said goodbye${of === "" ? "" : `, ${of}`}` : of;
  return says === "" ? null : <span class="sub cut">{says}</span>;
}

export function Load({ worker: { loadavg, state } }: { readonly worker: Worker }): JSX.Element {
  if (loadavg === null || state === "offline") return <span class="nil">–</span>;
  return (
    <>
      {loadavg.map((load, index) => (
        <span key={index} class={index === 0 ? undefined : "muted"}>
          {index > 0 && " "}
          {load.toFixed(1)}
        </span>
      ))}
    </>
  );
}
