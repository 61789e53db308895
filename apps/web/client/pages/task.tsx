/** One task with everything that is known of it. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { useQuery } from "../api/query.ts";
import type { FailureList, Me, Status, TaskAnswer, TaskLink, TreeAnswer, WorkerList } from "../api/types.ts";
import { href, query } from "../location.ts";
import { Attempts } from "../parts/attempts.tsx";
import { Bar, LiveButton } from "../parts/bar.tsx";
import { chordsOf } from "../parts/chord.ts";
import { ChordNote } from "../parts/chord-note.tsx";
import { Action, WhyOff } from "../parts/control.tsx";
import { markOf } from "../parts/failure-group.ts";
import { Icon } from "../parts/icon.tsx";
import { ArgumentsPanel, Result } from "../parts/in-and-out.tsx";
import { Panel } from "../parts/panel.tsx";
import { Call, Copy, Empty, Failing, Loading, Setting } from "../parts/say.tsx";
import { Badge, IdLink, Stuck, TaskName, WorkerName, exceptionName, shortId, stateOf, taskHref, hasEnded } from "../parts/task.tsx";
import { duration, number } from "../parts/format.ts";
import { Duration, Time } from "../parts/time.tsx";
import { Timeline } from "../parts/timeline.tsx";
import { Tree } from "../parts/tree.tsx";
import { isBeforeHeartbeat } from "../parts/worker.tsx";

const RUNNING_MS = 2_000;
/** It may be large. */
const TREE_MS = 10_000;

export function Task(): JSX.Element {
  const id = query.value.get("id") ?? "";
  const path = `tasks/${encodeURIComponent(id)}`;
  const [isRunning, setRunning] = useState(false);
  const asked = useQuery<TaskAnswer>(id === "" ? undefined : path, { everyMs: isRunning ? RUNNING_MS : undefined });
  const tree = useQuery<TreeAnswer>(id === "" ? undefined : `${path}/tree`, { everyMs: isRunning ? TREE_MS : undefined });
  const { data: me } = useQuery<Me>("me");
  const isWorkerIdle = useIsWorkerIdle(asked.isPrevious ? undefined : asked.data);
  const task = asked.isPrevious ? undefined : asked.data;
  if (task !== undefined && hasEnded(task.status) === isRunning) setRunning(!isRunning);
  const known = tree.isPrevious ? undefined : tree.data;
  const root = known?.root;
  const chords = known === undefined ? undefined : chordsOf(known);

  return (
    <>
      <Bar
        title={`${task?.name ?? "Task"} ${shortId(id)}`}
        above={{ page: "tasks", title: "Tasks" }}
        sub={
          <>
            {task?.name} <span class="mono">{shortId(id)}</span>
          </>
        }
      >
        {task !== undefined && task.parent_id !== null && task.parent_id !== id && (
          <a class="btn sm" href={taskHref(task.parent_id)} data-key="p">
            <Icon name="up" />
            Parent <kbd aria-hidden="true">p</kbd>
          </a>
        )}
        {root !== undefined && root !== id && (
          <a class="btn sm" href={taskHref(root)} data-key="r">
            Root <kbd aria-hidden="true">r</kbd>
          </a>
        )}
        {isRunning && <LiveButton />}
      </Bar>
      <div class="body">
        {asked.error?.status === 404 || id === "" ? <Unknown id={id} /> : <Failing query={asked} />}
        {task === undefined && asked.error === undefined && id !== "" && (
          <section class="panel">
            <Loading />
          </section>
        )}
        {task !== undefined && (
          <>
            <Head task={task} />
            {task.exception !== null && <Failure task={task} />}
            {task.lost && <Lost task={task} />}
            {known !== undefined && chords !== undefined && <ChordNote tree={known} chords={chords} here={id} />}
            <div class="cols">
              <div class="stack">
                <Timeline task={task} />
                {task.attempts.length > 0 && (
                  <Panel title="Attempts" sub={storedOf(task)}>
                    <Attempts task={task} counted={countOfAttempts(task)} isHidden={me?.role === "viewer"} isWorkerIdle={isWorkerIdle} />
                  </Panel>
                )}
                {known !== undefined && chords !== undefined && (
                  <Panel title="Tree" sub={`${number(known.nodes.length)} ${known.nodes.length === 1 ? "task" : "tasks"}`}>
                    <Tree tree={known} chords={chords} task={task} />
                  </Panel>
                )}
              </div>
              <div class="stack">
                <ArgumentsPanel task={task} isHidden={me?.role === "viewer"} />
                <Result task={task} isHidden={me?.role === "viewer"} />
                <Details task={task} />
              </div>
            </div>
          </>
        )}
      </div>
    </>
  );
}

