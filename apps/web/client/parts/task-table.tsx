/** The rows of a list of tasks. */
import type { JSX } from "preact";
import type { TaskItem } from "../api/types.ts";
import { Badge, Stuck, TaskName, argumentsLine, shortId, stateOf, taskHref } from "./task.tsx";
import { duration } from "./format.ts";
import { Duration, Time, now } from "./time.tsx";

export interface TaskTableProps {
  readonly tasks: readonly TaskItem[];
  readonly selected?: ReadonlySet<string>;
  /** Undefined for all of them. */
  readonly onSelect?: (id: string | undefined) => void;
}

export function TaskTable({ tasks, selected = new Set(), onSelect }: TaskTableProps): JSX.Element {
  const all = tasks.length > 0 && tasks.every(({ task_id }) => selected.has(task_id));
  return (
    <table>
      <thead>
        <tr>
          {onSelect !== undefined && (
            <th scope="col">
              <label class="hit">
                <input type="checkbox" aria-label="Select all rows on this page" checked={all} onChange={() => onSelect(undefined)} />
              </label>
            </th>
          )}
          <th scope="col" class="p3">
            State
          </th>
          <th scope="col">Task and arguments</th>
          <th scope="col" class="p2">
            Id
          </th>
          <th scope="col" class="p3">
            Queue and worker
          </th>
          <th scope="col" class="n p2">
            <abbr title="From sent, or from the ETA, to the first start">Wait</abbr>
          </th>
          <th scope="col" class="n p3">
            <abbr title="Length of the last run">Run</abbr>
          </th>
          <th scope="col" class="n p2">
            Retries
          </th>
          <th scope="col" class="n" aria-sort="descending">
            Seen
          </th>
        </tr>
      </thead>
      <tbody>
        {tasks.map((task) => (
          <TaskRow key={task.task_id} task={task} {...(onSelect !== undefined && { onSelect, isSelected: selected.has(task.task_id) })} />
        ))}
      </tbody>
    </table>
  );
}

interface TaskRowProps {
  readonly task: TaskItem;
  readonly isSelected?: boolean;
  readonly onSelect?: (id: string) => void;
}

function TaskRow({ task, isSelected = false, onSelect }: TaskRowProps): JSX.Element {
  const state = stateOf(task);
  const line = argumentsLine(task);
  const queue = task.queue ?? "queue not known";
  const tries = task.retries !== null && task.retries > 0 ? ` · try ${task.retries + 1}` : "";
  return (
    <tr class={isSelected ? "sel" : undefined} data-row={task.task_id}>
      {onSelect !== undefined && (
        <td>
          <label class="hit">
            <input
              type="checkbox"
              data-select
              aria-label={`Select ${task.name ?? "task"} ${shortId(task.task_id)}`}
              checked={isSelected}
              onChange={() => onSelect(task.task_id)}
            />
          </label>
        </td>
      )}
      <td class="p3">
        <Badge state={state} />
        {task.stuck && (
          <>
            {" "}
            <Stuck />
          </>
        )}
      </td>
      <td class="w">
        <span class="tk">
          <span class="on-s">
            <Badge state={state} glyph />
          </span>
          <span class="tkn">
            <a class="cut" href={taskHref(task.task_id)} title={task.name ?? task.task_id} data-open>
              <TaskName name={task.name} />
            </a>
            <span class="cut args" title={line}>
              {line}
            </span>
            <span class="on-s sub cut">
              {task.stuck && "stuck · "}
              {shortId(task.task_id)} · {queue}
              {tries}
            </span>
          </span>
        </span>
      </td>
      <td class="p2">
        <span class="mono" title={task.task_id}>
          {shortId(task.task_id)}
        </span>
      </td>
      <td class="p3 qw">
        {task.queue === null ? (
          <span class="nil cut" title="No task-sent event came for this task">
            unknown
          </span>
        ) : (
          <span class="cut" title={task.queue}>
            {task.queue}
          </span>
        )}
        <span class="sub cut" title={task.worker ?? undefined}>
          {task.worker ?? "no worker yet"}
        </span>
      </td>
      <td class="n p2">
        <Duration seconds={task.wait_time} />
      </td>
      <td class="n p3">
        <Run task={task} />
      </td>
      <td class="n p2">{task.retries === null || task.retries === 0 ? <span class="nil">{task.retries ?? "–"}</span> : task.retries}</td>
      <td class="n soft">
        <Time at={task.seen_at} />
        {task.duration !== null && <span class="on-s sub">ran {duration(task.duration)}</span>}
      </td>
    </tr>
  );
}

/** How long it ran; for one that runs, how long so far. */
function Run({ task: { status, started_at, duration: ran } }: { readonly task: TaskItem }): JSX.Element {
  if (status !== "STARTED" || started_at === null) return <Duration seconds={ran} />;
  return <span class="runn">{duration(Math.max(0, (now.value - Date.parse(started_at)) / 1_000))}…</span>;
}
