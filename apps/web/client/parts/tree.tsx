/** The tree of tasks with a waterfall: thin waited, thick ran. */
import type { JSX } from "preact";
import type { TreeAnswer, TreeTask } from "../api/types.ts";
import { href } from "../location.ts";
import { beginOf, chordsOf } from "./chord.ts";
import { ChordNote } from "./chord-note.tsx";
import { Icon } from "./icon.tsx";
import { StateIcon, TaskName, stateOf, taskHref } from "./task.tsx";
import { duration, number } from "./format.ts";
import { now } from "./time.tsx";

/** More tasks of one name below one task become one line. */
const MOST_SIBLINGS = 20;
const MOST_SHOWN_OF_GROUP = 10;
/** What a browser draws at once; the rest is in Tasks. */
const MOST_DRAWN = 400;
const MOST_LEVELS = 30;

interface Branch {
  readonly task: TreeTask;
  readonly children: Branch[];
}

interface Scale {
  readonly from: number;
  readonly seconds: number;
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

function endOf(task: TreeTask): number {
  if (task.finished_at !== null) return Date.parse(task.finished_at);
  return /^(?:STARTED|RETRY)$/.test(task.status) ? now.value : beginOf(task);
}

function scaleOf(tasks: readonly TreeTask[]): Scale {
  const from = tasks.reduce((least, task) => Math.min(least, beginOf(task)), Infinity);
  const to = tasks.reduce((most, task) => Math.max(most, endOf(task)), from);
  return { from, seconds: Math.max(0.001, (to - from) / 1_000) };
}

export function Tree({ tree, here }: { readonly tree: TreeAnswer; readonly here: string }): JSX.Element {
  const { nodes, truncated, root } = tree;
  const scale = scaleOf(nodes);
  const budget = { left: MOST_DRAWN };
  const chords = chordsOf(tree);
  const waited = new Map([...chords.values()].flatMap(({ body, parts }) => (body === undefined ? [] : [[body.task_id, parts.length]])));
  return (
    <>
      <ChordNote tree={tree} chords={chords} here={here} />
      <div class="tree">
        <div class="node axis" aria-hidden="true">
          <span />
          <span>
            <span>0 s</span>
            <span>{duration(scale.seconds / 2)}</span>
            <span>{duration(scale.seconds)}</span>
          </span>
        </div>
        <Level branches={toBranches(nodes)} scale={scale} here={here} waited={waited} budget={budget} level={0} />
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
  readonly here: string;
  /** For how many tasks each body of a chord waited. */
  readonly waited: ReadonlyMap<string, number>;
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
            <Node task={branch.task} scale={rest.scale} here={rest.here} waited={rest.waited.get(branch.task.task_id)} />
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
  const own = branches.filter(({ task, children }) => task.task_id === here || children.length > 0);
  const shown = [...new Set([...own, ...branches.filter(({ task }) => task.status === "FAILURE")])].slice(0, MOST_SHOWN_OF_GROUP);
  const list = { parent: first?.parent_id, name: first?.name, range: "all" };
  return (
    <details open={tasks.some(({ task_id }) => task_id === here)}>
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
          <Waterfall tasks={tasks} scale={rest.scale} />
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
  readonly here: string;
  readonly waited: number | undefined;
}

function Node({ task, scale, here, waited }: NodeProps): JSX.Element {
  const isHere = task.task_id === here;
  const state = stateOf(task);
  const inside = (
    <>
      <StateIcon state={state} />
      <span class="cut">
        <TaskName name={task.name} />
      </span>
      {isHere && <span class="tag p3">this task</span>}
      {waited !== undefined && <span class="tag">waited for {number(waited)}</span>}
      {task.duration !== null && <span class="dur">{duration(task.duration)}</span>}
    </>
  );
  return (
    <div class={`node s-${state.toLowerCase()} ${isHere ? "here" : ""}`}>
      {isHere ? <span>{inside}</span> : <a href={taskHref(task.task_id)}>{inside}</a>}
      <Waterfall tasks={[task]} scale={scale} />
    </div>
  );
}

/** The parts of a task's time: when it waited and when it ran. */
function Waterfall({ tasks, scale }: { readonly tasks: readonly TreeTask[]; readonly scale: Scale }): JSX.Element {
  const begin = tasks.reduce((least, task) => Math.min(least, beginOf(task)), Infinity);
  const ends = tasks.reduce((most, task) => Math.max(most, endOf(task)), begin);
  const starts = tasks.flatMap(({ started_at }) => (started_at === null ? [] : [Date.parse(started_at)]));
  const start = starts.length === 0 ? undefined : starts.reduce((least, each) => Math.min(least, each));
  const status = tasks.some((task) => task.status === "FAILURE") ? "FAILURE" : tasks[0]?.status;
  const at = (time: number): string => `${((time - scale.from) / 10 / scale.seconds || 0).toFixed(2)}%`;
  const long = (from: number, to: number): string => `${Math.max(0.35, Math.max(0, to - from) / 10 / scale.seconds || 0).toFixed(2)}%`;
  const waited = Math.max(0, ((start ?? ends) - begin) / 1_000);
  const ran = start === undefined ? undefined : Math.max(0, (ends - start) / 1_000);
  const fill = status === "FAILURE" ? "a-fail" : status === "SUCCESS" ? "a-ok" : "a-run";
  const says = `waited ${duration(waited)}${ran === undefined ? "" : `, then ${duration(ran)} to ${(status ?? "").toLowerCase()}`}`;
  return (
    <svg class="wf" role="img" aria-label={says}>
      <rect class="a-wait" x={at(begin)} y="8" width={long(begin, start ?? ends)} height="4" rx="2" />
      {start !== undefined && <rect class={fill} x={at(start)} y="4.5" width={long(start, ends)} height="11" rx="2" />}
    </svg>
  );
}

const LEGEND = [
  ["a-wait", "waited"],
  ["a-ok", "succeeded"],
  ["a-run", "runs, or retried"],
  ["a-fail", "failed"],
] as const;

function Legend(): JSX.Element {
  return (
    <ul class="legend">
      {LEGEND.map(([fill, name]) => (
        <li key={fill}>
          <svg aria-hidden="true" viewBox="0 0 12 12">
            <rect class={fill} width="12" height="12" rx="2" />
          </svg>
          {name}
        </li>
      ))}
    </ul>
  );
}
