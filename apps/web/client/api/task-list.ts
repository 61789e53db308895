/** A page of tasks that goes on searching while it is not full. */
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, ask } from "./ask.ts";
import { useQuery, type Query, type QueryOptions } from "./query.ts";
import type { TaskItem, TaskPageAnswer } from "./types.ts";

export const PAGE_SIZE = 50;
/** How long it goes on by itself. */
const PATIENCE_MS = 30_000;

export interface TaskList {
  readonly first: Query<TaskPageAnswer>;
  readonly items: readonly TaskItem[];
  /** The cursor of the next page. */
  readonly next: string | null;
  readonly searchedTo: string | null;
  readonly isSearching: boolean;
  readonly searchFurther: () => void;
}

interface Further {
  readonly of: TaskPageAnswer | undefined;
  readonly items: readonly TaskItem[];
  readonly next: string | null;
  readonly searchedTo: string | null;
  readonly isSearching: boolean;
  readonly error?: ApiError | undefined;
}

const NOTHING: Further = { of: undefined, items: [], next: null, searchedTo: null, isSearching: false };

export interface TaskListOptions extends QueryOptions {
  readonly size?: number;
  readonly patienceMs?: number;
}

/** @param filters the parameters of `/tasks`, without the limit. */
export function useTaskList(
  filters: URLSearchParams,
  { size = PAGE_SIZE, patienceMs = PATIENCE_MS, everyMs }: TaskListOptions = {},
): TaskList {
  const withLimit = new URLSearchParams(filters);
  withLimit.set("limit", String(size));
  const first = useQuery<TaskPageAnswer>(`tasks?${withLimit.toString()}`, { everyMs });
  const [further, setFurther] = useState(NOTHING);
  const [round, setRound] = useState(0);
  const { data, isPrevious } = first;
  const present = useRef(further);
  present.current = further.of === data ? further : NOTHING;

  useEffect(() => {
    if (data === undefined || isPrevious) return;
    const controller = new AbortController();
    const startedAt = Date.now();
    let state: Further =
      present.current.of === data
        ? present.current
        : { of: data, items: [], next: data.next, searchedTo: data.searched_to, isSearching: false };
    const search = async (): Promise<void> => {
      while (data.items.length + state.items.length < size && state.next !== null) {
        if (Date.now() - startedAt > patienceMs || document.hidden) break;
        setFurther({ ...state, isSearching: true });
        withLimit.set("cursor", state.next);
        withLimit.set("limit", String(size - data.items.length - state.items.length));
        const page = await ask<TaskPageAnswer>(`tasks?${withLimit.toString()}`, controller.signal);
        state = { ...state, items: [...state.items, ...page.items], next: page.next, searchedTo: page.searched_to };
      }
      setFurther({ ...state, error: undefined });
    };
    search().catch((thrown: unknown) => {
      if (!controller.signal.aborted) setFurther({ ...state, error: thrown instanceof ApiError ? thrown : undefined });
    });
    return () => controller.abort();
  }, [data, isPrevious, round, size, patienceMs]);

  const own = present.current;
  const isOwn = own.of !== undefined;
  return {
    first: { ...first, error: first.error ?? own.error },
    items: [...(data?.items ?? []), ...own.items],
    next: isOwn ? own.next : (data?.next ?? null),
    searchedTo: isOwn ? own.searchedTo : (data?.searched_to ?? null),
    isSearching: own.isSearching,
    searchFurther: () => setRound(round + 1),
  };
}
