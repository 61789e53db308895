/** Who takes from a queue, as far as anybody tells. */
import type { JSX } from "preact";
import type { Queue, Worker } from "../api/types.ts";
import { ago, number } from "./format.ts";
import { Icon } from "./icon.tsx";

/** Workers send heartbeats every two seconds. The clocks of this browser and of the receivers may differ, and events may come late. */
const SILENT_MS = 60_000;

export interface Takers {
  /** Undefined if nobody tells. */
  readonly count: number | undefined;
  /** Whether nobody takes what waits. */
  readonly isAbandoned: boolean;
}

/** @param workers undefined if they are not known yet. */
export function takersOf(queue: Pick<Queue, "name" | "consumers" | "messages">, workers: readonly Worker[] | undefined): Takers {
  const count = countOf(queue, workers);
  return { count, isAbandoned: count === 0 && (queue.messages ?? 0) > 0 };
}

function takesFrom({ queues }: Worker, name: string): boolean {
  return queues?.includes(name) === true;
}

/** A worker that nobody asked may take from it too, and one of which it is not known whether it is alive. */
function mayTakeFrom(worker: Worker, name: string): boolean {
  return (worker.state === "up" || worker.state === "unknown") && (worker.queues === null || takesFrom(worker, name));
}

function countOf({ name, consumers }: Pick<Queue, "name" | "consumers">, workers: readonly Worker[] | undefined): number | undefined {
  if (consumers !== null) return consumers;
  const takers = workers?.filter((worker) => worker.state === "up" && takesFrom(worker, name)).length ?? 0;
  const mayTake = workers === undefined || workers.length === 0 || workers.some((worker) => mayTakeFrom(worker, name));
  return takers === 0 && mayTake ? undefined : takers;
}

/**
 * For how long no word came from any worker that may take from it, in milliseconds; undefined if that is not long. The silence of a worker without heartbeats
 * means nothing.
 *
 * @param at when the workers were asked for, in milliseconds since 1970.
 */
export function silenceOf({ name }: Pick<Queue, "name">, workers: readonly Worker[] | undefined, at: number): number | undefined {
  const takers = (workers ?? []).filter((worker) => mayTakeFrom(worker, name));
  if (takers.length === 0 || takers.some(({ heard_at }) => heard_at === null)) return undefined;
  const signs = takers.flatMap(({ heard_at, observed_at }) =>
    [heard_at, observed_at].flatMap((each) => (each === null ? [] : [Date.parse(each)])),
  );
  const silentMs = at - Math.max(...signs);
  return silentMs > SILENT_MS ? silentMs : undefined;
}

export function Consumers({ takers: { count, isAbandoned } }: { readonly takers: Takers }): JSX.Element {
  if (count === undefined) return <span class="nil">?</span>;
  if (!isAbandoned) return count === 0 ? <span class="warn">none</span> : <>{number(count)}</>;
  return (
    <span class="bad nowrap">
      <Icon name="warn" class="inl" /> none
    </span>
  );
}

interface BalanceProps {
  readonly queue: Pick<Queue, "lately" | "messages" | "consumers">;
  readonly takers: Takers;
  readonly silentMs: number | undefined;
}

/** Whether what comes in is taken. A queue does not keep up if nobody is there to take anything, even if nothing comes in. */
export function Balance({ queue: { lately, messages, consumers }, takers: { count, isAbandoned }, silentMs }: BalanceProps): JSX.Element {
  const { trend, change, taken } = lately;
  if (trend === "grows" || trend === "shrinks")
    return (
      <span class={trend === "grows" ? "warn" : "good"}>
        <Icon name={trend === "grows" ? "up" : "dn"} class="inl" /> {trend} by {number(Math.round(Math.abs(change ?? 0)))} a minute
      </span>
    );
  // With Redis, workers that nobody hears may take from it.
  if (isAbandoned || (count === 0 && (consumers !== null || (taken ?? 0) === 0))) return <span class="warn">nobody takes from it</span>;
  if (silentMs !== undefined) return <span class="warn">no word from its workers for {ago(silentMs)}</span>;
  if (trend === null) return <span class="nil">–</span>;
  if (messages === null || messages === 0) return <span class="muted">keeps up</span>;
  // As long as before: what comes in is taken, or nothing is.
  if (taken === null) return <span class="muted">steady</span>;
  return taken === 0 ? <span class="warn">nothing is taken</span> : <span class="muted">keeps up</span>;
}
