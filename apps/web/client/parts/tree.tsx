/** The tree of tasks with a waterfall: thin waited, thick ran. */
import type { JSX } from "preact";
import { exactMs } from "../api/exact.ts";
import type { TaskAnswer, TreeAnswer, TreeTask } from "../api/types.ts";
import { href } from "../location.ts";
import { Bars } from "./bars.tsx";
import { beginOf, type Chord } from "./chord.ts";
import { AloneNote } from "./chord-note.tsx";
import { Icon } from "./icon.tsx";
import { endOf, partsOf, partsOfNode, sumsOf, type Part } from "./life.ts";
import { StateIcon, TaskName, stateOf, taskHref } from "./task.tsx";
import { duration } from "./format.ts";
import { currentTime } from "./time.tsx";

/** More tasks of one name below one task become one line. */
const MOST_SIBLINGS = 20;
const MOST_SHOWN_OF_GROUP = 10;
/** What a browser draws at once; the rest is in Tasks. */
const MOST_DRAWN = 400;
const MOST_LEVELS = 30;
/** Of an axis. */
const LEAST_MS = 0.1;

interface Branch {
  readonly task: TreeTask;
  readonly children: Branch[];
}

/** Milliseconds since 1970. */
interface Scale {
  readonly from: number;
  readonly to: number;
}

/** Tasks below the task that sent them. A task whose sender is unknown stands at the beginning. */
function toBranches(tasks: readonly TreeTask[]): Branch[] {
  const branches = new Map(tasks.map((task) => [task.task_id, { task, children: [] as Branch[] }]));
  const tops: Branch[] = [];
  for (const branch of branches.values()) {
    const parent = branch.task.parent_id === null ? undefined : branches.get(branch.task.parent_id);
    (parent?.children ?? tops).push(branch);
  }
  return tops;
}

function scaleOf(tasks: readonly TreeTask[]): Scale {
  const from = tasks.reduce((least, task) => Math.min(least, beginOf(task)), Infinity);
  return { from, to: tasks.reduce((most, task) => Math.max(most, endOf(task, currentTime)), from + LEAST_MS) };
}

export interface TreeProps {
  readonly tree: TreeAnswer;
  /** `chordsOf` the tree. */
  readonly chords: ReadonlyMap<string, Chord>;
  /** The task of the page. Of it alone, every attempt is known. */
  readonly task: TaskAnswer;
}

export function Tree({ tree, chords, task }: TreeProps): JSX.Element {
  const { nodes, truncated, root } = tree;
  const scale = scaleOf(nodes);
  const budget = { left: MOST_DRAWN };
  const bodies = new Set([...chords.values()].flatMap(({ body }) => (body === undefined ? [] : [body.task_id])));
  return (
    <>
      <AloneNote tree={tree} chords={chords} here={task.task_id} />
      <div class="tree">
        <div class="node axis" aria-hidden="true">
          <span />
          <span>
            <span>0 s</span>
            <span class="p3">{duration((scale.to - scale.from) / 2_000)}</span>
            <span>{duration((scale.to - scale.from) / 1_000)}</span>
          </span>
        </div>
        <Level branches={toBranches(nodes)} scale={scale} here={task} bodies={bodies} budget={budget} level={0} />
      </div>
      <footer>
        <Legend />
        <span class="muted">
          Each task is below the task that sent it. Celery&apos;s events do not say which tasks form a chain, group or chord.
          {truncated && " This tree has more than 5,000 tasks; the rest is not shown."}
          {budget.left <= 0 && (
            <>
              {" "}
              More than {MOST_DRAWN} are not drawn.{" "}
              <a class="link" href={href("tasks", { root, range: "all" })}>
                Show all in Tasks
              </a>
            </>
          )}
        </span>
      </footer>
    </>
  );
}

interface LevelProps {
  readonly branches: readonly Branch[];
  readonly scale: Scale;
  readonly here: TaskAnswer;
  /** Tasks that may be the body of a chord. */
  readonly bodies: ReadonlySet<string>;
  /** How many more nodes may be drawn, on all levels. */
  readonly budget: { left: number };
  readonly level: number;
}

function Level({ branches, level, ...rest }: LevelProps): JSX.Element | null {
  if (branches.length === 0 || rest.budget.left <= 0) return null;
  const groups = Map.groupBy(branches, ({ task }) => task.name ?? "");
  const items = [...groups.values()].map((group) =>
    group.length > MOST_SIBLINGS ? (
      <li key={group[0]?.task.task_id}>
        <Group branches={group} level={level} {...rest} />
      </li>
    ) : (
      group.map((branch) => {
        if (rest.budget.left-- <= 0) return null;
        return (
          <li key={branch.task.task_id}>
            <Node task={branch.task} scale={rest.scale} here={rest.here} isBody={rest.bodies.has(branch.task.task_id)} />
            {level < MOST_LEVELS ? (
              <Level branches={branch.children} level={level + 1} {...rest} />
            ) : (
              branch.children.length > 0 && (
                <a class="link small" href={taskHref(branch.children[0]?.task.task_id ?? "")}>
                  The tree goes on below this task
                </a>
              )
            )}
          </li>
        );
      })
    ),
  );
  return <ul class={level === 0 ? "tree-top" : undefined}>{items}</ul>;
}

