/** What a worker has started, of which no end is known. */
import type { JSX } from "preact";
import type { TaskItem, Worker as WorkerItem, WorkerActivity } from "../api/types.ts";
import { useTaskList, type TaskList } from "../api/task-list.ts";
import { href } from "../location.ts";
import { duration, number, rate, shortTime } from "./format.ts";
import { Heads } from "./heads.tsx";
import { Failing, Loading } from "./say.tsx";
import { IdLink, TaskName, argumentsLine, taskHref } from "./task.tsx";
import { now } from "./time.tsx";
import { isBeforeHeartbeat } from "./worker.tsx";

export interface RunningProps {
  readonly name: string;
  readonly worker: WorkerItem | undefined;
  readonly activity: WorkerActivity | undefined;
  readonly everyMs: number;
}

const MOST_RUNNING = 50;
/** More would push the rest of the page away. */
const SHOWN_RUNNING = 10;
const SEARCH_PATIENCE_MS = 5_000;

export interface Tasks {
  /** Undefined until there are any, or none. */
  readonly tasks: readonly TaskItem[] | undefined;
  readonly list: TaskList;
}

/** Tasks of a list that goes on searching for some seconds. */
export function useTasks(filters: URLSearchParams, { size, everyMs }: { readonly size: number; readonly everyMs: number }): Tasks {
  const list = useTaskList(filters, {
    size,
    patienceMs: SEARCH_PATIENCE_MS,
    everyMs,
  });
  return { list, tasks: list.first.data === undefined || list.first.isPrevious ? undefined : list.items };
}

/** How far back it was searched, if not far enough. */
function SearchedTo({ list: { next, items, isSearching, searchedTo } }: { readonly list: TaskList }): JSX.Element | null {
  if (next === null || isSearching || searchedTo === null || items.length >= MOST_RUNNING) return null;
  return <span class="muted">Searched back to {shortTime(new Date(searchedTo))}.</span>;
}

/** Seconds from a start to a time in milliseconds. */
function secondsTo(until: number, startedAt: string): number {
  return Math.max(0, (until - Date.parse(startedAt)) / 1_000);
}

/** Its heartbeat may say that fewer run: then events are missing. */
function Fewer({ worker, tasks }: { readonly worker: WorkerItem; readonly tasks: readonly TaskItem[] }): JSX.Element | null {
  const { active, heard_at } = worker;
  const started = tasks.filter(({ started_at }) => isBeforeHeartbeat(started_at, heard_at)).length;
  if (active === null || active >= started) return null;
  return (
    <p class="pad small soft">
      Its last heartbeat says that {active === 0 ? "nothing runs" : `${number(active)} of these run`}. The others ended without an event:
      some pools lose events, and a task that raises Ignore sends none.
    </p>
  );
}

/** How long it has run, against how long 95 % of its kind took here. */
function Against({ seconds, p95 }: { readonly seconds: number; readonly p95: number | null }): JSX.Element {
  if (p95 === null || p95 === 0) return <span class="nil">–</span>;
  const isLong = seconds > p95;
  return (
    <span class="row nowrap">
      <svg class="meter" aria-hidden="true">
        <rect class="base" width="100%" height="100%" rx="3" />
        <rect class={isLong ? "a-retry" : "a-run"} width={`${Math.min(100, (seconds / p95) * 100).toFixed(0)}%`} height="100%" rx="3" />
      </svg>
      <span class={isLong ? "small warn" : "small muted"}>
        {seconds >= p95 * 1.5 ? `${rate(seconds / p95)} × its p95 of ${duration(p95)}` : `p95 ${duration(p95)}`}
      </span>
    </span>
  );
}

/** What it started and did not end, as far as events tell. */
export function Running({ name, worker, activity, everyMs }: RunningProps): JSX.Element {
  const filters = new URLSearchParams({ worker: name, status: "STARTED", range: "7d" });
  const { tasks, list } = useTasks(filters, { size: MOST_RUNNING, everyMs });
  const isLost = worker?.state === "lost";
  const until = isLost && worker.heard_at !== null ? Date.parse(worker.heard_at) : now.value;
  return (
    <section class="panel" aria-labelledby="running">
      <header>
        <h2 id="running">{isLost ? "Lost with it" : "Started, no end yet"}</h2>
        {tasks !== undefined && (
          <p>
            {number(tasks.length)}
            {tasks.length >= MOST_RUNNING && " or more"}
          </p>
        )}
      </header>
      {worker !== undefined && !isLost && <Fewer worker={worker} tasks={tasks ?? []} />}
      <Failing query={list.first} />
      {tasks === undefined ? (
        list.first.error === undefined && <Loading rows={3} />
      ) : tasks.length === 0 ? (
        <p class="pad small soft">{list.isSearching ? "Searching …" : "Nothing, as far as events tell."}</p>
      ) : (
        <table>
          <Heads of={["Task and arguments", ["p3", "Id"], ["n", "Elapsed"], ["p3", "Against its p95"]]} />
          <tbody>
            {tasks.slice(0, SHOWN_RUNNING).map((task) => (
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
                <td class={task.stuck ? "n warn" : "n"}>{task.started_at === null ? "–" : duration(secondsTo(until, task.started_at))}</td>
                <td class="p3">
                  {task.started_at === null ? (
                    <span class="nil">–</span>
                  ) : (
                    <Against
                      seconds={secondsTo(until, task.started_at)}
                      p95={activity?.types?.find((type) => type.name === task.name)?.p95 ?? null}
                    />
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <footer>
        <SearchedTo list={list} />
        {tasks !== undefined && tasks.length > SHOWN_RUNNING && (
          <a class="link" href={href("tasks", filters)}>
            Show all of them
          </a>
        )}
        <a class="link push" href={href("tasks", { worker: name })}>
          All tasks of this worker
        </a>
      </footer>
    </section>
  );
}
