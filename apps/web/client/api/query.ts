/** Questions to the API, and a small cache of its answers. */
import { useEffect, useReducer, useRef } from "preact/hooks";
import { ApiError, RETRY_MS, ask, isTemporary } from "./ask.ts";
import { isLive } from "./live.ts";

interface Cached {
  readonly data: unknown;
  readonly at: number;
}

interface Asking {
  readonly answer: Promise<unknown>;
  readonly controller: AbortController;
  waiting: number;
}

const asking = new Map<string, Asking>();

/** Asks once for all that ask the same at the same time, and stops when none of them waits. */
function askTogether(path: string, signal: AbortSignal): Promise<unknown> {
  let present = asking.get(path);
  if (present === undefined) {
    const controller = new AbortController();
    const forget = (): void => void (asking.get(path) === present && asking.delete(path));
    present = { controller, waiting: 0, answer: ask(path, controller.signal).finally(forget) };
    asking.set(path, present);
  }
  const own = present;
  own.waiting += 1;
  signal.addEventListener("abort", () => {
    own.waiting -= 1;
    if (own.waiting > 0) return;
    if (asking.get(path) === own) asking.delete(path);
    own.controller.abort();
  });
  return own.answer;
}

const cache = new Map<string, Cached>();
const MAX_CACHED = 40;

function remember(path: string, data: unknown): void {
  cache.delete(path);
  cache.set(path, { data, at: Date.now() });
  for (const oldest of [...cache.keys()].slice(0, -MAX_CACHED)) cache.delete(oldest);
}

/** The question whose answer came before anything was drawn. */
let early: string | undefined;

/** Waits for the answer that `early.ts` asked for: with it, the page is drawn once. */
export async function awaitEarly(): Promise<void> {
  const { path } = globalThis.early ?? {};
  if (path === undefined) return;
  try {
    remember(path, await askTogether(path, new AbortController().signal));
    early = path;
  } catch {
    // Whoever shows the answer shows its failure.
  }
}

/** What is older is asked for again. */
const EARLY_MS = 1_000;

/** Whether the answer is so new that nobody need ask. */
function isEarly(path: string): boolean {
  if (early !== path) return false;
  early = undefined;
  return Date.now() - (cache.get(path)?.at ?? 0) < EARLY_MS;
}

export interface Query<T> {
  /** The answer, perhaps of the question before: old rows stay while new ones load. */
  readonly data: T | undefined;
  /** When the data came; milliseconds since 1970. */
  readonly at: number;
  /** Why there is no newer answer. */
  readonly error: ApiError | undefined;
  /** Whether the data is the answer to an earlier question. */
  readonly isPrevious: boolean;
  readonly ask: () => void;
}

export interface QueryOptions {
  /** Asks again while the tab is visible and pages update by themselves. */
  readonly everyMs?: number | undefined;
}

/** Asks while it is shown, and again when the tab becomes visible. Undefined asks nothing. */
export function useQuery<T>(path: string | undefined, { everyMs }: QueryOptions = {}): Query<T> {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  const state = useRef<{ path: string | undefined; cached: Cached | undefined; error: ApiError | undefined }>(undefined);
  state.current ??= { path: undefined, cached: undefined, error: undefined };
  const now = state.current;
  const known = path === undefined ? undefined : cache.get(path);
  if (known !== undefined && now.path !== path) Object.assign(now, { path, cached: known, error: undefined });
  const again = useRef(() => {});

  useEffect(() => {
    if (path === undefined) return;
    let controller: AbortController | undefined;
    let timer: number | undefined;
    const run = async (): Promise<void> => {
      controller?.abort();
      clearTimeout(timer);
      if (document.hidden) return;
      const { signal } = (controller = new AbortController());
      try {
        const data = await askTogether(path, signal);
        if (signal.aborted) return;
        remember(path, data);
        Object.assign(now, { path, cached: { data, at: Date.now() }, error: undefined });
        askLater();
      } catch (thrown) {
        if (signal.aborted) return;
        now.error = thrown instanceof ApiError ? thrown : new ApiError(0, String(thrown));
        if (isTemporary(now.error)) timer = window.setTimeout(start, RETRY_MS);
      }
      redraw(0);
    };
    const start = (): void => void run();
    const askLater = (): void => {
      if (everyMs !== undefined) timer = window.setTimeout(() => isLive.peek() && start(), everyMs);
    };
    again.current = start;
    if (isEarly(path)) askLater();
    else start();
    document.addEventListener("visibilitychange", start);
    let wasLive = isLive.peek();
    const forget = isLive.subscribe((live) => {
      if (live && !wasLive && everyMs !== undefined) start();
      wasLive = live;
    });
    return () => {
      forget();
      controller?.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", start);
    };
  }, [path, everyMs, now]);

  return {
    data: now.cached?.data as T | undefined,
    at: now.cached?.at ?? 0,
    error: now.error,
    isPrevious: now.path !== path,
    ask: () => again.current(),
  };
}
