/** How workers look everywhere. */
import type { JSX } from "preact";
import type { Worker } from "../api/types.ts";
import { Icon } from "./icon.tsx";

const LOOKS = {
  up: ["up", "success", "Up"],
  lost: ["lost", "lost", "Lost"],
  offline: ["pending", "pending", "Offline"],
  unknown: ["pending", "pending", "Unknown"],
} as const;

export function WorkerBadge({
  state,
  big = false,
  glyph = false,
}: {
  readonly state: Worker["state"];
  readonly big?: boolean;
  readonly glyph?: boolean;
}): JSX.Element {
  const [icon, tone, word] = LOOKS[state];
  if (glyph)
    return (
      <span class={`badge s-${tone} gl`}>
        <Icon name={icon} label={word} />
      </span>
    );
  return (
    <span class={`badge s-${tone} ${big ? "big" : ""}`}>
      <Icon name={icon} />
      {word}
    </span>
  );
}

/** How many of its slots are busy. Without a monitor that may ask it, only the number is known. */
export function Busy({ worker: { active, concurrency, state } }: { readonly worker: Worker }): JSX.Element {
  if (active === null || state === "offline") return <span class="nil">–</span>;
  if (state !== "up") return <span class="nil">{concurrency === null ? active : `${active} of ${concurrency}`}?</span>;
  if (concurrency === null) return <span class="num">{active} busy</span>;
  return (
    <span class="row nowrap">
      <svg class="meter p3" aria-hidden="true">
        <rect class="base" width="100%" height="100%" rx="3" />
        <rect
          class={active >= concurrency ? "a-retry" : "a-run"}
          width={`${Math.min(100, (active / Math.max(1, concurrency)) * 100).toFixed(0)}%`}
          height="100%"
          rx="3"
        />
      </svg>
      <span class="num">
        {active} of {concurrency}
      </span>
    </span>
  );
}

/** Such as prefork, of `celery.concurrency.prefork:TaskPool`. */
export function poolName(pool: string): string {
  return /\.(\w+):\w+$/.exec(pool)?.[1] ?? pool;
}

export function version(software: string): string {
  return software.replace(/^py-celery /, "");
}

/** Heartbeats come every two seconds, and the clocks of a worker and of Redis may differ. */
const HEARTBEAT_MS = 10_000;

/** Whether a task had started when its worker was last heard, so that the heartbeat counts it if it runs. */
export function isBeforeHeartbeat(startedAt: string | null, heardAt: string | null): boolean {
  return startedAt !== null && heardAt !== null && Date.parse(heardAt) - Date.parse(startedAt) > HEARTBEAT_MS;
}
