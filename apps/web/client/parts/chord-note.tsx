/** What a chord waited or waits for, on the page of each of its tasks, as far as events tell. */
import type { ComponentChildren, JSX } from "preact";
import type { Status, TreeAnswer, TreeTask } from "../api/types.ts";
import { href } from "../location.ts";
import { type Chord, beginOf, isSentAtEnd, isUnlock } from "./chord.ts";
import { duration, number } from "./format.ts";
import { Icon } from "./icon.tsx";
import { TaskName, hasEnded, taskHref } from "./task.tsx";

interface ChordNoteProps {
  readonly tree: TreeAnswer;
  /** `chordsOf` the tree. */
  readonly chords: ReadonlyMap<string, Chord>;
  readonly here: string;
}

/** The chord that a task is of, if there is one: its body counts most, then its sender. */
function chordOf({ tree, chords, here }: ChordNoteProps): { readonly task: TreeTask | undefined; readonly chord: Chord | undefined } {
  const task = tree.nodes.find(({ task_id }) => task_id === here);
  if (task === undefined) return { task, chord: undefined };
  const isOf = ({ sender, parts, body }: Chord): boolean => sender === here || body === task || parts.includes(task);
  const found = [...chords.values()].filter(isOf);
  return { task, chord: found.find(({ body }) => body === task) ?? found.find(({ sender }) => sender === here) ?? found[0] };
}

/** At the top of the page of a task. */
export function ChordNote(props: ChordNoteProps): JSX.Element | null {
  const { chord } = chordOf(props);
  if (chord === undefined) return null;
  return chord.body === undefined ? <WithoutBody chord={chord} /> : <WithBody {...props} chord={chord} body={chord.body} />;
}

/** Above the tree: what cannot be known of a task that has none. */
export function AloneNote(props: ChordNoteProps): JSX.Element | null {
  const { task, chord } = chordOf(props);
  return task === undefined || chord !== undefined ? null : <Alone tree={props.tree} task={task} />;
}

function Note({ children }: { readonly children: ComponentChildren }): JSX.Element {
  return (
    <section class="call" aria-label="Chord">
      <Icon name="tasks" />
      <p>{children}</p>
    </section>
  );
}

function Link({ task }: { readonly task: TreeTask }): JSX.Element {
  return (
    <a class="link" href={taskHref(task.task_id)}>
      <TaskName name={task.name} />
    </a>
  );
}

function Parts({ sender, parts, status }: Pick<Chord, "sender" | "parts"> & { readonly status?: string }): JSX.Element {
  return (
    <a class="link" href={href("tasks", { parent: sender, status, range: "all" })}>
      {number(parts.length)} {parts.length === 1 ? "task" : "tasks"}
    </a>
  );
}

function WithBody({
  tree,
  chord,
  body,
  here,
}: Pick<ChordNoteProps, "tree" | "here"> & { readonly chord: Chord; readonly body: TreeTask }): JSX.Element {
  const slowest = chord.parts.reduce((most, task) => ((task.duration ?? 0) > (most.duration ?? 0) ? task : most));
  const last = chord.parts.reduce((latest, task) => ((task.finished_at ?? "") > (latest.finished_at ?? "") ? task : latest));
  const sender = tree.nodes.find(({ task_id }) => task_id === chord.sender);
  return (
    <Note>
      {body.task_id === here ? <b>This may be the body of a chord</b> : <Link task={body} />}
      {body.task_id !== here && <b> may be the body of a chord</b>} of tasks that{" "}
      {sender === undefined ? "one task" : <Link task={sender} />} sent. It was sent as <Link task={last} /> ended, and{" "}
      <Parts sender={chord.sender} parts={chord.parts} status="SUCCESS" /> had succeeded by then, which need not all belong to the chord
      {slowest.duration !== null && (
        <>
          ; of these, <Link task={slowest} /> ran longest, {duration(slowest.duration)}
        </>
      )}
      .
    </Note>
  );
}

const UNSUCCESSFUL: readonly Status[] = ["FAILURE", "REVOKED", "REJECTED"];
const UNFINISHED: readonly Status[] = ["PENDING", "RECEIVED", "STARTED", "RETRY"];

/** Celery sends no body if a part fails, and no event says so. */
function WithoutBody({ chord: { sender, parts } }: { readonly chord: Chord }): JSX.Element | null {
  const failed = parts.filter(({ status }) => UNSUCCESSFUL.includes(status));
  const unfinished = parts.filter(({ status }) => !hasEnded(status));
  const all = (
    <>
      the <Parts sender={sender} parts={parts} /> that one task sent
    </>
  );
  if (failed.length > 0)
    return (
      <Note>
        <b>If this is a chord, its body was not sent:</b> <Parts sender={sender} parts={failed} status={UNSUCCESSFUL.join(",")} /> of {all}{" "}
        did not succeed. Celery sends the body of a chord only when all have succeeded.
      </Note>
    );
  if (unfinished.length === 0) return null;
  return (
    <Note>
      <b>If this is a chord, its body still waits</b> for <Parts sender={sender} parts={unfinished} status={UNFINISHED.join(",")} /> of{" "}
      {all}.
    </Note>
  );
}

const AROUND_MS = 1_000;

/** A task that a client sent, or the only one that was sent when such a task ended. */
function Alone({ tree, task }: { readonly tree: TreeAnswer; readonly task: TreeTask }): JSX.Element | null {
  const parent = tree.nodes.find(({ task_id }) => task_id === task.parent_id);
  const first = parent ?? task;
  if (first.parent_id !== null || (parent !== undefined && !isSentAtEnd(task, parent))) return null;
  const [from, to] = [-AROUND_MS, AROUND_MS].map((by) => new Date(beginOf(first) + by).toISOString());
  const others = (
    <>
      Celery&apos;s events do not say which other tasks a client sent with {parent === undefined ? "it" : <Link task={parent} />}. If there
      are any, they are among those that were sent{" "}
      <a class="link" href={href("tasks", { from, to })}>
        at the same time
      </a>
      .
    </>
  );
  return (
    <p class="pad small">
      {isUnlock(first) ? (
        <>
          <Link task={first} /> sends the body of a chord, which its arguments name, when the other tasks of the chord have succeeded.{" "}
          {others}
        </>
      ) : parent !== undefined ? (
        <>
          Sent as <Link task={parent} /> ended, perhaps as the next task of a chain. If it is the body of a chord, it waited for more.{" "}
          {others}
        </>
      ) : (
        <>
          Not sent by another task.{" "}
          <a class="link" href={href("tasks", { from, to })}>
            Tasks sent at the same time
          </a>
        </>
      )}
    </p>
  );
}
