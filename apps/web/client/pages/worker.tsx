/** One worker: whether it is alive, what runs there, and what failed there. */
import type { JSX } from "preact";
import { useQuery } from "../api/query.ts";
import type { TaskList } from "../api/task-list.ts";
import type { ActivityList, Worker as WorkerItem, WorkerList } from "../api/types.ts";
import { href, query } from "../location.ts";
import { Bar, LiveButton } from "../parts/bar.tsx";
import { Action, WhyOff } from "../parts/control.tsx";
import { BAD_SHARE } from "../parts/failed-share.tsx";
import { Call, Empty, Failing, Loading } from "../parts/say.tsx";
import { IdLink, TaskName, WorkerName, exceptionName, taskHref } from "../parts/task.tsx";
import { TaskTable } from "../parts/task-table.tsx";
import { duration, number, percent, rate, shortTime } from "../parts/format.ts";
import { Time } from "../parts/time.tsx";
import { Consumes, Lately, Ran } from "../parts/worker-lately.tsx";
import { WorkerBadge, poolName, version } from "../parts/worker.tsx";
import { Running, useTasks } from "../parts/worker-running.tsx";
import { ACTIVITY_EVERY_MS, WORKERS_EVERY_MS, rateOf } from "./workers.tsx";
import { Heads } from "../parts/heads.tsx";

const LATEST = 10;
const LATEST_FAILURES = 5;

export function Worker(): JSX.Element {
  const name = query.value.get("name") ?? "";
  const asked = useQuery<WorkerList>(`workers?${new URLSearchParams({ name }).toString()}`, { everyMs: WORKERS_EVERY_MS });
  const worker = asked.isPrevious ? undefined : asked.data?.items[0];
  const activity = useQuery<ActivityList>(`workers/activity?${new URLSearchParams({ name }).toString()}`, {
    everyMs: ACTIVITY_EVERY_MS,
  });
  const lately = activity.isPrevious ? undefined : activity.data;
  return (
    <>
      <Bar title={name} above={{ page: "workers", title: "Workers" }} sub={name}>
        <LiveButton />
      </Bar>
      <div class="body">
        <Failing query={asked} />
        {worker !== undefined && <Head worker={worker} lately={lately} />}
        {worker === undefined && asked.data !== undefined && !asked.isPrevious && (
          <>
            <div class="head">
              <h1>{name}</h1>
            </div>
            <Call tone="retry" icon="info" title="No heartbeat of it is known">
              Its tasks are below. A worker that was silent for long is forgotten (<code>POSTGRES_WORKER_EXPIRY_DAYS</code>).
            </Call>
          </>
        )}
        <div class="cols">
          <div class="stack">
            <Running name={name} worker={worker} activity={lately?.items[0]} everyMs={WORKERS_EVERY_MS} />
            {lately !== undefined && <Lately list={lately} />}
            <Failed name={name} count={lately?.items[0]?.failed} />
          </div>
          <div class="stack">
            {worker !== undefined && worker.queues !== null && <Consumes queues={worker.queues} everyMs={WORKERS_EVERY_MS} />}
            {lately !== undefined && <Ran activity={lately.items[0]} />}
            {worker !== undefined && <Facts worker={worker} />}
          </div>
        </div>
        <Recent name={name} />
      </div>
    </>
  );
}

interface HeadProps {
  readonly worker: WorkerItem;
  /** Undefined until it is known. */
  readonly lately: ActivityList | undefined;
}

function sum(counts: readonly number[] = []): number {
  return counts.reduce((total, count) => total + count, 0);
}

/** Twelve steps of five minutes. */
const LAST_HOUR = -12;

function Head({ worker, lately }: HeadProps): JSX.Element {
  const activity = lately?.items[0];
  const { active, concurrency, state, loadavg } = worker;
  const [tasks, failures] = [sum(activity?.tasks.slice(LAST_HOUR)), sum(activity?.failures?.slice(LAST_HOUR))];
  return (
    <>
      <div class="head">
        <div>
          <div class="row">
            <WorkerBadge state={worker.state} big />
            <h1>
              <WorkerName name={worker.name} />
            </h1>
          </div>
          <div class="row num">
            {worker.software !== null && <span>Celery {version(worker.software)}</span>}
            {worker.pid !== null && <span>pid {worker.pid}</span>}
            {worker.online_at !== null && (
              <span>
                started <Time at={worker.online_at} />
              </span>
            )}
            {worker.heard_at !== null && (
              <span>
                heartbeat <Time at={worker.heard_at} />
                {worker.freq !== null && `, every ${worker.freq} s`}
              </span>
            )}
          </div>
        </div>
        <div class="acts">
          <div class="row">
            <Action icon="workers" name="Pool size…" />
            <Action icon="x" name="Shut down…" />
          </div>
          <WhyOff />
        </div>
      </div>
      <dl class="panel kpis">
        <div class="kpi">
          <dt>Busy</dt>
          <dd>
            {active === null || state === "offline" ? "–" : number(active)}
            {state === "lost" && "?"} {concurrency !== null && state !== "offline" && <small>of {number(concurrency)} slots</small>}
          </dd>
          {state === "lost" && <dd class="sub">when it fell silent</dd>}
        </div>
        <div class="kpi">
          <dt>Processed</dt>
          <dd>{worker.processed === null ? "–" : number(worker.processed)}</dd>
          <dd class="sub">
            since it started
            {lately !== undefined && activity !== undefined && `, lately ${rate(rateOf(activity, lately.step_seconds))} a minute`}
          </dd>
        </div>
        <div class="kpi">
          <dt>Failed</dt>
          <dd>
            {activity === undefined || tasks === 0 ? (
              "–"
            ) : (
              <span class={failures / tasks >= BAD_SHARE ? "bad" : undefined}>{percent(failures / tasks)}</span>
            )}
          </dd>
          <dd class="sub">
            in the last hour
            {activity !== undefined && `; ${number(activity.failed)} ${activity.failed === 1 ? "task" : "tasks"} in 24 hours`}
          </dd>
        </div>
        <div class="kpi">
          <dt>Runtime, p95</dt>
          <dd>{activity?.runtime_p95 === undefined || activity.runtime_p95 === null ? "–" : duration(activity.runtime_p95)}</dd>
          <dd class="sub">in the last 3 hours</dd>
        </div>
        <div class="kpi">
          <dt>Load</dt>
          <dd>{loadavg === null || state === "offline" ? "–" : loadavg[0]?.toFixed(1)}</dd>
          <dd class="sub">
            of its host
            {loadavg !== null && state !== "offline" && `; ${loadavg[1]?.toFixed(1)} and ${loadavg[2]?.toFixed(1)} over 5 and 15 min`}
          </dd>
        </div>
      </dl>
    </>
  );
}

