/** Who takes from a queue, as far as anybody tells. */
import type { JSX } from "preact";
import type { Queue, Worker } from "../api/types.ts";
import { ago, number } from "./format.ts";
import { Icon } from "./icon.tsx";
import { now } from "./time.tsx";

/** Workers send heartbeats every two seconds, and are called lost after thirty. */
const SILENT_MS = 15_000;

export interface Takers {
  /** Undefined if nobody tells. */
  readonly count: number | undefined;
  /** Whether nobody takes what waits. */
  readonly isAbandoned: boolean;
  /** For how long no word came from any worker that may take from it, in milliseconds; undefined if that is not long. */
  readonly silentMs: number | undefined;
}

/** @param workers undefined if they are not known yet. */
export function takersOf(queue: Pick<Queue, "name" | "consumers" | "messages">, workers: readonly Worker[] | undefined): Takers {
  const count = countOf(queue, workers);
  return { count, isAbandoned: count === 0 && (queue.messages ?? 0) > 0, silentMs: count === 0 ? undefined : silenceOf(queue, workers) };
}

function takesFrom({ queues }: Worker, name: string): boolean {
  return queues?.includes(name) === true;
}

function countOf({ name, consumers }: Pick<Queue, "name" | "consumers">, workers: readonly Worker[] | undefined): number | undefined {
  if (consumers !== null) return consumers;
  const takers = workers?.filter((worker) => worker.state === "up" && takesFrom(worker, name)).length ?? 0;
  // A worker that nobody asked may take from it too, and one of which it is not known whether it is alive.
  const mayTake = (worker: Worker): boolean =>
    worker.queues === null ? worker.state === "up" || worker.state === "unknown" : worker.state === "unknown" && takesFrom(worker, name);
  return takers === 0 && (workers === undefined || workers.some(mayTake)) ? undefined : takers;
}

function silenceOf({ name }: Pick<Queue, "name">, workers: readonly Worker[] | undefined): number | undefined {
  const heard = (workers ?? [])
    .filter((worker) => /^(?:up|unknown)$/.test(worker.state) && (worker.queues === null || takesFrom(worker, name)))
    .flatMap(({ heard_at, observed_at }) => [heard_at, observed_at].flatMap((at) => (at === null ? [] : [Date.parse(at)])));
  if (heard.length === 0) return undefined;
  const silentMs = now.value - Math.max(...heard);
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
  readonly queue: Pick<Queue, "lately" | "messages">;
  readonly takers: Takers;
}

/** Whether what comes in is taken. A queue does not keep up if nobody is there to take anything, even if nothing comes in. */
export function Balance({ queue: { lately, messages }, takers: { count, silentMs } }: BalanceProps): JSX.Element {
  const { trend, change, taken } = lately;
  if (trend === "grows" || trend === "shrinks")
    return (
      <span class={trend === "grows" ? "warn" : "good"}>
        <Icon name={trend === "grows" ? "up" : "dn"} class="inl" /> {trend} by {number(Math.round(Math.abs(change ?? 0)))} a minute
      </span>
    );
  if (count === 0) return <span class="warn">nobody takes from it</span>;
  if (silentMs !== undefined) return <span class="warn">no word from its workers for {ago(silentMs)}</span>;
  if (trend === null) return <span class="nil">–</span>;
  if (messages === null || messages === 0) return <span class="muted">keeps up</span>;
  // As long as before: what comes in is taken, or nothing is.
  if (taken === null) return <span class="muted">steady</span>;
  return taken === 0 ? <span class="warn">nothing is taken</span> : <span class="muted">keeps up</span>;
}
