/** How tasks, workers and their states look everywhere. */
import type { ComponentChildren, JSX } from "preact";
import type { Status, TaskItem } from "../api/types.ts";
import { href } from "../location.ts";
import { Icon, type IconName } from "./icon.tsx";

/** The states that people know. A task is PENDING until a worker has it; if it was sent, we know that it waits. */
export type State = Exclude<Status, "PENDING"> | "PENDING" | "SENT" | "LOST";

const ICONS: Readonly<Record<State, IconName>> = {
  PENDING: "pending",
  SENT: "sent",
  RECEIVED: "received",
  STARTED: "started",
  RETRY: "retry",
  REJECTED: "rejected",
  REVOKED: "revoked",
  FAILURE: "failure",
  SUCCESS: "success",
  LOST: "lost",
};

interface Known {
  readonly status: Status;
  readonly sent_at?: string | null;
  readonly lost?: boolean;
}

export function stateOf({ status, sent_at, lost }: Known): State {
  if (lost === true) return "LOST";
  return status === "PENDING" && sent_at !== null && sent_at !== undefined ? "SENT" : status;
}

/** Whether nothing more happens to a task, unless somebody sends it again. */
export function hasEnded(status: Status): boolean {
  return /^(?:SUCCESS|FAILURE|REVOKED|REJECTED)$/.test(status);
}

export interface BadgeProps {
  readonly state: State;
  /** Instead of the name of the state. */
  readonly word?: string | undefined;
  readonly big?: boolean;
  /** Only the glyph, which then carries the word as its name. */
  readonly glyph?: boolean;
}

export function Badge({ state, word = state, big = false, glyph = false }: BadgeProps): JSX.Element {
  const name = `badge s-${state.toLowerCase()}`;
  if (glyph)
    return (
      <span class={`${name} gl`}>
        <Icon name={ICONS[state]} label={word} />
      </span>
    );
  return (
    <span class={big ? `${name} big` : name}>
      <Icon name={ICONS[state]} />
      {word}
    </span>
  );
}

/** It runs far longer than tasks of its name usually do. */
export function Stuck(): JSX.Element {
  return (
    <span class="tag warn" title="Runs far longer than tasks of this name usually do">
      stuck
    </span>
  );
}

/** The class of an exception, of its `repr`. */
export function exceptionName(exception: string | null): string | undefined {
  return /^([A-Za-z_][\w.]*)\(/.exec(exception ?? "")?.[1];
}

export function StateIcon({ state }: { readonly state: State }): JSX.Element {
  return <Icon name={ICONS[state]} label={state} />;
}

/** A quiet module and a strong last part. */
export function TaskName({ name }: { readonly name: string | null }): JSX.Element {
  if (name === null) return <span class="nil">name not known</span>;
  const end = name.lastIndexOf(".") + 1;
  return (
    <>
      <span class="mod">{name.slice(0, end)}</span>
      <span class="fn">{name.slice(end)}</span>
    </>
  );
}

export function WorkerName({ name }: { readonly name: string }): JSX.Element {
  const at = name.indexOf("@");
  if (at < 0) return <>{name}</>;
  return (
    <>
      {name.slice(0, at)}
      <span class="mod">{name.slice(at)}</span>
    </>
  );
}

export function shortId(id: string): string {
  return id.length > 12 ? id.slice(0, 8) : id;
}

export function taskHref(id: string): string {
  return href("task", { id });
}

export function IdLink({ id }: { readonly id: string }): JSX.Element {
  return (
    <a class="link mono" href={taskHref(id)} title={id}>
      {shortId(id)}
    </a>
  );
}

export interface TaskCellProps {
  readonly task: TaskItem;
  /** What is below the name. */
  readonly line: string;
  readonly children?: ComponentChildren;
}

/** The cell of a row that names its task, with its state where there is no column for it. */
export function TaskCell({ task, line, children }: TaskCellProps): JSX.Element {
  return (
    <td class="w">
      <span class="tk">
        <span class="on-s">
          <Badge state={stateOf(task)} glyph />
        </span>
        <span class="tkn">
          <a class="cut" href={taskHref(task.task_id)} title={task.name ?? task.task_id} data-open>
            <TaskName name={task.name} />
          </a>
          <span class="cut args" title={line}>
            {line}
          </span>
          {children}
        </span>
      </span>
    </td>
  );
}

/** Without the brackets around it. Where Celery cut it, there is no closing one. */
function inner(text: string | null, open: string, close: string): string {
  const trimmed = text?.trim() ?? "";
  if (!trimmed.startsWith(open)) return trimmed;
  if (trimmed.endsWith(close)) return trimmed.slice(1, -1).replace(/,$/, "");
  return trimmed.endsWith("...") ? trimmed.slice(1) : trimmed;
}

/** What a task was called with, in one line. */
export function argumentsLine({ args, kwargs }: Pick<TaskItem, "args" | "kwargs">): string {
  const named = inner(kwargs, "{", "}").replace(/(^|, )'([A-Za-z_]\w*)': /g, "$1$2=");
  return [inner(args, "(", ")"), named].filter((part) => part !== "").join(", ");
}
