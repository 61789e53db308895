/** Tasks as they change, by server-sent events. */
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import type { TaskItem } from "./types.ts";

/** Whether pages update by themselves. */
export const isLive = signal(true);

export interface Live {
  /** The latest version of each task that was sent, by id. */
  readonly tasks: ReadonlyMap<string, TaskItem>;
  /** Why nothing comes. */
  readonly problem: string | undefined;
}

const NOTHING: Live = { tasks: new Map(), problem: undefined };
const MAX_TASKS = 1_000;
/** Frequent messages are shown together. */
const SHOW_MS = 500;

interface Watcher {
  /** @param isReset whether these are all tasks of the list, instead of those that are new or have changed. */
  readonly onTasks: (tasks: readonly TaskItem[], isReset: boolean) => void;
  readonly onProblem: (problem: string) => void;
}

/** Watches a list while the tab is visible, until the function that it returns is called. */
export function watch(path: string, { onTasks, onProblem }: Watcher): () => void {
  let source: EventSource | undefined;
  const open = (): void => {
    source?.close();
    source = undefined;
    if (document.hidden) return;
    source = new EventSource(`./api/v1/${path}`);
    source.addEventListener("tasks", ({ data }: MessageEvent<string>) => {
      const { items, reset } = JSON.parse(data) as { readonly items: readonly TaskItem[]; readonly reset: boolean };
      onTasks(items, reset);
    });
    source.addEventListener("problem", ({ data }: MessageEvent<string>) =>
      onProblem((JSON.parse(data) as { readonly detail: string }).detail),
    );
    // The browser connects again by itself, unless the server refused.
    source.addEventListener("error", () => {
      if (source?.readyState === EventSource.CLOSED) onProblem("Live updates are not available.");
    });
  };
  open();
  document.addEventListener("visibilitychange", open);
  return () => {
    source?.close();
    document.removeEventListener("visibilitychange", open);
  };
}

/** The newest version of each task of a list. Undefined watches nothing. */
export function useLive(path: string | undefined): Live {
  const [live, setLive] = useState(NOTHING);
  const shownPath = useRef(path);
  useEffect(() => {
    setLive(NOTHING);
    shownPath.current = path;
    if (path === undefined) return;
    const tasks = new Map<string, TaskItem>();
    let timer: number | undefined;
    const show = (problem?: string): void => {
      clearTimeout(timer);
      timer = window.setTimeout(() => setLive({ tasks: new Map(tasks), problem }), SHOW_MS);
    };
    const stop = watch(path, {
      onTasks: (items) => {
        for (const task of items) {
          tasks.delete(task.task_id);
          tasks.set(task.task_id, task);
        }
        for (const id of [...tasks.keys()].slice(0, -MAX_TASKS)) tasks.delete(id);
        show();
      },
      onProblem: show,
    });
    return () => {
      clearTimeout(timer);
      stop();
    };
  }, [path]);
  return shownPath.current === path ? live : NOTHING;
}