interface ListProps {
  readonly name: string;
}

/** No index finds the ended tasks of a worker, so that each round is a search. */
const SEARCH_EVERY_MS = 15_000;

function None({ list: { next, isSearching, searchedTo } }: { readonly list: TaskList }): JSX.Element {
  const known = next === null || searchedTo === null ? "None in the last 24 hours." : `None since ${shortTime(new Date(searchedTo))}.`;
  return <p class="pad small soft">{isSearching ? "Searching …" : known}</p>;
}

interface FailedProps extends ListProps {
  /** In the last 24 hours. */
  readonly count: number | undefined;
}

function Failed({ name, count }: FailedProps): JSX.Element {
  const { tasks, list } = useTasks(new URLSearchParams({ worker: name, status: "FAILURE" }), {
    size: LATEST_FAILURES,
    everyMs: SEARCH_EVERY_MS,
  });
  return (
    <section class="panel" aria-labelledby="failed">
      <header>
        <h2 id="failed">Recent failures</h2>
        {count !== undefined && count > 0 && <p>{number(count)} in 24 hours</p>}
        {tasks !== undefined && tasks.length > 0 && (
          <a class="link push" href={href("tasks", { worker: name, status: "FAILURE" })}>
            Show all
          </a>
        )}
      </header>
      {tasks === undefined ? (
        list.first.error === undefined && <Loading rows={3} />
      ) : tasks.length === 0 ? (
        <None list={list} />
      ) : (
        <table>
          <Heads of={["Task and exception", ["p3", "Id"], ["n", "When"]]} />
          <tbody>
            {tasks.map((task) => (
              <tr key={task.task_id} data-row={task.task_id}>
                <td class="w">
                  <a class="cut" href={taskHref(task.task_id)} data-open>
                    <TaskName name={task.name} />
                  </a>
                  {task.exception !== null && (
                    <span class="cut args" title={task.exception}>
                      {exceptionName(task.exception) ?? task.exception}
                    </span>
                  )}
                </td>
                <td class="p3">
                  <IdLink id={task.task_id} />
                </td>
                <td class="n soft">
                  <Time at={task.seen_at} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function Recent({ name }: ListProps): JSX.Element {
  const { tasks, list } = useTasks(new URLSearchParams({ worker: name }), { size: LATEST, everyMs: SEARCH_EVERY_MS });
  return (
    <section class="panel" aria-labelledby="recent">
      <header>
        <h2 id="recent">Recent tasks</h2>
      </header>
      {tasks === undefined ? (
        list.first.error === undefined && <Loading rows={3} />
      ) : tasks.length === 0 ? (
        <None list={list} />
      ) : (
        <TaskTable tasks={tasks} />
      )}
    </section>
  );
}

function Facts({ worker }: { readonly worker: WorkerItem }): JSX.Element {
  const isAsked = worker.observed_at !== null;
  return (
    <section class="panel" aria-labelledby="facts">
      <header>
        <h2 id="facts">Details</h2>
      </header>
      <div class="pad">
        {isAsked ? (
          <dl class="kv">
            <dt>Queues</dt>
            <dd>{worker.queues?.join(", ")}</dd>
            <dt>Pool</dt>
            <dd>{worker.pool === null ? "–" : poolName(worker.pool)}</dd>
            <dt>Slots</dt>
            <dd>{worker.concurrency ?? "–"}</dd>
            <dt>Prefetch</dt>
            <dd>{worker.prefetch_count ?? "–"}</dd>
            <dt>Answered</dt>
            <dd>{worker.observed_at !== null && <Time at={worker.observed_at} />}</dd>
            <dt>First seen</dt>
            <dd>
              <Time at={worker.first_seen_at} />
            </dd>
          </dl>
        ) : (
          <Empty icon="info" title="Its queues and pool are not known">
            <p>
              The role monitor asks workers for them, unless <code>MONITOR_INSPECT=false</code>. Is it running?
            </p>
          </Empty>
        )}
      </div>
    </section>
  );
}