/** Many tasks of one name: how they ended, and those that need a person. */
function Group({ branches, level, ...rest }: LevelProps): JSX.Element {
  const { here, budget } = rest;
  budget.left--;
  const tasks = branches.map(({ task }) => task);
  const failed = tasks.filter(({ status }) => status === "FAILURE");
  const succeeded = tasks.filter(({ status }) => status === "SUCCESS").length;
  const first = tasks[0];
  const own = branches.filter(({ task, children }) => task.task_id === here.task_id || children.length > 0);
  const shown = [...new Set([...own, ...branches.filter(({ task }) => task.status === "FAILURE")])].slice(0, MOST_SHOWN_OF_GROUP);
  const list = { parent: first?.parent_id, name: first?.name, range: "all" };
  return (
    <details open={tasks.some(({ task_id }) => task_id === here.task_id)}>
      <summary>
        <div class={`node ${failed.length > 0 ? "s-failure" : "s-success"}`}>
          <span>
            <Icon name="chev" class="chev" />
            <span class="cut">
              <b>{branches.length} ×</b> <TaskName name={first?.name ?? null} />
            </span>
            <span class="dur keep">
              <span class="good p3">{succeeded} succeeded</span> {failed.length > 0 && <span class="bad">{failed.length} failed</span>}
            </span>
          </span>
          <Waterfall parts={partsOfGroup(tasks)} scale={rest.scale} />
        </div>
      </summary>
      <Level branches={shown.slice(0, MOST_SIBLINGS)} level={level + 1} {...rest} />
      <p class="small">
        {failed.length > 0 && (
          <>
            <a class="link" href={href("tasks", { ...list, status: "FAILURE" })}>
              All {failed.length} that failed
            </a>{" "}
            <span class="muted">and</span>{" "}
          </>
        )}
        <a class="link" href={href("tasks", list)}>
          all {branches.length}
        </a>
      </p>
    </details>
  );
}

interface NodeProps {
  readonly task: TreeTask;
  readonly scale: Scale;
  readonly here: TaskAnswer;
  readonly isBody: boolean;
}

function Node({ task, scale, here, isBody }: NodeProps): JSX.Element {
  const isHere = task.task_id === here.task_id;
  const parts = isHere && here.attempts.length > 0 ? partsOf(here, currentTime) : partsOfNode(task, currentTime);
  const state = stateOf(isHere ? here : task);
  const inside = (
    <>
      <StateIcon state={state} />
      <span class="cut">
        <TaskName name={task.name} />
      </span>
      {isHere && <span class="tag p3">this task</span>}
      {isBody && <span class="tag">perhaps a chord’s body</span>}
      {task.duration !== null && <span class="dur">{duration(task.duration)}</span>}
    </>
  );
  return (
    <div class={`node s-${state.toLowerCase()} ${isHere ? "here" : ""}`}>
      {isHere ? <span>{inside}</span> : <a href={taskHref(task.task_id)}>{inside}</a>}
      <Waterfall parts={parts} scale={scale} />
    </div>
  );
}

/** Many tasks as one: from the first that was sent to the first start, and from there to the last end. */
function partsOfGroup(tasks: readonly TreeTask[]): Part[] {
  const begin = tasks.reduce((least, task) => Math.min(least, beginOf(task)), Infinity);
  const end = tasks.reduce((most, task) => Math.max(most, endOf(task, currentTime)), begin);
  const start = tasks.reduce((least, { started_at }) => (started_at === null ? least : Math.min(least, exactMs(started_at))), Infinity);
  const status = tasks.some((task) => task.status === "FAILURE") ? "FAILURE" : tasks[0]?.status;
  const kind = status === "FAILURE" ? "failed" : status === "SUCCESS" ? "succeeded" : "ran";
  const waited: Part = { kind: "waited", from: begin, to: Math.min(start, end) };
  return start === Infinity ? [waited] : [waited, { kind, from: start, to: end }];
}

function Waterfall({ parts, scale }: { readonly parts: readonly Part[]; readonly scale: Scale }): JSX.Element {
  return <Bars class="wf" parts={parts} from={scale.from} to={scale.to} label={sumsOf(parts)} />;
}

const LEGEND = [
  ["a-wait", "waited"],
  ["a-ok", "succeeded"],
  ["a-run", "runs, or ran"],
  ["a-fail", "failed"],
  ["a-hollow", "between attempts, or before its ETA"],
] as const;

function Legend(): JSX.Element {
  return (
    <ul class="legend">
      {LEGEND.map(([fill, name]) => (
        <li key={fill}>
          <svg aria-hidden="true" viewBox="0 0 12 12">
            {fill === "a-hollow" ? <rect class={fill} y="4" width="12" height="4" /> : <rect class={fill} width="12" height="12" rx="2" />}
          </svg>
          {name}
        </li>
      ))}
    </ul>
  );
}
