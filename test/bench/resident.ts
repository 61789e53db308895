/** Resident memory of roles, sampled while events are published. */
import type { Rounds } from "./report/figure.ts";
import { median } from "./report/figure.ts";
import type { RoleName, Stage, UsageByConsumer } from "./stage.ts";

export const SAMPLE_MS = 500;
/** What a role may take at most, in MB. */
const MOST_MB = 200;
const MOST_GROWTH = 1.1;
const MEGABYTE = 1e6;

/** The events during which samples are taken, by how many had been published. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

export function describeSpan({ from, to }: Span): string {
  return `event ${from.toLocaleString("en")} to ${to.toLocaleString("en")}`;
}

/** Samples the memory from its creation until `stop`. */
export class ResidentSamples {
  readonly #samples: { readonly events: number; readonly usage: UsageByConsumer }[] = [];
  readonly #sampling: NodeJS.Timeout;

  /** @param events how many have been published by now. */
  constructor(stage: Stage, events: () => number) {
    this.#sampling = setInterval(() => this.#samples.push({ events: events(), usage: stage.usage() }), SAMPLE_MS);
  }

  stop(): void {
    clearInterval(this.#sampling);
  }

  /** Adds the median of both spans, their ratio, and the maximum of the time since the beginning of the first. */
  report(rounds: Rounds, role: RoleName, name: string, { first, last, since = 0 }: { first: Span; last: Span; since?: number }): void {
    addGrowth(rounds, name, "MB", [median(this.#of(role, first)), median(this.#of(role, last))]);
    rounds.add(`${name}, most`, "MB", Math.max(...this.#of(role, { from: since, to: last.to })), { atMost: MOST_MB });
  }

  /** In MB. */
  #of(role: RoleName, { from, to }: Span): number[] {
    return this.#samples
      .filter(({ events }) => events >= from && events <= to)
      .map(({ usage }) => (usage.get(role)?.residentBytes ?? Number.NaN) / MEGABYTE);
  }
}

export function addGrowth(rounds: Rounds, name: string, unit: string, [first, last]: readonly [number, number]): void {
  rounds.add(`${name}, at the beginning`, unit, first);
  rounds.add(`${name}, at the end`, unit, last);
  rounds.add(`${name}, growth`, "ratio", last / first, { atMost: MOST_GROWTH });
}