/** Whether the worker of a task that has not ended says that it runs nothing. */
function useIsWorkerIdle(task: TaskAnswer | undefined): boolean {
  const isStarted = task?.status === "STARTED" && task.worker !== null;
  const path = isStarted ? `workers?${new URLSearchParams({ name: task.worker ?? "" }).toString()}` : undefined;
  const asked = useQuery<WorkerList>(path, { everyMs: RUNNING_MS });
  const worker = asked.isPrevious ? undefined : asked.data?.items[0];
  return (
    isStarted && worker?.state === "up" && worker.active === 0 && isBeforeHeartbeat(task.run_started_at ?? task.started_at, worker.heard_at)
  );
}

function Unknown({ id }: { readonly id: string }): JSX.Element {
  if (id === "")
    return (
      <section class="panel">
        <Empty icon="search" title="Which task?">
          <p>This address names no task.</p>
          <a class="btn" href={href("tasks")}>
            Go to Tasks
          </a>
        </Empty>
      </section>
    );
  return (
    <section class="panel">
      <Empty icon="search" title="This task is not known">
        <p>
          <code>{id}</code> has no row. It may have been deleted after the time that tasks are kept (<code>POSTGRES_RETENTION_DAYS</code>),
          or its events never came.
        </p>
        <a class="btn" href={href("tasks", { id: id.slice(0, 8), range: "all" })}>
          Look for ids that begin like it
        </a>
      </Empty>
    </section>
  );
}

const VERBS: Readonly<Partial<Record<Status, string>>> = {
  SUCCESS: "succeeded",
  FAILURE: "failed",
  REVOKED: "revoked",
  REJECTED: "rejected",
};

function Head({ task }: { readonly task: TaskAnswer }): JSX.Element {
  const ended = task.finished_at ?? task.last_event_at;
  return (
    <div class="head">
      <div>
        <div class="row">
          <Badge state={stateOf(task)} big />
          {task.stuck && <Stuck />}
          <h1>
            <TaskName name={task.name} />
          </h1>
        </div>
        <div class="row num">
          <span class="row idrow">
            <code>{task.task_id}</code>
            <Copy text={task.task_id} label="Copy the id" />
          </span>
          <span>
            {VERBS[task.status] ?? "last event"} <Time at={ended} />
          </span>
          {countOfAttempts(task) > 1 && <span>attempt {number(countOfAttempts(task))}</span>}
          {task.duration !== null && <span>ran {duration(task.duration)}</span>}
          {task.worker !== null && (
            <span>
              on{" "}
              <a class="link" href={href("worker", { name: task.worker })}>
                {task.worker}
              </a>
            </span>
          )}
        </div>
      </div>
      <div class="acts">
        <div class="row">
          <Action icon="revoked" name="Revoke" />
          <Action icon="retry" name="Send again" />
        </div>
        <WhyOff />
      </div>
    </div>
  );
}

/** In one address. */
const MOST_GROUPS = 10;

/** The exception, and how many failed like this. */
function Failure({ task }: { readonly task: TaskAnswer }): JSX.Element {
  const kind = exceptionName(task.exception);
  const list = task.name === null ? undefined : `failures?${new URLSearchParams({ name: task.name, range: "24h" }).toString()}`;
  const { data } = useQuery<FailureList>(list);
  const groups = data?.items.filter(({ exception }) => exception === (kind ?? null)) ?? [];
  const alike = groups.reduce((sum, { count }) => sum + count, 0);
  return (
    <div class={`call ${task.status === "FAILURE" ? "fail" : "retry"}`}>
      <Icon name={task.status === "FAILURE" ? "failure" : "retry"} />
      <span class="exc">{task.exception}</span>
      {alike > 1 && kind !== undefined && (
        <p>
          {number(alike)} of these tasks failed with {kind} in the last 24 hours.{" "}
          <a class="link" href={href("tasks", { name: task.name, status: "FAILURE", exception: kind })}>
            Show them
          </a>{" "}
          or{" "}
          <a class="link" href={href("failures", { name: task.name, open: groups.slice(0, MOST_GROUPS).map(markOf) })}>
            open their {groups.length === 1 ? "group" : "groups"}
          </a>
          .
        </p>
      )}
    </div>
  );
}

