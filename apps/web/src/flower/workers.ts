/** Workers in the shape of Flower's API. */
import type { Worker } from "../queries/workers.ts";
import { toSeconds } from "./tasks.ts";

/** What Flower asks a worker for. The lists and objects that only a worker itself could fill are empty. */
export interface FlowerWorker {
  readonly active_queues: readonly { readonly name: string }[];
  readonly conf: Readonly<Record<string, never>>;
  readonly registered: readonly never[];
  readonly stats: Readonly<Record<string, unknown>>;
  readonly active: readonly never[];
  readonly reserved: readonly never[];
  readonly scheduled: readonly never[];
  readonly revoked: readonly never[];
  readonly timestamp: number | null;
}

export function toFlowerWorker({ queues, pid, pool, concurrency, prefetch_count, observed_at, heard_at }: Worker): FlowerWorker {
  const known = { pid, prefetch_count, pool: withoutNulls({ implementation: pool, "max-concurrency": concurrency }), total: {} };
  return {
    active_queues: (queues ?? []).map((name) => ({ name })),
    conf: {},
    registered: [],
    stats: withoutNulls(known),
    active: [],
    reserved: [],
    scheduled: [],
    revoked: [],
    timestamp: toSeconds(observed_at ?? heard_at),
  };
}

function withoutNulls(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));
}
