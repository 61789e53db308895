/** What happens now: each change of the newest tasks, as a line. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { ApiError } from "../api/ask.ts";
import { isLive, watch } from "../api/live.ts";
import type { TaskItem } from "../api/types.ts";
import { changed, href, query } from "../location.ts";
import { Bar, LiveButton } from "../parts/bar.tsx";
import { NewRows } from "../parts/new-rows.tsx";
import { Empty, Failing, Loading, Setting } from "../parts/say.tsx";
import { SearchBar } from "../parts/search-bar.tsx";
import { filtersOf } from "../parts/search.ts";
import { Badge, Stuck, TaskCell, argumentsLine, shortId, stateOf } from "../parts/task.tsx";
import { duration } from "../parts/format.ts";
import { Time } from "../parts/time.tsx";

/** What a browser draws in a few milliseconds, once a second. */
const MAX_LINES = 50;
/** The most that the API watches. */
const WATCHED = 100;
const PROBLEMS: readonly string[] = ["FAILURE", "RETRY", "REVOKED", "REJECTED"];
/** Whoever scrolled further reads. */
const AT_TOP_PIXELS = 80;

interface Stream {
  /** Newest first. Undefined before the first answer. */
  readonly lines: readonly TaskItem[] | undefined;
  /** Lines that wait until nobody reads those that are shown. */
  readonly waiting: readonly TaskItem[];
  /** How many came, of which the oldest are gone. */
  readonly count: number;
  /** When the latest came; milliseconds since 1970. */
  readonly at: number;
  readonly problem: ApiError | undefined;
}

const NOTHING: Stream = { lines: undefined, waiting: [], count: 0, at: 0, problem: undefined };

/** A task has a line for each of its changes. */
function keyOf({ task_id, status, last_event_at, lost }: TaskItem): string {
  return `${task_id} ${status} ${last_event_at} ${lost}`;
}

/** Of more than fit: what needs a person, then ends, and half of the room for what begins. */
function chooseLines(tasks: readonly TaskItem[]): readonly TaskItem[] {
  if (tasks.length <= MAX_LINES) return tasks;
  const {
    problem = [],
    end = [],
    begin = [],
  } = Object.groupBy(tasks, ({ status, lost }) => (lost || PROBLEMS.includes(status) ? "problem" : status === "SUCCESS" ? "end" : "begin"));
  return [...problem, ...end.slice(-MAX_LINES / 2), ...begin.slice(0, MAX_LINES / 2), ...end.slice(0, -MAX_LINES / 2)].slice(0, MAX_LINES);
}

/** The newer lines before the others, each once. */
function together(newer: readonly TaskItem[], older: readonly TaskItem[] = []): TaskItem[] {
  const sorted = chooseLines(newer).toSorted((one, other) => (one.last_event_at < other.last_event_at ? 1 : -1));
  const lines = new Map<string, TaskItem>();
  for (const task of [...sorted, ...older]) if (!lines.has(keyOf(task))) lines.set(keyOf(task), task);
  return [...lines.values()].slice(0, MAX_LINES);
}

function withWaiting(stream: Stream): Stream {
  return { ...stream, lines: together(stream.waiting, stream.lines), waiting: [], count: 0 };
}

/** @param isRead whether somebody reads, so that no line may move. */
function useStream(path: string | undefined, isRead: () => boolean): Stream & { readonly show: () => void; readonly again: () => void } {
  const [stream, setStream] = useState(NOTHING);
  const again = useRef(() => {});
  useEffect(() => setStream(NOTHING), [query.value.toString()]);
  useEffect(() => {
    if (path === undefined) return;
    const watched = watch(path, {
      onTasks: (items) =>
        setStream((before) => {
          const known = new Set([...(before.lines ?? []), ...before.waiting].map(keyOf));
          const fresh = items.filter((task) => !known.has(keyOf(task)));
          const waiting = together(fresh, before.waiting);
          const after = { ...before, waiting, count: before.count + fresh.length, at: Date.now(), problem: undefined };
          return before.lines !== undefined && isRead() ? after : withWaiting(after);
        }),
      onProblem: (problem) => setStream((before) => ({ ...before, problem })),
    });
    again.current = watched.again;
    return watched.stop;
  }, [path]);
  return { ...stream, again: () => again.current(), show: () => setStream(withWaiting) };
}

const ONLY: readonly (readonly [string | null, string])[] = [
  [null, "Everything"],
  [PROBLEMS.join(","), "Problems"],
];

