/** Tasks as they change, by server-sent events. */
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, RETRY_MS, ask, isAnswering } from "./ask.ts";
import type { TaskItem } from "./types.ts";

/** Whether pages update by themselves. */
export const isLive = signal(true);

export interface Live {
  /** The latest version of each task that was sent, by id. */
  readonly tasks: ReadonlyMap<string, TaskItem>;
  /** When the latest came; milliseconds since 1970. */
  readonly at: number;
  /** Why nothing comes. */
  readonly problem: ApiError | undefined;
}

const NOTHING: Live = { tasks: new Map(), at: 0, problem: undefined };
const MAX_TASKS = 1_000;
/** Frequent messages are shown together. */
const SHOW_MS = 500;

interface Watcher {
  /** @param isReset whether these are all tasks of the list, instead of those that are new or have changed. */
  readonly onTasks: (tasks: readonly TaskItem[], isReset: boolean) => void;
  /** @param problem undefined when it is over. */
  readonly onProblem: (problem: ApiError | undefined) => void;
}

export interface Watch {
  readonly again: () => void;
  readonly stop: () => void;
}

/** An event stream does not tell why it ended, but any other question does. */
async function reasonOfEnd(): Promise<ApiError | undefined> {
  try {
    await ask("me");
    return undefined;
  } catch (thrown) {
    return thrown instanceof ApiError ? thrown : undefined;
  }
}

/** Watches a list while the tab is visible, until it is stopped. */
export function watch(path: string, { onTasks, onProblem }: Watcher): Watch {
  let source: EventSource | undefined;
  let timer: number | undefined;
  const tellWhy = async (own: EventSource, isRefused: boolean): Promise<void> => {
    const reason = (await reasonOfEnd()) ?? (isRefused ? new ApiError(503, "Live updates are not available.") : undefined);
    if (own === source && own.readyState !== EventSource.OPEN && reason !== undefined) onProblem(reason);
  };
  const open = (): void => {
    clearTimeout(timer);
    source?.close();
    source = undefined;
    if (document.hidden) return;
    const own = (source = new EventSource(`./api/v1/${path}`));
    own.addEventListener("open", () => {
      isAnswering.value = true;
      onProblem(undefined);
    });
    own.addEventListener("tasks", ({ data }: MessageEvent<string>) => {
      const { items, reset } = JSON.parse(data) as { readonly items: readonly TaskItem[]; readonly reset: boolean };
      onTasks(items, reset);
    });
    own.addEventListener("problem", ({ data }: MessageEvent<string>) => {
      const { status, detail } = JSON.parse(data) as { readonly status: number; readonly detail: string };
      onProblem(new ApiError(status, detail));
    });
    own.addEventListener("error", () => {
      // The browser connects again by itself, unless something other than events was the answer.
      const isRefused = own.readyState === EventSource.CLOSED;
      if (isRefused && own === source) timer = window.setTimeout(open, RETRY_MS);
      void tellWhy(own, isRefused);
    });
  };
  open();
  document.addEventListener("visibilitychange", open);
  return {
    again: open,
    stop: () => {
      clearTimeout(timer);
      source?.close();
      source = undefined;
      document.removeEventListener("visibilitychange", open);
    },
  };
}

/** The newest version of each task of a list. Undefined watches nothing. */
export function useLive(path: string | undefined): Live & { readonly again: () => void } {
  const [live, setLive] = useState(NOTHING);
  const again = useRef(() => {});
  const shownPath = useRef(path);
  useEffect(() => {
    setLive(NOTHING);
    shownPath.current = path;
    if (path === undefined) return;
    const tasks = new Map<string, TaskItem>();
    let timer: number | undefined;
    let at = 0;
    const show = (problem?: ApiError): void => {
      clearTimeout(timer);
      timer = window.setTimeout(() => setLive({ tasks: new Map(tasks), at, problem }), SHOW_MS);
    };
    const watched = watch(path, {
      onTasks: (items) => {
        at = Date.now();
        for (const task of items) {
          tasks.delete(task.task_id);
          tasks.set(task.task_id, task);
        }
        for (const id of [...tasks.keys()].slice(0, -MAX_TASKS)) tasks.delete(id);
        show();
      },
      onProblem: show,
    });
    again.current = watched.again;
    return () => {
      clearTimeout(timer);
      watched.stop();
    };
  }, [path]);
  return { ...(shownPath.current === path ? live : NOTHING), again: () => again.current() };
}
