/** One worker: whether it is alive, what runs there, and what failed there. */
import type { JSX } from "preact";
import { useQuery } from "../api/query.ts";
import type { TaskPageAnswer, Worker as WorkerItem, WorkerList } from "../api/types.ts";
import { href, query } from "../location.ts";
import { Bar, LiveButton, isLive } from "../parts/bar.tsx";
import { Action, WhyOff } from "../parts/control.tsx";
import { Call, Empty, Failing, Loading } from "../parts/say.tsx";
import { IdLink, TaskName, argumentsLine, taskHref } from "../parts/task.tsx";
import { TaskTable } from "../parts/task-table.tsx";
import { duration, number } from "../parts/format.ts";
import { Time, now } from "../parts/time.tsx";
import { Busy, WorkerBadge, poolName, version } from "../parts/worker.tsx";
import { Load, WORKERS_EVERY_MS } from "./workers.tsx";

const LATEST = 10;

export function Worker(): JSX.Element {
  const name = query.value.get("name") ?? "";
  const everyMs = isLive.value ? WORKERS_EVERY_MS : undefined;
  const asked = useQuery<WorkerList>(`workers?${new URLSearchParams({ name }).toString()}`, { everyMs });
  const worker = asked.isPrevious ? undefined : asked.data?.items[0];
  return (
    <>
      <Bar title={name} above={{ page: "workers", title: "Workers" }} sub={name}>
        <LiveButton />
      </Bar>
      <div class="body">
        <Failing query={asked} />
        {worker !== undefined && <Head worker={worker} />}
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
          <Running name={name} everyMs={everyMs} />
          {worker !== undefined && <Facts worker={worker} />}
        </div>
        <Recent name={name} everyMs={everyMs} title="Recent failures" status="FAILURE" none="None in the last 24 hours." />
        <Recent name={name} everyMs={everyMs} title="Recent tasks" none="None in the last 24 hours." />
      </div>
    </>
  );
}

function Head({ worker }: { readonly worker: WorkerItem }): JSX.Element {
  return (
    <>
      <div class="head">
        <div>
          <div class="row">
            <WorkerBadge state={worker.state} big />
            <h1>{worker.name}</h1>
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
            <Busy worker={worker} />
          </dd>
        </div>
        <div class="kpi">
          <dt>Processed</dt>
          <dd>{worker.processed === null ? "–" : number(worker.processed)}</dd>
          <dd class="sub">since it started</dd>
        </div>
        <div class="kpi">
          <dt>Load</dt>
          <dd>
            <Load worker={worker} />
          </dd>
          <dd class="sub">of its host, over 1, 5 and 15 min</dd>
        </div>
      </dl>
    </>
  );
}

interface ListProps {
  readonly name: string;
  readonly everyMs: number | undefined;
}

function Running({ name, everyMs }: ListProps): JSX.Element {
  const filters = { worker: name, status: "STARTED", range: "7d" };
  const asked = useQuery<TaskPageAnswer>(`tasks?${new URLSearchParams({ ...filters, limit: "50" }).toString()}`, { everyMs });
  const tasks = asked.isPrevious ? undefined : asked.data?.items;
  return (
    <section class="panel" aria-labelledby="running">
      <header>
        <h2 id="running">Running now</h2>
        {tasks !== undefined && <p>{number(tasks.length)}</p>}
        <a class="link push" href={href("tasks", { worker: name })}>
          All tasks of this worker
        </a>
      </header>
      <Failing query={asked} />
      {tasks === undefined ? (
        asked.error === undefined && <Loading rows={3} />
      ) : tasks.length === 0 ? (
        <p class="pad small soft">Nothing, as far as events tell.</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">Task and arguments</th>
              <th scope="col" class="p3">
                Id
              </th>
              <th scope="col" class="n">
                Elapsed
              </th>
            </tr>
          </thead>
          <tbody>
            {tasks.map((task) => (
              <tr key={task.task_id} data-row={task.task_id}>
                <td class="w">
                  <a class="cut" href={taskHref(task.task_id)} data-open>
                    <TaskName name={task.name} />
                  </a>
                  <span class="cut args">{argumentsLine(task)}</span>
                </td>
                <td class="p3">
                  <IdLink id={task.task_id} />
                </td>
                <td class="n">
                  {task.started_at === null ? "–" : duration(Math.max(0, (now.value - Date.parse(task.started_at)) / 1_000))}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

interface RecentProps extends ListProps {
  readonly title: string;
  readonly none: string;
  readonly status?: string;
}

function Recent({ name, everyMs, title, none, status }: RecentProps): JSX.Element {
  const filters = new URLSearchParams({ worker: name, ...(status !== undefined && { status }), limit: String(LATEST) });
  const asked = useQuery<TaskPageAnswer>(`tasks?${filters.toString()}`, { everyMs });
  const tasks = asked.isPrevious ? undefined : asked.data?.items;
  return (
    <section class="panel" aria-label={title}>
      <header>
        <h2>{title}</h2>
      </header>
      {tasks === undefined ? (
        asked.error === undefined && <Loading rows={3} />
      ) : tasks.length === 0 ? (
        <p class="pad small soft">{none}</p>
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