/** Celery says nothing when a worker is killed. */
function Lost({ task }: { readonly task: TaskAnswer }): JSX.Element {
  return (
    <Call tone="lost" icon="lost" title="Lost with its worker">
      {task.worker === null ? (
        "Its worker"
      ) : (
        <a class="link" href={href("worker", { name: task.worker })}>
          {task.worker}
        </a>
      )}{" "}
      fell silent while it had this task. Its last event says {task.status}. If the message was not acknowledged (
      <code>task_acks_late</code>, <code>task_reject_on_worker_lost</code>), the broker delivers it again, and this page shows the new
      attempt.
    </Call>
  );
}

/** How many there were: of some, events may be missing. */
function countOfAttempts({ attempts, retries }: TaskAnswer): number {
  return Math.max(attempts.length, (retries ?? 0) + 1);
}

function storedOf(task: TaskAnswer): string {
  const [stored, counted] = [task.attempts.length, countOfAttempts(task)];
  return stored < counted ? `${number(stored)} of ${number(counted)} are stored` : number(counted);
}

const MOST_CHILDREN = 10;

function Details({ task }: { readonly task: TaskAnswer }): JSX.Element {
  return (
    <Panel title="Details">
      <div class="pad stack">
        <dl class="kv">
          <dt>Queue</dt>
          <dd>
            {task.queue === null ? (
              <span class="muted">unknown</span>
            ) : (
              <a class="link" href={href("tasks", { queue: task.queue })}>
                {task.queue}
              </a>
            )}
          </dd>
          <dt>Worker</dt>
          <dd>
            {task.worker === null ? (
              <span class="muted">none yet</span>
            ) : (
              <a class="link" href={href("worker", { name: task.worker })}>
                <WorkerName name={task.worker} />
              </a>
            )}
          </dd>
          {task.root_id !== null && task.root_id !== task.task_id && (
            <>
              <dt>Root</dt>
              <dd>
                <IdLink id={task.root_id} />
              </dd>
            </>
          )}
          {task.parent_id !== null && (
            <>
              <dt>Parent</dt>
              <dd>
                {task.parent !== null && (
                  <>
                    <TaskName name={task.parent.name} />{" "}
                  </>
                )}
                <IdLink id={task.parent_id} />
              </dd>
            </>
          )}
          <dt>Retries</dt>
          <dd>{task.retries ?? <span class="muted">unknown</span>}</dd>
          {task.first_name !== null && task.first_name !== task.name && (
            <>
              <dt>First name</dt>
              <dd>{task.first_name}</dd>
            </>
          )}
          {task.revoked_by !== null && (
            <>
              <dt>Revoked by</dt>
              <dd>{task.revoked_by}</dd>
            </>
          )}
          <dt>ETA</dt>
          <dd>{task.eta === null ? <span class="muted">none</span> : <Time at={task.eta} />}</dd>
          <dt>Expires</dt>
          <dd>{task.expires === null ? <span class="muted">never</span> : <Time at={task.expires} />}</dd>
          <dt>Wait</dt>
          <dd>
            <Duration seconds={task.wait_time} />
          </dd>
          <dt>Runtime</dt>
          <dd>
            <Duration seconds={task.runtime ?? task.duration} />
          </dd>
          <dt>Stored</dt>
          <dd>
            <Time at={task.created_at} />
          </dd>
        </dl>
        {task.queue === null && (
          <Call tone="retry" icon="info" title="No queue">
            No task-sent event came. Set <Setting>task_send_sent_event = True</Setting> where tasks are sent.
          </Call>
        )}
        {task.children.length > 0 && <Children tasks={task.children} hasMore={task.more_children} of={task.task_id} />}
      </div>
    </Panel>
  );
}

function Children({
  tasks,
  hasMore,
  of,
}: {
  readonly tasks: readonly TaskLink[];
  readonly hasMore: boolean;
  readonly of: string;
}): JSX.Element {
  return (
    <div>
      <h3 class="muted">It sent</h3>
      <ul>
        {tasks.slice(0, MOST_CHILDREN).map((task) => (
          <li class="row nowrap small" key={task.task_id}>
            <Badge state={task.status} glyph />
            <a class="cut" href={taskHref(task.task_id)} title={task.name ?? task.task_id}>
              <TaskName name={task.name} />
            </a>
          </li>
        ))}
      </ul>
      {(tasks.length > MOST_CHILDREN || hasMore) && (
        <a class="link small" href={href("tasks", { parent: of, range: "all" })}>
          All tasks that it sent
        </a>
      )}
    </div>
  );
}