export function Live(): JSX.Element {
  const list = useRef<HTMLTableSectionElement>(null);
  const watched = new URLSearchParams(query.value);
  watched.set("limit", String(WATCHED));
  const isRead = (): boolean =>
    list.current?.matches(":hover") === true || list.current?.contains(document.activeElement) === true || window.scrollY > AT_TOP_PIXELS;
  const { lines, count, at, problem, show, again } = useStream(isLive.value ? `live?${watched.toString()}` : undefined, isRead);
  const status = query.value.get("status");
  return (
    <>
      <Bar title="Live" sub="Each change of the newest tasks, as it comes">
        <div class="seg" role="group" aria-label="Which changes">
          {ONLY.map(([value, name]) => (
            <a key={name} href={href("live", changed({ status: value }))} aria-current={status === value ? "true" : undefined}>
              {name}
            </a>
          ))}
        </div>
        <LiveButton waiting={count} />
      </Bar>
      <div class="body">
        <form class="find" role="search" aria-label="Tasks" onSubmit={(event) => event.preventDefault()}>
          <SearchBar />
        </form>
        <Failing query={{ error: problem, data: lines, at, ask: again }} />
        <section class="panel results" aria-label="Changes">
          <NewRows count={count} noun={["change", "changes"]} onShow={show} />
          {lines === undefined ? (
            isLive.value ? (
              problem === undefined && <Loading rows={10} />
            ) : (
              <Empty icon="live" title="Paused">
                <p>Nothing is asked until you go on.</p>
              </Empty>
            )
          ) : lines.length === 0 ? (
            <Quiet />
          ) : (
            <table>
              <thead>
                <tr>
                  <th scope="col" class="p3" aria-sort="descending">
                    At
                  </th>
                  <th scope="col" class="p3">
                    State
                  </th>
                  <th scope="col">Task and what it says</th>
                  <th scope="col" class="p2">
                    Id
                  </th>
                  <th scope="col" class="p3">
                    Queue and worker
                  </th>
                  <th scope="col" class="n">
                    <abbr title="How long it waited when it starts, how long it ran when it ends">Took</abbr>
                  </th>
                </tr>
              </thead>
              <tbody ref={list} onPointerLeave={show}>
                {lines.map((task) => (
                  <Line key={keyOf(task)} task={task} />
                ))}
              </tbody>
            </table>
          )}
          <footer>
            <span class="muted">
              The last {MAX_LINES} changes. Once a second the newest {WATCHED} tasks are read: changes in between, and those of older tasks,
              are not here.
            </span>
            <a class="link push" href={href("tasks", query.value)}>
              Every task
            </a>
          </footer>
        </section>
      </div>
    </>
  );
}

function Quiet(): JSX.Element {
  if (filtersOf(query.value).length > 0) {
    return (
      <Empty icon="live" title="Nothing like this, so far">
        <p>A line appears here when a task matches these filters.</p>
        <a class="btn" href={href("live")}>
          Watch everything
        </a>
      </Empty>
    );
  }
  return (
    <Empty icon="live" title="Quiet">
      <p>
        No task was seen in the last 24 hours. If tasks run, their workers send no events: start them with{" "}
        <Setting then=".">celery worker -E</Setting>
      </p>
    </Empty>
  );
}

/** What a change tells besides its state. */
function saying(task: TaskItem): string {
  if (task.status === "SUCCESS" && task.result !== null) return task.result;
  return task.exception ?? argumentsLine(task);
}

function Line({ task }: { readonly task: TaskItem }): JSX.Element {
  const state = stateOf(task);
  const took = task.status === "STARTED" ? task.wait_time : task.duration;
  return (
    <tr data-row={task.task_id}>
      <td class="p3 mono soft">
        <Time at={task.last_event_at} clock />
      </td>
      <td class="p3">
        <Badge state={state} /> {task.stuck && <Stuck />}
      </td>
      <TaskCell task={task} line={saying(task)} />
      <td class="p2 mono" title={task.task_id}>
        {shortId(task.task_id)}
      </td>
      <td class="p3 qw">
        <span class="cut" title={task.queue ?? undefined}>
          {task.queue ?? "unknown"}
        </span>
        <span class="sub cut" title={task.worker ?? undefined}>
          {task.worker ?? "no worker yet"}
        </span>
      </td>
      <td class="n soft">
        {took === null ? <span class="nil">–</span> : `${task.status === "STARTED" ? "waited " : ""}${duration(took)}`}
        <span class="on-s sub">
          <Time at={task.last_event_at} clock />
        </span>
      </td>
    </tr>
  );
}
