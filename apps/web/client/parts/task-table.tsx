/** The rows of a list of tasks. */
import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import type { TaskItem } from "../api/types.ts";
import { Icon } from "./icon.tsx";
import { useIsPainted } from "./painted.ts";
import { Badge, IdLink, Stuck, TaskCell, argumentsLine, shortId, stateOf } from "./task.tsx";
import { duration } from "./format.ts";
import { Duration, Time, now } from "./time.tsx";

export interface TaskTableProps {
  readonly tasks: readonly TaskItem[];
  readonly selected?: ReadonlySet<string>;
  /** Undefined for all of them. */
  readonly onSelect?: (id: string | undefined) => void;
}

/** Fills a window. The others are drawn after these were painted. */
const FIRST_ROWS = 12;

interface Drawn {
  readonly task: TaskItem;
  readonly isSelected: boolean;
  readonly row: JSX.Element;
}

/** Draws only rows that changed: Preact leaves out the same element. */
function useRows({ tasks, selected = new Set(), onSelect }: TaskTableProps): readonly JSX.Element[] {
  const isPainted = useIsPainted();
  const before = useRef<ReadonlyMap<string, Drawn>>(new Map());
  const select = useRef(onSelect);
  select.current = onSelect;
  const drawn = new Map<string, Drawn>();
  for (const task of isPainted ? tasks : tasks.slice(0, FIRST_ROWS)) {
    const id = task.task_id;
    const isSelected = selected.has(id);
    const known = before.current.get(id);
    const choose = onSelect === undefined ? {} : { onSelect: (chosen: string) => select.current?.(chosen), isSelected };
    drawn.set(
      id,
      known?.task === task && known.isSelected === isSelected
        ? known
        : { task, isSelected, row: <TaskRow key={id} task={task} {...choose} /> },
    );
  }
  before.current = drawn;
  return [...drawn.values()].map(({ row }) => row);
}

export function TaskTable(props: TaskTableProps): JSX.Element {
  const { tasks, selected = new Set(), onSelect } = props;
  const rows = useRows(props);
  const all = tasks.length > 0 && tasks.every(({ task_id }) => selected.has(task_id));
  return (
    <table aria-busy={rows.length < tasks.length ? true : undefined}>
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
            Seen <Icon name="dn" class="inl" />
          </th>
        </tr>
      </thead>
      <tbody>{rows}</tbody>
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
      <TaskCell task={task} line={argumentsLine(task)}>
        <span class="on-s sub cut">
          {task.stuck && "stuck · "}
          {shortId(task.task_id)} · {queue}
          {tries}
        </span>
      </TaskCell>
      <td class="p2">
        <IdLink id={task.task_id} />
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
function Run({ task: { status, started_at, duration: ran, lost } }: { readonly task: TaskItem }): JSX.Element {
  if (lost)
    return (
      <span class="nil" title="Its worker fell silent">
        –
      </span>
    );
  if (status !== "STARTED" || started_at === null) return <Duration seconds={ran} />;
  return <span class="runn">{duration(Math.max(0, (now.value - Date.parse(started_at)) / 1_000))}…</span>;
}
