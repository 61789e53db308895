/** What is missing in the data, with the setting that cures it. */
import type { ComponentChildren, JSX } from "preact";
import { useQuery } from "../api/query.ts";
import type { DataHealth } from "../api/types.ts";
import { gapsOf, type Gap } from "./gaps.ts";
import { Icon } from "./icon.tsx";
import { Setting } from "./say.tsx";
import { duration, number, percent } from "./format.ts";
import { Time } from "./time.tsx";

const EVERY_MS = 15_000;

interface Note {
  readonly tone: "warn" | "ok";
  readonly title: string;
  readonly text: ComponentChildren;
}

function useDataHealth(): { readonly health: DataHealth | undefined; readonly notes: readonly Note[] } {
  const { data } = useQuery<DataHealth>("health-of-data", { everyMs: EVERY_MS });
  return { health: data, notes: data === undefined ? [] : gapsOf(data).map((gap) => ({ tone: "warn", ...NOTES[gap](data) })) };
}

function have(count: number): string {
  return count === 1 ? "has" : "have";
}

const NOTES: Readonly<Record<Gap, (health: DataHealth) => Omit<Note, "tone">>> = {
  late: ({ lag }) => ({
    title: `${duration(lag ?? 0)} behind`,
    text: "Events wait in our own queue: the postgres-processor is slower than they come in, or it was stopped.",
  }),
  silent: ({ silent_workers }) => ({
    title: `${silent_workers.join(", ")} ${silent_workers.length === 1 ? "sends" : "send"} no task events`,
    text: (
      <>
        Heartbeats tell how much a worker does, but not what: its tasks are missing from every list. Start such workers with{" "}
        <Setting then=",">celery worker -E</Setting> or set <Setting>worker_send_task_events = True</Setting> in Celery or{" "}
        <Setting>CELERY_ENABLE_EVENTS=true</Setting> for the monitor.
      </>
    ),
  }),
  queue: ({ tasks, without_queue }) => ({
    title: `${number(without_queue)} of the newest ${number(tasks)} tasks ${have(without_queue)} no queue`,
    text: (
      <>
        Nobody tells when such tasks are sent, so their waiting times are not known either. Set{" "}
        <Setting>task_send_sent_event = True</Setting> where tasks are sent.
      </>
    ),
  }),
  cut: ({ tasks, cut }) => ({
    title: `${number(cut)} of the newest ${number(tasks)} tasks ${have(cut)} arguments that Celery cut`,
    text: (
      <>
        Set <Setting>app.amqp.argsrepr_maxsize = 8192</Setting> and <Setting>app.amqp.kwargsrepr_maxsize = 8192</Setting> where tasks are
        sent.
      </>
    ),
  }),
  start: ({ tasks, without_start }) => ({
    title: `${number(without_start)} of the newest ${number(tasks)} tasks ended without a start`,
    text: "Their events were lost before they came here, or the pool of the worker lost them, as threads do. Waiting times and runs are not known of these.",
  }),
  end: ({ without_end }) => ({
    title: `${number(without_end)} ${without_end === 1 ? "task" : "tasks"} started and did not end`,
    text: "But the heartbeats of their workers say that nothing runs. Some pools lose events, as threads do, and a task that raises Ignore sends none.",
  }),
  old: ({ rolled_up_at }) => ({
    title: "The charts are old",
    text:
      rolled_up_at === null ? (
        "Nobody counts the tasks. The role postgres-processor does it: is it running, in this version?"
      ) : (
        <>
          Tasks were last counted <Time at={rolled_up_at} />. The role postgres-processor does it: is it running?
        </>
      ),
  }),
};

export function Notes(): JSX.Element | null {
  const { health, notes } = useDataHealth();
  if (health === undefined) return null;
  const { tasks, without_queue: lacking } = health;
  const nothing: Note = {
    tone: "ok",
    title: lacking > 0 ? "Hardly anything is missing" : "Nothing is missing, as far as events tell",
    text:
      lacking > 0
        ? `${percent(lacking / tasks)} of the newest ${number(tasks)} tasks have no queue.`
        : `Of the newest ${number(tasks)} tasks: queues, whole arguments, starts and ends.`,
  };
  const all = notes.length > 0 ? notes : [nothing];
  return (
    <div class="notes">
      {all.map(({ tone, title, text }) => (
        <div class={`note ${tone}`} key={title}>
          <Icon name={tone === "ok" ? "success" : "warn"} />
          <strong>{title}</strong>
          <p>{text}</p>
        </div>
      ))}
    </div>
  );
}
